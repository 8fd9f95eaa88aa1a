//! What every part may lean on, as one value. Absent on purpose: how it is made and how it ends (the host's).

use crate::{
    channel::{Registry, Renderer},
    config::Config,
    connection::Hub,
    dev::mailbox::Mailbox,
    http::auth::{Gate, jwt::Jwt},
    ingest::Ingest,
    observe::Metrics,
    status::Status,
};
use campanile_model::{
    Clock, NodeId,
    ports::{Bus, Store, WorkQueue},
};
use std::{net::SocketAddr, sync::Arc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Built once, by the host; never changed.
pub struct Services {
    pub config: Arc<Config>,
    /// `serve --dev`.
    pub dev: bool,
    pub node: NodeId,
    pub started_at: campanile_model::Timestamp,
    /// Where we listen, after port 0 was resolved.
    pub address: SocketAddr,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn WorkQueue>,
    pub bus: Arc<dyn Bus>,
    pub status: Arc<Status>,
    pub channels: Arc<Registry>,
    pub renderer: Arc<Renderer>,
    pub ingest: Arc<Ingest>,
    pub hub: Arc<Hub>,
    pub jwt: Arc<Jwt>,
    pub gate: Arc<Gate>,
    /// Caught mail, with `--dev` and no relay.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Fired first when the host stops: readiness goes off, nothing new is taken.
    pub draining: CancellationToken,
    /// Tasks that a stop waits for.
    pub tasks: TaskTracker,
}
