//! All SQL. One exam runs on every engine.
//!
//! Owns: what a transaction means (`rules`), the engines (`sqlite`; PostgreSQL joins with the production engines) and the
//! exam that each of them passes. Absent on purpose: who may ask, when to retry, what a socket is sent. Every commit is
//! told to the sink once; nothing here calls anybody upstream.

#[cfg(test)]
mod exam;
pub mod rules;
pub mod sqlite;

use crate::{config::Config, observe::Metrics};
use campanile_model::ports::{EffectSink, Store, StoreResult};
use std::sync::Arc;

/// Opens the configured database, applies migrations, takes the OS lock.
pub async fn open(config: &Config, sink: Arc<dyn EffectSink>, metrics: Arc<Metrics>) -> StoreResult<Arc<dyn Store>> {
    let settings = sqlite::Settings::from_config(config)?;
    Ok(sqlite::SqliteStore::open(settings, sink, metrics).await?)
}
