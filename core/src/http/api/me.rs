//! `/api/v1/me`: an end user's own feed, the same as over the socket, and tickets for opening one.

use crate::{
    http::{
        ApiRoutes,
        auth::{EndUser, keys::sha256, one_header},
        extract::{JsonBody, Params, PathId},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_model::{
    NotificationId,
    feed::{Counts, FeedFilter, FeedItem, MarkAs, MarkOutcome, MarkSelection},
    ports::Ticket,
};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

const PAGE: u32 = 50;
const PAGE_MAX: u32 = 100;
/// Ids in one call; a longer list is a case for `up_to_seq`.
const IDS_MAX: usize = 1000;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_feed))
        .routes(routes!(unread_count))
        .routes(routes!(read_one))
        .routes(routes!(read_all))
        .routes(routes!(mark))
        .routes(routes!(create_ticket))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FeedQuery {
    /// Items below this `seq`: the `next_before` of the page before.
    before: Option<i64>,
    /// 1 to 100; 50 when not given.
    limit: Option<u32>,
    #[serde(default)]
    #[param(inline)]
    status: FeedFilter,
}

#[derive(Serialize, utoipa::ToSchema)]
struct FeedBody {
    /// Newest first.
    items: Vec<FeedItem>,
    /// Pass as `before` for the next page; null at the end.
    next_before: Option<i64>,
    unread: i64,
}

/// The feed, newest first; archived items only when asked for.
#[utoipa::path(get, path = "/me/notifications", tag = "me", params(FeedQuery), responses((status = 200, body = FeedBody)))]
async fn list_feed(
    State(s): State<Arc<Services>>,
    EndUser(me): EndUser,
    Params(q): Params<FeedQuery>,
) -> ApiResult<Json<FeedBody>> {
    let limit = super::page_size(q.limit, PAGE, PAGE_MAX)?;
    if q.before.is_some_and(|seq| seq < 1) {
        return Err(ApiError::invalid(vec![FieldError::new("before", "must be a seq, 1 or more")]));
    }
    let page = s.store.feed_page(&me.user, q.before, limit, q.status).await?;
    Ok(Json(FeedBody { items: page.items, next_before: page.next_before, unread: page.counts.unread }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct UnreadBody {
    #[schema(example = 5)]
    count: i64,
}

/// How many items are unread.
#[utoipa::path(get, path = "/me/unread_count", tag = "me", responses((status = 200, body = UnreadBody)))]
async fn unread_count(State(s): State<Arc<Services>>, EndUser(me): EndUser) -> ApiResult<Json<UnreadBody>> {
    Ok(Json(UnreadBody { count: s.store.feed_state(&me.user).await?.counts.unread }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct MarkedBody {
    counts: Counts,
    /// Ids that are not in this feed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_found: Vec<NotificationId>,
}

impl From<MarkOutcome> for MarkedBody {
    fn from(m: MarkOutcome) -> Self {
        Self { counts: m.counts, not_found: m.not_found }
    }
}

/// Marks one item read. Harmless when it is already.
#[utoipa::path(post, path = "/me/notifications/{id}/read", tag = "me", params(("id" = NotificationId, Path)),
    responses((status = 200, body = MarkedBody), (status = 404, description = "Not in this feed.")))]
async fn read_one(
    State(s): State<Arc<Services>>,
    EndUser(me): EndUser,
    PathId(id): PathId<NotificationId>,
) -> ApiResult<Json<MarkedBody>> {
    let outcome = s.status.mark(&me.user, MarkSelection::Ids(vec![id]), MarkAs::Read).await?;
    if !outcome.not_found.is_empty() {
        return Err(ApiError::not_found("notification in this feed"));
    }
    Ok(Json(outcome.into()))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ReadAll {
    /// The newest `seq` the reader has seen, so that what came meanwhile stays unread. Everything when not given.
    up_to_seq: Option<i64>,
}

/// Marks every item up to a `seq` read.
#[utoipa::path(post, path = "/me/notifications/read_all", tag = "me", request_body = ReadAll,
    responses((status = 200, body = MarkedBody)))]
async fn read_all(
    State(s): State<Arc<Services>>,
    EndUser(me): EndUser,
    JsonBody(body): JsonBody<ReadAll>,
) -> ApiResult<Json<MarkedBody>> {
    let up_to = match body.up_to_seq {
        Some(seq) => checked_seq(seq)?,
        None => s.store.feed_state(&me.user).await?.head_seq,
    };
    Ok(Json(s.status.mark(&me.user, MarkSelection::UpToSeq(up_to), MarkAs::Read).await?.into()))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// These items, at most 1,000; or `up_to_seq`, not both.
    ids: Option<Vec<NotificationId>>,
    /// Every item with `seq` up to this.
    up_to_seq: Option<i64>,
    r#as: MarkAs,
}

/// Marks items seen, read, unread, archived or unarchived.
#[utoipa::path(post, path = "/me/notifications/mark", tag = "me", request_body = Mark,
    responses((status = 200, body = MarkedBody)))]
async fn mark(
    State(s): State<Arc<Services>>,
    EndUser(me): EndUser,
    JsonBody(body): JsonBody<Mark>,
) -> ApiResult<Json<MarkedBody>> {
    let what = match (body.ids, body.up_to_seq) {
        (Some(ids), None) if ids.len() <= IDS_MAX => MarkSelection::Ids(ids),
        (Some(_), None) => {
            let message = format!("must be at most {IDS_MAX}; use up_to_seq for more");
            return Err(ApiError::invalid(vec![FieldError::new("ids", message)]));
        }
        (None, Some(seq)) => MarkSelection::UpToSeq(checked_seq(seq)?),
        _ => return Err(ApiError::invalid(vec![FieldError::new("ids", "give either ids or up_to_seq")])),
    };
    Ok(Json(s.status.mark(&me.user, what, body.r#as).await?.into()))
}

fn checked_seq(seq: i64) -> Result<i64, ApiError> {
    if seq >= 0 {
        return Ok(seq);
    }
    Err(ApiError::invalid(vec![FieldError::new("up_to_seq", "must be a seq, 0 or more")]))
}

#[derive(Serialize, utoipa::ToSchema)]
struct TicketBody {
    /// For `?ticket=` of the socket or the event stream: single use.
    ticket: String,
    /// Seconds.
    #[schema(example = 30)]
    expires_in: u64,
}

/// A ticket that opens one socket, so that no token stands in a URL. A page's ticket works only from that page's origin.
#[utoipa::path(post, path = "/me/ws-tickets", tag = "me", responses((status = 201, body = TicketBody)))]
async fn create_ticket(
    State(s): State<Arc<Services>>,
    EndUser(me): EndUser,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let origin = one_header(&headers, &header::ORIGIN)
        .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "send one Origin header"))?;
    let mut random = [0u8; 32];
    rand::rng().fill_bytes(&mut random);
    let text = URL_SAFE_NO_PAD.encode(random);
    let ttl = *s.config.websocket.ticket_ttl;
    let ticket = Ticket { user: me.user, origin: origin.map(str::to_owned), token_expires_at: me.expires_at };
    s.store.put_ticket(sha256(&text), ticket, ttl).await?;
    let body = TicketBody { ticket: text, expires_in: ttl.as_secs() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
