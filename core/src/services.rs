//! What every part may lean on, as one value. Absent on purpose: how it is made and how it ends (the host's).

use crate::{
    channel::{Keeper, Registry, Renderer},
    config::{Config, load::Setting},
    connection::{Hub, Rest},
    console::{Console, Pulse},
    dev::{hooks::Hooks, mailbox::Mailbox},
    http::{
        admin::Doorman,
        auth::{Gate, jwt::Jwt},
    },
    ingest::Ingest,
    observe::Metrics,
    queue::{Depths, intake},
    status::Status,
};
use campanile_model::{
    Clock, NodeId,
    ports::{Bus, Store, WorkQueue},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The configuration's values as they may be shown, with their sources; for people.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    pub file: Option<PathBuf>,
    pub settings: Vec<Setting>,
}

/// Built once, by the host; never changed.
pub struct Services {
    pub config: Arc<Config>,
    /// Where each value of it came from.
    pub origins: Origins,
    /// `serve --dev`.
    pub dev: bool,
    pub node: NodeId,
    pub started_at: campanile_model::Timestamp,
    /// Where we listen, after port 0 was resolved.
    pub address: SocketAddr,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Counts of this process for the console.
    pub pulse: Arc<Pulse>,
    pub console: Console,
    pub doorman: Doorman,
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn WorkQueue>,
    /// The way by which notifications come in from RabbitMQ.
    pub intake: intake::Standing,
    /// How much waits, counted once a second.
    pub depths: Arc<Depths>,
    pub bus: Arc<dyn Bus>,
    pub status: Arc<Status>,
    pub channels: Arc<Registry>,
    /// Makes the channels' instances follow what is wished for.
    pub keeper: Arc<Keeper>,
    pub renderer: Arc<Renderer>,
    pub ingest: Arc<Ingest>,
    pub hub: Arc<Hub>,
    /// Whether this node gives its connections away.
    pub rest: Arc<Rest>,
    pub jwt: Arc<Jwt>,
    pub gate: Arc<Gate>,
    /// Caught mail, with `--dev` and no relay.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Caught webhooks; only `--dev` has a way in.
    pub hooks: Hooks,
    /// Fired first when the host stops: readiness goes off, answers close their connections.
    pub leaving: CancellationToken,
    /// Fired `server.drain_delay` after `leaving`: nothing new is taken.
    pub draining: CancellationToken,
    /// Tasks that a stop waits for.
    pub tasks: TaskTracker,
}

impl Services {
    /// Parts that do not work now; without them a node still accepts.
    pub fn degraded(&self) -> Vec<&'static str> {
        let parts = [
            ("queue", self.queue.health().is_err()),
            ("bus", self.bus.health().is_err()),
            ("ingest", self.intake.health().is_err()),
        ];
        parts.into_iter().filter(|(_, down)| *down).map(|(name, _)| name).collect()
    }
}
