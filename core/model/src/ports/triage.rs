//! What the console asks of lists that may be a million long, and what it does to many at once.
//!
//! Everything here is bounded: a count stops at [`MANY`], a list at its limit, a bulk act at its batch.

use super::{Actor, CancelOutcome, DeliveryRow, NotificationFilter, PoisonRow, ReplayOutcome, StoreResult, Whole};
use crate::{AppId, ChannelName, DeliveryId, NodeId, NotificationId, Timestamp, UserId, api::ShownState};
use async_trait::async_trait;
use std::collections::HashMap;
use uuid::Uuid;

/// Counts stop here: "1,000+" tells as much as the truth, at once.
pub const MANY: u64 = 1_000;

/// How many there are, as far as anybody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub n: u64,
    /// There may be more.
    pub more: bool,
}

/// Deliveries of one notification by one channel in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub channel: ChannelName,
    pub shown: ShownState,
    pub count: u64,
}

/// Which dead letters; what is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadWhich {
    pub app: AppId,
    pub channel: Option<ChannelName>,
    pub reason: Option<String>,
    /// What the last attempt ended with: a code, else its outcome.
    pub error: Option<String>,
    /// Domain of the address or host of the URL; empty when there is none.
    pub destination: Option<String>,
    pub user: Option<UserId>,
    /// Given up on from this moment on, and before that one.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Where one is in a list of dead letters: behind the one with this id that was given up on then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadPlace {
    pub at: Timestamp,
    pub id: DeliveryId,
}

impl DeadPlace {
    pub fn of(row: &DeliveryRow) -> Self {
        Self { at: row.settled_at.unwrap_or(row.created_at), id: row.id }
    }
}

/// Dead letters with one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadGroup {
    pub channel: ChannelName,
    pub reason: String,
    pub error: String,
    pub destination: String,
    pub count: u64,
    /// When the first and the last of them were given up on.
    pub first: Timestamp,
    pub last: Timestamp,
    /// The newest of them, and what the far side said to it.
    pub sample: DeliveryId,
    pub said: Option<String>,
}

/// The channel that dead letters are moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTo {
    pub channel: ChannelName,
    /// It writes to the app's own feed and needs no address.
    pub in_app: bool,
}

/// What became of one that was to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This delivery is in its place.
    To(DeliveryId),
    /// Why it stays: what a replay would be refused for, `already_by_that_channel`, `put_aside`.
    Refused(&'static str),
    NotFound,
}

/// A bulk act under way, or the last ones: every node shows it, the one that began it works on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    pub id: Uuid,
    pub node: NodeId,
    /// `replay`, `dismiss` or `move` of dead letters; `retry` or `cancel` of notifications.
    pub what: String,
    /// `email, 550, northwind.example`.
    pub subject: String,
    pub actor: String,
    /// How many matched at the start.
    pub total: u64,
    pub done: u64,
    /// Could not be done, each for a reason of its own.
    pub skipped: u64,
    pub started_at: Timestamp,
    /// The worker's last sign of life.
    pub beat_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Who asked it to end before its end.
    pub stopped_by: Option<String>,
}

#[async_trait]
pub trait TriageStore: Send + Sync + 'static {
    /// By channel and state, looking at no more than [`MANY`] deliveries of each notification.
    async fn lanes(&self, app: &AppId, ids: &[NotificationId]) -> StoreResult<HashMap<NotificationId, Vec<Lane>>>;
    /// Notifications accepted since then that have a delivery in this state. Counts stop at [`MANY`]; those of `sent` and
    /// `delivered`, which most are in, are of the newest few thousand deliveries.
    async fn state_counts(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<(ShownState, u64)>>;

    /// How many came out failed and how many partly, accepted since then, among the newest few hundred of each
    /// state that is not delivered.
    async fn whole_counts(&self, app: &AppId, since: Timestamp) -> StoreResult<HashMap<Whole, Counted>>;
    /// Like [`state_counts`](Self::state_counts) among these notifications, of those of their deliveries that the filter's
    /// user, channel and error tell.
    async fn states_among(
        &self,
        filter: &NotificationFilter,
        ids: &[NotificationId],
    ) -> StoreResult<Vec<(ShownState, u64)>>;

    /// Which notification a delivery belongs to.
    async fn notification_of(&self, app: &AppId, delivery: DeliveryId) -> StoreResult<Option<NotificationId>>;

    /// Largest first.
    async fn dead_groups(&self, which: &DeadWhich, limit: u32) -> StoreResult<Vec<DeadGroup>>;
    /// Who was given up on last stands first; each with its last attempt.
    async fn dead_items(
        &self,
        which: &DeadWhich,
        before: Option<DeadPlace>,
        limit: u32,
    ) -> StoreResult<Vec<DeliveryRow>>;
    /// Counted as far as `limit`.
    async fn dead_count(&self, which: &DeadWhich, limit: u64) -> StoreResult<u64>;
    /// Takes `dead` only, each judged on its own; one transaction. With an actor it writes one audit entry with the counts,
    /// on `target`; without one, somebody has written it.
    async fn replay_many(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<ReplayOutcome>>;
    /// Cancels each, as [`cancel`](super::OperatorStore::cancel) does; one transaction. Audited like
    /// [`replay_many`](Self::replay_many).
    async fn cancel_many(
        &self,
        app: &AppId,
        ids: &[NotificationId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<CancelOutcome>;
    /// The dead deliveries of these that nobody put out of sight, in the order of their ids, after this one.
    async fn dead_of(
        &self,
        app: &AppId,
        ids: &[NotificationId],
        after: Option<DeliveryId>,
        limit: u32,
    ) -> StoreResult<Vec<DeliveryId>>;
    /// The next try of what failed now, whatever the schedule says; it counts as that try. Audited. False: it does not wait for one.
    async fn hasten(&self, app: &AppId, id: DeliveryId, actor: &Actor) -> StoreResult<bool>;
    /// Puts dead letters out of sight: they stay dead, in their notification and until retention. Returns how many were
    /// in sight. Audited like [`replay_many`](Self::replay_many).
    async fn dismiss(&self, app: &AppId, ids: &[DeliveryId], target: &str, actor: Option<&Actor>) -> StoreResult<u64>;
    /// Sends what is dead by another channel: a new delivery of the same notification to the same person, and the dead one
    /// put out of sight; one transaction. In the order of `ids`. Audited like [`replay_many`](Self::replay_many).
    async fn move_dead(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        to: &MoveTo,
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<Moved>>;
    /// Takes a dismissal back. Audited.
    async fn recall(&self, app: &AppId, ids: &[DeliveryId], actor: &Actor) -> StoreResult<u64>;

    /// Writes the one audit entry of the whole act.
    async fn begin_task(&self, task: &TaskRow, actor: &Actor, detail: serde_json::Value) -> StoreResult<()>;
    /// Adds to the counts and gives a sign of life. False: somebody asked it to end.
    async fn beat_task(&self, id: Uuid, done: u64, skipped: u64) -> StoreResult<bool>;
    async fn end_task(&self, id: Uuid) -> StoreResult<()>;
    /// Audited. False: it has ended.
    async fn stop_task(&self, id: Uuid, actor: &Actor) -> StoreResult<bool>;
    /// Newest first: those under way, and those that ended within the hour.
    async fn tasks(&self) -> StoreResult<Vec<TaskRow>>;

    /// Messages that nobody could read, counted as far as `limit`.
    async fn poison_count(&self, limit: u32) -> StoreResult<u64>;
    /// With the whole message, byte for byte.
    async fn poison_message(&self, id: i64) -> StoreResult<Option<(PoisonRow, Vec<u8>)>>;
    /// Audited. False: it is gone.
    async fn discard_poison(&self, id: i64, action: &'static str, actor: &Actor) -> StoreResult<bool>;
}
