//! `[database]`: The store.

use super::duration::Dur;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:///path/to/file.db`. Default: campanile.db in `server.data_dir`.
    pub url: Option<String>,
    /// Connections that read; SQLite has one writer beside them.
    pub readers: u32,
    /// How long a statement waits for a lock.
    pub busy_timeout: Dur,
    /// How long a database that is down at start is retried before exit code 3.
    pub start_timeout: Dur,
    /// Writes that may wait for a commit before callers are told 503.
    pub max_waiting: usize,
}
