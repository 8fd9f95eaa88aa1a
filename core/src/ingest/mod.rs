//! Accepting. STUB.

use crate::{channel::Registry, config::Config, observe::Metrics, status::Status};
use campanile_model::{
    Clock,
    ports::{Bus, Store, WorkQueue},
};
use std::sync::Arc;

pub struct Ingest {}

pub struct IngestParts {
    pub config: Arc<Config>,
    pub store: Arc<dyn Store>,
    pub status: Arc<Status>,
    pub channels: Arc<Registry>,
    pub queue: Arc<dyn WorkQueue>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

impl Ingest {
    pub fn new(_parts: IngestParts) -> Arc<Self> {
        Arc::new(Self {})
    }
}
