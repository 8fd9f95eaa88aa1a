//! `[log]`: Logs on standard error.

use super::check::Check;
use serde::Deserialize;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A level, or a filter such as `campanile=debug,sqlx=warn`.
    pub level: String,
}

impl Log {
    pub fn validate(&self, c: &mut Check) {
        if let Err(e) = tracing_subscriber::EnvFilter::try_new(&self.level) {
            c.complain("level", format!("{:?} is neither a level nor a filter: {e}", self.level));
        }
    }
}
