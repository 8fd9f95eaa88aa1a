//! The embedded store. STUB.

use crate::{config::Config, observe::Metrics};
use campanile_model::ports::{EffectSink, Store, StoreResult};
use std::sync::Arc;

pub async fn open(_config: &Config, _sink: Arc<dyn EffectSink>, _metrics: Arc<Metrics>) -> StoreResult<Arc<dyn Store>> {
    unimplemented!("store")
}
