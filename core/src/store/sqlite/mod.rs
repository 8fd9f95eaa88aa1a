//! The embedded store: one SQLite file in WAL mode, one writer task, a pool of readers.
//!
//! Callers reach the traits in `ports`; a write becomes a message to `writer`, which commits what gathered while the last
//! commit ran (`group`); a read takes one of the pool's connections (`read`). Each other file is one concern's statements.
//! Absent on purpose: retries, policy, a second process (the OS lock in `open` refuses it).

mod accept;
mod access;
mod audience;
mod audit;
mod claim;
mod collapse;
mod confirm;
mod erase;
mod error;
mod feed;
mod finish;
mod gate;
mod group;
mod in_app;
mod inspect;
mod lease;
mod mark;
pub mod open;
mod operate;
mod place;
mod poison;
mod ports;
mod read;
mod relay;
mod replay;
mod retain;
mod rows;
mod suppress;
mod sweep;
mod take_back;
#[cfg(test)]
mod tests;
mod tx;
mod users;
mod writer;

pub use open::{MIGRATIONS, Settings, database_path};

use crate::observe::Metrics;
use campanile_model::ports::{EffectSink, StoreResult};
use error::failed;
use group::{Operation, Work};
use read::Reads;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use writer::{Message, Writer, Writes};

pub struct SqliteStore {
    reads: Reads,
    writes: Writes,
    path: PathBuf,
    idempotency_ttl: Duration,
    clock_offset: Arc<AtomicI64>,
    /// Given back when the store is dropped.
    _lock: open::OsLock,
}

impl SqliteStore {
    /// Locks, migrates and opens the file, and starts the writer.
    pub async fn open(settings: Settings, sink: Arc<dyn EffectSink>, metrics: Arc<Metrics>) -> StoreResult<Arc<Self>> {
        let lock = open::prepare(&settings.path)?;
        let mut conn = open::writer(&settings).await?;
        open::migrate(&mut conn).await?;
        let epoch: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'epoch'")
            .fetch_one(&mut conn)
            .await
            .map_err(failed("reading the database's epoch"))?;
        let pool = open::readers(&settings).await?;
        let clock_offset = Arc::new(AtomicI64::new(0));
        let (sender, inbox) = tokio::sync::mpsc::channel(settings.max_waiting);
        let store = Self {
            reads: Reads { pool, metrics: metrics.clone(), clock_offset: clock_offset.clone(), epoch: epoch.into() },
            writes: Writes(sender),
            path: settings.path.clone(),
            idempotency_ttl: settings.idempotency_ttl,
            clock_offset: clock_offset.clone(),
            _lock: lock,
        };
        tokio::spawn(Writer { settings, inbox, sink, metrics, clock_offset, conn: Some(conn) }.run());
        Ok(Arc::new(store))
    }

    /// Moves the database's clock, for tests of due times, leases and expiry.
    pub fn set_clock_offset(&self, offset_ms: i64) {
        self.clock_offset.store(offset_ms, Ordering::Relaxed);
    }

    /// The first audit entry that does not follow from the one before it; `None` when the chain holds.
    pub async fn audit_break(&self) -> StoreResult<Option<i64>> {
        self.reads.audit_break().await
    }

    /// Refused when too much waits.
    async fn write<O: Operation>(&self, operation: O) -> StoreResult<O::Output> {
        let (work, answer) = Work::operation(operation);
        self.writes.offer(work)?;
        received(answer).await
    }

    /// Waits for room instead.
    async fn write_patiently<O: Operation>(&self, operation: O) -> StoreResult<O::Output> {
        let (work, answer) = Work::operation(operation);
        self.writes.push(work).await?;
        received(answer).await
    }

    async fn finish_and_close(&self) {
        let (done, closed) = oneshot::channel();
        if self.writes.0.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
        self.reads.pool.close().await;
    }
}

async fn received<T>(answer: oneshot::Receiver<StoreResult<T>>) -> StoreResult<T> {
    answer.await.unwrap_or_else(|_| Err(writer::closed()))
}
