//! `[retention]`: How long things are kept; `0s` keeps for ever.

use super::check::Check;
use super::duration::Dur;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Settled notifications with their deliveries and attempts.
    pub notifications: Dur,
    /// Feed items.
    pub feed: Dur,
    /// Dead letters.
    pub dead: Dur,
    /// Audit log.
    pub audit: Dur,
    /// Undecodable queue messages.
    pub poison: Dur,
    /// How often it runs.
    pub interval: Dur,
}

impl Retention {
    pub fn validate(&self, c: &mut Check) {
        c.positive([("interval", self.interval.as_millis())]);
    }
}
