//! `[metrics]`: `/metrics` in OpenMetrics text.

use super::check::Check;
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Bearer token that guards it. Empty: open.
    pub token: Secret,
    /// The same from a file.
    pub token_file: Option<PathBuf>,
    /// Serve it on an address of its own instead of the main one.
    pub listen: Option<String>,
}

impl Metrics {
    pub fn validate(&self, c: &mut Check) {
        if let Some(listen) = &self.listen {
            c.require(
                listen.parse::<std::net::SocketAddr>().is_ok(),
                "listen",
                "must be an address such as 127.0.0.1:9090",
            );
        }
    }
}
