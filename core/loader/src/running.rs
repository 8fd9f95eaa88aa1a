//! A started instance, as the host's registry calls it.
//!
//! Owns: permits, time limits and their order, stopping. The same for both isolation levels.

use crate::{
    Counts, Left, Life, Line, State,
    desk::{Desk, Held},
    native::{Batch, Native},
    process::Remote,
};
use campanile_plugin::{
    BoxFuture, Delivery, DeliveryError, DynChannel, Health, Info, OwnedDelivery, Permission, Reason, Receipt,
    wire::{Outcome, Status},
};
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant as StdInstant},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

/// A health check's answer; the host around us waits for 5 s.
const HEALTH_LIMIT: Duration = Duration::from_millis(4500);
/// Checks in a row without an answer that make an instance degraded.
const MISSED: u32 = 3;
/// What was cancelled at the end of a drain may still say how it ended.
const LAST_ENDS: Duration = Duration::from_secs(1);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Longer than any thread of the plugin may still be in it.
const DESTROY_LIMIT: Duration = Duration::from_secs(10);

/// Whoever runs the plugin's code.
pub(crate) enum Engine {
    Native(Native),
    Remote(Arc<Remote>),
}

impl Engine {
    fn deliver(&self, items: Vec<(u64, OwnedDelivery)>) {
        match self {
            Self::Native(native) => native.deliver(Batch { items, handed: StdInstant::now() }),
            Self::Remote(remote) => remote.deliver(&items),
        }
    }
    fn cancel(&self, token: u64) {
        match self {
            Self::Native(native) => native.cancel(token),
            Self::Remote(remote) => remote.cancel(token),
        }
    }
    pub fn health(&self, token: u64) {
        match self {
            Self::Native(native) => native.health(token),
            Self::Remote(remote) => remote.health(token),
        }
    }
    fn stop(&self, token: u64, limit: Duration) {
        match self {
            Self::Native(native) => native.stop(token, limit),
            Self::Remote(remote) => remote.stop(token, limit),
        }
    }
    async fn destroy(&self) -> Result<(), String> {
        match self {
            Self::Remote(remote) => remote.destroy().await,
            Self::Native(native) => {
                let ended = native.destroy();
                let wait = tokio::task::spawn_blocking(move || ended.recv_timeout(DESTROY_LIMIT));
                match wait.await {
                    Ok(Ok(ended)) => return ended,
                    _ => return Err("destroy() did not return".to_owned()),
                }
            }
        }
        Ok(())
    }
}

/// A started instance. Dropping it ends it without a drain.
pub struct Running {
    inner: Arc<Inner>,
}

struct Inner {
    desk: Arc<Desk>,
    engine: Engine,
    /// A delivery's time, if the operator gives less than the plugin asks for.
    limit: Duration,
    drain: Duration,
    missed: AtomicU32,
    stopping: AtomicBool,
}

/// A delivery that was handed over. Dropping it takes it back.
struct Underway<'a> {
    inner: &'a Inner,
    held: Held,
    deadline: Instant,
    permission: &'a dyn Permission,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl Underway<'_> {
    /// Whether something may have been done; `None`: it has ended.
    fn take_back(&self) -> Option<bool> {
        let (handed, doubtful) = self.inner.desk.give_up(self.held.token)?;
        if handed {
            self.inner.engine.cancel(self.held.token);
        }
        Some(doubtful)
    }

    async fn end(mut self) -> Result<Receipt, DeliveryError> {
        let mut listening = true;
        loop {
            tokio::select! {
                biased;
                outcome = &mut self.held.end => return outcome.unwrap_or_else(|_| lost()).into_delivery(),
                ask = self.held.asks.recv(), if listening => match ask {
                    None => listening = false,
                    Some(reply) => {
                        let may = Instant::now() < self.deadline && self.permission.may_proceed();
                        if may {
                            self.inner.desk.note_asked(self.held.token);
                        }
                        reply.give(may);
                    }
                },
                () = tokio::time::sleep_until(self.deadline) => {
                    let Some(doubtful) = self.take_back() else {
                        // It ended at the last moment.
                        let end = (&mut self.held.end).await;
                        return end.unwrap_or_else(|_| lost()).into_delivery();
                    };
                    let reason = Reason::new("timeout", "the plugin did not answer in time");
                    return Err(DeliveryError::retry(if doubtful { reason.uncertain() } else { reason }));
                }
            }
        }
    }
}

fn lost() -> Outcome {
    Outcome::new(Status::Internal, "lost", "the delivery was lost")
}

impl Inner {
    /// A permit and a token for it, or why not.
    async fn enter<'a>(&'a self, delivery: &Delivery<'a>, deadline: Instant) -> Result<Underway<'a>, DeliveryError> {
        if let Some(unavailable) = self.desk.unavailable() {
            return Err(unavailable);
        }
        let permit = timeout_at(deadline, self.desk.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(DeliveryError::retry(Reason::new("busy", "the plugin had no room for it in time")));
        };
        // While it waited the instance may have ended.
        if let Some(unavailable) = self.desk.unavailable() {
            return Err(unavailable);
        }
        let held = self.desk.work(delivery.delivery_id(), permit);
        Ok(Underway { inner: self, held, deadline, permission: delivery.permission() })
    }

    fn deadline(&self, delivery: &Delivery<'_>) -> Instant {
        Instant::now() + delivery.timeout().min(self.limit)
    }

    async fn deliver(&self, delivery: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let deadline = self.deadline(&delivery);
        let underway = self.enter(&delivery, deadline).await?;
        self.engine.deliver(vec![(underway.held.token, owned(delivery, deadline))]);
        underway.end().await
    }

    /// One call for as many as the plugin takes.
    async fn deliver_batch(&self, items: Vec<Delivery<'_>>) -> Vec<Result<Receipt, DeliveryError>> {
        let together = self.desk.info.max_batch.clamp(1, self.desk.places);
        let mut results = Vec::with_capacity(items.len());
        for chunk in items.chunks(together) {
            let mut batch = Vec::new();
            let mut waiting = Vec::new();
            for delivery in chunk {
                let deadline = self.deadline(delivery);
                let entered = self.enter(delivery, deadline).await;
                if let Ok(underway) = &entered {
                    batch.push((underway.held.token, owned(*delivery, deadline)));
                }
                waiting.push(entered);
            }
            if !batch.is_empty() {
                self.engine.deliver(batch);
            }
            let ends = waiting.into_iter().map(|entered| async {
                match entered {
                    Ok(underway) => underway.end().await,
                    Err(error) => Err(error),
                }
            });
            results.extend(join_all(ends).await);
        }
        results
    }

    async fn health(&self) -> Health {
        let life = self.desk.life(None);
        if !life.state.takes_work() {
            let why = life.detail.unwrap_or_else(|| format!("the plugin is {}", life.state.word()));
            // One that is started again will work without anybody's help.
            return match life.state {
                State::Wedged | State::Quarantined => Health::Failing(why),
                _ => Health::Degraded(why),
            };
        }
        if let Engine::Remote(remote) = &self.engine
            && let Some(bytes) = remote.memory()
        {
            self.desk.host.memory(&self.desk.who, bytes);
        }
        let (token, ended) = self.desk.call();
        self.engine.health(token);
        let health = if let Ok(outcome) = timeout(HEALTH_LIMIT, ended).await {
            self.missed.store(0, Ordering::Release);
            outcome.unwrap_or_else(|_| lost()).into_health()
        } else {
            self.desk.forget(token);
            match self.missed.fetch_add(1, Ordering::AcqRel) + 1 {
                n if n >= MISSED => Health::Degraded(format!("no answer to {n} health checks in a row")),
                _ => Health::Ok,
            }
        };
        self.desk.works(match &health {
            Health::Ok => None,
            Health::Degraded(why) | Health::Failing(why) => Some(why.clone()),
        });
        health
    }

    /// No more work → what is under way → cancel the rest → stop → destroy.
    async fn stop(self: Arc<Self>) {
        if self.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let runs = self.desk.state().takes_work();
        self.desk.enter(State::Draining, None, None);
        if runs {
            let all = u32::try_from(self.desk.places).unwrap_or(u32::MAX);
            let idle = || self.desk.permits.acquire_many(all);
            if timeout(self.drain, idle()).await.is_err() {
                for token in self.desk.under_way() {
                    self.engine.cancel(token);
                }
                let _ = timeout(LAST_ENDS, idle()).await;
            }
            let (token, ended) = self.desk.call();
            self.engine.stop(token, STOP_LIMIT);
            if timeout(STOP_LIMIT, ended).await.is_err() {
                self.desk.forget(token);
                tracing::warn!(plugin = &*self.desk.who.plugin, "A plugin did not stop within 5 s");
            }
        }
        let ended = self.engine.destroy().await;
        self.desk.end_all("the plugin's instance has ended");
        if matches!(self.engine, Engine::Remote(_)) {
            self.desk.host.memory(&self.desk.who, 0);
        }
        self.desk.permits.close();
        self.desk.enter(State::Stopped, ended.err(), None);
    }
}

fn owned(delivery: Delivery<'_>, deadline: Instant) -> OwnedDelivery {
    let mut item = OwnedDelivery::from(delivery);
    item.timeout = deadline.saturating_duration_since(Instant::now());
    item
}

impl Running {
    pub(crate) fn new(desk: Arc<Desk>, engine: Engine, limit: Duration, drain: Duration) -> Self {
        let (missed, stopping) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { desk, engine, limit, drain, missed, stopping }) }
    }

    pub fn channel(&self) -> &dyn DynChannel {
        self
    }

    pub fn life(&self) -> Life {
        let memory = match &self.inner.engine {
            Engine::Remote(remote) => remote.memory(),
            Engine::Native(_) => None,
        };
        self.inner.desk.life(memory)
    }

    /// Its newest lines, oldest first.
    pub fn lines(&self) -> Vec<Line> {
        self.inner.desk.lines()
    }

    pub fn counts(&self) -> Counts {
        self.inner.desk.counts()
    }

    /// Deliveries that hold a permit now.
    pub fn under_way(&self) -> usize {
        self.inner.desk.places.saturating_sub(self.inner.desk.permits.available_permits())
    }

    /// Tells it to take back everything that is under way, and waits for none of it. As often as it likes: a cancel that is
    /// repeated is one cancel.
    pub fn cancel_all(&self) {
        for token in self.inner.desk.under_way() {
            self.inner.engine.cancel(token);
        }
    }

    /// What it has not let go of, once it has stopped; threads are counted in a process of its own alone.
    pub fn left(&self) -> Option<Left> {
        match &self.inner.engine {
            Engine::Remote(remote) => remote.left(),
            Engine::Native(native) => Some(Left { threads: 0, strays: native.strays() }),
        }
    }

    /// Of its process, if it has one now.
    pub fn pid(&self) -> Option<u32> {
        match &self.inner.engine {
            Engine::Remote(remote) => remote.pid(),
            Engine::Native(_) => None,
        }
    }
}

impl DynChannel for Running {
    fn info(&self) -> &Info {
        &self.inner.desk.info
    }
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        Box::pin(self.inner.deliver(delivery))
    }
    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>> {
        Box::pin(self.inner.deliver_batch(items))
    }
    fn health(&self) -> BoxFuture<'_, Health> {
        Box::pin(self.inner.health())
    }
    /// Goes on by itself when nobody waits any longer.
    fn stop(&self) -> BoxFuture<'_, ()> {
        let stopped = tokio::spawn(self.inner.clone().stop());
        Box::pin(async move { drop(stopped.await) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.inner.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.inner.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                drop(inner.engine.destroy().await);
                inner.desk.end_all("the plugin's instance was dropped");
            });
        }
    }
}

/// `start` and one good health, in this process.
pub(crate) async fn begin_native(
    engine: &Native,
    desk: &Desk,
    started: (u64, oneshot::Receiver<Outcome>),
    limit: Duration,
) -> Result<(), String> {
    let (token, ended) = started;
    let Ok(outcome) = timeout(limit, ended).await else {
        desk.forget(token);
        return Err(format!("it did not start within {limit:?}"));
    };
    let outcome = outcome.unwrap_or_else(|_| lost());
    if outcome.status != Status::Ok {
        return Err(crate::process::said(&outcome));
    }
    let (token, ended) = desk.call();
    engine.health(token);
    let Ok(outcome) = timeout(HEALTH_LIMIT, ended).await else {
        desk.forget(token);
        return Err("it started, but did not answer its health check within 5 s".to_owned());
    };
    match outcome.unwrap_or_else(|_| lost()).into_health() {
        Health::Failing(why) => Err(format!("it started, but is not healthy: {why}")),
        _ => Ok(()),
    }
}
