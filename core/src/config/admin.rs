//! `[admin]`: The console.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Serve /admin.
    pub enabled: bool,
}
