//! What happened, as seen from outside: calls and their answers, frames, mails, rows at the end.
//!
//! Absent on purpose: judging (see `checker`). An answer that never came is kept apart from a refusal: it may have
//! been accepted.

use crate::db::{Attempt, Db, Delivery, FeedRow, UserState};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Position in the recorded order; every event takes the next one.
pub type Moment = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// 202.
    Ok,
    /// No answer, or 503: unknown.
    Info,
    /// Refused: must have left nothing.
    Fail,
}

/// One attempt to post; repeats with the same key are separate posts.
#[derive(Clone, Debug)]
pub struct Post {
    pub invoked: Moment,
    pub returned: Moment,
    /// The idempotency key, which is also the notification's title.
    pub key: String,
    pub user: String,
    pub channels: Vec<String>,
    pub outcome: Outcome,
    /// From the 202.
    pub id: Option<Uuid>,
}

/// A notification that reached a device, by a frame (with its connection) or a page of the feed.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Moment,
    pub device: String,
    pub user: String,
    /// `None`: fetched.
    pub connection: Option<u64>,
    /// Absent in classic frames.
    pub seq: Option<i64>,
    pub id: Uuid,
}

/// Counts that a device was shown when everything had come to rest.
#[derive(Clone, Debug)]
pub struct CountsShown {
    pub device: String,
    pub user: String,
    pub unread: i64,
}

/// An acknowledged mark.
#[derive(Clone, Debug)]
pub struct Marked {
    pub at: Moment,
    pub user: String,
    pub id: Uuid,
    /// `read` or `unread`.
    pub mark: String,
}

/// A mail the far side accepted.
#[derive(Clone, Debug)]
pub struct Mail {
    pub at: Moment,
    pub message_id: String,
}

/// A delivery's state at some moment.
#[derive(Clone, Debug)]
pub struct StateSeen {
    pub at: Moment,
    pub delivery: Uuid,
    pub state: String,
}

/// The rows once faults have stopped and work has come to rest.
#[derive(Clone, Debug, Default)]
pub struct Final {
    /// id → title, which is the key of the post.
    pub notifications: BTreeMap<Uuid, String>,
    pub deliveries: Vec<Delivery>,
    pub attempts: Vec<Attempt>,
    pub feed: Vec<FeedRow>,
    pub users: Vec<UserState>,
    /// Targets of audited replays, once each time.
    pub replays: Vec<String>,
    /// The database's clock when the rows were read, in ms.
    pub now_ms: i64,
}

impl Final {
    pub async fn read(db: &Db) -> Self {
        Self {
            notifications: db.titles().await,
            deliveries: db.deliveries().await,
            attempts: db.attempts().await,
            feed: db.feed().await,
            users: db.users().await,
            replays: db.replays().await,
            now_ms: db.count("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)").await,
        }
    }
}

/// What the host was configured with, where an invariant needs it.
#[derive(Clone, Debug)]
pub struct Terms {
    pub schedule_ms: Vec<i64>,
    pub jitter: f64,
    /// Sweep, relay and machine: how much later than the schedule an attempt may start.
    pub slack_ms: i64,
    pub sweep_ms: i64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { schedule_ms: vec![10_000], jitter: 0.2, slack_ms: 20_000, sweep_ms: 1_000 }
    }
}

#[derive(Clone, Debug, Default)]
pub struct History {
    next: Moment,
    pub terms: Terms,
    pub posts: Vec<Post>,
    pub arrivals: Vec<Arrival>,
    /// Devices that were told to fetch whatever they had missed.
    pub complete_devices: Vec<(String, String)>,
    pub counts: Vec<CountsShown>,
    pub marks: Vec<Marked>,
    pub mails: Vec<Mail>,
    pub states: Vec<StateSeen>,
    pub end: Final,
}

impl History {
    pub fn moment(&mut self) -> Moment {
        self.next += 1;
        self.next
    }
}
