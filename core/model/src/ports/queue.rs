use crate::{ChannelName, DeliveryId};
use async_trait::async_trait;

/// The work queue: carries ids, may lose, repeat and reorder them.
#[async_trait]
pub trait WorkQueue: Send + Sync + 'static {
    /// The channels of this host, once at its start. `Unusable` when a broker that answers has something of our name that
    /// we can't use; a broker that is away is no error.
    async fn prepare(&self, channels: &[ChannelName]) -> Result<(), QueueError> {
        let _ = channels;
        Ok(())
    }

    /// Returns once the broker has taken responsibility for all of them; `Err` means "publish again later".
    async fn publish(&self, channel: &ChannelName, ids: &[DeliveryId]) -> Result<(), QueueError>;

    /// Messages waiting, not counting those handed to consumers; cheap, may be a second old. `None`: not known now.
    fn depth(&self, channel: &ChannelName) -> Option<u64>;

    /// A consumer of one channel. Ends with an error when the broker goes away; subscribe again.
    async fn subscribe(&self, channel: &ChannelName, prefetch: u16) -> Result<Box<dyn Subscription>, QueueError>;

    /// `None` while nothing can be published. Another number than before says that the broker was away since, and may
    /// have lost what it held.
    fn epoch(&self) -> Option<u64> {
        Some(0)
    }

    /// Returns when [`Self::epoch`] may be another one, or when a line became shorter than `depth` last said.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

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
    /// Only an operator can end this; the sentence says how.
    #[error("{0}")]
    Unusable(String),
}
