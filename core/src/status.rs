//! The only writer of delivery state, and the one place that tells the world of a change.
//!
//! Everything that moves a delivery goes through a method here; every commit comes back as [`Effects`] through the
//! store's sink, is counted, told to `tail` and `--wait`, pushed to sockets and offered to the work queue.
//! Absent on purpose: SQL (the store's), when to try again (the worker's), what a socket is sent (the connection's).

use crate::{
    console::Pulse,
    failpoint,
    observe::{Metrics, metrics as m},
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState, NodeId, NotificationId, UserKey,
    api::Acceptance,
    effects::{Effects, FeedChangeKind, PushBatch, Transition},
    feed::{MarkAs, MarkOutcome, MarkSelection, SeenByClient},
    plan::{AcceptItem, Idempotency, RecipientPlan},
    ports::{
        AcceptError, Accepted, Actor, Bus, CancelOutcome, EffectSink, Erased, MarkRow, Merged, MoveTo, Moved,
        ReplayOutcome, Store, StoreResult, WorkQueue,
    },
    signal::{Disconnect, Signal},
    work::{ClaimOutcome, Finish, Finished},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// Commits whose effects may wait for the announcer; past it the next commit waits.
const ANNOUNCE_QUEUE: usize = 256;
/// Transitions a slow `tail` may lag behind before it is told that it missed some.
const TAIL_BUFFER: usize = 4096;

/// The store's sink: hands effects over to the announcer task.
#[derive(Clone)]
pub struct Announcements(mpsc::Sender<Effects>);

#[async_trait]
impl EffectSink for Announcements {
    async fn committed(&self, effects: Effects) {
        if !effects.is_empty() {
            // Closed only at the very end of a drain, when nobody listens any more.
            let _ = self.0.send(effects).await;
        }
    }
}

/// The receiving half, until [`Status::announce`] runs it.
pub struct Announcer(mpsc::Receiver<Effects>);

/// A sink for the store, and the half that `Status` runs.
pub fn announcements() -> (Announcements, Announcer) {
    let (tx, rx) = mpsc::channel(ANNOUNCE_QUEUE);
    (Announcements(tx), Announcer(rx))
}

/// How in-app items get to sockets: the websocket channel, called like any other.
#[async_trait]
pub trait InAppChannel: Send + Sync + 'static {
    async fn push(&self, batches: Vec<PushBatch>);
}

pub struct Status {
    store: Arc<dyn Store>,
    queue: Arc<dyn WorkQueue>,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    tail: broadcast::Sender<Transition>,
    audiences: Arc<Notify>,
}

impl Status {
    pub fn new(
        store: Arc<dyn Store>,
        queue: Arc<dyn WorkQueue>,
        bus: Arc<dyn Bus>,
        metrics: Arc<Metrics>,
        pulse: Arc<Pulse>,
    ) -> Arc<Self> {
        let (tail, _) = broadcast::channel(TAIL_BUFFER);
        Arc::new(Self { store, queue, bus, metrics, pulse, tail, audiences: Arc::default() })
    }

    /// Rings when a large audience was accepted, so that its expansion begins at once.
    pub fn audiences(&self) -> Arc<Notify> {
        self.audiences.clone()
    }

    /// Every transition from now on; lags rather than blocks.
    pub fn watch(&self) -> broadcast::Receiver<Transition> {
        self.tail.subscribe()
    }

    /// Runs until the store's last sink is gone, or `end` fires: then what was handed over is told, and nothing more.
    pub async fn announce(
        self: Arc<Self>,
        mut announcer: Announcer,
        in_app: Arc<dyn InAppChannel>,
        end: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                effects = announcer.0.recv() => match effects {
                    Some(effects) => self.tell(effects, in_app.as_ref()).await,
                    None => return,
                },
                () = end.cancelled(), if !announcer.0.is_closed() => announcer.0.close(),
            }
        }
    }

    async fn tell(&self, effects: Effects, in_app: &dyn InAppChannel) {
        if !effects.pushes.is_empty() {
            in_app.push(effects.pushes).await;
        }
        for change in effects.changes {
            if let FeedChangeKind::Marked { mark, .. } = &change.kind {
                self.metrics.inbox_events.get_or_create(&m::ByEvent::new(mark.as_str())).inc();
            }
            self.bus.publish(Signal::Feed(Arc::new(change)));
        }
        for t in effects.transitions {
            self.count(&t);
            self.pulse.record(&t);
            // An error only says that nobody tails.
            let _ = self.tail.send(t);
        }
        let mut ready: HashMap<ChannelName, Vec<DeliveryId>> = HashMap::new();
        for (channel, id) in effects.ready {
            ready.entry(channel).or_default().push(id);
        }
        for (channel, ids) in ready {
            let (queue, store) = (self.queue.clone(), self.store.clone());
            // Beside the announcer: a broker that hangs must not hold back the next commit's pushes.
            tokio::spawn(async move {
                failpoint::reached("queue.before_publish");
                let published = queue.publish(&channel, &ids).await;
                failpoint::reached("queue.after_publish");
                if published.is_err() {
                    // The relay would find them when `relay_at` lapses; this makes it soon.
                    let _ = store.relay_failed(&ids).await;
                }
            });
        }
    }

    fn count(&self, t: &Transition) {
        let channel = t.channel.as_str();
        match t.state {
            DeliveryState::Sent => {
                self.metrics.deliveries.get_or_create(&m::ChannelOutcome::new(channel, "sent")).inc();
                if let Some(ms) = t.latency_ms {
                    self.metrics
                        .latency
                        .get_or_create(&m::ChannelPriority::new(channel, t.priority.as_str()))
                        .observe(ms as f64 / 1000.0);
                }
            }
            DeliveryState::Dead | DeliveryState::Expired | DeliveryState::Suppressed | DeliveryState::Cancelled => {
                self.metrics.deliveries.get_or_create(&m::ChannelOutcome::new(channel, t.state.as_str())).inc();
                if t.state == DeliveryState::Dead {
                    self.metrics.dead_letters_total.get_or_create(&m::ByChannel::new(channel)).inc();
                }
                if t.state == DeliveryState::Suppressed {
                    let reason = t.reason.as_deref().unwrap_or("unknown");
                    self.metrics.suppressed.get_or_create(&m::ByReason::new(reason)).inc();
                }
            }
            DeliveryState::Pending | DeliveryState::Sending | DeliveryState::Retrying | DeliveryState::Delivered => {}
        }
    }

    // --- accepting -------------------------------------------------------------------------------------------

    pub async fn accept(&self, item: AcceptItem) -> Result<Accepted, AcceptError> {
        let labels = m::PrioritySource::new(item.notification.priority.as_str(), item.source.as_str());
        let accepted = self.store.accept(item).await?;
        if accepted.replayed {
            self.metrics.deduplicated.get_or_create(&m::ByReason::new("idempotency_key")).inc();
        } else {
            self.metrics.accepted.get_or_create(&labels).inc();
            for delivery in accepted.body.deliveries.iter().flatten() {
                self.pulse.accepted(&delivery.channel, 1);
            }
            if accepted.body.audience.is_some() {
                self.audiences.notify_one();
            }
        }
        Ok(accepted)
    }

    /// The answer this very request got before, for a repeat that would be refused by now.
    pub async fn answered(&self, app: &AppId, request: &Idempotency) -> StoreResult<Option<Acceptance>> {
        let answer = self.store.answered(app, request).await?;
        if answer.is_some() {
            self.metrics.deduplicated.get_or_create(&m::ByReason::new("idempotency_key")).inc();
        }
        Ok(answer)
    }

    pub async fn expand(
        &self,
        node: NodeId,
        notification: NotificationId,
        cursor: u32,
        recipients: Vec<RecipientPlan>,
    ) -> Result<bool, AcceptError> {
        let mut by_channel: HashMap<ChannelName, u64> = HashMap::new();
        for delivery in recipients.iter().flat_map(|r| &r.deliveries) {
            *by_channel.entry(delivery.channel.clone()).or_default() += 1;
        }
        let moved = self.store.expand(node, notification, cursor, recipients).await?;
        if moved {
            for (channel, n) in by_channel {
                self.pulse.accepted(&channel, n);
            }
        }
        Ok(moved)
    }

    // --- working ---------------------------------------------------------------------------------------------

    pub async fn claim(&self, ids: &[DeliveryId], node: NodeId, lease: Duration) -> StoreResult<Vec<ClaimOutcome>> {
        self.store.claim(ids, node, lease).await
    }

    pub async fn complete_in_app(&self, ids: &[DeliveryId]) -> StoreResult<u64> {
        self.store.complete_in_app(ids).await
    }

    pub async fn finish(&self, finish: Finish) -> StoreResult<Finished> {
        self.pulse.answered(&finish);
        self.store.finish(finish).await
    }

    pub async fn rescue(&self, limit: u32) -> StoreResult<u64> {
        self.store.rescue(limit).await
    }

    pub async fn give_back(&self, node: NodeId, ids: Option<&[DeliveryId]>) -> StoreResult<u64> {
        self.store.give_back(node, ids).await
    }

    pub async fn sweep(&self, limit: u32, max_age: Duration) -> StoreResult<u64> {
        self.store.sweep(limit, max_age).await
    }

    // --- people ----------------------------------------------------------------------------------------------

    pub async fn mark(&self, user: &UserKey, what: MarkSelection, mark: MarkAs) -> StoreResult<MarkOutcome> {
        self.store.mark(user, what, mark).await
    }

    pub async fn confirm_delivered(&self, seen: Vec<SeenByClient>) -> StoreResult<u64> {
        self.store.confirm_delivered(seen).await
    }

    pub async fn erase(&self, user: &UserKey, actor: &Actor) -> StoreResult<Option<Erased>> {
        self.store.erase_user(user, actor).await
    }

    /// Everything of `from` becomes `into`'s.
    pub async fn merge(&self, from: &UserKey, into: &UserKey, actor: &Actor) -> StoreResult<Option<Merged>> {
        self.store.merge_users(from, into, actor).await
    }

    pub async fn set_disabled(&self, user: &UserKey, disabled: bool, actor: &Actor) -> StoreResult<bool> {
        let changed = self.store.set_disabled(user, disabled, actor).await?;
        if changed && disabled {
            self.bus.publish(Signal::Disconnect { user: user.clone(), why: Disconnect::Disabled });
        }
        Ok(changed)
    }

    // --- operators -------------------------------------------------------------------------------------------

    pub async fn cancel(&self, app: &AppId, id: NotificationId, actor: &Actor) -> StoreResult<Option<CancelOutcome>> {
        self.store.cancel(app, id, actor).await
    }

    pub async fn cancel_many(
        &self,
        app: &AppId,
        ids: &[NotificationId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<CancelOutcome> {
        self.store.cancel_many(app, ids, target, actor).await
    }

    pub async fn replay(&self, app: &AppId, id: DeliveryId, actor: &Actor) -> StoreResult<ReplayOutcome> {
        self.store.replay(app, id, actor).await
    }

    pub async fn replay_many(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<ReplayOutcome>> {
        self.store.replay_many(app, ids, target, actor).await
    }

    pub async fn hasten(&self, app: &AppId, id: DeliveryId, actor: &Actor) -> StoreResult<bool> {
        self.store.hasten(app, id, actor).await
    }

    /// By another channel, each for itself.
    pub async fn move_dead(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        to: &MoveTo,
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<Moved>> {
        self.store.move_dead(app, ids, to, target, actor).await
    }

    pub async fn pause(
        &self,
        channel: &ChannelName,
        until: Option<campanile_model::Timestamp>,
        reason: Option<&str>,
        actor: &Actor,
    ) -> StoreResult<bool> {
        let changed = self.store.pause(channel, until, reason, actor).await?;
        self.bus.publish(Signal::ChannelChanged(channel.clone()));
        if changed {
            self.annotate(channel, format!("paused by {}", person(actor))).await;
        }
        Ok(changed)
    }

    pub async fn resume(&self, channel: &ChannelName, actor: &Actor) -> StoreResult<bool> {
        let changed = self.store.resume(channel, actor).await?;
        self.bus.publish(Signal::ChannelChanged(channel.clone()));
        if changed {
            self.annotate(channel, format!("resumed by {}", person(actor))).await;
        }
        Ok(changed)
    }

    /// Pauses whose time is over end here, on whichever node looks first.
    pub async fn end_lapsed_pauses(&self) -> StoreResult<Vec<ChannelName>> {
        let ended = self.store.end_lapsed_pauses().await?;
        for channel in &ended {
            self.bus.publish(Signal::ChannelChanged(channel.clone()));
            self.annotate(channel, "resumed, its time was over".to_owned()).await;
        }
        Ok(ended)
    }

    /// For the plots.
    pub async fn annotate(&self, channel: &ChannelName, what: String) {
        annotate(self.store.as_ref(), self.pulse.now(), channel.as_str(), what).await;
    }
}

/// A mark of the plots. One that is not written costs a line on them and nothing else.
pub async fn annotate(store: &dyn Store, at: campanile_model::Timestamp, subject: &str, what: String) {
    let mark = MarkRow { at, subject: subject.to_owned(), what };
    if let Err(e) = store.put_mark(&mark).await {
        tracing::debug!(error = &e as &dyn std::error::Error, "A mark of the plots was not written");
    }
}

/// `admin:dana` → `dana`; a key keeps its prefix.
pub fn person(actor: &Actor) -> &str {
    actor.who.strip_prefix("admin:").unwrap_or(&actor.who)
}
