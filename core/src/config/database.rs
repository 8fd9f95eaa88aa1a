//! `[database]`: The store.

use super::check::Check;
use super::duration::Dur;
use crate::store::{
    postgres::open::{is_postgres, options},
    sqlite::open::database_path,
};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:///path/to/file.db` or `postgres://user:password@host/database`. Default: campanile.db in `server.data_dir`.
    pub url: Option<String>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// Connections that read; SQLite has one writer beside them, PostgreSQL four.
    pub readers: u32,
    /// How long a statement waits for a lock: of the file on SQLite, of a row on PostgreSQL.
    pub busy_timeout: Dur,
    /// How long a database that is down at start is retried before exit code 3.
    pub start_timeout: Dur,
    /// Writes that may wait for a commit before callers are told 503.
    pub max_waiting: usize,
}

impl Database {
    /// A file that belongs to this process alone.
    pub fn is_embedded(&self) -> bool {
        self.url.as_deref().is_none_or(|url| !is_postgres(url))
    }

    pub fn validate(&self, c: &mut Check) {
        if let Some(url) = &self.url {
            let read = if is_postgres(url) { options(url).map(drop) } else { database_path(url).map(drop) };
            if let Err(e) = read {
                c.complain("url", e);
            }
        }
        c.positive([
            ("readers", self.readers.into()),
            ("busy_timeout", self.busy_timeout.as_millis()),
            ("max_waiting", self.max_waiting as u128),
        ]);
    }
}
