//! What holds for every bus, that of a single node too: whoever listens here hears at once.

use super::*;
use crate::connection::bus::{
    LocalBus, NodeBus,
    outgoing::Limits,
    remote::{Line, RemoteBus, Transport},
};
use async_trait::async_trait;
use campanile_model::{NodeId, ports::BusError};
use std::sync::Arc;

/// A broker that never answers.
struct Silent;

#[async_trait]
impl Transport for Silent {
    async fn connect(&self) -> Result<Line, BusError> {
        std::future::pending().await
    }
}

fn every_bus() -> [Arc<dyn NodeBus>; 2] {
    [LocalBus::new(), RemoteBus::new(NodeId::new(), Box::new(Silent), Arc::default())]
}

#[tokio::test]
async fn every_sink_hears_each_signal_once_in_order_before_publish_returns() {
    for bus in every_bus() {
        let ears = [Ear::new(), Ear::new()];
        let counter = Arc::new(Counter::default());
        bus.attach(vec![ears[0].clone(), counter.clone(), ears[1].clone()]);
        let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        for name in &names {
            bus.publish(named(name));
        }
        assert_eq!((ears[0].names(), ears[1].names()), (names.clone(), names));
        assert_eq!(*counter.0.lock().unwrap(), 100);
    }
}

#[tokio::test]
async fn publishing_before_anybody_listens_or_a_broker_is_there_is_no_fault() {
    for bus in every_bus() {
        bus.publish(named("early"));
        let ear = Ear::new();
        bus.attach(vec![ear.clone()]);
        (0..2 * Limits::default().signals).for_each(|_| bus.publish(named("x")));
        assert_eq!(ear.names().len(), 2 * Limits::default().signals);
        bus.close().await;
    }
}

#[tokio::test]
async fn only_a_bus_without_other_nodes_is_well_without_a_broker() {
    let [local, remote] = every_bus();
    remote.attach(vec![]);
    assert!(local.health().is_ok());
    assert!(remote.health().is_err());
}
