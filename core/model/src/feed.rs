//! The feed: a per-user sequence without gaps, and the counts over it.

use crate::{NotificationId, Timestamp, clock, frame::Frame};
use serde::{Deserialize, Serialize};

/// Absolute counts with the version they belong to; nodes and clients drop older ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Items without `seen_at`, neither archived nor expired.
    pub unseen: i64,
    /// Items without `read_at`, neither archived nor expired.
    pub unread: i64,
    /// Items neither archived nor expired.
    pub total: i64,
    /// Rises with every insert, read, archive, expiry, erase and merge.
    pub version: i64,
}

/// Where a user's feed stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedState {
    /// Database epoch + the user's generation: a client with another epoch starts anew.
    pub epoch: String,
    pub head_seq: i64,
    /// Smallest seq still kept; a cursor below `min_seq - 1` can't be resumed.
    pub min_seq: i64,
    pub counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkAs {
    Seen,
    /// Sets `seen_at` too.
    Read,
    /// Clears `read_at` only.
    Unread,
    Archived,
    Unarchived,
}

impl MarkAs {
    pub const ALL: [Self; 5] = [Self::Seen, Self::Read, Self::Unread, Self::Archived, Self::Unarchived];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Read => "read",
            Self::Unread => "unread",
            Self::Archived => "archived",
            Self::Unarchived => "unarchived",
        }
    }
}

/// What to mark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MarkSelection {
    Ids(Vec<NotificationId>),
    /// Every item with seq ≤ this.
    UpToSeq(i64),
}

#[derive(Clone, Debug)]
pub struct MarkOutcome {
    /// Ids of the selection that are not in this user's feed (unknown, foreign, expired, erased).
    pub not_found: Vec<NotificationId>,
    /// Rows that changed; 0 when everything was so already.
    pub changed: u64,
    pub counts: Counts,
}

/// An item as `GET /me/notifications` and the socket's `list` show it.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FeedItem {
    pub notification_id: NotificationId,
    pub seq: i64,
    pub title: String,
    pub message: String,
    pub notification_type: String,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub timestamp: Timestamp,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub read_at: Option<Timestamp>,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub seen_at: Option<Timestamp>,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub archived_at: Option<Timestamp>,
    #[schema(value_type = Object)]
    pub data: crate::notification::Data,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedFilter {
    /// Everything not archived.
    #[default]
    All,
    Unread,
    Read,
    Archived,
}

#[derive(Clone, Debug)]
pub struct FeedPage {
    /// Newest first.
    pub items: Vec<FeedItem>,
    /// Pass as `before` for the next page; `None` at the end.
    pub next_before: Option<i64>,
    pub counts: Counts,
}

/// A live item for replay and gap reads: archived and expired ones are left out.
#[derive(Clone, Debug)]
pub struct ReplayItem {
    pub seq: i64,
    pub frame: Frame,
    /// Whether the item is unread now.
    pub unread: bool,
}

/// A piece of the feed, oldest first.
#[derive(Clone, Debug)]
pub struct Replay {
    pub items: Vec<ReplayItem>,
    /// Everything up to here is covered, tombstones included; smaller than asked for when `limit` cut it.
    pub covered_to: i64,
}

/// Sequence numbers of one user that reached a live socket or were acked: `sent → delivered`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenByClient {
    pub user: crate::UserKey,
    /// Inclusive.
    pub from_seq: i64,
    /// Inclusive.
    pub to_seq: i64,
}
