//! `[retry]`: When a failed attempt is made again.

use super::check::Check;
use super::duration::Dur;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Delays after the 1st, 2nd, … spent attempt; attempts = 1 + entries.
    pub schedule: Vec<Dur>,
    /// Each delay is varied by ± this share.
    pub jitter: f64,
    /// From due time, paused time excluded: then `dead` (`max_age`).
    pub max_age: Dur,
    /// Longest Retry-After that is honoured.
    pub max_after: Dur,
    /// Failures in a row that open a channel's breaker; `misconfigured` opens it at once.
    pub breaker_failures: u32,
    /// How long it stays open at first; doubles up to `breaker_open_max`.
    pub breaker_open: Dur,
    /// The longest.
    pub breaker_open_max: Dur,
}

impl Retry {
    pub fn validate(&self, c: &mut Check) {
        c.require(!self.schedule.is_empty(), "schedule", "must hold at least one delay");
        c.require((0.0..=1.0).contains(&self.jitter), "jitter", "must be between 0 and 1");
        c.positive([
            ("max_age", self.max_age.as_millis()),
            ("max_after", self.max_after.as_millis()),
            ("breaker_failures", self.breaker_failures.into()),
            ("breaker_open", self.breaker_open.as_millis()),
        ]);
        c.require(
            *self.breaker_open_max >= *self.breaker_open,
            "breaker_open_max",
            "must not be shorter than retry.breaker_open",
        );
    }
}
