use crate::{signal::Signal, user::UserRef};

/// The node bus. Publishing never waits for a broker: what can't go now is dropped, and catch-up repairs it.
pub trait Bus: Send + Sync + 'static {
    /// Tells every node, this one included.
    fn publish(&self, signal: Signal);
    /// Whether signals of other nodes arrive; `Err` says why not.
    fn health(&self) -> Result<(), BusError>;
}

/// Who hears signals on this node: the hub, the channel registry, the key cache. Must not block.
pub trait SignalSink: Send + Sync + 'static {
    fn signal(&self, signal: &Signal);
    /// Whether pushes for this user are of any use here; asked for each user of another node's signal before it is built.
    fn wants(&self, _user: &dyn UserRef) -> bool {
        false
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("node bus: {0}")]
pub struct BusError(pub String);
