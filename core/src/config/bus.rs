//! `[bus]`: The node bus.

use super::check::Check;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// Follows the queue unless set.
    pub url: Option<String>,
}

impl Bus {
    pub fn validate(&self, c: &mut Check) {
        c.not_available(self.url.is_some(), "url", "a bus apart from the queue");
    }
}
