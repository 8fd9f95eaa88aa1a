use crate::{ChannelName, DeliveryId};
use async_trait::async_trait;

/// The work queue: carries ids, may lose, repeat and reorder them.
#[async_trait]
pub trait WorkQueue: Send + Sync + 'static {
    /// Returns once the broker has taken responsibility for all of them; `Err` means "publish again later".
    async fn publish(&self, channel: &ChannelName, ids: &[DeliveryId]) -> Result<(), QueueError>;

    /// Messages waiting, not counting those handed to consumers; cheap, may be a second old. `None`: not known now.
    fn depth(&self, channel: &ChannelName) -> Option<u64>;

    /// A consumer of one channel. Ends with an error when the broker goes away; subscribe again.
    async fn subscribe(&self, channel: &ChannelName, prefetch: u16) -> Result<Box<dyn Subscription>, QueueError>;

    /// `Err` says what is wrong; ingest goes on all the same.
    fn health(&self) -> Result<(), QueueError>;

    /// The end of a drain: nothing more is taken or handed out, and waiting consumers are told so.
    async fn close(&self) {}
}

#[async_trait]
pub trait Subscription: Send {
    /// Waits for one message, then takes up to `max` that are there already. Cancel-safe.
    async fn receive(&mut self, max: usize) -> Result<Vec<Envelope>, QueueError>;

    /// The claim of everything up to `tag` has committed: the broker may forget them.
    async fn ack_through(&mut self, tag: u64) -> Result<(), QueueError>;
}

#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    pub delivery_id: DeliveryId,
    /// Grows within one subscription.
    pub tag: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    #[error("the queue of channel {0} is full")]
    Full(ChannelName),
    #[error("the queue is closed")]
    Closed,
    #[error("broker: {0}")]
    Broker(String),
}
