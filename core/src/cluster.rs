//! This node among the others: that it lives, what it counts of itself, which connections it holds.
//!
//! Owns when this is written down; every node reads it back. Absent on purpose: leader, membership, hand-over. Nodes are
//! stateless beside the database and the broker; what stands here is for people and for closing a connection from any node.

use crate::{
    config::cluster::Cluster as Settings,
    connection::{TransportKind, ledger::Ledger},
    observe::process,
    queue::backoff::Outage,
    services::Services,
};
use campanile_model::{
    ConnId,
    ports::{Beat, HeldConnection, NodeFigures, StoreResult},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Changes gather this long: a storm of reconnects becomes a few large statements.
const GATHER: Duration = Duration::from_secs(1);
/// Connections of one statement.
const BATCH: usize = 1_000;
/// Beats between two comparisons of what is held with what is written down.
const COMPARE: u32 = 12;

/// The tasks that write it down, until this node leaves.
pub struct Cluster {
    services: Arc<Services>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What both tasks share.
struct Context {
    services: Arc<Services>,
    stop: CancellationToken,
    /// Rung when the others did not know this node: everything it holds must be written again.
    unknown: Notify,
}

pub fn start(services: &Arc<Services>) -> Cluster {
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let ctx = Arc::new(Context { services: services.clone(), stop: stop.clone(), unknown: Notify::new() });
    tasks.spawn(beats(ctx.clone()));
    tasks.spawn(connections(ctx));
    tasks.close();
    Cluster { services: services.clone(), stop, tasks }
}

impl Cluster {
    /// Says goodbye: from here on no answer of any node names this one.
    pub async fn leave(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(e) = self.services.store.leave(self.services.node).await {
            tracing::warn!(
                error = &e as &dyn std::error::Error,
                "This node could not say goodbye; it is forgotten soon"
            );
        }
    }
}

impl Context {
    fn settings(&self) -> &Settings {
        &self.services.config.cluster
    }

    fn ledger(&self) -> &Ledger {
        self.services.hub.ledger()
    }

    async fn stopped_within(&self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stop.cancelled()).await.is_ok()
    }
}

// ----------------------------------------------------------------------------------------------------- beats

async fn beats(ctx: Arc<Context>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let draining = &ctx.services.draining;
    let mut outage = Outage::of("Telling the other nodes of this one");
    // Since when beats have succeeded without a break.
    let mut steady: Option<Instant> = None;
    loop {
        let said = said(&ctx.services, &host);
        let drain_told = said.draining;
        let wait = match beat(&ctx, &said, steady).await {
            Ok(()) => {
                steady.get_or_insert_with(Instant::now);
                outage.over();
                // Nodes that started together don't stay in step.
                ctx.settings().heartbeat.mul_f64(rand::random_range(0.9..=1.0))
            }
            Err(e) => {
                steady = None;
                outage.failed(&e)
            }
        };
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = draining.cancelled(), if !drain_told => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn beat(ctx: &Context, said: &Beat, steady: Option<Instant>) -> StoreResult<()> {
    let store = &ctx.services.store;
    if !store.beat(said).await? {
        ctx.unknown.notify_one();
    }
    let silent = ctx.settings().silent();
    // After an outage of the database all nodes seem silent: each gets the time to speak first.
    if steady.is_some_and(|since| since.elapsed() > silent) {
        for node in store.bury(silent).await? {
            tracing::warn!(node.id = %node, "Node {node} has been silent for {silent:?}; it counts as gone");
        }
    }
    Ok(())
}

/// What this node says of itself now.
fn said(s: &Services, host: &str) -> Beat {
    Beat {
        node: s.node,
        host: host.to_owned(),
        address: s.address.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: s.started_at,
        draining: s.draining.is_cancelled() || s.rest.is_on(),
        figures: NodeFigures {
            connections: s.hub.connection_count() as u64,
            event_streams: s.hub.count_of(TransportKind::Sse),
            users: s.hub.user_count() as u64,
            memory_bytes: process::resident_bytes(),
            writes_waiting: s.store.facts().writes_waiting.into(),
            degraded: s.degraded().into_iter().map(str::to_owned).collect(),
            sockets: s.hub.counts().read(),
            channels: s.pulse.counts(),
        },
    }
}

// ------------------------------------------------------------------------------------------------ connections

async fn connections(ctx: Arc<Context>) {
    let mut outage = Outage::of("Telling the other nodes of this one's connections");
    let mut compare_at = tokio::time::Instant::now() + *ctx.settings().heartbeat * COMPARE;
    // Set while what is written down can't be trusted: everything is compared then.
    let mut doubt = false;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = ctx.unknown.notified() => doubt = true,
            () = tokio::time::sleep_until(compare_at) => doubt = true,
            () = ctx.ledger().changed() => {}
        }
        if ctx.stopped_within(GATHER).await {
            return;
        }
        loop {
            let done = if doubt { compare(&ctx).await } else { write_changes(&ctx).await };
            let Err(e) = done else { break };
            doubt = true;
            if ctx.stopped_within(outage.failed(&e)).await {
                return;
            }
        }
        outage.over();
        if std::mem::take(&mut doubt) {
            compare_at = tokio::time::Instant::now() + *ctx.settings().heartbeat * COMPARE;
        }
    }
}

async fn write_changes(ctx: &Context) -> StoreResult<()> {
    let changes = ctx.ledger().take();
    hold(ctx, changes.opened.values().map(|conn| conn.held()).collect()).await?;
    release(ctx, &changes.closed).await
}

/// Writes what is missing and takes off what is too much: after an error, after a freeze for which this node was taken for
/// dead, and from time to time.
async fn compare(ctx: &Context) -> StoreResult<()> {
    let seen = ctx.services.hub.all();
    let mut open = ctx.ledger().start_anew(seen);
    let mut stale = Vec::new();
    for id in ctx.services.store.held(ctx.services.node).await? {
        if open.remove(&id).is_none() {
            stale.push(id);
        }
    }
    let (missing, too_many) = (open.len(), stale.len());
    if missing + too_many > 0 {
        tracing::debug!(missing, too_many, "Corrected the list of this node's connections");
    }
    hold(ctx, open.values().map(|conn| conn.held()).collect()).await?;
    release(ctx, &stale).await
}

async fn hold(ctx: &Context, opened: Vec<HeldConnection>) -> StoreResult<()> {
    for batch in opened.chunks(BATCH) {
        if !ctx.services.store.hold(ctx.services.node, batch.to_vec()).await? {
            // The next beat finds the same, and then everything is written.
            return Ok(());
        }
    }
    Ok(())
}

async fn release(ctx: &Context, closed: &[ConnId]) -> StoreResult<()> {
    for batch in closed.chunks(BATCH) {
        ctx.services.store.release(ctx.services.node, batch.to_vec()).await?;
    }
    Ok(())
}
