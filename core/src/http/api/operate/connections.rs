//! Open sockets and streams of this node, and closing them.

use crate::{
    connection::ConnectionInfo,
    http::{
        ApiRoutes,
        auth::Application,
        extract::{JsonBody, Params, PathId},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
};
use campanile_model::{ConnId, UserId, UserKey, ports::Scope, signal::Disconnect};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_connections))
        .routes(routes!(close_connection))
        .routes(routes!(disconnect_user))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ConnectionsQuery {
    /// Only this user's.
    user_id: Option<String>,
    /// Connections after this id: the `next_after` of the page before.
    after: Option<String>,
    /// 1 to 1,000; 100 when not given.
    limit: Option<u32>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct ConnectionsBody {
    /// Oldest first.
    items: Vec<ConnectionInfo>,
    next_after: Option<ConnId>,
    /// All open connections of this node.
    total: usize,
}

/// Open connections of this node, oldest first; addresses without their last part.
#[utoipa::path(get, path = "/connections", tag = "operate", params(ConnectionsQuery),
    responses((status = 200, body = ConnectionsBody)))]
async fn list_connections(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<ConnectionsQuery>,
) -> ApiResult<Json<ConnectionsBody>> {
    caller.require(Scope::Read)?;
    let limit = crate::http::api::page_size(q.limit, 100, 1000)? as usize;
    let after: Option<ConnId> = crate::http::api::parsed(q.after.as_deref(), "after", "must be an id of this list")?;
    let user = q.user_id.as_deref().filter(|u| !u.is_empty());
    let mut items: Vec<_> = s
        .hub
        .connections()
        .into_iter()
        .filter(|c| c.app == caller.app && user.is_none_or(|u| c.user_id.as_str() == u))
        .filter(|c| after.is_none_or(|after| c.conn_id > after))
        .take(limit + 1)
        .collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next_after = more.then(|| items.last().map(|c| c.conn_id)).flatten();
    Ok(Json(ConnectionsBody { items, next_after, total: s.hub.connection_count() }))
}

/// How a client should take its end.
#[derive(Clone, Copy, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Why {
    /// Close code 1012: it comes back.
    #[default]
    Reconnect,
    /// Close code 4401: it needs a new token.
    Revoked,
}

impl From<Why> for Disconnect {
    fn from(why: Why) -> Self {
        match why {
            Why::Reconnect => Self::Reconnect,
            Why::Revoked => Self::Revoked,
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CloseQuery {
    /// `reconnect` (it comes back) or `revoked` (it needs a new token).
    #[serde(default)]
    #[param(inline)]
    why: Why,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Closed {
    /// Always `closed`.
    #[schema(example = "closed")]
    status: &'static str,
}

/// Closes one connection of this node.
#[utoipa::path(delete, path = "/connections/{conn_id}", tag = "operate", params(("conn_id" = ConnId, Path), CloseQuery),
    responses((status = 200, body = Closed), (status = 404, description = "Not open on this node.")))]
async fn close_connection(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(id): PathId<ConnId>,
    Params(q): Params<CloseQuery>,
) -> ApiResult<Json<Closed>> {
    caller.require(Scope::Manage)?;
    let unknown = || ApiError::not_found("connection on this node");
    let theirs =
        s.hub.connections().into_iter().find(|c| c.conn_id == id && c.app == caller.app).ok_or_else(unknown)?;
    // Written down first: nothing is closed that the log does not tell of.
    let detail = json!({"user_id": theirs.user_id, "why": q.why});
    s.store.note(&caller.actor, "connection.close", &id.to_string(), Some(detail)).await?;
    if !s.hub.disconnect(id, q.why.into()) {
        return Err(unknown());
    }
    tracing::info!(conn.id = %id, actor = caller.actor.who, "Closed a connection on request");
    Ok(Json(Closed { status: "closed" }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct DisconnectUser {
    #[serde(default)]
    why: Why,
}

/// Closes all connections of a user, on all nodes.
#[utoipa::path(post, path = "/users/{user_id}/disconnect", tag = "operate", params(("user_id" = String, Path)),
    request_body = DisconnectUser, responses((status = 200, body = Closed)))]
async fn disconnect_user(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(user_id): Path<String>,
    JsonBody(body): JsonBody<DisconnectUser>,
) -> ApiResult<Json<Closed>> {
    caller.require(Scope::Manage)?;
    let user = UserId::parse(&user_id).map_err(|wrong| ApiError::invalid(vec![FieldError::new("user_id", wrong)]))?;
    s.store.note(&caller.actor, "user.disconnect", user.as_str(), Some(json!({"why": body.why}))).await?;
    s.hub.disconnect_user(&UserKey { app: caller.app, user }, body.why.into());
    tracing::info!(actor = caller.actor.who, "Closed a user's connections on request");
    Ok(Json(Closed { status: "closed" }))
}
