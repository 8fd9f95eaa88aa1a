//! `[bus]`: The node bus.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// Follows the queue unless set.
    pub url: Option<String>,
}
