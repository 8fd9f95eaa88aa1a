//! The embedded store: one SQLite file in WAL mode, one writer, a pool of readers.
//!
//! Owns how the file is opened (`open`). What is stored and how is in `super::sql`, statement by statement beside
//! PostgreSQL's. Absent on purpose: a second process (the OS lock in `open` refuses it).

pub mod open;
#[cfg(test)]
mod tests;

pub use open::{MIGRATIONS, Settings, database_path};

use super::sql::{
    Limits, Parts, SqlStore,
    error::failed,
    read::Readers,
    writer::{Link, Opener},
};
use crate::observe::Metrics;
use async_trait::async_trait;
use campanile_model::ports::{EffectSink, StoreResult};
use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

/// Locks, migrates and opens the file, and starts the writer.
pub async fn start(settings: Settings, sink: Arc<dyn EffectSink>, metrics: Arc<Metrics>) -> StoreResult<Arc<SqlStore>> {
    let lock = open::prepare(&settings.path)?;
    let mut conn = open::writer(&settings).await?;
    open::migrate(&mut conn).await?;
    let epoch: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'epoch'")
        .fetch_one(&mut conn)
        .await
        .map_err(failed("reading the database's epoch"))?;
    let readers = Readers::Sqlite(open::readers(&settings).await?);
    let path = settings.path.clone();
    let parts = Parts {
        readers,
        links: vec![Link::Sqlite(conn)],
        epoch,
        max_waiting: settings.max_waiting,
        limits: Limits { idempotency_ttl: settings.idempotency_ttl, answer: None },
        opener: Arc::new(File(settings)),
        clock_offset: Arc::new(AtomicI64::new(0)),
        size: Box::new(move || std::fs::metadata(&path).ok().map(|m| m.len())),
        held: Box::new(lock),
    };
    Ok(SqlStore::start(parts, &sink, &metrics))
}

struct File(Settings);

#[async_trait]
impl Opener for File {
    async fn open(&self) -> StoreResult<Link> {
        open::writer(&self.0).await.map(Link::Sqlite)
    }

    async fn close(&self, link: Link) {
        if let Link::Sqlite(conn) = link {
            open::close(conn).await;
        }
    }

    /// A disk may be slow; it is never silent.
    fn limit(&self) -> Option<Duration> {
        None
    }
}
