//! The queue of one process. STUB.

use async_trait::async_trait;
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{QueueError, Subscription, WorkQueue},
};
use std::sync::Arc;

pub struct LocalQueue {}

impl LocalQueue {
    pub fn new(_capacity: usize) -> Arc<Self> {
        Arc::new(Self {})
    }
}

#[async_trait]
impl WorkQueue for LocalQueue {
    async fn publish(&self, _channel: &ChannelName, _ids: &[DeliveryId]) -> Result<(), QueueError> {
        Ok(())
    }
    fn depth(&self, _channel: &ChannelName) -> Option<u64> {
        Some(0)
    }
    async fn subscribe(&self, _channel: &ChannelName, _prefetch: u16) -> Result<Box<dyn Subscription>, QueueError> {
        Err(QueueError::Closed)
    }
    fn health(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
