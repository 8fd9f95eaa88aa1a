//! The audit log's own port: finding entries, and finding out whether any was changed or removed.
//!
//! Each entry's hash covers the one before it. The chain's two ends are kept beside it: the last entry that retention took
//! (the oldest one kept follows from it) and the newest one (so that a cut at the end shows too).

use super::{Actor, AuditRow, StoreResult};
use crate::Timestamp;
use async_trait::async_trait;

/// Where an act came from. It follows from who did it, so it is not written down by whoever appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSource {
    /// The console.
    Web,
    Api,
    /// The command line, beside a server.
    Cli,
    /// A link in a mail.
    Link,
    /// The server itself.
    System,
}

impl AuditSource {
    pub const ALL: [Self; 5] = [Self::Web, Self::Api, Self::Cli, Self::Link, Self::System];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Link => "link",
            Self::System => "system",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// As the column `source` of the log works it out; the exam holds the two together.
    pub fn of(actor: &str, request_id: &str) -> Self {
        match actor {
            "stranger" => Self::Web,
            "system" => Self::System,
            "operator" if !request_id.is_empty() => Self::Api,
            a if a.starts_with("admin:") => Self::Web,
            a if a.starts_with("key:") => Self::Api,
            a if a.starts_with("user:") => Self::Link,
            _ => Self::Cli,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub target: Option<String>,
    /// The address that it came from.
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub source: Option<AuditSource>,
    /// From this moment on, and before that one.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Keyset cursor: ids below this, newest first.
    pub before: Option<i64>,
    pub limit: u32,
}

/// An entry up to which the chain was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainMark {
    pub id: i64,
    /// `None`: an older version removed what stood before, so the next entry is taken on trust.
    pub hash: Option<Vec<u8>>,
}

/// One step along the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCheck {
    /// As far as everything follows; where the next step begins.
    pub mark: ChainMark,
    /// When the entry of the mark was written, if this step saw it.
    pub at: Option<Timestamp>,
    /// Entries that this step followed.
    pub followed: u64,
    /// The first entry that does not follow from the one before it, or one of the end that is missing.
    pub broken: Option<i64>,
    /// Nothing is left to follow.
    pub done: bool,
}

#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Begins an empty log: `install` is its first entry. Nothing happens to one that has begun.
    async fn begin_audit(&self, actor: &Actor, detail: serde_json::Value) -> StoreResult<()>;
    /// Newest first.
    async fn find_audit(&self, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>>;
    /// Follows the chain from a mark, or from its old end, for at most `limit` entries.
    async fn check_audit(&self, from: Option<&ChainMark>, limit: u32) -> StoreResult<ChainCheck>;
}
