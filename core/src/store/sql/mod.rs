//! What both engines share: every operation's decisions, its statements in both dialects, group commits, the ports.
//!
//! Callers reach the traits in `ports`; a write becomes a message to `writer`, which commits what gathered while the last
//! commit ran (`group`); a read takes one of the readers' connections (`read`). Each other file is one concern's statements.
//! Absent on purpose: how an engine is opened and guarded (`super::sqlite`, `super::postgres`), retries, policy.

pub mod accept;
mod access;
mod audience;
pub mod audit;
mod cancel;
mod cause;
mod claim;
mod cluster;
mod collapse;
mod confirm;
mod console;
mod counting;
mod crowd;
mod dead;
mod erase;
pub mod error;
mod feed;
mod finish;
mod gate;
pub mod group;
mod in_app;
mod inspect;
mod instances;
mod keyring;
mod lease;
mod lines;
mod listing;
mod mark;
mod merge;
mod merge_feed;
mod moving;
mod operate;
mod people;
mod place;
mod poison;
mod ports;
pub mod read;
pub mod relay;
mod replay;
mod requests;
mod retain;
mod rows;
pub mod statement;
mod suppress;
mod sweep;
mod take_back;
mod tasks;
pub mod tx;
mod users;
mod wishes;
pub mod writer;

use crate::observe::Metrics;
use campanile_model::ports::{EffectSink, StoreError, StoreResult};
use group::{Operation, Work};
use lines::Lines;
use read::{Readers, Reads};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use writer::{Inbox, Link, Message, Opener, Turns, Writer, Writes};

/// A store on either engine.
pub struct SqlStore {
    pub reads: Reads,
    pub writes: Writes,
    writers: TaskTracker,
    limits: Limits,
    clock_offset: Arc<AtomicI64>,
    size: SizeOf,
    /// Up to where retention has looked at old notifications.
    looked_at: std::sync::Mutex<Uuid>,
    /// Given back when the store is dropped: a file's lock, a watchdog.
    _held: Box<dyn Send + Sync>,
}

/// How big the database is, when asked without waiting.
pub type SizeOf = Box<dyn Fn() -> Option<u64> + Send + Sync>;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub idempotency_ttl: Duration,
    /// How long an API caller waits for its commit; `None` as long as it takes.
    pub answer: Option<Duration>,
}

/// What an engine brings.
pub struct Parts {
    pub readers: Readers,
    pub opener: Arc<dyn Opener>,
    /// One writer each.
    pub links: Vec<Link>,
    pub epoch: String,
    pub max_waiting: usize,
    pub limits: Limits,
    pub clock_offset: Arc<AtomicI64>,
    pub size: SizeOf,
    pub held: Box<dyn Send + Sync>,
}

impl SqlStore {
    /// Starts the writers.
    pub fn start(parts: Parts, sink: &Arc<dyn EffectSink>, metrics: &Arc<Metrics>) -> Arc<Self> {
        let (sender, inbox) = mpsc::channel(parts.max_waiting);
        let inbox = Arc::new(Mutex::new(Inbox::new(inbox)));
        let lines = (parts.links.len() > 1).then(Arc::<Lines>::default);
        let turns = Arc::new(Turns::default());
        let writers = TaskTracker::new();
        for link in parts.links {
            let writer = Writer {
                opener: parts.opener.clone(),
                inbox: inbox.clone(),
                lines: lines.clone(),
                sink: sink.clone(),
                metrics: metrics.clone(),
                clock_offset: parts.clock_offset.clone(),
                link: Some(link),
                turns: turns.clone(),
                turn: None,
            };
            writers.spawn(writer.run());
        }
        writers.close();
        Arc::new(Self {
            reads: Reads {
                readers: parts.readers,
                metrics: metrics.clone(),
                clock_offset: parts.clock_offset.clone(),
                epoch: parts.epoch.into(),
            },
            writes: Writes(sender),
            writers,
            limits: parts.limits,
            clock_offset: parts.clock_offset,
            size: parts.size,
            looked_at: std::sync::Mutex::new(Uuid::nil()),
            _held: parts.held,
        })
    }

    /// Moves the database's clock, for tests of due times, leases and expiry.
    pub fn set_clock_offset(&self, offset_ms: i64) {
        self.clock_offset.store(offset_ms, Ordering::Relaxed);
    }

    /// Refused when too much waits.
    pub(crate) async fn write<O: Operation>(&self, operation: O) -> StoreResult<O::Output> {
        let (work, answer) = Work::operation(operation);
        self.writes.offer(work)?;
        self.in_time(received(answer)).await
    }

    /// Waits for room instead.
    async fn write_patiently<O: Operation>(&self, operation: O) -> StoreResult<O::Output> {
        let (work, answer) = Work::operation(operation);
        self.writes.push(work).await?;
        received(answer).await
    }

    /// For a caller that can repeat itself: an answer in time, if only that the outcome is not known.
    async fn in_time<T, E: From<StoreError>>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let Some(limit) = self.limits.answer else { return answer.await };
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(StoreError::CommitUnknown(format!("the database gave no answer within {limit:?}").into()).into())
        })
    }

    async fn finish_and_close(&self) {
        if self.writes.0.send(Message::Close).await.is_ok() {
            self.writers.wait().await;
        }
        self.reads.close().await;
    }
}

async fn received<T>(answer: oneshot::Receiver<StoreResult<T>>) -> StoreResult<T> {
    answer.await.unwrap_or_else(|_| Err(writer::closed()))
}
