//! What is done for one person.

use super::{Extra, PATH, UNSUBSCRIBED, draw, key, points, url};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Posted, done_elsewhere, json_file},
        },
        problem::{ApiError, ApiResult, FieldError},
    },
    ingest::Answer,
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use campanile_admin_ui::{format, pages::users as ui, pieces::Toast};
use campanile_model::{
    ChannelName, UserKey,
    ports::{NotificationFilter, StoreError},
};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// An inbox token of the console.
const TOKEN: Duration = Duration::from_mins(15);
/// Notifications of an export, the newest ones, and how many are read at a time.
const EXPORT: usize = 1_000;
const EXPORT_PAGE: u32 = 100;
/// Of a notification type.
const TYPE_MAX: usize = 128;

pub async fn reveal(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let key = key(&id)?;
    s.store.note(&signed.actor, "user.reveal", key.user.as_str(), None).await?;
    draw(&s, &signed, &headers, &key, Extra { revealed: true, ..Extra::default() }).await
}

pub async fn test(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let key = key(&id)?;
    let channels: Vec<_> = posted.all("channels").collect();
    if channels.is_empty() {
        return Err(ApiError::invalid(vec![FieldError::new("channels", "choose at least one")]));
    }
    let request = json!({
        "user_id": key.user,
        "title": posted.get("title"),
        "message": format!("Sent by {} from the console.", signed.admin.name),
        "notification_type": "test",
        "channels": channels,
    });
    s.store.note(&signed.actor, "user.test", key.user.as_str(), Some(json!({"channels": channels}))).await?;
    let words = match s.ingest.accept(&signed.caller(), request, None).await? {
        Answer::Stored { body, .. } => format!("A test to {} is on its way: {}.", key.user, body.notification_id),
        Answer::Ephemeral { .. } => format!("A test to {} was pushed.", key.user),
    };
    Ok(done_elsewhere(&s, &signed, &headers, &url(&key), Toast::ok(words)))
}

pub async fn token(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let key = key(&id)?;
    let text =
        s.jwt.mint(&key.user, TOKEN).map_err(|e| ApiError::new(StatusCode::CONFLICT, "cannot_mint", e.to_string()))?;
    s.store
        .note(&signed.actor, "user.token", key.user.as_str(), Some(json!({"minutes": TOKEN.as_secs() / 60})))
        .await?;
    let token = Some(ui::Token { text, minutes: TOKEN.as_secs() / 60 });
    draw(&s, &signed, &headers, &key, Extra { token, ..Extra::default() }).await
}

pub async fn disable(
    s: State<Arc<Services>>,
    signed: Signed,
    id: Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    switch(s, signed, id, headers, true).await
}

pub async fn enable(
    s: State<Arc<Services>>,
    signed: Signed,
    id: Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    switch(s, signed, id, headers, false).await
}

async fn switch(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    disabled: bool,
) -> ApiResult<Response> {
    let key = key(&id)?;
    if s.store.get_user(&key).await?.is_none() {
        return Err(ApiError::not_found("user"));
    }
    s.status.set_disabled(&key, disabled, &signed.actor).await?;
    let (now, other) = if disabled { ("disabled", "enable") } else { ("enabled", "disable") };
    let toast = Toast::ok(format!("{} is {now}.", key.user)).undone_by(format!("{}/{other}", url(&key)), &[]);
    Ok(done_elsewhere(&s, &signed, &headers, &url(&key), toast))
}

pub async fn lift(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let key = key(&id)?;
    if !s.store.lift_suppression(&key.app, posted.get("id"), &signed.actor).await? {
        return Err(ApiError::not_found("suppression: it may have been lifted meanwhile"));
    }
    Ok(done_elsewhere(&s, &signed, &headers, &url(&key), Toast::ok("Lifted: messages go out again.")))
}

/// Says no for somebody, as their own link in a mail would.
pub async fn opt_out(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let key = key(&id)?;
    let channel = ChannelName::from(posted.get("channel"));
    let kind = posted.get("type");
    let guard = s.channels.get(&channel).filter(|g| !g.in_app());
    if guard.is_none() {
        return Err(ApiError::invalid(vec![FieldError::new("channel", "must be a channel that people can say no to")]));
    }
    if kind.is_empty() || kind.len() > TYPE_MAX {
        return Err(ApiError::invalid(vec![FieldError::new("type", format!("must be 1 to {TYPE_MAX} bytes"))]));
    }
    let added = s.store.opt_out(&key, &channel, kind, &signed.actor).await?;
    let toast = if added {
        Toast::ok(format!("{} gets no more {kind} by {channel}.", key.user))
    } else {
        Toast::bad(format!("{} had said no to {kind} by {channel} before.", key.user))
    };
    Ok(done_elsewhere(&s, &signed, &headers, &url(&key), toast))
}

/// Everything that is stored about a person, as a file.
pub async fn export(State(s): State<Arc<Services>>, signed: Signed, Path(id): Path<String>) -> ApiResult<Response> {
    let key = key(&id)?;
    let user = s.store.get_user(&key).await?;
    let feed = s.store.feed_state(&key).await?;
    let contact = user.as_ref().map(|u| u.contact.clone()).unwrap_or_default();
    let held = s.store.held_back(&key, &points(&contact), UNSUBSCRIBED).await?;
    let notifications = all_of(&s, &key).await?;
    if user.is_none() && notifications.is_empty() && feed.head_seq == 0 {
        return Err(ApiError::not_found("user"));
    }
    s.store.note(&signed.actor, "user.export", key.user.as_str(), None).await?;
    let body = json!({
        "user_id": key.user,
        "exported_at": format::machine(s.clock.now()),
        "contact": contact,
        "created_at": user.as_ref().map(|u| format::machine(u.created_at)),
        "disabled_at": user.as_ref().and_then(|u| u.disabled_at).map(format::machine),
        "feed": {"total": feed.counts.total, "unread": feed.counts.unread, "head_seq": feed.head_seq},
        "held_back": held,
        "notifications": notifications,
        "notifications_limited_to": EXPORT,
    });
    json_file("campanile-user.json", &body)
}

async fn all_of(s: &Services, key: &UserKey) -> Result<Vec<Value>, StoreError> {
    let mut all = Vec::new();
    let mut filter = NotificationFilter {
        app: key.app.clone(),
        user: Some(key.user.clone()),
        limit: EXPORT_PAGE,
        ..NotificationFilter::default()
    };
    while all.len() < EXPORT {
        let page = s.store.notifications(&filter).await?;
        let whole = page.len() == EXPORT_PAGE as usize;
        filter.before = page.last().map(|(row, _)| row.notification.id);
        all.extend(page.into_iter().map(|(row, states)| {
            let n = &row.notification;
            let states: Map<String, Value> =
                states.into_iter().map(|(s, k)| (s.as_str().to_owned(), json!(k))).collect();
            json!({
                "notification_id": n.id, "created_at": format::machine(n.created_at), "title": n.content.title,
                "message": n.content.message, "notification_type": n.content.notification_type,
                "data": n.content.data, "deliveries": states,
            })
        }));
        if !whole {
            break;
        }
    }
    Ok(all)
}

pub async fn erase(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let key = key(&id)?;
    if posted.get("word") != key.user.as_str() {
        return Err(ApiError::invalid(vec![FieldError::new("word", "type the id of the user to erase it")]));
    }
    let Some(gone) = s.status.erase(&key, &signed.actor).await? else { return Err(ApiError::not_found("user")) };
    let flight = match gone.in_flight {
        0 => String::new(),
        n => format!(" {n} on their way could not be called back."),
    };
    let toast = Toast::ok(format!(
        "{} is erased: {} waiting deliveries cancelled, {} feed items removed, addresses forgotten.{flight}",
        key.user, gone.cancelled, gone.feed_items
    ));
    Ok(done_elsewhere(&s, &signed, &headers, PATH, toast))
}
