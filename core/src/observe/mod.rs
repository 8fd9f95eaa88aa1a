//! What operators read: metrics, logs and what the system says of this process. Absent on purpose: state; nothing here decides anything.

pub mod log;
pub mod metrics;
pub mod process;

pub use metrics::Metrics;
