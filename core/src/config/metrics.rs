//! `[metrics]`: `/metrics` in OpenMetrics text.

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
