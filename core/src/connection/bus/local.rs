//! The bus of one node: a signal goes straight to whoever listens here.

use super::{NodeBus, Sinks};
use async_trait::async_trait;
use campanile_model::{
    ports::{Bus, BusError, SignalSink},
    signal::Signal,
};
use std::sync::Arc;

#[derive(Default)]
pub struct LocalBus {
    sinks: Sinks,
}

impl LocalBus {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl Bus for LocalBus {
    fn publish(&self, signal: Signal) {
        self.sinks.tell(&signal);
    }
    fn health(&self) -> Result<(), BusError> {
        Ok(())
    }
}

#[async_trait]
impl NodeBus for LocalBus {
    fn attach(&self, sinks: Vec<Arc<dyn SignalSink>>) {
        self.sinks.attach(sinks);
    }
    async fn close(&self) {}
}
