//! What happened, as seen from outside: calls and their answers, frames, mails, outputs, rows at the end.
//!
//! A history can be written down line by line and judged again later. Absent on purpose: judging (see `checker`). An
//! answer that never came is kept apart from a refusal: it may have been accepted.

use crate::db::{Attempt, Db, Delivery, FeedRow, UserState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

mod lines;

/// Position in the recorded order; every event takes the next one.
pub type Moment = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// 202.
    Ok,
    /// No answer, or 503: unknown.
    Info,
    /// Refused: must have left nothing.
    Fail,
}

/// One attempt to post; repeats with the same key are separate posts.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Not shown before its time, and so in no order with what was accepted around it.
    #[serde(default)]
    pub scheduled: bool,
    #[serde(default)]
    pub took_ms: u64,
}

/// A notification that reached a device, by a frame (with its connection) or a page of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A device's connection, or its try at one, came to an end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ending {
    pub at: Moment,
    pub device: String,
    pub user: String,
    /// A close code, an HTTP status, 0 when nobody answered.
    pub code: u16,
}

/// Counts that a device was shown when everything had come to rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountsShown {
    pub device: String,
    pub user: String,
    pub unread: i64,
}

/// An acknowledged mark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Marked {
    pub at: Moment,
    pub user: String,
    pub id: Uuid,
    /// `read` or `unread`.
    pub mark: String,
}

/// A mail the far side accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mail {
    pub at: Moment,
    pub message_id: String,
}

/// A delivery's state at some moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateSeen {
    pub at: Moment,
    pub delivery: Uuid,
    pub state: String,
}

/// An id and the app it belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Owned {
    pub id: Uuid,
    pub app: String,
}

/// Ids that somebody of an app was shown: in a frame, an answer, a mail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sighting {
    pub app: String,
    pub place: String,
    pub ids: Vec<Uuid>,
}

/// What must never be printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Secret {
    pub name: String,
    pub text: String,
}

/// Everything that one place printed: a host's output, its metrics, a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    pub place: String,
    pub text: String,
}

/// Private memory of a node before and after that many sockets were opened and left idle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdleSockets {
    pub node: String,
    pub sockets: u64,
    pub before: u64,
    pub after: u64,
}

/// How a node came back once faults had ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovery {
    pub node: String,
    /// After what.
    pub fault: String,
    /// From the end of the fault until readiness said all was well again; `None`: never.
    pub healthy_after_ms: Option<u64>,
    /// Somebody had to start it anew.
    pub restarted: bool,
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
            now_ms: db.now_ms().await,
        }
    }
}

/// What the host was configured with, where an invariant needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    pub endings: Vec<Ending>,
    /// Devices that were told to fetch whatever they had missed.
    pub complete_devices: Vec<(String, String)>,
    pub counts: Vec<CountsShown>,
    pub marks: Vec<Marked>,
    pub mails: Vec<Mail>,
    pub states: Vec<StateSeen>,
    pub owners: Vec<Owned>,
    pub sightings: Vec<Sighting>,
    pub secrets: Vec<Secret>,
    pub outputs: Vec<Output>,
    pub idle_sockets: Vec<IdleSockets>,
    pub recoveries: Vec<Recovery>,
    pub end: Final,
}

impl History {
    pub fn moment(&mut self) -> Moment {
        self.next += 1;
        self.next
    }

    pub fn secret(&mut self, name: &str, text: &str) {
        self.secrets.push(Secret { name: name.into(), text: text.into() });
    }

    pub fn output(&mut self, place: &str, text: impl Into<String>) {
        self.outputs.push(Output { place: place.into(), text: text.into() });
    }

    /// Somebody of `app` was shown this text; its ids are kept.
    pub fn sighting(&mut self, app: &str, place: &str, text: &str) {
        let ids = ids_in(text);
        self.sightings.push(Sighting { app: app.into(), place: place.into(), ids });
    }
}

/// Every UUID that stands in a text.
pub fn ids_in(text: &str) -> Vec<Uuid> {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
    text.split(|c| !is_part(c)).filter(|word| word.len() == 36).filter_map(|word| word.parse().ok()).collect()
}
