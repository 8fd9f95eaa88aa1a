//! The work queue: carries ids between the table and the workers; may lose, repeat and reorder them.
//!
//! Owns: the embedded queue, the one on RabbitMQ, and the relay that publishes due rows. Absent on purpose: what a delivery says, its state,
//! and any promise: the row is the job, a message is only a hint to look at it.

pub mod backoff;
pub mod depths;
#[cfg(test)]
mod exam;
pub mod intake;
pub mod local;
pub mod rabbit;
pub mod relay;

pub use depths::Depths;
pub use local::LocalQueue;
pub use rabbit::{RabbitParams, RabbitQueue};
pub use relay::{Bell, Relay};

use crate::{config::Config, observe::Metrics};
use campanile_model::{
    NodeId,
    ports::{Store, WorkQueue},
};
use std::sync::Arc;

/// The queue that the configuration names. A broker that is away is connected to later.
pub fn open(
    config: &Config,
    node: NodeId,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Arc<dyn WorkQueue>> {
    let broker = config.queue.broker().map_err(|e| anyhow::anyhow!("queue.url {e}"))?;
    Ok(match broker {
        None => LocalQueue::new(config.queue.capacity),
        Some(broker) => RabbitQueue::start(RabbitParams { broker, name: format!("campanile {node}"), store, metrics }),
    })
}
