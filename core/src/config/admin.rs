//! `[admin]`: The console.

use super::{check::Check, duration::Dur};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Serve /admin.
    pub enabled: bool,
    /// A session that is not used for so long ends.
    pub session_idle: Dur,
    /// A session ends after so long, however much it is used.
    pub session_max: Dur,
    /// How long a one-time link of `campanile admin create` is valid.
    pub link_ttl: Dur,
}

impl Admin {
    pub fn validate(&self, c: &mut Check) {
        c.positive([
            ("session_idle", self.session_idle.as_millis()),
            ("session_max", self.session_max.as_millis()),
            ("link_ttl", self.link_ttl.as_millis()),
        ]);
    }
}
