//! The connections that read. Several statements that must agree share one read transaction.

use super::{error::failed, rows::Cells, tx::Sql};
use crate::observe::{Metrics, metrics as m};
use campanile_model::{Timestamp, ports::StoreResult};
use sqlx::{
    Sqlite, Transaction,
    sqlite::{SqlitePool, SqliteRow},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

#[derive(Clone)]
pub struct Reads {
    pub pool: SqlitePool,
    pub metrics: Arc<Metrics>,
    pub clock_offset: Arc<AtomicI64>,
    pub epoch: Arc<str>,
}

/// The database's clock inside a statement of [`Reads`]: `?1` is the offset.
macro_rules! now {
    () => {
        "(CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?1)"
    };
}
pub(crate) use now;

impl Reads {
    pub fn offset(&self) -> i64 {
        self.clock_offset.load(Ordering::Relaxed)
    }

    pub async fn fetch(&self, group: &'static str, sql: Sql<'_>) -> StoreResult<Vec<SqliteRow>> {
        let started = Instant::now();
        let rows = sql.fetch_all(&self.pool).await.map_err(failed(group))?;
        self.observe(group, started);
        Ok(rows)
    }

    pub async fn fetch_opt(&self, group: &'static str, sql: Sql<'_>) -> StoreResult<Option<SqliteRow>> {
        let started = Instant::now();
        let row = sql.fetch_optional(&self.pool).await.map_err(failed(group))?;
        self.observe(group, started);
        Ok(row)
    }

    /// One picture for several statements.
    pub async fn snapshot(&self, group: &'static str) -> StoreResult<Snapshot> {
        let tx = self.pool.begin().await.map_err(failed(group))?;
        Ok(Snapshot { tx, group })
    }

    /// Milliseconds of the database's clock.
    pub async fn now_ms(&self) -> StoreResult<i64> {
        let row = self.fetch_opt("now", sqlx::query(concat!("SELECT ", now!(), " AS now")).bind(self.offset())).await?;
        row.map_or(Ok(0), |row| Cells::of("meta", &row).int("now"))
    }

    pub async fn now(&self) -> StoreResult<Timestamp> {
        let row = self.fetch_opt("now", sqlx::query(concat!("SELECT ", now!(), " AS now")).bind(self.offset())).await?;
        row.map_or(Ok(Timestamp::UNIX_EPOCH), |row| Cells::of("meta", &row).time("now"))
    }

    fn observe(&self, group: &'static str, started: Instant) {
        self.metrics.db_query.get_or_create(&m::ByQuery::new(group)).observe(started.elapsed().as_secs_f64());
        let size = i64::from(self.pool.size());
        let idle = self.pool.num_idle() as i64;
        self.metrics.db_pool.get_or_create(&m::ByState::new("idle")).set(idle);
        self.metrics.db_pool.get_or_create(&m::ByState::new("in_use")).set((size - idle).max(0));
    }
}

/// A read transaction: everything read in it is of one moment.
pub struct Snapshot {
    tx: Transaction<'static, Sqlite>,
    group: &'static str,
}

impl Snapshot {
    pub async fn fetch(&mut self, sql: Sql<'_>) -> StoreResult<Vec<SqliteRow>> {
        sql.fetch_all(&mut *self.tx).await.map_err(failed(self.group))
    }
    pub async fn fetch_opt(&mut self, sql: Sql<'_>) -> StoreResult<Option<SqliteRow>> {
        sql.fetch_optional(&mut *self.tx).await.map_err(failed(self.group))
    }
}
