//! What waits, per channel.

use crate::{
    http::{ApiRoutes, auth::Application, problem::ApiResult},
    services::Services,
};
use axum::{Json, extract::State};
use campanile_model::{
    ChannelName,
    ports::{QueueStats, Scope},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_queues))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Queue {
    #[serde(flatten)]
    stats: QueueStats,
    /// ready + retrying + in_flight + held.
    depth: u64,
    /// Ids handed to the work queue and not yet to a worker; null when the broker can't say.
    queued: Option<u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct QueuesBody {
    items: Vec<Queue>,
}

/// Unsettled deliveries of every channel.
#[utoipa::path(get, path = "/queues", tag = "operate", responses((status = 200, body = QueuesBody)))]
async fn list_queues(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<QueuesBody>> {
    caller.require(Scope::Read)?;
    // Channels with nothing waiting are shown too, with zeros.
    let mut by_name: BTreeMap<String, QueueStats> = s
        .channels
        .guards()
        .iter()
        .map(|c| (c.name().to_string(), QueueStats { channel: c.name().to_string(), ..QueueStats::default() }))
        .collect();
    by_name.extend(s.depths.now().await?.iter().map(|stats| (stats.channel.clone(), stats.clone())));
    let items = by_name
        .into_values()
        .map(|stats| Queue {
            depth: stats.ready + stats.retrying + stats.in_flight + stats.held,
            queued: s.queue.depth(&ChannelName::from(stats.channel.as_str())),
            stats,
        })
        .collect();
    Ok(Json(QueuesBody { items }))
}
