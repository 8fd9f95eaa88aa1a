//! The work queue on RabbitMQ: one quorum queue per channel, ids in, ids out.
//!
//! Owns: publishing with confirms ([`lane`]), consuming ([`subscription`]), how long the queues are ([`depths`]), and the two
//! connections for it, so that a broker that blocks publishers still hands out work. Absent on purpose: any promise
//! beyond a hint. A message may be lost, repeated and late; its row knows better.

mod depths;
mod lane;
mod message;
mod subscription;
#[cfg(test)]
mod tests;

use crate::{
    amqp::{Broker, Link, LinkError, LinkParams, Role, topology},
    observe::Metrics,
};
use async_trait::async_trait;
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{QueueError, Store, Subscription, WorkQueue},
};
use depths::Depths;
use lane::Lane;
use lapin::Connection;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use subscription::RabbitSubscription;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a batch may wait for its confirms.
const CONFIRM: Duration = Duration::from_secs(5);
/// Declaring a queue, and what else a subscription takes; a quorum queue may have to elect a leader first.
const SETUP: Duration = Duration::from_secs(8);
/// From noticing that a queue is gone to declaring it again. Declared in the moment of its deletion, a quorum queue keeps the
/// consumers of the old one, which get its messages and never hear of them (measured with RabbitMQ 3.10: each time at once,
/// never after 100 ms). After this they have been told.
const REST: Duration = Duration::from_secs(1);
/// A start waits no longer for a broker that may be away.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// At the end: for confirms under way and consumers in the middle of a claim.
const FLUSH: Duration = Duration::from_millis(500);

pub struct RabbitParams {
    pub broker: Broker,
    /// This node, in the broker's list of connections.
    pub name: String,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
}

pub struct RabbitQueue {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<ChannelName, Lane>>,
    tasks: TaskTracker,
    /// The connections end.
    end: CancellationToken,
}

struct Shared {
    publish: Link<Line>,
    work: Link<Line>,
    depths: Depths,
    /// Channels whose queue can't be used as it is, and why.
    unusable: Mutex<BTreeMap<ChannelName, String>>,
    /// Channels whose queue was deleted by somebody and is not declared again yet, and since when that is known.
    deleted: Mutex<HashMap<ChannelName, Instant>>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    max_length: i32,
    /// Nothing more is taken or handed out.
    closed: CancellationToken,
    subscriptions: TaskTracker,
}

/// A connection for work, in one direction.
struct Line {
    name: &'static str,
    opened: AtomicU64,
}

struct Session {
    connection: Arc<Connection>,
    /// No two sessions of a line have the same.
    number: u64,
    /// Queues that are known to be there.
    declared: Mutex<HashSet<ChannelName>>,
}

#[async_trait]
impl Role for Line {
    type Session = Session;

    fn name(&self) -> &'static str {
        self.name
    }

    /// Queues are declared one by one when they are used: one that can't be used must not keep the others.
    async fn open(&self, connection: &Arc<Connection>) -> Result<Session, LinkError> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Session { connection: connection.clone(), number, declared: Mutex::default() })
    }
}

impl Session {
    fn declared(&self) -> MutexGuard<'_, HashSet<ChannelName>> {
        lock(&self.declared)
    }
}

/// With queues of a length that a test can fill.
#[cfg(test)]
pub(super) fn with_length(params: RabbitParams, max_length: i32) -> Arc<RabbitQueue> {
    RabbitQueue::with_length(params, max_length)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RabbitQueue {
    /// Begins to connect; never waits and never fails.
    pub fn start(params: RabbitParams) -> Arc<Self> {
        Self::with_length(params, topology::WORK_MAX_LENGTH)
    }

    fn with_length(params: RabbitParams, max_length: i32) -> Arc<Self> {
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let link = |name| {
            let link = LinkParams {
                broker: params.broker.clone(),
                name: params.name.clone(),
                stop: end.clone(),
                metrics: params.metrics.clone(),
                tasks: tasks.clone(),
            };
            Link::start(link, Line { name, opened: AtomicU64::new(0) })
        };
        let shared = Arc::new(Shared {
            publish: link("publish"),
            work: link("work"),
            depths: Depths::default(),
            unusable: Mutex::default(),
            deleted: Mutex::default(),
            store: params.store,
            metrics: params.metrics,
            max_length,
            closed: CancellationToken::new(),
            subscriptions: TaskTracker::new(),
        });
        tasks.spawn(depths::refresh(shared.clone()));
        Arc::new(Self { shared, lanes: Mutex::default(), tasks, end })
    }

    fn lane(&self, channel: &ChannelName) -> Lane {
        let mut lanes = lock(&self.lanes);
        let start = || Lane::start(self.shared.clone(), channel.clone(), &self.tasks);
        lanes.entry(channel.clone()).or_insert_with(start).clone()
    }
}

impl Shared {
    fn session(link: &Link<Line>) -> Result<Arc<Session>, QueueError> {
        link.current().ok_or_else(|| {
            QueueError::Broker(link.health().err().unwrap_or_else(|| "the connection is being made anew".to_owned()))
        })
    }

    /// Where to publish now, unless the broker reads nothing from us.
    fn publisher(&self) -> Result<Arc<Session>, QueueError> {
        let session = Self::session(&self.publish)?;
        if session.connection.status().blocked() {
            let why = self.publish.health().err();
            return Err(QueueError::Broker(why.unwrap_or_else(|| "RabbitMQ takes no messages now".to_owned())));
        }
        Ok(session)
    }

    /// Makes sure that the queue of `channel` is there, once per session and again after [`Self::missed`].
    async fn declare(&self, session: &Session, channel: &ChannelName) -> Result<(), QueueError> {
        if session.declared().contains(channel) {
            return Ok(());
        }
        let deleted = lock(&self.deleted).get(channel).copied();
        if let Some(at) = deleted {
            tokio::time::sleep_until(at + REST).await;
        }
        match timeout(SETUP, topology::declare_work(&session.connection, channel, self.max_length)).await {
            Ok(Ok(())) => {
                lock(&self.unusable).remove(channel);
                lock(&self.deleted).remove(channel);
                session.declared().insert(channel.clone());
                Ok(())
            }
            Ok(Err(LinkError::Lost(why))) => Err(QueueError::Broker(why)),
            Ok(Err(e)) => {
                let mismatch = e.is_mismatch();
                let why = e.to_string();
                if lock(&self.unusable).insert(channel.clone(), why.clone()).as_ref() != Some(&why) {
                    tracing::error!(%channel, "{why}");
                }
                Err(if mismatch { QueueError::Unusable(why) } else { QueueError::Broker(why) })
            }
            Err(_) => Err(QueueError::Broker(format!(
                "RabbitMQ did not declare queue {:?} within {} s",
                topology::work_queue(channel),
                SETUP.as_secs()
            ))),
        }
    }

    /// The queue of `channel` is not there: somebody deleted it.
    fn missed(&self, channel: &ChannelName) {
        lock(&self.deleted).entry(channel.clone()).or_insert_with(Instant::now);
        for session in [self.publish.current(), self.work.current()].into_iter().flatten() {
            session.declared().remove(channel);
        }
    }
}

#[async_trait]
impl WorkQueue for RabbitQueue {
    async fn prepare(&self, channels: &[ChannelName]) -> Result<(), QueueError> {
        let deadline = Instant::now() + FIRST_LOOK;
        // Away, or not letting us in: the link tells of it and goes on trying.
        let Some(Ok(())) = self.shared.publish.first_try(FIRST_LOOK).await else { return Ok(()) };
        let Ok(session) = Shared::session(&self.shared.publish) else { return Ok(()) };
        for channel in channels {
            match timeout_at(deadline, self.shared.declare(&session, channel)).await {
                Ok(Err(e @ QueueError::Unusable(_))) => return Err(e),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, ids: &[DeliveryId]) -> Result<(), QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if ids.is_empty() {
            return Ok(());
        }
        // At once, without a place in the lane: whoever publishes while the broker is away must not wait.
        self.shared.publisher()?;
        self.lane(channel).publish(ids).await
    }

    fn depth(&self, channel: &ChannelName) -> Option<u64> {
        if self.shared.work.is_up() { self.shared.depths.of(channel) } else { None }
    }

    async fn subscribe(&self, channel: &ChannelName, prefetch: u16) -> Result<Box<dyn Subscription>, QueueError> {
        let shared = &self.shared;
        let session = tokio::select! {
            biased;
            () = shared.closed.cancelled() => return Err(QueueError::Closed),
            session = shared.work.up() => session,
        };
        let subscribing = RabbitSubscription::new(shared.clone(), session, channel.clone(), prefetch);
        match timeout(SETUP * 2, subscribing).await {
            Ok(made) => Ok(Box::new(made?)),
            Err(_) => {
                Err(QueueError::Broker(format!("RabbitMQ did not begin to deliver for channel {channel} in time")))
            }
        }
    }

    fn health(&self) -> Result<(), QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        self.shared.publish.health().map_err(QueueError::Broker)?;
        self.shared.work.health().map_err(QueueError::Broker)?;
        match lock(&self.shared.unusable).values().next() {
            Some(why) => Err(QueueError::Unusable(why.clone())),
            None => Ok(()),
        }
    }

    fn epoch(&self) -> Option<u64> {
        self.shared.publisher().ok().map(|session| session.number)
    }

    async fn changed(&self) {
        let mut link = self.shared.publish.changes();
        tokio::select! {
            // An error means that the link is gone, and then there is nothing to wait for.
            gone = link.changed() => if gone.is_err() { std::future::pending().await },
            () = self.shared.depths.shorter() => {}
        }
    }

    async fn close(&self) {
        self.shared.closed.cancel();
        // What was handed to a lane is answered; a consumer in the middle of a claim may still ack.
        let lanes: Vec<_> = lock(&self.lanes).drain().map(|(_, lane)| lane).collect();
        self.shared.subscriptions.close();
        let flushed = async {
            tokio::join!(
                futures_util::future::join_all(lanes.into_iter().map(Lane::end)),
                self.shared.subscriptions.wait()
            )
        };
        // Late ones come again: a message without its ack to another node, a row without its confirm by the relay.
        let _ = timeout(FLUSH, flushed).await;
        self.end.cancel();
        tokio::join!(self.shared.publish.close(), self.shared.work.close());
    }
}

impl Drop for RabbitQueue {
    fn drop(&mut self) {
        self.shared.closed.cancel();
        self.end.cancel();
    }
}
