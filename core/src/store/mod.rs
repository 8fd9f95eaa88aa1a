//! All SQL. One exam runs on every engine.
//!
//! Owns: what a transaction means (`rules`), every operation and its statements in both dialects (`sql`), how each engine is
//! opened (`sqlite`, `postgres`) and the exam that each of them passes. Absent on purpose: who may ask, when to retry, what
//! a socket is sent. Every commit is told to the sink once; nothing here calls anybody upstream.

#[cfg(test)]
pub(crate) mod exam;
#[cfg(test)]
mod plans;
pub mod postgres;
pub mod rules;
pub mod sql;
pub mod sqlite;

use crate::{config::Config, observe::Metrics};
use campanile_model::ports::{EffectSink, Store, StoreResult};
use std::sync::Arc;

/// Opens the configured database and applies migrations; a SQLite file is locked for this process.
pub async fn open(config: &Config, sink: Arc<dyn EffectSink>, metrics: Arc<Metrics>) -> StoreResult<Arc<dyn Store>> {
    if let Some(url) = config.database.url.as_deref().filter(|url| postgres::open::is_postgres(url)) {
        let settings = postgres::Settings::from_config(config, url)?;
        return Ok(postgres::start(settings, sink, metrics).await?);
    }
    let settings = sqlite::Settings::from_config(config)?;
    Ok(sqlite::start(settings, sink, metrics).await?)
}
