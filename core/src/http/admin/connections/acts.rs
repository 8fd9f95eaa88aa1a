//! What is done with connections: closed, pinged, sent a word, their frames shown for a while; and a node that gives its
//! connections away.

use super::super::{
    Signed,
    answer::{Ask, Posted, ask, done},
};
use crate::{
    console::connections,
    http::{
        api::operate::begin_drain,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::pieces::Toast;
use campanile_model::{
    AppId, ConnId, NodeId, UserId, UserKey,
    signal::{Disconnect, Watch},
};
use chrono::TimeDelta;
use serde_json::json;
use std::sync::Arc;

/// Marks what was sent from here.
const KIND: &str = "campanile.operator";
/// So long frames are shown.
const TAIL_MIN: i64 = 5;

fn why(posted: &Posted) -> (Disconnect, &'static str) {
    match posted.get("why") {
        "revoked" => (Disconnect::Revoked, "revoked"),
        _ => (Disconnect::Reconnect, "reconnect"),
    }
}

pub async fn close(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let id: ConnId = id.parse().map_err(|_| ApiError::not_found("connection"))?;
    let app = AppId::default();
    let Some(found) = connections::find(&s, &app, id).await? else {
        return Err(ApiError::not_found("open connection: it may have closed meanwhile"));
    };
    let (order, word) = why(&posted);
    // Written down first: nothing is closed that the log does not tell of.
    let detail = json!({"user_id": found.user_id, "why": word});
    s.store.note(&signed.actor, "connection.close", &id.to_string(), Some(detail)).await?;
    s.hub.disconnect_anywhere(app, id, order);
    let toast = Toast::ok(format!("A connection of {} is being closed.", found.user_id));
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}

pub async fn close_user(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(user): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let user = UserId::parse(&user).map_err(|e| ApiError::invalid(vec![FieldError::new("user", e)]))?;
    let question = Ask {
        title: format!("Disconnect all of {user}?"),
        consequence: "Every socket and stream of this user on every node closes. They come back by themselves."
            .to_owned(),
        label: "Disconnect".to_owned(),
        word: "disconnect",
        count: 1,
        action: format!("/admin/connections/of/{}/close", super::super::segment(user.as_str())),
    };
    if let Some(page) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(page);
    }
    let (order, word) = why(&posted);
    s.store.note(&signed.actor, "user.disconnect", user.as_str(), Some(json!({"why": word}))).await?;
    let toast = Toast::ok(format!("The connections of {user} are being closed."));
    s.hub.disconnect_user(&UserKey { app: AppId::default(), user }, order);
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}

/// Found on whatever node it is.
async fn found(s: &Services, id: &str) -> ApiResult<crate::connection::ConnectionInfo> {
    let id: ConnId = id.parse().map_err(|_| ApiError::not_found("connection"))?;
    let found = connections::find(s, &AppId::default(), id).await?;
    found.ok_or_else(|| ApiError::not_found("open connection: it may have closed meanwhile"))
}

fn back(posted: &Posted, id: ConnId) -> String {
    let back = posted.get("back");
    if back.is_empty() { format!("{}/{id}", super::PATH) } else { back.to_owned() }
}

/// How long a ping takes now.
pub async fn ping(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let found = found(&s, &id).await?;
    let toast = match connections::ping(&s, found.conn_id).await {
        Some(ms) => Toast::ok(format!("{} answered in {}.", found.user_id, super::short_time(ms).text())),
        None => Toast::bad(format!("{} did not answer a ping within 3 s.", found.user_id)),
    };
    Ok(done(&s, &signed, &headers, &back(&posted, found.conn_id), toast))
}

/// The frames of this connection, for a few minutes.
pub async fn tail(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let found = found(&s, &id).await?;
    let until = s.clock.now() + TimeDelta::minutes(TAIL_MIN);
    // Written down first: frames hold what messages say.
    let detail = json!({"user_id": found.user_id, "minutes": TAIL_MIN});
    s.store.note(&signed.actor, "connection.tail", &found.conn_id.to_string(), Some(detail)).await?;
    s.hub.watch(found.conn_id, Watch::Tail(until));
    let toast = Toast::ok(format!("Frames are shown for {TAIL_MIN} minutes, 500 at most. The audit log says so."));
    Ok(done(&s, &signed, &headers, &back(&posted, found.conn_id), toast))
}

/// A word to whoever is there: pushed to open connections, kept by nobody.
pub async fn message(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(user): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let user = UserId::parse(&user).map_err(|e| ApiError::invalid(vec![FieldError::new("user", e)]))?;
    let text = match posted.get("text") {
        "" => "Please reload this page.",
        text => text,
    };
    let request = json!({
        "user_id": user, "title": text, "notification_type": KIND, "persist": false,
        // Clients that know it reload by themselves.
        "data": {"action": "reload"},
    });
    s.ingest.accept(&signed.caller(), request, None).await?;
    s.store.note(&signed.actor, "user.message", user.as_str(), Some(json!({"text": text}))).await?;
    let toast = Toast::ok(format!("Sent to every open connection of {user}: {text}"));
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}

/// A node gives its connections away.
pub async fn drain(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(node): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let node: NodeId = node.parse().map_err(|_| ApiError::not_found("node"))?;
    let spread_s = posted
        .get("spread")
        .parse()
        .map_err(|_| ApiError::invalid(vec![FieldError::new("spread", "must be a number of seconds")]))?;
    let alive = s.store.nodes(s.config.cluster.silent()).await?;
    let held = alive.iter().find(|n| n.said.node == node).map_or(0, |n| n.said.figures.connections);
    let question = Ask {
        title: format!("Have this node give its {held} connections away?"),
        consequence: format!(
            "They close evenly over {spread_s} s and come back by themselves. Until 5 s after the last the node says that \
             it is not ready, so that the balancer sends them elsewhere."
        ),
        label: "Drain".to_owned(),
        word: "drain",
        count: held,
        action: format!("/admin/nodes/{node}/drain"),
    };
    if let Some(page) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(page);
    }
    begin_drain(&s, node, spread_s, &signed.actor).await?;
    s.console.facts.forget().await;
    Ok(done(&s, &signed, &headers, posted.get("back"), Toast::ok("The node gives its connections away.")))
}
