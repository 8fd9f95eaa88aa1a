//! PostgreSQL: several nodes on one database.
//!
//! Owns how it is opened (`open`), the guarded pool that reads (`pool`), and the watchdog. What is stored and how is in
//! `super::sql`, statement by statement beside SQLite's. Where the engines differ in kind: a few writers, so rows are locked
//! (`user_state` first and in order, then deliveries by id, claims with SKIP LOCKED), and an idempotency key is held by an
//! advisory lock of the transaction. Absent on purpose: LISTEN/NOTIFY (the node bus tells), session locks (a pooler would
//! lose them), anything that one node knows and another does not.

#[cfg(test)]
mod guards;
pub mod open;
pub mod pool;
#[cfg(test)]
mod tests;

pub use open::{MIGRATIONS, Settings};

use super::sql::{
    Limits, Parts, SqlStore,
    error::failed,
    read::Readers,
    writer::{Link, Opener},
};
use crate::observe::Metrics;
use async_trait::async_trait;
use campanile_model::ports::{EffectSink, StoreResult};
use open::Role;
use sqlx::Connection as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A whole write transaction, after which the server counts as silent. Above `statement_timeout`, so that a server that is
/// merely slow says so itself.
const TRANSACTION: Duration = Duration::from_secs(10);

/// An API caller hears of a silent database within this.
pub const ANSWER: Duration = Duration::from_secs(3);

/// Acquires that fail this long while a fresh connection works mean that the pool has lost its permits.
const LOST: Duration = Duration::from_secs(30);

/// What a database says of itself.
pub struct Named {
    pub epoch: String,
    pub size: u64,
}

/// Migrates and opens the database, and starts the writers.
pub async fn start(settings: Settings, sink: Arc<dyn EffectSink>, metrics: Arc<Metrics>) -> StoreResult<Arc<SqlStore>> {
    let Named { epoch, size } = open::migrate(&settings).await?;
    let opener = Arc::new(Connector(settings.clone()));
    let mut links = Vec::with_capacity(settings.writers);
    for _ in 0..settings.writers {
        links.push(opener.open().await?);
    }
    let pool = pool::Pool::new(settings.clone());
    let size = Arc::new(AtomicU64::new(size));
    let stop = CancellationToken::new();
    let held: DropGuard = stop.clone().drop_guard();
    let watchdog = Watchdog {
        settings: settings.clone(),
        pool: pool.clone(),
        size: size.clone(),
        metrics: metrics.clone(),
        lost: LOST,
    };
    tokio::spawn(async move {
        let _ = stop.run_until_cancelled(watchdog.run()).await;
    });
    let parts = Parts {
        readers: Readers::Postgres(pool),
        opener,
        links,
        epoch,
        max_waiting: settings.max_waiting,
        limits: Limits { idempotency_ttl: settings.idempotency_ttl, answer: Some(settings.answer) },
        clock_offset: Arc::new(AtomicI64::new(0)),
        size: Box::new(move || Some(size.load(Ordering::Relaxed))),
        held: Box::new(held),
    };
    Ok(SqlStore::start(parts, &sink, &metrics))
}

struct Connector(Settings);

#[async_trait]
impl Opener for Connector {
    async fn open(&self) -> StoreResult<Link> {
        open::connect(&self.0, Role::Writer).await.map(Link::Postgres).map_err(failed("connecting to the database"))
    }

    async fn close(&self, link: Link) {
        if let Link::Postgres(conn) = link {
            // A server that does not listen does not hold the stop up.
            let _ = tokio::time::timeout(Duration::from_secs(2), conn.close()).await;
        }
    }

    fn limit(&self) -> Option<Duration> {
        Some(TRANSACTION.max(self.0.answer))
    }
}

/// Swaps a pool that has lost its permits, and keeps the database's size for those who ask without waiting.
struct Watchdog {
    settings: Settings,
    pool: pool::Pool,
    size: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    /// How long acquires may fail.
    lost: Duration,
}

impl Watchdog {
    const STEP: Duration = Duration::from_secs(5);
    /// Steps between two looks at the size.
    const SIZE: u32 = 12;

    async fn run(self) {
        let mut step = 0u32;
        while !self.pool.is_closed() {
            tokio::time::sleep(Self::STEP).await;
            step = step.wrapping_add(1);
            self.look().await;
            if step.is_multiple_of(Self::SIZE)
                && let Ok(Ok(size)) = tokio::time::timeout(Self::STEP, self.measure()).await
            {
                self.size.store(size, Ordering::Relaxed);
            }
        }
    }

    async fn look(&self) {
        if self.pool.failing_for() < self.lost || !pool::probe(&self.settings).await {
            return;
        }
        tracing::error!("The database answers but the pool has had no connection for {:?}; it is replaced", self.lost);
        self.metrics.db_pool_replaced.inc();
        self.pool.replace().await;
    }

    async fn measure(&self) -> sqlx::Result<u64> {
        let mut conn = open::connect(&self.settings, Role::Reader).await?;
        let size = open::size(&mut conn).await;
        let _ = conn.close().await;
        size
    }
}
