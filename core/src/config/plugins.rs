//! `[plugins]`: Channel plugins from shared libraries.

use super::check::Check;
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

impl Plugins {
    pub fn validate(&self, c: &mut Check) {
        c.not_available(self.dir.is_some(), "dir", "loading channels from shared libraries");
        c.not_available(self.lock.is_some(), "lock", "loading channels from shared libraries");
    }
}
