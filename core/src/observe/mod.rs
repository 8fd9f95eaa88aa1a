//! What operators read: metrics and logs. Absent on purpose: state; nothing here decides anything.

pub mod log;
pub mod metrics;

pub use metrics::Metrics;
