//! `/admin/users`: people, how they are reached, what is done for one of them.

mod acts;
mod merge;
mod preferences;

use super::{
    Routes, Signed,
    answer::part,
    console_frame, foot,
    gate::{ACT, LOOK, MANAGE, READ},
    live::{self, Drawn},
    segment,
};
use crate::{
    console::connections,
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
    store::rules::fold_address,
};
use async_trait::async_trait;
use axum::{
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    format,
    pages::users as ui,
    pieces::{Empty, Here, Pager, Part},
};
use campanile_model::{
    AppId, ChannelName, DeliveryState, UserId, UserKey,
    api::ShownState,
    ports::{
        ConnectionFilter, FIGURES_MAX, NotificationFilter, NotificationRow, PeopleFigures, StoreResult, Suppression,
        UserFilter,
    },
    user::{Contact, User},
};
use std::sync::Arc;

const PATH: &str = "/admin/users";
const ROWS: u32 = 50;
const RECENT: u32 = 50;
/// Lines of what is held back.
const HELD: u32 = 8;
/// Connections shown on a person's page.
const SOCKETS: u32 = 5;
const UNSUBSCRIBED: u32 = 200;

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, list_page)
        .get("/admin/users/{id}", LOOK, show)
        .post("/admin/users/{id}/reveal", READ, acts::reveal)
        .post("/admin/users/{id}/edit", ACT, acts::edit)
        .post("/admin/users/{id}/test", ACT, acts::test)
        .post("/admin/users/{id}/token", ACT, acts::token)
        .post("/admin/users/{id}/disable", ACT, acts::disable)
        .post("/admin/users/{id}/enable", ACT, acts::enable)
        .post("/admin/users/{id}/lift", ACT, acts::lift)
        .post("/admin/users/{id}/opt-out", ACT, acts::opt_out)
        .post("/admin/users/{id}/export", ACT, acts::export)
        .post("/admin/users/{id}/merge", MANAGE, merge::merge)
        .post("/admin/users/{id}/erase", MANAGE, acts::erase)
}

// ------------------------------------------------------------------------------------------------------ the list

async fn list_page(
    State(s): State<Arc<Services>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let query = live::Query::parse(query.as_deref().unwrap_or_default());
    let (asked, after) = (query.get("q").trim().to_owned(), query.get("after").to_owned());
    let facts = s.console.facts.get(&s).await;
    let here = Here::new(PATH).put("q", &asked).put("after", &after);
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let by_email = asked.contains('@');
    let filter = UserFilter {
        app: AppId::default(),
        prefix: given(&asked).filter(|_| !by_email),
        email: given(&asked).filter(|_| by_email),
        after: given(&after).map(UserId::from),
        limit: ROWS + 1,
    };
    let mut found = s.store.users(&filter).await;
    // Where people are named by their address.
    if by_email && found.as_ref().is_ok_and(Vec::is_empty) {
        found = s.store.users(&UserFilter { prefix: filter.email.clone(), email: None, ..filter.clone() }).await;
    }
    let found = found.map(|found| listed(found, &here, &asked, &after));
    let figures = s.store.people_figures(&filter.app, HELD).await.map(figures);
    page(&ui::Users {
        figures: part(&s, "figures", "Figures of people", figures),
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        query: asked,
        list: part(&s, "list", "The list of users", found),
        foot: foot(&s, &facts),
        here,
    })
}

fn figures(f: PeopleFigures) -> ui::Figures {
    ui::Figures {
        known: f.known,
        active_day: f.active_day,
        active_month: f.active_month,
        most: FIGURES_MAX,
        opted_out: f
            .opted_out
            .into_iter()
            .map(|o| ui::Held { channel: o.channel.to_string(), what: o.notification_type, count: o.people })
            .collect(),
        suppressed: f
            .suppressed
            .into_iter()
            .map(|b| ui::Held { channel: b.channel.to_string(), what: b.reason.replace('_', " "), count: b.addresses })
            .collect(),
    }
}

fn listed(mut found: Vec<User>, here: &Here, asked: &str, after: &str) -> ui::List {
    let more = found.len() > ROWS as usize;
    found.truncate(ROWS as usize);
    let next = found.last().filter(|_| more).map(|u| here.at("after", &u.user_id));
    let rows: Vec<_> = found.into_iter().map(row).collect();
    let empty = rows.is_empty().then(|| {
        if asked.is_empty() {
            return Empty {
                title: "Nobody is registered".to_owned(),
                why: "An application registers people with their addresses; who only has a live feed needs none."
                    .to_owned(),
                command: Some("campanile user add ada --email ada@example.org".to_owned()),
                clear: None,
            };
        }
        let why = if asked.contains('@') {
            "an e-mail address is looked for as a whole"
        } else {
            "an id is looked for from its beginning"
        };
        Empty {
            title: "Nobody fits".to_owned(),
            why: format!("Here {why}."),
            command: None,
            clear: Some(PATH.to_owned()),
        }
    });
    let words = format!("{} shown, in the order of their ids", rows.len());
    let newer = (!after.is_empty()).then(|| here.without("after"));
    ui::List { pager: Pager { words, newer, older: next }, empty, rows }
}

fn row(u: User) -> ui::Row {
    ui::Row {
        email: u.contact.email.as_deref().map_or_else(|| "–".to_owned(), format::masked),
        channels: u.contact.addresses.keys().map(ToString::to_string).collect(),
        locale: u.contact.locale.unwrap_or_else(|| "–".to_owned()),
        disabled: u.disabled_at.is_some(),
        created_at: u.created_at,
        id: u.user_id.to_string(),
    }
}

// ----------------------------------------------------------------------------------------------------- one person

fn key(id: &str) -> ApiResult<UserKey> {
    let user = UserId::parse(id).map_err(|_| ApiError::not_found("user"))?;
    Ok(UserKey { app: AppId::default(), user })
}

fn url(key: &UserKey) -> String {
    format!("{PATH}/{}", segment(key.user.as_str()))
}

/// What a page of a person has beside what is stored.
#[derive(Default)]
struct Extra {
    revealed: bool,
    token: Option<ui::Token>,
    /// Complaints about the form, and the form as typed.
    edit: Option<ui::Edit>,
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    draw(&s, &signed, &headers, &key(&id)?, Extra::default()).await
}

async fn draw(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    key: &UserKey,
    extra: Extra,
) -> ApiResult<Response> {
    let user = s.store.get_user(key).await?;
    let live = live_facts(s, signed, key).await?;
    let recent = recent(s, signed, key).await;
    let seen = live.head > 0 || recent.well().is_some_and(|r| !r.rows.is_empty()) || !live.connections.is_empty();
    // Somebody who was never seen may have a token: their page begins with it.
    if user.is_none() && !seen && extra.token.is_none() {
        return Err(ApiError::not_found("user: nobody of this id was ever registered or sent to"));
    }
    let facts = s.console.facts.get(s).await;
    let contact = user.as_ref().map(|u| u.contact.clone()).unwrap_or_default();
    let points = points(&contact);
    let held = s.store.held_back(key, &points, UNSUBSCRIBED).await?;
    let edit = (extra.revealed && signed.admin.role.may_act() && user.is_some())
        .then(|| extra.edit.unwrap_or_else(|| edit_form(s, &contact)));
    page(&ui::User {
        frame: console_frame(s, signed, headers, &facts, PATH),
        id: key.user.to_string(),
        known: user.is_some(),
        disabled_at: user.as_ref().and_then(|u| u.disabled_at),
        created_at: user.as_ref().map(|u| u.created_at),
        updated_at: user.as_ref().map(|u| u.updated_at),
        locale: contact.locale.clone().unwrap_or_else(|| "–".to_owned()),
        timezone: contact.timezone.clone().unwrap_or_else(|| "–".to_owned()),
        addresses: points.iter().map(|p| address(p, &held, extra.revealed)).collect(),
        revealed: extra.revealed,
        preferences: preferences::draw(s, signed, key, &contact, &held, &recent),
        live,
        recent,
        token: extra.token,
        edit,
        channels: s.channels.guards().iter().filter(|c| c.enabled()).map(|c| c.name().to_string()).collect(),
        foot: foot(s, &facts),
    })
}

/// Every address with its channel, e-mail first.
fn points(contact: &Contact) -> Vec<(ChannelName, String)> {
    let email = contact.email.iter().map(|a| (ChannelName::email(), a.clone()));
    email.chain(contact.addresses.iter().map(|(c, a)| (c.clone(), a.clone()))).collect()
}

fn address((channel, address): &(ChannelName, String), held: &[Suppression], revealed: bool) -> ui::Address {
    let folded = fold_address(address);
    let found = held.iter().find(|s| s.channel == *channel && s.address.as_deref() == Some(folded.as_str()));
    ui::Address {
        channel: channel.to_string(),
        shown: if revealed { address.clone() } else { format::masked(address) },
        suppressed: found.map(|s| (s.reason.replace('_', " "), s.created_at, s.id.clone())),
    }
}

fn edit_form(s: &Services, contact: &Contact) -> ui::Edit {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let with_addresses = s.channels.guards().into_iter().filter(|c| !c.in_app() && *c.name() != ChannelName::email());
    // Addresses of channels that are not there (any more) must not be lost by saving.
    let mut names: Vec<_> = with_addresses.map(|c| c.name().clone()).chain(contact.addresses.keys().cloned()).collect();
    names.sort();
    names.dedup();
    let addresses = names
        .into_iter()
        .map(|name| {
            let address = contact.addresses.get(&name).cloned().unwrap_or_default();
            (name.to_string(), address)
        })
        .collect();
    ui::Edit {
        email: text(&contact.email),
        locale: text(&contact.locale),
        timezone: text(&contact.timezone),
        addresses,
        errors: Vec::new(),
    }
}

async fn live_facts(s: &Arc<Services>, signed: &Signed, key: &UserKey) -> StoreResult<ui::Live> {
    let feed = s.store.feed_state(key).await?;
    let filter =
        ConnectionFilter { app: key.app.clone(), user: Some(key.user.clone()), limit: SOCKETS, ..Default::default() };
    let listed = connections::list(s, filter).await;
    let words = |c: &crate::connection::ConnectionInfo| {
        let kind = if c.transport == "sse" { "event stream" } else { "WebSocket" };
        format!("{kind}, {}", campanile_admin_ui::pages::connections::client_words(c.user_agent.as_deref()))
    };
    Ok(ui::Live {
        user: key.user.to_string(),
        csrf: signed.token_to_act(),
        connections: listed.items.iter().map(|c| (c.conn_id.to_string(), words(c))).collect(),
        more_connections: listed.more,
        unread: feed.counts.unread,
        unseen: feed.counts.unseen,
        total: feed.counts.total,
        head: feed.head_seq,
        last_seen: s.store.last_seen(key).await?,
    })
}

async fn recent(s: &Services, signed: &Signed, key: &UserKey) -> Part<ui::Recent> {
    let filter = NotificationFilter {
        app: key.app.clone(),
        user: Some(key.user.clone()),
        limit: RECENT,
        ..NotificationFilter::default()
    };
    let readable = signed.admin.role.may_read_content();
    let found = s.store.notifications(&filter).await.map(|found| ui::Recent {
        rows: found.into_iter().map(|(row, states)| recent_row(&row, &states, readable)).collect(),
        user: key.user.to_string(),
    });
    part(s, "recent", "The last notifications", found)
}

fn recent_row(row: &NotificationRow, states: &[(ShownState, u64)], readable: bool) -> ui::RecentRow {
    let n = &row.notification;
    ui::RecentRow {
        id: n.id.to_string(),
        at: n.created_at,
        title: if readable { n.content.title.clone() } else { String::new() },
        kind: n.content.notification_type.clone(),
        tone: tone(states),
        state: states
            .iter()
            .map(|(s, k)| format!("{} {}", format::count(*k), s.as_str()))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// The worst of them.
fn tone(states: &[(ShownState, u64)]) -> &'static str {
    let any = |wanted: &[DeliveryState]| {
        states.iter().any(|(s, n)| *n > 0 && matches!(s, ShownState::Stored(s) if wanted.contains(s)))
    };
    if any(&[DeliveryState::Dead]) {
        "bad"
    } else if any(&[DeliveryState::Retrying, DeliveryState::Expired]) {
        "warn"
    } else if any(&[DeliveryState::Sent, DeliveryState::Delivered]) {
        "ok"
    } else {
        "off"
    }
}

struct Person(String);

pub fn live(query: &live::Query) -> Box<dyn live::Live> {
    Box::new(Person(query.get("id").to_owned()))
}

#[async_trait]
impl live::Live for Person {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let Ok(key) = key(&self.0) else { return };
        if let Ok(live) = live_facts(s, signed, &key).await {
            out.put("live-facts", &live);
        }
        let facts = s.console.facts.get(s).await;
        out.put("foot", &foot(s, &facts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_delivery_gives_the_tone() {
        let s = |state| (ShownState::Stored(state), 1);
        assert_eq!(tone(&[s(DeliveryState::Sent), s(DeliveryState::Dead)]), "bad");
        assert_eq!(tone(&[s(DeliveryState::Sent), s(DeliveryState::Retrying)]), "warn");
        assert_eq!(tone(&[s(DeliveryState::Delivered)]), "ok");
        assert_eq!(tone(&[(ShownState::Scheduled, 1)]), "off");
    }
}
