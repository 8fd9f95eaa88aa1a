//! The nodes of the cluster.

use crate::{
    connection::rest::SPREAD_MAX,
    console::ticker::OURSELVES,
    http::{
        ApiRoutes,
        auth::Application,
        extract::{JsonBody, PathId},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{Json, extract::State, http::StatusCode};
use campanile_model::{
    ChannelName, NodeId, Timestamp,
    ports::{Actor, NodeFigures, NodeRow, Scope},
    signal::Signal,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_nodes)).routes(routes!(drain_node))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Node {
    node_id: NodeId,
    /// The machine's name.
    host: String,
    /// Where it listens.
    address: String,
    version: String,
    #[serde(with = "campanile_model::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    started_at: Timestamp,
    /// When it last said that it lives.
    #[serde(with = "campanile_model::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    seen_at: Timestamp,
    /// How long ago that was. More than two `cluster.heartbeat` means that it may be in trouble.
    silent_ms: i64,
    /// It is stopping, or gives its connections away.
    draining: bool,
    /// It is the one that answers.
    answering: bool,
    #[serde(flatten)]
    figures: NodeFigures,
}

#[derive(Serialize, utoipa::ToSchema)]
struct NodesBody {
    /// Oldest first.
    items: Vec<Node>,
}

/// Nodes that live; one that is silent for four times `cluster.heartbeat` is left out.
#[utoipa::path(get, path = "/nodes", tag = "operate", responses((status = 200, body = NodesBody)))]
async fn list_nodes(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<NodesBody>> {
    caller.require(Scope::Read)?;
    let rows = s.store.nodes(s.config.cluster.silent()).await?;
    let items = rows
        .into_iter()
        .map(|NodeRow { said, seen_at, silent_ms }| Node {
            answering: said.node == s.node,
            node_id: said.node,
            host: said.host,
            address: said.address,
            version: said.version,
            started_at: said.started_at,
            seen_at,
            silent_ms,
            draining: said.draining,
            figures: said.figures,
        })
        .collect();
    Ok(Json(NodesBody { items }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// Over so many seconds its connections are closed: 1 to 600.
    #[schema(example = 60)]
    spread_s: u64,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Draining {
    node_id: NodeId,
    spread_s: u64,
}

/// Has a node give its connections away: they are closed evenly over a while, each told to come back, and until 5 s after the
/// last the node answers `/readyz` with 503, so that a balancer sends them elsewhere. It goes on by itself.
#[utoipa::path(post, path = "/nodes/{node_id}/drain", tag = "operate", params(("node_id" = NodeId, Path)),
    request_body = Drain,
    responses((status = 202, body = Draining), (status = 404, description = "No such node, or it is silent.")))]
async fn drain_node(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(node_id): PathId<NodeId>,
    JsonBody(drain): JsonBody<Drain>,
) -> ApiResult<(StatusCode, Json<Draining>)> {
    caller.require(Scope::Manage)?;
    begin_drain(&s, node_id, drain.spread_s, &caller.actor).await?;
    Ok((StatusCode::ACCEPTED, Json(Draining { node_id, spread_s: drain.spread_s })))
}

/// Checks, writes it down, and tells the node.
pub async fn begin_drain(s: &Services, node: NodeId, spread_s: u64, actor: &Actor) -> ApiResult<()> {
    let most = SPREAD_MAX.as_secs();
    if !(1..=most).contains(&spread_s) {
        return Err(ApiError::invalid(vec![FieldError::new("spread_s", format!("must be 1 to {most}"))]));
    }
    let alive = s.store.nodes(s.config.cluster.silent()).await?;
    if !alive.iter().any(|n| n.said.node == node) {
        return Err(ApiError::not_found("node"));
    }
    s.store.note(actor, "node.drain", &node.to_string(), Some(json!({"spread_s": spread_s}))).await?;
    s.status
        .annotate(
            &ChannelName::from(OURSELVES),
            format!("a node drained by {}", actor.who.trim_start_matches("admin:")),
        )
        .await;
    s.bus.publish(Signal::Rest { node, spread_ms: spread_s * 1_000 });
    Ok(())
}
