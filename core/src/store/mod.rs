//! All SQL. One exam runs on every engine.

pub mod sqlite;

use crate::{config::Config, observe::Metrics};
use campanile_model::ports::{EffectSink, Store, StoreResult};
use std::sync::Arc;

/// Opens the configured database, applies migrations, takes the OS lock.
pub async fn open(config: &Config, sink: Arc<dyn EffectSink>, metrics: Arc<Metrics>) -> StoreResult<Arc<dyn Store>> {
    sqlite::open(config, sink, metrics).await
}
