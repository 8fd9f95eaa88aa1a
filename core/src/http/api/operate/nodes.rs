//! The nodes of the cluster.

use crate::{
    http::{ApiRoutes, auth::Application, problem::ApiResult},
    services::Services,
};
use axum::{Json, extract::State};
use campanile_model::{
    NodeId, Timestamp,
    ports::{NodeFigures, NodeRow, Scope},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_nodes))
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
    /// It is stopping.
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
