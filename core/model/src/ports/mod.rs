//! The ports: how a stage hands on. Each trait is small and named after who leans on it.

mod access;
mod audit;
mod bus;
mod cluster;
mod console;
mod people;
mod plugins;
mod queue;
mod realtime;
mod store;
mod triage;

pub use access::*;
pub use audit::*;
pub use bus::{Bus, BusError, SignalSink};
pub use cluster::*;
pub use console::*;
pub use people::*;
pub use plugins::*;
pub use queue::{Envelope, QueueError, Subscription, WorkQueue};
pub use realtime::Realtime;
pub use store::*;
pub use triage::*;
