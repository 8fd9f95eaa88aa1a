//! `[cluster]`: Several nodes on one database.

use super::{check::Check, duration::Dur};
use serde::Deserialize;
use std::time::Duration;

/// Missed beats after which a node counts as gone.
const MISSED: u32 = 4;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How often a node says that it lives. Silent for four of these it counts as gone. The same on all nodes.
    pub heartbeat: Dur,
}

impl Cluster {
    /// How long a node may be silent.
    pub fn silent(&self) -> Duration {
        *self.heartbeat * MISSED
    }

    pub fn validate(&self, c: &mut Check) {
        if *self.heartbeat < Duration::from_millis(100) || *self.heartbeat > Duration::from_mins(5) {
            c.complain("heartbeat", "must be 100ms to 5m");
        }
    }
}
