//! The connections that read. Several statements that must agree share one read transaction.

use super::{
    error::failed,
    rows::Cells,
    statement::{Conn, Row, Sql, by_engine},
    writer::STALE,
};
use crate::{
    observe::{Metrics, metrics as m},
    store::postgres::pool::{Lease, Patience, Pool as PgReaders},
};
use campanile_model::{
    Timestamp,
    ports::{StoreError, StoreResult},
};
use sqlx::{Sqlite, Transaction, sqlite::SqlitePool};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

#[derive(Clone)]
pub enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgReaders),
}

#[derive(Clone)]
pub struct Reads {
    pub readers: Readers,
    pub metrics: Arc<Metrics>,
    pub clock_offset: Arc<AtomicI64>,
    pub epoch: Arc<str>,
}

/// The database's clock inside a statement of [`Reads`]: `$1` is the offset.
macro_rules! now {
    (sqlite) => {
        "(CAST(unixepoch('subsec') * 1000 AS INTEGER) + $1)"
    };
    // Not clock_timestamp(): that is volatile, and no index serves a comparison with it.
    (postgres) => {
        "(CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT) + $1)"
    };
}
pub(crate) use now;

/// What a group of reads is asked by: an API caller leaves after 2 s, a background task after 10.
fn patience(group: &str) -> Patience {
    match group {
        "relay" | "rescue" | "claim_audience" | "sweep" | "retain" | "held_connections" => Patience::Job,
        _ => Patience::Api,
    }
}

impl Reads {
    pub fn offset(&self) -> i64 {
        self.clock_offset.load(Ordering::Relaxed)
    }

    pub async fn fetch(&self, group: &'static str, sql: Sql<'_>) -> StoreResult<Vec<Row>> {
        let started = Instant::now();
        let rows = match &self.readers {
            Readers::Sqlite(pool) => {
                let mut conn = pool.acquire().await.map_err(failed(group))?;
                Conn::Sqlite(&mut conn).fetch_all(sql).await.map_err(failed(group))?
            }
            Readers::Postgres(pool) => loop {
                let mut lease = pool.lease(patience(group)).await?;
                match lease.run(group, async |conn| conn.fetch_all(sql.clone()).await).await {
                    // It died while it was idle: the next one may be better, and in the end one is new.
                    Err(StoreError::Unavailable(_)) if started.elapsed() < STALE && !pool.is_closed() => {}
                    done => break done?,
                }
            },
        };
        self.observe(group, started);
        Ok(rows)
    }

    pub async fn fetch_opt(&self, group: &'static str, sql: Sql<'_>) -> StoreResult<Option<Row>> {
        Ok(self.fetch(group, sql).await?.into_iter().next())
    }

    /// One picture for several statements.
    pub async fn snapshot(&self, group: &'static str) -> StoreResult<Snapshot> {
        Ok(match &self.readers {
            Readers::Sqlite(pool) => Snapshot::Sqlite(pool.begin().await.map_err(failed(group))?, group),
            Readers::Postgres(pool) => {
                let started = Instant::now();
                loop {
                    let mut lease = pool.lease(patience(group)).await?;
                    match lease.begin(group, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await {
                        Err(StoreError::Unavailable(_)) if started.elapsed() < STALE && !pool.is_closed() => {}
                        done => {
                            done?;
                            break Snapshot::Postgres(lease, group);
                        }
                    }
                }
            }
        })
    }

    /// Milliseconds of the database's clock.
    pub async fn now_ms(&self) -> StoreResult<i64> {
        let row = self.clock().await?;
        row.map_or(Ok(0), |row| Cells::of("meta", &row).int("now"))
    }

    pub async fn now(&self) -> StoreResult<Timestamp> {
        let row = self.clock().await?;
        row.map_or(Ok(Timestamp::UNIX_EPOCH), |row| Cells::of("meta", &row).time("now"))
    }

    async fn clock(&self) -> StoreResult<Option<Row>> {
        let ask = by_engine(concat!("SELECT ", now!(sqlite), " AS now"), concat!("SELECT ", now!(postgres), " AS now"));
        self.fetch_opt("now", ask.bind(self.offset())).await
    }

    /// Connections that exist, and those of them that nobody uses.
    pub fn connections(&self) -> (u32, u32) {
        match &self.readers {
            Readers::Sqlite(pool) => (pool.size(), pool.num_idle() as u32),
            Readers::Postgres(pool) => pool.connections(),
        }
    }

    pub async fn close(&self) {
        match &self.readers {
            Readers::Sqlite(pool) => pool.close().await,
            Readers::Postgres(pool) => pool.close().await,
        }
    }

    fn observe(&self, group: &'static str, started: Instant) {
        self.metrics.db_query.get_or_create(&m::ByQuery::new(group)).observe(started.elapsed().as_secs_f64());
        let (size, idle) = self.connections();
        self.metrics.db_pool.get_or_create(&m::ByState::new("idle")).set(idle.into());
        self.metrics.db_pool.get_or_create(&m::ByState::new("in_use")).set(size.saturating_sub(idle).into());
    }
}

/// A read transaction: everything read in it is of one moment.
pub enum Snapshot {
    Sqlite(Transaction<'static, Sqlite>, &'static str),
    /// Dropped before its end (an error, a caller that left), the connection is not used again.
    Postgres(Lease, &'static str),
}

impl Snapshot {
    pub async fn fetch(&mut self, sql: Sql<'_>) -> StoreResult<Vec<Row>> {
        match self {
            Self::Sqlite(tx, group) => Conn::Sqlite(tx).fetch_all(sql).await.map_err(failed(group)),
            Self::Postgres(lease, group) => lease.within(group, async |conn| conn.fetch_all(sql).await).await,
        }
    }

    pub async fn fetch_opt(&mut self, sql: Sql<'_>) -> StoreResult<Option<Row>> {
        Ok(self.fetch(sql).await?.into_iter().next())
    }

    /// Lets the connection go back to the others.
    pub async fn end(self) {
        match self {
            Self::Sqlite(tx, _) => drop(tx),
            Self::Postgres(lease, group) => lease.end(group).await,
        }
    }
}

/// For callers that need no more than an answer in time.
pub fn silent(limit: std::time::Duration) -> StoreError {
    StoreError::Unavailable(format!("the database gave no answer within {limit:?}").into())
}
