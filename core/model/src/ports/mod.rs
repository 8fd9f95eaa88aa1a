//! The ports: how a stage hands on. Each trait is small and named after who leans on it.

mod bus;
mod queue;
mod realtime;
mod store;

pub use bus::{Bus, BusError, SignalSink};
pub use queue::{Envelope, QueueError, Subscription, WorkQueue};
pub use realtime::Realtime;
pub use store::*;
