//! The work queue: carries ids between the table and the workers; may lose, repeat and reorder them.
//!
//! Owns: the embedded queue, and the relay that publishes due rows. Absent on purpose: what a delivery says, its state,
//! and any promise: the row is the job, a message is only a hint to look at it.

pub mod backoff;
pub mod local;
pub mod relay;

pub use local::LocalQueue;
pub use relay::{Bell, Relay};
