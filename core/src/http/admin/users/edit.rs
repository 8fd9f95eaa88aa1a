//! Somebody new, and other contact points: the form, read and drawn again with its complaints.
//!
//! Addresses need not be seen to be changed: a field that is left empty keeps what is stored, unless the form showed it.

use super::{Extra, NEW, PATH, draw, key, url};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Posted, done_elsewhere},
            console_frame, foot,
        },
        page::page,
        problem::{ApiError, ApiResult},
    },
    ingest::{Invalid, contact},
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use campanile_admin_ui::{format, pages::users as ui, pieces::Toast};
use campanile_model::{AppId, ChannelName, UserId, UserKey, user::Contact};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// The form over what is stored; `revealed`: with the addresses themselves.
pub fn form(s: &Services, stored: &Contact, revealed: bool) -> ui::Edit {
    let email = ChannelName::email();
    let with_addresses = s.channels.guards().into_iter().filter(|c| !c.in_app()).map(|c| c.name().clone());
    // Addresses of channels that are not there (any more) must not be lost by saving.
    let mut names: BTreeSet<_> = with_addresses.chain(stored.addresses.keys().cloned()).collect();
    names.remove(&email);
    let field = |name: ChannelName| {
        let has = stored.address(&name);
        ui::AddressField {
            name: if name == email { "email".to_owned() } else { format!("address.{name}") },
            is_email: name == email,
            value: has.filter(|_| revealed).unwrap_or_default().to_owned(),
            kept: has.filter(|_| !revealed).map(format::masked).unwrap_or_default(),
            channel: name.to_string(),
            remove: false,
        }
    };
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    ui::Edit {
        fields: std::iter::once(email.clone()).chain(names).map(field).collect(),
        locale: text(&stored.locale),
        timezone: text(&stored.timezone),
        revealed,
        errors: Vec::new(),
    }
}

/// As it was typed.
fn typed(form: &mut ui::Edit, posted: &Posted) {
    posted.get("locale").clone_into(&mut form.locale);
    posted.get("timezone").clone_into(&mut form.timezone);
    for field in &mut form.fields {
        posted.get(&field.name).clone_into(&mut field.value);
        field.remove = posted.all("remove").any(|channel| channel == field.channel);
    }
}

/// What a field says the address is from now on.
fn address<'a>(field: &'a ui::AddressField, stored: Option<&'a str>, revealed: bool) -> Option<&'a str> {
    match field.value.as_str() {
        _ if field.remove => None,
        "" if revealed => None,
        "" => stored,
        typed => Some(typed),
    }
}

/// The contact points that a form asks for, over those that are stored.
fn asked(s: &Services, form: &ui::Edit, stored: &Contact) -> Result<Contact, Invalid> {
    let some = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let (mut body, mut addresses, mut gone) = (Map::new(), Map::new(), Vec::new());
    for field in &form.fields {
        let channel = ChannelName::from(field.channel.as_str());
        let Some(address) = address(field, stored.address(&channel), form.revealed) else { continue };
        if field.is_email {
            body.insert("email".to_owned(), json!(address));
        } else if s.channels.get(&channel).is_some() {
            addresses.insert(field.channel.clone(), json!(address));
        } else {
            gone.push((channel, address.to_owned()));
        }
    }
    body.insert("locale".to_owned(), some(&form.locale));
    body.insert("timezone".to_owned(), some(&form.timezone));
    body.insert("addresses".to_owned(), Value::Object(addresses));
    let mut contact = contact::parse(&Value::Object(body), s.channels.as_ref())?;
    // Of channels that are not there now: kept as they were.
    contact.addresses.extend(gone);
    Ok(contact)
}

fn complaints(invalid: Invalid) -> Vec<String> {
    let e = ApiError::from(invalid);
    let mut errors: Vec<_> = e.errors.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
    if errors.is_empty() {
        errors.push(e.detail.into_owned());
    }
    errors
}

pub async fn edit(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let key = key(&id)?;
    let Some(before) = s.store.get_user(&key).await? else { return Err(ApiError::not_found("user")) };
    let mut form = form(&s, &before.contact, false);
    // The form showed what is stored: what is empty now was emptied.
    form.revealed = posted.get("revealed") == "1";
    typed(&mut form, &posted);
    match asked(&s, &form, &before.contact) {
        Ok(contact) => {
            s.store.edit_user(&key, contact, &signed.actor).await?;
            Ok(done_elsewhere(&s, &signed, &headers, &url(&key), Toast::ok("The contact points are saved.")))
        }
        Err(invalid) => {
            form.errors = complaints(invalid);
            // What was typed, and nothing that is stored: looking at that is asked for, and written down.
            let extra = Extra { edit: Some(form), ..Extra::default() };
            let shown = draw(&s, &signed, &headers, &key, extra).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
        }
    }
}

async fn new_page(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    id: String,
    edit: ui::Edit,
) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    page(&ui::NewUser {
        frame: console_frame(s, signed, headers, &facts, PATH),
        id,
        edit,
        action: NEW,
        foot: foot(s, &facts),
    })
}

pub async fn new(State(s): State<Arc<Services>>, signed: Signed, headers: HeaderMap) -> ApiResult<Response> {
    new_page(&s, &signed, &headers, String::new(), form(&s, &Contact::default(), true)).await
}

pub async fn add(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let id = posted.get("id").to_owned();
    let mut form = form(&s, &Contact::default(), true);
    typed(&mut form, &posted);
    let (user, contact) = (UserId::parse(&id), asked(&s, &form, &Contact::default()));
    let (user, contact) = match (user, contact) {
        (Ok(user), Ok(contact)) => (user, contact),
        (user, contact) => {
            form.errors.extend(user.err().map(|e| format!("id: {e}")));
            form.errors.extend(contact.err().map(complaints).into_iter().flatten());
            let shown = new_page(&s, &signed, &headers, id, form).await?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response());
        }
    };
    let key = UserKey { app: AppId::default(), user };
    if s.store.add_user(&key, contact, &signed.actor).await?.is_none() {
        form.errors.push(format!("{id} is registered already; change the contact points on their page."));
        let shown = new_page(&s, &signed, &headers, id, form).await?;
        return Ok((StatusCode::CONFLICT, shown).into_response());
    }
    Ok(done_elsewhere(&s, &signed, &headers, &url(&key), Toast::ok(format!("{} is registered.", key.user))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_keeps_what_it_does_not_show() {
        let field =
            |value: &str, remove| ui::AddressField { value: value.to_owned(), remove, ..ui::AddressField::default() };
        for (value, remove, revealed, becomes) in [
            ("", false, false, Some("old")),
            ("", false, true, None),
            ("new", false, false, Some("new")),
            ("new", false, true, Some("new")),
            ("", true, false, None),
            ("new", true, false, None),
        ] {
            let field = field(value, remove);
            assert_eq!(address(&field, Some("old"), revealed), becomes, "{value:?} {remove} {revealed}");
        }
        assert_eq!(address(&field("", false), None, false), None);
    }
}
