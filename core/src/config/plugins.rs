//! `[plugins]`: Channel plugins from shared libraries.

use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugins {
    /// Folder of the files; none by default.
    pub dir: Option<PathBuf>,
    /// `plugins.lock`: what may be loaded.
    pub lock: Option<PathBuf>,
}
