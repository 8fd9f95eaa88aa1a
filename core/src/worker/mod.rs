//! Claim → send → finish, and what keeps it going: relay, leases, rescue, expansion of audiences.
//!
//! Owns: when and how often a delivery is tried, and the end of it all at a drain. Absent on purpose: SQL, what a channel
//! does, the meaning of states (`status` and the store move them).

mod attempt;
mod consumer;
mod expand;
mod lease;
mod outcome;
mod rescue;
mod schedule;
#[cfg(test)]
mod tests;
mod watch;

use crate::{
    channel::{Registry, Renderer},
    config::Config,
    ingest::Ingest,
    observe::Metrics,
    queue::{Bell, Relay},
    services::Services,
    status::Status,
};
use campanile_model::{
    ChannelName, Clock, NodeId,
    ports::{Store, StoreError, WorkQueue},
};
use lease::Leases;
use schedule::Schedule;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, SemaphorePermit, watch as watch_channel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// More attempts than any host has at once; a lone one takes them all.
const TURNS: u32 = 1 << 20;
/// What may happen after the wait for deliveries under way: each within this, so that the whole stop fits in 30 s.
const AFTER_CUT: Duration = Duration::from_secs(1);
const LOOPS_END: Duration = Duration::from_millis(500);
const GIVE_BACK: Duration = Duration::from_secs(1);
const CHANNEL_STOP: Duration = Duration::from_millis(500);
/// How often a drain says what it waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What the worker's loops lean on.
pub struct Context {
    node: NodeId,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    queue: Arc<dyn WorkQueue>,
    status: Arc<Status>,
    channels: Arc<Registry>,
    renderer: Arc<Renderer>,
    ingest: Arc<Ingest>,
    leases: Arc<Leases>,
    schedule: Schedule,
    bell: Arc<Bell>,
    /// A lone attempt takes all turns, every other one of them.
    turns: Semaphore,
    /// Take nothing new.
    stop: CancellationToken,
    /// Give up what is under way.
    cut: CancellationToken,
    attempts: TaskTracker,
    /// When the database last failed us.
    troubled_at: Mutex<Option<Instant>>,
}

impl Context {
    fn new(s: &Services) -> Self {
        Self {
            node: s.node,
            config: s.config.clone(),
            clock: s.clock.clone(),
            metrics: s.metrics.clone(),
            store: s.store.clone(),
            queue: s.queue.clone(),
            status: s.status.clone(),
            channels: s.channels.clone(),
            renderer: s.renderer.clone(),
            ingest: s.ingest.clone(),
            leases: Leases::new(*s.config.worker.lease),
            schedule: Schedule::new(&s.config.retry),
            bell: Arc::default(),
            turns: Semaphore::new(TURNS as usize),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            attempts: TaskTracker::new(),
            troubled_at: Mutex::default(),
        }
    }

    /// Remembers that the database was away: rescuing waits until it has been back for a while.
    fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Unavailable(_) | StoreError::CommitUnknown(_)) {
            *self.troubled_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    fn database_is_calm(&self) -> bool {
        let troubled_at = *self.troubled_at.lock().unwrap_or_else(PoisonError::into_inner);
        troubled_at.is_none_or(|at| at.elapsed() >= *self.config.worker.rescue_delay)
    }

    /// Sleeps; true when the host began to drain.
    async fn stopped_within(&self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stop.cancelled()).await.is_ok()
    }

    /// The right to have an effect beside others, or alone on this node. `None`: the drain is over before it came.
    async fn turn(&self, alone: bool) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => None,
            turn = self.turns.acquire_many(if alone { TURNS } else { 1 }) => turn.ok(),
        }
    }

    /// After taking from a line: if it has become short and the relay had held back, it may bring more.
    fn call_relay(&self, channel: &ChannelName) {
        if self.queue.depth(channel).is_some_and(|depth| depth <= u64::from(self.config.worker.prefetch) / 2) {
            self.bell.line_is_short();
        }
    }
}

pub struct Worker {
    ctx: Arc<Context>,
    consumers: TaskTracker,
    loops: TaskTracker,
    /// Ends the renewal of leases, which goes on while deliveries are under way.
    renewal: CancellationToken,
}

impl Worker {
    /// Starts the relay, the sweeper, audience expansion and one consumer per channel.
    pub fn start(services: &Services) -> Self {
        Self::run(Context::new(services))
    }

    fn run(ctx: Context) -> Self {
        let (ctx, renewal) = (Arc::new(ctx), CancellationToken::new());
        let (consumers, loops) = (TaskTracker::new(), TaskTracker::new());
        loops.spawn(watch::pauses(ctx.clone()));
        loops.spawn(rescue::sweep(ctx.clone()));
        loops.spawn(rescue::upkeep(ctx.clone()));
        loops.spawn(expand::run(ctx.clone()));
        loops.spawn(lease::renew(ctx.clone(), renewal.clone()));
        loops.spawn(relay(ctx.clone()));
        // Those there are have their consumers before the first delivery comes; others follow.
        let known = ctx.channels.watch_channels();
        let mut served = HashSet::new();
        serve(&ctx, &mut served, &consumers, &loops);
        loops.spawn(follow(ctx.clone(), known, served, consumers.clone(), loops.clone()));
        Self { ctx, consumers, loops, renewal }
    }

    /// Deliveries under way here.
    pub fn under_way(&self) -> usize {
        self.ctx.attempts.len()
    }

    /// Stops claiming, waits for what is under way up to `limit`, gives the rest back. A second call of the operating
    /// system's stop signal need not wait for this: whatever is cut stands in the table under a lease.
    pub async fn drain(self, limit: Duration) {
        let ctx = self.ctx;
        ctx.stop.cancel();
        ctx.queue.close().await;
        self.consumers.close();
        ctx.attempts.close();
        if !finished(&self.consumers, &ctx.attempts, limit).await {
            tracing::warn!(count = ctx.attempts.len(), "Deliveries are still under way; giving them back");
        }
        ctx.cut.cancel();
        if tokio::time::timeout(AFTER_CUT, ctx.attempts.wait()).await.is_err() {
            tracing::error!(count = ctx.attempts.len(), "Attempts could not be written down; their leases will lapse");
        }
        self.renewal.cancel();
        self.loops.close();
        if tokio::time::timeout(LOOPS_END, self.loops.wait()).await.is_err() {
            tracing::warn!("The sweeper or the relay is still busy with the database");
        }
        match tokio::time::timeout(GIVE_BACK, ctx.status.give_back(ctx.node, None)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!(count, "Gave back {count} deliveries"),
            Ok(Err(e)) => tracing::error!(error = &e as &dyn std::error::Error, "Could not give leases back"),
            Err(_) => tracing::error!("Could not give leases back in time; they will lapse"),
        }
        let runners: Vec<_> = ctx.channels.guards().iter().flat_map(|guard| guard.all_runners()).collect();
        futures_util::future::join_all(runners.iter().map(|runner| runner.stop(CHANNEL_STOP))).await;
    }
}

/// A consumer and a look at its health for each channel that has none yet. One that is off has them, too: it may be switched
/// on at any time, and a consumer that has nothing to take costs nothing.
fn serve(ctx: &Arc<Context>, served: &mut HashSet<u64>, consumers: &TaskTracker, loops: &TaskTracker) {
    let guards = ctx.channels.guards();
    served.retain(|id| guards.iter().any(|guard| guard.id() == *id));
    for guard in guards {
        if !served.insert(guard.id()) {
            continue;
        }
        loops.spawn(watch::health(ctx.clone(), guard.clone()));
        if !ctx.config.worker.start_paused {
            consumers.spawn(consumer::run(ctx.clone(), guard));
        }
    }
}

/// Serves channels that appear while the host runs, and lets the relay look for what waited for them.
async fn follow(
    ctx: Arc<Context>,
    mut known: watch_channel::Receiver<u64>,
    mut served: HashSet<u64>,
    consumers: TaskTracker,
    loops: TaskTracker,
) {
    loop {
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return,
            changed = known.changed() => if changed.is_err() { return },
        }
        serve(&ctx, &mut served, &consumers, &loops);
        ctx.bell.ring();
    }
}

/// Waits for consumers that are just claiming, then for attempts; says now and then what it waits for.
async fn finished(consumers: &TaskTracker, attempts: &TaskTracker, limit: Duration) -> bool {
    let under_way = async {
        consumers.wait().await;
        attempts.wait().await;
    };
    tokio::pin!(under_way);
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        if !attempts.is_empty() {
            tracing::info!(count = attempts.len(), "Waiting for {} deliveries under way", attempts.len());
        }
        if tokio::time::timeout(left.min(TELL_EVERY), &mut under_way).await.is_ok() {
            return true;
        }
    }
}

async fn relay(ctx: Arc<Context>) {
    let relay = Relay {
        store: ctx.store.clone(),
        queue: ctx.queue.clone(),
        channels: ctx.channels.clone(),
        metrics: ctx.metrics.clone(),
        bell: ctx.bell.clone(),
        poll: *ctx.config.worker.poll,
        batch: ctx.config.worker.relay_batch,
        prefetch: u64::from(ctx.config.worker.prefetch),
    };
    relay.run(ctx.stop.clone(), |e| ctx.note(e)).await;
}
