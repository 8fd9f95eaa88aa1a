//! A node gives its connections away: they are closed evenly over a while, and until it is over the node says that it is not
//! ready, so that a balancer sends them elsewhere. It goes on by itself; whoever wants it to stop stops the process.

use super::Hub;
use campanile_model::{NodeId, ports::SignalSink, signal::Signal};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Balancers ask every few seconds whether a node is ready: so long it is not, before the first connection is closed and
/// after the last.
const NOTICE: Duration = Duration::from_secs(5);
/// The longest spread.
pub const SPREAD_MAX: Duration = Duration::from_mins(10);

pub struct Rest {
    node: NodeId,
    hub: Arc<Hub>,
    /// Of the hub's monotonic clock; 0: never.
    until_ms: AtomicU64,
}

impl Rest {
    pub fn new(node: NodeId, hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self { node, hub, until_ms: AtomicU64::new(0) })
    }

    /// The node gives its connections away.
    pub fn is_on(&self) -> bool {
        self.hub.monotonic_ms() < self.until_ms.load(Relaxed)
    }

    fn begin(&self, spread: Duration) {
        let spread = spread.min(SPREAD_MAX);
        let whole = NOTICE * 2 + spread;
        self.until_ms.fetch_max(self.hub.monotonic_ms() + whole.as_millis() as u64, Relaxed);
        tracing::info!("Giving {} connections away within {spread:?}", self.hub.connection_count());
        let hub = self.hub.clone();
        tokio::spawn(async move {
            tokio::time::sleep(NOTICE).await;
            hub.scatter(spread).await;
        });
    }
}

impl SignalSink for Rest {
    fn signal(&self, signal: &Signal) {
        if let Signal::Rest { node, spread_ms } = signal
            && *node == self.node
        {
            self.begin(Duration::from_millis(*spread_ms));
        }
    }
}
