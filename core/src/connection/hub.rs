//! Who is connected here. STUB.

use crate::{config::Config, observe::Metrics};
use campanile_model::{
    effects::PushBatch,
    ports::{Bus, Realtime, SignalSink},
    signal::Signal,
};
use std::sync::Arc;

pub struct Hub {
    bus: Arc<dyn Bus>,
}

impl Hub {
    pub fn new(_config: &Config, bus: Arc<dyn Bus>, _metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { bus })
    }
    /// Closes every socket with 1012, spread over `spread`; returns when all are closed.
    pub async fn drain(&self, _spread: std::time::Duration) {}
    /// Open sockets and streams.
    pub fn connection_count(&self) -> usize {
        0
    }
}

impl Realtime for Hub {
    fn push(&self, _batches: &[PushBatch]) {
        let _ = &self.bus;
    }
}

impl SignalSink for Hub {
    fn signal(&self, _signal: &Signal) {}
}
