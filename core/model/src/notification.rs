//! What an application said: the content and its terms.

use crate::{AppId, NotificationId, Timestamp, TraceContext};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A free JSON object.
pub type Data = serde_json::Map<String, serde_json::Value>;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Content {
    pub title: String,
    pub message: String,
    pub notification_type: String,
    pub data: Data,
}

/// Order of relay and claim, and a metric label; nothing else.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
    /// As stored: smaller goes first.
    pub const fn rank(self) -> i64 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
    pub const fn from_rank(rank: i64) -> Option<Self> {
        match rank {
            0 => Some(Self::High),
            1 => Some(Self::Normal),
            2 => Some(Self::Low),
            _ => None,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|p| p.as_str() == s).ok_or(())
    }
}

/// An accepted notification, without its audience.
#[derive(Clone, Debug)]
pub struct Notification {
    pub id: NotificationId,
    pub app: AppId,
    pub content: Arc<Content>,
    pub priority: Priority,
    /// When it was accepted: `timestamp` on the wire.
    pub created_at: Timestamp,
    pub send_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub collapse_key: Option<String>,
    /// Names the request in logs, attempts and the API's answers.
    pub request_id: String,
    /// The caller's trace.
    pub trace: Option<TraceContext>,
}

impl Notification {
    /// The trace that it is part of: the caller's, else one of its own.
    pub fn trace(&self) -> TraceContext {
        self.trace.unwrap_or_else(|| TraceContext::of(self.id))
    }
}
