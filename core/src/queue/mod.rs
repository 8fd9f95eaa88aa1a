//! The work queue: carries ids between the table and the workers; may lose, repeat and reorder them.

pub mod local;
pub mod relay;

pub use local::LocalQueue;
