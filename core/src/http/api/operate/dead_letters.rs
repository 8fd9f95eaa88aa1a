//! Deliveries that were given up on, and trying them again.

use crate::{
    http::{
        ApiRoutes,
        api::{page_size, parsed},
        auth::Application,
        extract::{JsonBody, Params, PathId},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{Json, extract::State, http::StatusCode};
use campanile_model::{
    ChannelName, DeliveryId, NotificationId, Timestamp, UserId, clock,
    ports::{DeadFilter, DeliveryRow, MoveTo, Moved, ReplayOutcome, Scope},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use utoipa_axum::routes;

/// Most deliveries one bulk call revives.
const BULK_MAX: u32 = 1000;
/// Revivals under way at once in a bulk call; each is a transaction of its own, and they share commits.
const BULK_AT_ONCE: usize = 32;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_dead_letters))
        .routes(routes!(retry_dead_letters))
        .routes(routes!(retry_dead_letter))
        .routes(routes!(move_dead_letter))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeadQuery {
    channel: Option<String>,
    /// `max_attempts`, `max_age`, `permanent`, `poison`, `bounced`, …
    reason: Option<String>,
    user_id: Option<String>,
    /// Deliveries below this id: the `next_before` of the page before.
    before: Option<String>,
    /// 1 to 100; 50 when not given.
    limit: Option<u32>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct DeadLetter {
    delivery_id: DeliveryId,
    notification_id: NotificationId,
    user_id: UserId,
    channel: ChannelName,
    recipient: Option<String>,
    reason: Option<String>,
    /// How often it was tried.
    attempt: u32,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    due_at: Timestamp,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    settled_at: Option<Timestamp>,
}

impl From<DeliveryRow> for DeadLetter {
    fn from(d: DeliveryRow) -> Self {
        Self {
            delivery_id: d.id,
            notification_id: d.notification_id,
            user_id: d.user_id,
            channel: d.channel,
            recipient: d.recipient,
            reason: d.reason,
            attempt: d.attempt,
            created_at: d.created_at,
            due_at: d.due_at,
            settled_at: d.settled_at,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
struct DeadBody {
    /// Newest first.
    items: Vec<DeadLetter>,
    next_before: Option<DeliveryId>,
}

/// Dead letters, newest first.
#[utoipa::path(get, path = "/dead_letters", tag = "operate", params(DeadQuery), responses((status = 200, body = DeadBody)))]
async fn list_dead_letters(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<DeadQuery>,
) -> ApiResult<Json<DeadBody>> {
    caller.require(Scope::Read)?;
    let limit = page_size(q.limit, 50, 100)?;
    let text = |t: Option<String>| t.filter(|t| !t.is_empty());
    let filter = DeadFilter {
        app: caller.app,
        channel: text(q.channel).map(ChannelName::from),
        reason: text(q.reason),
        user: text(q.user_id).map(UserId::from),
        before: parsed(q.before.as_deref(), "before", "must be an id of this list")?,
        limit,
    };
    let items: Vec<DeadLetter> = s.store.dead_letters(&filter).await?.into_iter().map(Into::into).collect();
    let next_before = (items.len() == limit as usize).then(|| items.last().map(|d| d.delivery_id)).flatten();
    Ok(Json(DeadBody { items, next_before }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Retried {
    delivery_id: DeliveryId,
    /// Always `pending`.
    #[schema(example = "pending")]
    state: &'static str,
}

/// Tries one dead delivery again from the start. Suppressions are checked again, and the address is resolved again.
#[utoipa::path(post, path = "/dead_letters/{delivery_id}/retry", tag = "operate", params(("delivery_id" = DeliveryId, Path)),
    responses((status = 200, body = Retried), (status = 404, description = "No such delivery."),
        (status = 409, description = "`not_replayable`: not dead, cancelled, expired or erased since.")))]
async fn retry_dead_letter(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(delivery_id): PathId<DeliveryId>,
) -> ApiResult<Json<Retried>> {
    caller.require(Scope::Manage)?;
    match s.status.replay(&caller.app, delivery_id, &caller.actor).await? {
        ReplayOutcome::Replayed => Ok(Json(Retried { delivery_id, state: "pending" })),
        ReplayOutcome::NotReplayable(why) => {
            Err(ApiError::new(StatusCode::CONFLICT, "not_replayable", format!("this delivery can't be retried: {why}")))
        }
        ReplayOutcome::NotFound => Err(ApiError::not_found("delivery")),
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    /// A channel that is switched on.
    #[schema(example = "sms")]
    channel: ChannelName,
}

#[derive(Serialize, utoipa::ToSchema)]
struct MovedBody {
    /// What was given up on; it is out of the list and stays dead.
    delivery_id: DeliveryId,
    /// The delivery in its place.
    moved_to: DeliveryId,
    channel: ChannelName,
}

/// Sends one dead delivery by another channel, to the person's own address there.
#[utoipa::path(post, path = "/dead_letters/{delivery_id}/move", tag = "operate", params(("delivery_id" = DeliveryId, Path)),
    request_body = MoveBody,
    responses((status = 200, body = MovedBody), (status = 404, description = "No such delivery."),
        (status = 409, description = "`not_movable`: not dead, without an address there, already by that channel, unsubscribed, …")))]
async fn move_dead_letter(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(delivery_id): PathId<DeliveryId>,
    JsonBody(body): JsonBody<MoveBody>,
) -> ApiResult<Json<MovedBody>> {
    caller.require(Scope::Manage)?;
    let guard = s.channels.get(&body.channel).filter(|g| g.enabled());
    let Some(guard) = guard else {
        return Err(ApiError::invalid(vec![FieldError::new("channel", "must be a channel that is switched on")]));
    };
    let to = MoveTo { channel: body.channel.clone(), in_app: guard.in_app() };
    let target = delivery_id.to_string();
    let moved = s.status.move_dead(&caller.app, &[delivery_id], &to, &target, Some(&caller.actor)).await?;
    match moved.first() {
        Some(Moved::To(moved_to)) => Ok(Json(MovedBody { delivery_id, moved_to: *moved_to, channel: body.channel })),
        Some(Moved::Refused(why)) => {
            let text = format!("this delivery can't be moved: {why}");
            Err(ApiError::new(StatusCode::CONFLICT, "not_movable", text))
        }
        Some(Moved::NotFound) | None => Err(ApiError::not_found("delivery")),
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryMany {
    channel: Option<ChannelName>,
    reason: Option<String>,
    user_id: Option<UserId>,
    /// 1 to 1,000; 100 when not given.
    limit: Option<u32>,
    /// Dead letters below this id: the `next_before` of the answer before.
    before: Option<DeliveryId>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct RetriedMany {
    retried: u32,
    /// Those that could not be, and why.
    refused: Vec<Refused>,
    /// There may be more: call again with this as `before`.
    next_before: Option<DeliveryId>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Refused {
    delivery_id: DeliveryId,
    reason: &'static str,
}

/// Tries the dead letters of a filter again, newest first, each for itself and each with its audit entry.
#[utoipa::path(post, path = "/dead_letters/retry", tag = "operate", request_body = RetryMany,
    responses((status = 200, body = RetriedMany)))]
async fn retry_dead_letters(
    State(s): State<Arc<Services>>,
    caller: Application,
    JsonBody(body): JsonBody<RetryMany>,
) -> ApiResult<Json<RetriedMany>> {
    caller.require(Scope::Manage)?;
    if body.channel.is_none() && body.reason.is_none() && body.user_id.is_none() && body.limit.is_none() {
        // Reviving everything by an empty body would be too easy a slip.
        return Err(ApiError::invalid(vec![FieldError::new("limit", "give a channel, reason, user_id or limit")]));
    }
    let limit = page_size(body.limit, 100, BULK_MAX)?;
    let filter = DeadFilter {
        app: caller.app.clone(),
        channel: body.channel,
        reason: body.reason,
        user: body.user_id,
        before: body.before,
        limit,
    };
    // Leaves time for the answer within `server.request_timeout`.
    let deadline = Instant::now() + (*s.config.server.request_timeout / 2).max(Duration::from_millis(500));
    let rows = s.store.dead_letters(&filter).await?;
    let full = rows.len() == limit as usize;
    let mut done = RetriedMany { retried: 0, refused: Vec::new(), next_before: None };
    let mut last = None;
    let mut outcomes = stream::iter(rows.into_iter().map(|row| row.id))
        .map(|id| {
            let (s, caller) = (&s, &caller);
            async move { (id, s.status.replay(&caller.app, id, &caller.actor).await) }
        })
        .buffered(BULK_AT_ONCE);
    while let Some((id, outcome)) = outcomes.next().await {
        match outcome {
            Ok(ReplayOutcome::Replayed) => done.retried += 1,
            Ok(ReplayOutcome::NotReplayable(reason)) => done.refused.push(Refused { delivery_id: id, reason }),
            // Retention or an erase was quicker.
            Ok(ReplayOutcome::NotFound) => {}
            Err(e) if done.retried == 0 => return Err(e.into()),
            Err(_) => {
                // What was revived must be told; the caller goes on from here.
                done.next_before = last;
                return Ok(Json(done));
            }
        }
        last = Some(id);
        if Instant::now() >= deadline {
            done.next_before = last;
            return Ok(Json(done));
        }
    }
    if full {
        done.next_before = last;
    }
    Ok(Json(done))
}
