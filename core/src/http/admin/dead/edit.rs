//! A dead letter is corrected and sent as a new version: another address, title or text, to the same person by the same
//! channel. The dead one leaves the list; both say in the audit log what became of them.

use crate::{
    http::{
        admin::{
            Signed,
            answer::{Posted, done_elsewhere},
            console_frame,
        },
        api::notifications::whole_request,
        page::page,
        problem::{ApiError, ApiResult},
    },
    ingest::{Answer, IngestError},
    services::Services,
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use campanile_admin_ui::{
    pages::dead::{Edit, Edited},
    pieces::Toast,
};
use campanile_model::{
    AppId, DeliveryId, DeliveryState,
    ports::{AcceptError, DeliveryRow, NotificationRow, Role},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// The dead letter and what it belongs to.
async fn found(s: &Services, posted: &Posted) -> ApiResult<(NotificationRow, DeliveryRow)> {
    let gone = || ApiError::not_found("dead letter: it may have been retried or discarded meanwhile");
    // A list's button names its row: other rows may be ticked beside.
    let id = if posted.has("edit") { posted.get("edit") } else { posted.get("id") };
    let id = DeliveryId(id.parse().map_err(|_| gone())?);
    let app = AppId::default();
    let of = s.store.notification_of(&app, id).await?.ok_or_else(gone)?;
    // The page of its notification's deliveries that begins with it.
    let before = DeliveryId(Uuid::from_u128(id.0.as_u128().saturating_sub(1)));
    let detail = s.store.notification(&app, of, Some(before)).await?.ok_or_else(gone)?;
    let delivery = detail.deliveries.into_iter().find(|d| d.id == id).ok_or_else(gone)?;
    if delivery.state != DeliveryState::Dead || delivery.dismissed_at.is_some() {
        return Err(gone());
    }
    Ok((detail.row, delivery))
}

/// The form, with what was sent. Looking at it is written down, as every look at a message is.
pub async fn open(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let (row, delivery) = found(&s, &posted).await?;
    let detail = json!({"delivery_id": delivery.id, "for": "edit"});
    s.store.note(&signed.actor, "notification.reveal", &delivery.notification_id.to_string(), Some(detail)).await?;
    let content = &row.notification.content;
    let edited = Edited {
        address: delivery.recipient.clone().unwrap_or_default(),
        title: content.title.clone(),
        text: content.message.clone(),
    };
    draw(&s, &signed, &headers, &delivery, edited, Vec::new()).await
}

async fn draw(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    delivery: &DeliveryRow,
    edited: Edited,
    problems: Vec<(String, String)>,
) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    let said = delivery.attempts.last().and_then(|a| a.message.clone()).unwrap_or_default();
    page(&Edit {
        frame: console_frame(s, signed, headers, &facts, "/admin/queues"),
        delivery: delivery.id.to_string(),
        notification: delivery.notification_id.to_string(),
        user: delivery.user_id.to_string(),
        channel: delivery.channel.to_string(),
        addressed: s.channels.get(&delivery.channel).is_none_or(|g| !g.in_app()),
        reason: delivery.reason.clone().unwrap_or_default(),
        said,
        edited,
        problems,
    })
}

pub async fn send(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let (row, delivery) = found(&s, &posted).await?;
    let edited = Edited {
        address: posted.get("address").to_owned(),
        title: posted.get("title").to_owned(),
        text: posted.get("text").replace("\r\n", "\n"),
    };
    let request = corrected(&row, &delivery, &edited);
    // Of two who press at once, and after a crash before the next step, one version is sent: the second is told.
    let key = format!("dead-letter-edit:{}", delivery.id);
    let accepted = match s.ingest.accept(&signed.caller(), request, Some(key)).await {
        Ok(Answer::Stored { body, .. }) => body,
        Ok(Answer::Ephemeral { .. }) => return Err(ApiError::not_found("stored notification")),
        Err(IngestError::Invalid(invalid)) => {
            let problems = invalid.faults.into_iter().map(|f| (place(&f.field).to_owned(), f.message)).collect();
            let shown = draw(&s, &signed, &headers, &delivery, edited, problems).await?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response());
        }
        Err(IngestError::Accept(AcceptError::KeyMismatch | AcceptError::KeyBusy)) => {
            let why = "somebody has sent another new version of it; the audit log says which";
            return Err(ApiError::new(StatusCode::CONFLICT, "edited_meanwhile", why));
        }
        Err(e) => return Err(e.into()),
    };
    let new = accepted.notification_id;
    if s.store.dismiss(&AppId::default(), &[delivery.id], &delivery.id.to_string(), None).await? > 0 {
        let detail = json!({"as": new, "changed": changes(&row, &delivery, &edited)});
        s.store.note(&signed.actor, "delivery.edit", &delivery.id.to_string(), Some(detail)).await?;
    }
    s.console.facts.forget().await;
    let held = accepted.deliveries.iter().flatten().find_map(|d| d.reason.clone());
    let toast = match held {
        None => Toast::ok("The new version is on its way, as this notification."),
        Some(why) => Toast::bad(format!("The new version is not sent: {}.", why.replace('_', " "))),
    };
    Ok(done_elsewhere(&s, &signed, &headers, &format!("/admin/notifications/{new}"), toast))
}

/// The request as it was made, to this person by this channel alone, with what was corrected.
fn corrected(row: &NotificationRow, delivery: &DeliveryRow, edited: &Edited) -> Value {
    let mut request = whole_request(row);
    if let Some(fields) = request.as_object_mut() {
        for gone in ["user_id", "send_at", "expires_at", "collapse_key", "idempotency_key"] {
            fields.remove(gone);
        }
        let mut to = Map::from_iter([("user_id".to_owned(), json!(delivery.user_id))]);
        if !edited.address.is_empty() {
            to.insert("addresses".to_owned(), json!({ delivery.channel.as_str(): edited.address }));
        }
        fields.insert("to".to_owned(), json!([to]));
        fields.insert("channels".to_owned(), json!([delivery.channel]));
        fields.insert("title".to_owned(), json!(edited.title));
        fields.insert("message".to_owned(), json!(edited.text));
    }
    request
}

/// What was corrected, by name: the log outlives an erasure.
fn changes(row: &NotificationRow, delivery: &DeliveryRow, edited: &Edited) -> Vec<&'static str> {
    let content = &row.notification.content;
    let pairs = [
        ("address", delivery.recipient.as_deref().unwrap_or_default(), edited.address.as_str()),
        ("title", &content.title, &edited.title),
        ("text", &content.message, &edited.text),
    ];
    pairs.into_iter().filter(|(_, was, is)| was != is).map(|(name, ..)| name).collect()
}

/// A field of the request → a field of the form.
fn place(field: &str) -> &'static str {
    match field {
        "title" => "title",
        "message" => "text",
        f if f.starts_with("to") => "address",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::notification::fixtures::{delivery, detail};

    #[test]
    fn only_what_was_corrected_differs_and_only_one_person_gets_it() {
        let dead = delivery("email", DeliveryState::Dead);
        let row = detail(vec![dead.clone()]).row;
        let mut edited = Edited {
            address: "right@northwind.example".into(),
            title: row.notification.content.title.clone(),
            text: row.notification.content.message.clone(),
        };
        let request = corrected(&row, &dead, &edited);
        assert_eq!(
            request["to"],
            json!([{"user_id": dead.user_id, "addresses": {"email": "right@northwind.example"}}])
        );
        assert_eq!((&request["channels"], &request["title"]), (&json!(["email"]), &json!(edited.title)));
        assert!(request.get("user_id").is_none() && request.get("send_at").is_none());
        assert_eq!(changes(&row, &dead, &edited), ["address"]);
        edited.address.clear();
        edited.title = "New".into();
        assert_eq!(changes(&row, &dead, &edited), ["address", "title"]);
        assert_eq!(corrected(&row, &dead, &edited)["to"], json!([{"user_id": dead.user_id}]));
    }
}
