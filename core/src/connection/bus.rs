//! The bus of one node: a signal goes straight to whoever listens here.

use campanile_model::{
    ports::{Bus, BusError, SignalSink},
    signal::Signal,
};
use std::sync::{Arc, OnceLock};

#[derive(Default)]
pub struct LocalBus {
    sinks: OnceLock<Vec<Arc<dyn SignalSink>>>,
}

impl LocalBus {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    /// Called once, when all listeners are built; signals before that have nobody to reach.
    pub fn attach(&self, sinks: Vec<Arc<dyn SignalSink>>) {
        let _ = self.sinks.set(sinks);
    }
}

impl Bus for LocalBus {
    fn publish(&self, signal: Signal) {
        for sink in self.sinks.get().into_iter().flatten() {
            sink.signal(&signal);
        }
    }
    fn health(&self) -> Result<(), BusError> {
        Ok(())
    }
}
