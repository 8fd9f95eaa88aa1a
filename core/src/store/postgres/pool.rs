//! The connections that read, guarded: a silent server costs a caller its patience and nobody a permit.
//!
//! sqlx pings a connection on its way back into the pool, with no bound: one whose peer has gone silent would keep its
//! permit for ever. So a connection goes back only after a statement has succeeded on it; every other one, whether its
//! statement timed out, failed, or its caller left, is detached first, which frees the permit without any I/O.

use super::open;
use crate::store::sql::{error::failed, read::silent, statement::Conn};
use campanile_model::ports::{StoreError, StoreResult};
use sqlx::{
    Connection as _, Executor as _, PgConnection,
    pool::PoolConnection,
    postgres::{PgPool, Postgres},
};
use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Who waits, and so for how long.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    Api,
    Job,
}

impl Patience {
    /// For a connection.
    const fn acquire(self) -> Duration {
        match self {
            Self::Api => Duration::from_secs(2),
            Self::Job => Duration::from_secs(10),
        }
    }

    /// For a statement after so long a wait for its connection. A caller's three seconds are for both together. A job's lie
    /// just above the server's own limit: jobs that wait for a line gone silent hold connections that callers need.
    fn statement(self, answer: Duration, waited: Duration) -> Duration {
        match self {
            Self::Api => answer.saturating_sub(waited),
            Self::Job => Duration::from_secs(10),
        }
    }
}

/// A pool that can be swapped for a fresh one.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    settings: open::Settings,
    current: RwLock<PgPool>,
    /// When acquires began to fail with no success since; 0 while they succeed. Milliseconds since `born`.
    failing_since: AtomicU64,
    born: Instant,
    closed: AtomicBool,
}

impl Pool {
    pub fn new(settings: open::Settings) -> Self {
        let current = RwLock::new(open::readers(&settings));
        Self(Arc::new(Inner {
            settings,
            current,
            failing_since: AtomicU64::new(0),
            born: Instant::now(),
            closed: AtomicBool::new(false),
        }))
    }

    fn current(&self) -> PgPool {
        self.0.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub async fn lease(&self, patience: Patience) -> StoreResult<Lease> {
        let asked = Instant::now();
        let acquired = match timeout(patience.acquire(), self.current().acquire()).await {
            Ok(acquired) => acquired.map_err(|e| StoreError::Unavailable(Box::new(e))),
            Err(_) => Err(silent(patience.acquire())),
        };
        match acquired {
            Ok(conn) => {
                self.0.failing_since.store(0, Ordering::Relaxed);
                Ok(Lease {
                    conn: Some(conn),
                    limit: patience.statement(self.0.settings.answer, asked.elapsed()),
                    clean: true,
                })
            }
            Err(e) => {
                let at = (self.0.born.elapsed().as_millis() as u64).max(1);
                let _ = self.0.failing_since.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
                Err(e)
            }
        }
    }

    pub fn connections(&self) -> (u32, u32) {
        let pool = self.current();
        (pool.size(), pool.num_idle() as u32)
    }

    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        // A connection whose server is silent does not hold the stop up.
        let _ = timeout(Duration::from_secs(2), self.current().close()).await;
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// How long no acquire has succeeded although some were tried.
    pub fn failing_for(&self) -> Duration {
        match self.0.failing_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.0.born.elapsed().saturating_sub(Duration::from_millis(since)),
        }
    }

    /// For the watchdog: a fresh connection works although the pool has none to give, so its permits are lost.
    pub async fn replace(&self) {
        let fresh = open::readers(&self.0.settings);
        let old = {
            let mut current = self.0.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        self.0.failing_since.store(0, Ordering::Relaxed);
        // Waits for permits that do not come back: not here.
        tokio::spawn(async move { timeout(Duration::from_mins(1), old.close()).await });
    }
}

/// A connection on loan.
pub struct Lease {
    conn: Option<PoolConnection<Postgres>>,
    limit: Duration,
    /// Nothing is under way on it: it may go back.
    clean: bool,
}

impl Lease {
    /// One statement on its own.
    pub async fn run<T>(
        &mut self,
        what: &'static str,
        f: impl AsyncFnOnce(&mut Conn<'_>) -> sqlx::Result<T>,
    ) -> StoreResult<T> {
        let done = self.within(what, f).await?;
        self.clean = true;
        Ok(done)
    }

    /// One statement of a transaction.
    pub async fn within<T>(
        &mut self,
        what: &'static str,
        f: impl AsyncFnOnce(&mut Conn<'_>) -> sqlx::Result<T>,
    ) -> StoreResult<T> {
        self.clean = false;
        let conn = self.conn()?;
        match timeout(conn.1, f(&mut Conn::Postgres(conn.0))).await {
            Ok(done) => done.map_err(failed(what)),
            Err(_) => Err(silent(self.limit)),
        }
    }

    pub async fn begin(&mut self, what: &'static str, begin: &'static str) -> StoreResult<()> {
        self.clean = false;
        let conn = self.conn()?;
        match timeout(conn.1, conn.0.execute(begin)).await {
            Ok(done) => done.map(drop).map_err(failed(what)),
            Err(_) => Err(silent(self.limit)),
        }
    }

    /// Ends a transaction that only read.
    pub async fn end(mut self, what: &'static str) {
        if self.begin(what, "ROLLBACK").await.is_ok() {
            self.clean = true;
        }
    }

    fn conn(&mut self) -> StoreResult<(&mut PgConnection, Duration)> {
        let limit = self.limit;
        match &mut self.conn {
            Some(conn) => Ok((conn, limit)),
            None => Err(StoreError::Unavailable("the connection is gone".into())),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take()
            && !self.clean
        {
            // Frees the permit and closes the socket, without a word to the server.
            drop(conn.detach());
        }
    }
}

/// A fresh connection, to tell a lost pool from a lost server.
pub async fn probe(settings: &open::Settings) -> bool {
    let ask = async {
        let mut conn = open::connect(settings, open::Role::Reader).await?;
        conn.ping().await
    };
    matches!(timeout(Duration::from_secs(3), ask).await, Ok(Ok(())))
}
