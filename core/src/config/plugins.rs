//! `[plugins]`: Channel plugins from shared libraries.

use super::check::Check;
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugins {
    /// Folder of the files; none by default.
    pub dir: Option<PathBuf>,
    /// `plugins.lock`: what may be loaded; by default in that folder.
    pub lock: Option<PathBuf>,
    /// Folder of the files that `{"$secret": "file:NAME"}` names in configurations of instances.
    pub secrets_dir: Option<PathBuf>,
    /// Seals secrets that are typed into the console or sent to the API; the same on all nodes.
    pub secret_key: Secret,
    /// The same from a file.
    pub secret_key_file: Option<PathBuf>,
}

impl Plugins {
    pub fn validate(&self, c: &mut Check) {
        let absolute = |path: &Option<PathBuf>| path.as_ref().is_none_or(|p| p.is_absolute());
        c.require(absolute(&self.dir), "dir", "must be an absolute path");
        c.require(absolute(&self.lock), "lock", "must be an absolute path");
        c.require(self.lock.is_none() || self.dir.is_some(), "lock", "is of no use without plugins.dir");
        c.require(
            self.secret_key.is_empty() || self.secret_key.expose().len() >= 32,
            "secret_key",
            "must be at least 32 bytes",
        );
    }
}
