use crate::effects::PushBatch;

/// What the websocket channel asks of the host: the endpoint, the hub and the sockets are the host's.
pub trait Realtime: Send + Sync + 'static {
    /// Tells the open sockets of these users, on all nodes. A hint: the feed rows are committed already.
    fn push(&self, batches: &[PushBatch]);
}
