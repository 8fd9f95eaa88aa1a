//! Open sockets and streams of all nodes, and closing them.

use super::super::{page_size, parsed};
use crate::{
    connection::{ConnectionInfo, TransportKind},
    console::connections,
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
    http::StatusCode,
};
use campanile_model::{
    ConnId, UserId, UserKey,
    ports::{ConnectionFilter, Scope},
    signal::Disconnect,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_connections, close_connections_of))
        .routes(routes!(close_connection))
        .routes(routes!(ping_connection))
        .routes(routes!(disconnect_user))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ConnectionsQuery {
    /// Only this user's.
    user_id: Option<String>,
    /// Only those that this node holds.
    node_id: Option<String>,
    /// `websocket` or `sse`.
    transport: Option<String>,
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
    /// All open connections of all nodes.
    total: u64,
    /// The database did not answer: other nodes' connections are left out.
    partial: bool,
}

/// Open connections of all nodes, oldest first; addresses without their last part. Another node's show within seconds.
#[utoipa::path(get, path = "/connections", tag = "operate", params(ConnectionsQuery),
    responses((status = 200, body = ConnectionsBody)))]
async fn list_connections(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<ConnectionsQuery>,
) -> ApiResult<Json<ConnectionsBody>> {
    caller.require(Scope::Read)?;
    let limit = page_size(q.limit, 100, 1000)?;
    let transport = match q.transport.as_deref() {
        None | Some("") => None,
        Some(name) if TransportKind::ALL.iter().any(|kind| kind.as_str() == name) => Some(name.to_owned()),
        Some(_) => return Err(ApiError::invalid(vec![FieldError::new("transport", "must be websocket or sse")])),
    };
    let filter = ConnectionFilter {
        app: caller.app,
        user: q.user_id.as_deref().filter(|u| !u.is_empty()).map(UserId::from),
        transport,
        node: parsed(q.node_id.as_deref(), "node_id", "must be a node's id")?,
        except: None,
        after: parsed(q.after.as_deref(), "after", "must be an id of this list")?,
        limit,
    };
    let connections::Listed { items, more, total, partial, .. } =
        connections::list(&s, filter, connections::Wish::default()).await;
    let next_after = more.then(|| items.last().map(|c| c.conn_id)).flatten();
    Ok(Json(ConnectionsBody { items, next_after, total, partial }))
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

/// Closes one connection, on whatever node it is. Another node's is found once it is in the list.
#[utoipa::path(delete, path = "/connections/{conn_id}", tag = "operate", params(("conn_id" = ConnId, Path), CloseQuery),
    responses((status = 200, body = Closed), (status = 404, description = "Not open on any node.")))]
async fn close_connection(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(id): PathId<ConnId>,
    Params(q): Params<CloseQuery>,
) -> ApiResult<Json<Closed>> {
    caller.require(Scope::Manage)?;
    let found = connections::find(&s, &caller.app, id).await?;
    let Some(ConnectionInfo { user_id: user, .. }) = found else {
        return Err(ApiError::not_found("open connection"));
    };
    // Written down first: nothing is closed that the log does not tell of.
    let detail = json!({"user_id": user, "why": q.why});
    s.store.note(&caller.actor, "connection.close", &id.to_string(), Some(detail)).await?;
    s.hub.disconnect_anywhere(caller.app, id, q.why.into());
    tracing::info!(conn.id = %id, actor = caller.actor.who, "Closed a connection on request");
    Ok(Json(Closed { status: "closed" }))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CloseUserQuery {
    /// Whose connections.
    user_id: String,
    /// `reconnect` (they come back) or `revoked` (they need a new token).
    #[serde(default)]
    #[param(inline)]
    why: Why,
}

/// Closes all connections of a user, on all nodes.
#[utoipa::path(delete, path = "/connections", tag = "operate", params(CloseUserQuery),
    responses((status = 200, body = Closed)))]
async fn close_connections_of(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<CloseUserQuery>,
) -> ApiResult<Json<Closed>> {
    end_user(&s, caller, &q.user_id, q.why).await
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
    end_user(&s, caller, &user_id, body.why).await
}

async fn end_user(s: &Services, caller: Application, user_id: &str, why: Why) -> ApiResult<Json<Closed>> {
    caller.require(Scope::Manage)?;
    let user = UserId::parse(user_id).map_err(|wrong| ApiError::invalid(vec![FieldError::new("user_id", wrong)]))?;
    s.store.note(&caller.actor, "user.disconnect", user.as_str(), Some(json!({"why": why}))).await?;
    s.hub.disconnect_user(&UserKey { app: caller.app, user }, why.into());
    tracing::info!(actor = caller.actor.who, "Closed a user's connections on request");
    Ok(Json(Closed { status: "closed" }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Pinged {
    conn_id: ConnId,
    /// From the ping to its pong.
    took_ms: f64,
}

/// Pings a WebSocket and waits up to 3 s for its pong.
#[utoipa::path(post, path = "/connections/{conn_id}/ping", tag = "operate", params(("conn_id" = ConnId, Path)),
    responses((status = 200, body = Pinged), (status = 404, description = "No such open connection."),
        (status = 409, description = "`no_ping`: an event stream, which can't answer."),
        (status = 504, description = "`no_pong`: it did not answer in time.")))]
async fn ping_connection(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(conn_id): PathId<ConnId>,
) -> ApiResult<Json<Pinged>> {
    caller.require(Scope::Manage)?;
    let found = connections::find(&s, &caller.app, conn_id).await?;
    let found = found.ok_or_else(|| ApiError::not_found("open connection"))?;
    if found.transport != TransportKind::WebSocket.as_str() {
        return Err(ApiError::new(StatusCode::CONFLICT, "no_ping", "an event stream can't answer a ping"));
    }
    let took = connections::ping(&s, conn_id).await;
    let took_ms = took.ok_or_else(|| {
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "no_pong", "the connection did not answer within 3 s")
    })?;
    Ok(Json(Pinged { conn_id, took_ms }))
}
