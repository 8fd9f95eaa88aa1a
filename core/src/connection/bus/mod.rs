//! The node bus: how a signal reaches this node's sockets at once, and the other nodes' soon.
//!
//! `local` is the bus of a node that is alone. `remote` adds the other nodes: it owns the link (connect, prove, give up,
//! come back), the queue of what goes out and the notice of what was lost, over a broker that is `rabbit` or `redis`;
//! `wire` is the language. Local sinks hear a signal first and directly; no broker stands between a commit and the
//! sockets of its own node. The bus is lossy by design: what it loses is read from the rows again, because a node that
//! may have missed something tells itself so ([`Signal::Missed`]). Absent on purpose: who is connected (the hub), what
//! a signal means (its sinks), acknowledgements and resending.

mod local;
mod outgoing;
mod peers;
mod rabbit;
mod redis;
mod remote;
pub mod wire;

#[cfg(test)]
mod exam;

pub use local::LocalBus;
pub use redis::check as check_redis;

use crate::{
    config::{Config, bus::Target},
    observe::Metrics,
};
use async_trait::async_trait;
use campanile_model::{
    NodeId,
    ports::{Bus, SignalSink},
    signal::Signal,
    user::UserRef,
};
use remote::RemoteBus;
use std::sync::{Arc, OnceLock};

/// The bus as the host sees it: it has a beginning and an end.
#[async_trait]
pub trait NodeBus: Bus {
    /// Called once, when all listeners are built; signals before that have nobody to reach. A link to other nodes is
    /// sought from here on.
    fn attach(&self, sinks: Vec<Arc<dyn SignalSink>>);
    /// Sends what still waits, for a moment at most, then leaves the broker.
    async fn close(&self);
}

/// The bus that the configuration asks for. A broker that is down does not keep it from being opened.
pub fn open(config: &Config, node: NodeId, metrics: &Arc<Metrics>) -> anyhow::Result<Arc<dyn NodeBus>> {
    Ok(match config.bus.target(&config.queue).map_err(|e| anyhow::anyhow!("bus.url {e}"))? {
        Target::Embedded => {
            // There are no others, so none of their signals is missing.
            metrics.bus_connected.set(1);
            LocalBus::new()
        }
        Target::Rabbit(broker) => RemoteBus::new(node, Box::new(rabbit::Rabbit::new(broker, node)), metrics.clone()),
        Target::Redis(url) => RemoteBus::new(node, Box::new(redis::Redis::new(url.expose())?), metrics.clone()),
    })
}

/// Who listens on this node.
#[derive(Default)]
struct Sinks(OnceLock<Vec<Arc<dyn SignalSink>>>);

impl Sinks {
    fn attach(&self, sinks: Vec<Arc<dyn SignalSink>>) {
        let _ = self.0.set(sinks);
    }
    fn each(&self) -> impl Iterator<Item = &Arc<dyn SignalSink>> {
        self.0.get().into_iter().flatten()
    }
    fn tell(&self, signal: &Signal) {
        self.each().for_each(|sink| sink.signal(signal));
    }
    fn wants(&self, user: &dyn UserRef) -> bool {
        self.each().any(|sink| sink.wants(user))
    }
}
