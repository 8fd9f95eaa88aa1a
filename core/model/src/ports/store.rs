//! The store's ports. Every statement behind them is executed by one exam on every engine.
//!
//! Whatever a commit changed is told once to the store's [`EffectSink`], before the callers that shared the commit get
//! their answers; so a caller that went away loses nobody's push.
//!
//! Times handed in (`Timestamp`) are payload; whether something is due, lapsed or expired is judged by the database's
//! own clock inside the statement.

use super::{AccessStore, AuditStore, ClusterStore, ConsoleStore, PeopleStore, PluginStore, TriageStore};
use crate::{
    AppId, ChannelName, DeliveryId, DeliveryState, NodeId, NotificationId, Timestamp, UserId, UserKey,
    api::{Acceptance, ShownState},
    effects::Effects,
    feed::{FeedFilter, FeedPage, FeedState, MarkAs, MarkOutcome, MarkSelection, Replay, SeenByClient},
    plan::{AcceptItem, Idempotency, RecipientPlan},
    user::{Contact, Resolved, User},
    work::{AudienceSlice, ClaimOutcome, Finish, Finished, RelayRow},
};
use async_trait::async_trait;
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// Everything a host needs of its database.
pub trait Store:
    AcceptStore
    + WorkStore
    + FeedStore
    + UserStore
    + AccessStore
    + OperatorStore
    + AuditStore
    + PeopleStore
    + ClusterStore
    + ConsoleStore
    + PluginStore
    + TriageStore
    + SystemStore
{
}
impl<T> Store for T where
    T: AcceptStore
        + WorkStore
        + FeedStore
        + UserStore
        + AccessStore
        + OperatorStore
        + AuditStore
        + PeopleStore
        + ClusterStore
        + ConsoleStore
        + PluginStore
        + TriageStore
        + SystemStore
{
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be used now: 503 with Retry-After, nothing was written that was not acknowledged.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// COMMIT was sent and its outcome is not known.
    #[error("the outcome of a commit is not known: {0}")]
    CommitUnknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row holds what it must not: names table, column and row.
    #[error("{table}.{column} of {row} is not valid: {detail}")]
    Row { table: &'static str, column: &'static str, row: String, detail: String },
    /// A statement failed for another reason: a bug or a full disk.
    #[error("{what}: {source}")]
    Statement {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too much is waiting for the writer: 429/503 before anything is written.
    #[error("the store is overloaded")]
    Overloaded,
}

pub type StoreResult<T> = Result<T, StoreError>;

/// Hears of every commit, in commit order. `status` is the only one outside tests.
#[async_trait]
pub trait EffectSink: Send + Sync + 'static {
    /// Waits only when a bounded hand-over is full; the next commit waits with it.
    async fn committed(&self, effects: Effects);
}

// ---------------------------------------------------------------------------------------------- accepting

#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("this idempotency key was used with another body")]
    KeyMismatch,
    /// The first request with this key is still running after 2 s: 409.
    #[error("a request with this idempotency key is still running")]
    KeyBusy,
    /// A recipient was erased between resolving and storing: resolve again.
    #[error("a recipient changed while the request was planned")]
    Stale,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug)]
pub struct Accepted {
    pub body: Acceptance,
    /// The stored answer of an earlier request with the same key; no effects then.
    pub replayed: bool,
}

#[async_trait]
pub trait AcceptStore: Send + Sync + 'static {
    /// Contact points of these users, in the order asked; unknown users resolve to the default.
    async fn resolve(&self, app: &AppId, users: &[UserId]) -> StoreResult<Vec<Resolved>>;

    /// Stores one notification with its deliveries; what gathers while a commit runs shares the next one.
    ///
    /// In the same transaction: idempotency, collapse, in-app deliveries that are due and not paused (feed row, `seq`,
    /// counts, state `sent`), suppressions (hit → inserted `suppressed`), the rest `pending` with `relay_at`.
    async fn accept(&self, item: AcceptItem) -> Result<Accepted, AcceptError>;

    /// The kept answer of an earlier request with this key and this very body.
    async fn answered(&self, app: &AppId, request: &Idempotency) -> StoreResult<Option<Acceptance>>;

    /// The next slice (≤ `limit` users) of an unexpanded audience whose lease is free; takes the lease.
    async fn claim_audience(&self, node: NodeId, limit: u32, lease: Duration) -> StoreResult<Option<AudienceSlice>>;

    /// Inserts the slice's deliveries and moves the cursor past `recipients.len()` users, or past the rest when the
    /// notification was cancelled meanwhile. False: another node has moved the cursor.
    async fn expand(
        &self,
        node: NodeId,
        notification: NotificationId,
        cursor: u32,
        recipients: Vec<RecipientPlan>,
    ) -> Result<bool, AcceptError>;
}

// ------------------------------------------------------------------------------------------------ working

#[async_trait]
pub trait WorkStore: Send + Sync + 'static {
    /// Moves `relay_at` of up to `limit` unclaimed due rows on (10 s, 1 min, then 2 min), in (priority, due) order, and
    /// returns them for publishing. Paused channels and those in `skip` are left out.
    async fn relay_due(&self, limit: u32, skip: &[ChannelName]) -> StoreResult<Vec<RelayRow>>;

    /// Publishing failed: `relay_at = now` for those still unclaimed.
    async fn relay_failed(&self, ids: &[DeliveryId]) -> StoreResult<()>;

    /// The broker was away and may have lost messages: unclaimed due rows of one channel that would wait longer than the
    /// relay's first step are due for it now, at most `limit` of them. Returns how many.
    async fn relay_again(&self, channel: &ChannelName, limit: u32) -> StoreResult<u64>;

    /// Takes those that are ours to take: state, due, not expired, not cancelled, channel not paused. Suppressions and
    /// unsubscriptions are checked in the same transaction. Outcomes in the order of `ids`. A claim shares a commit.
    async fn claim(&self, ids: &[DeliveryId], node: NodeId, lease: Duration) -> StoreResult<Vec<ClaimOutcome>>;

    /// Deferred in-app: finishes due, unpaused in-app deliveries exactly as `accept` would have; others are ignored.
    /// Returns how many.
    async fn complete_in_app(&self, ids: &[DeliveryId]) -> StoreResult<u64>;

    /// Extends the leases that are still ours; returns those.
    async fn renew(&self, node: NodeId, held: &[(DeliveryId, u32)], lease: Duration) -> StoreResult<Vec<DeliveryId>>;

    /// Writes the attempt and the row's next state, conditional on the attempt number. A finish shares a commit.
    async fn finish(&self, finish: Finish) -> StoreResult<Finished>;

    /// Turns lapsed leases into lost attempts and `retrying` (or `dead` `poison` after the lone try was lost too; or the
    /// wished stop). A lost attempt of an external channel is `uncertain`. Returns how many.
    async fn rescue(&self, limit: u32) -> StoreResult<u64>;

    /// Gives own leases back at a drain: `retrying`, due now, no loss counted. `None` ids: all of this node's.
    async fn give_back(&self, node: NodeId, ids: Option<&[DeliveryId]>) -> StoreResult<u64>;

    /// SQLite's start: no other process exists, so every delivery and audience lease counts as lapsed, and what had been
    /// handed to the queue of the process before is due for the relay again. Returns how many leases.
    async fn lapse_all_leases(&self) -> StoreResult<u64>;

    /// Settles unclaimed rows whose time is over (`expires_at`, cancelled notification, `max_age`), and turns feed items
    /// past `expires_at` into tombstones, at most `limit` of each. Returns how many rows changed.
    async fn sweep(&self, limit: u32, max_age: Duration) -> StoreResult<u64>;
}

// --------------------------------------------------------------------------------------------------- feed

#[async_trait]
pub trait FeedStore: Send + Sync + 'static {
    /// Where the feed stands; a user never seen has head 0 and zero counts.
    async fn feed_state(&self, user: &UserKey) -> StoreResult<FeedState>;

    /// `head_seq` and counts of many users at once, in the order asked (heartbeat, catch-up).
    async fn feed_heads(&self, users: &[UserKey]) -> StoreResult<Vec<FeedState>>;

    /// Newest first, below `before`.
    async fn feed_page(
        &self,
        user: &UserKey,
        before: Option<i64>,
        limit: u32,
        filter: FeedFilter,
    ) -> StoreResult<FeedPage>;

    /// Items with `after < seq ≤ up_to`, oldest first, at most `limit`; archived and expired ones skipped but covered.
    async fn feed_replay(&self, user: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay>;

    /// How many items lie in `after < seq ≤ up_to` that a replay would send, counted no further than `limit`.
    async fn feed_missed(&self, user: &UserKey, after: i64, up_to: i64, limit: i64) -> StoreResult<i64>;

    /// Marks items. Shares a commit; harmless when repeated.
    async fn mark(&self, user: &UserKey, what: MarkSelection, mark: MarkAs) -> StoreResult<MarkOutcome>;

    /// `sent → delivered` for in-app deliveries in these ranges. Returns how many changed.
    async fn confirm_delivered(&self, seen: Vec<SeenByClient>) -> StoreResult<u64>;

    /// Compares counts with the rows for up to `limit` users after `after`; repairs drift. Returns (last user, repaired).
    async fn audit_counts(&self, after: Option<UserKey>, limit: u32) -> StoreResult<(Option<UserKey>, u64)>;
}

// -------------------------------------------------------------------------------------------------- users

/// What an erase did.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Erased {
    pub cancelled: u64,
    /// Attempts under way that can't be called back.
    pub in_flight: u64,
    pub feed_items: u64,
}

/// What a merge did.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Merged {
    /// Deliveries, waiting or settled, that are the remaining user's now.
    pub moved: u64,
    /// Waiting deliveries taken back, since the remaining user has the same notification by the same channel.
    pub cancelled: u64,
    /// Attempts of such deliveries under way that can't be called back.
    pub in_flight: u64,
    /// Items that came into the remaining user's feed.
    pub feed_items: u64,
    /// Large audiences, not yet expanded, that named the merged user.
    pub audiences: u64,
}

#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Creates or replaces the contact points.
    async fn put_user(&self, key: &UserKey, contact: Contact) -> StoreResult<User>;
    async fn get_user(&self, key: &UserKey) -> StoreResult<Option<User>>;
    /// Audited. False: unknown, or so already.
    async fn set_disabled(&self, key: &UserKey, disabled: bool, actor: &Actor) -> StoreResult<bool>;
    /// Of these, the disabled ones.
    async fn disabled_among(&self, users: &[UserKey]) -> StoreResult<Vec<UserKey>>;
    /// Erases as DESIGN §6 says; `None` when the user never existed.
    async fn erase_user(&self, key: &UserKey, actor: &Actor) -> StoreResult<Option<Erased>>;
    /// Everything of `from` becomes `into`'s, in one transaction; `from` is no longer known. Both are of one app. Audited.
    /// `None`: neither ever existed, or they are the same.
    async fn merge_users(&self, from: &UserKey, into: &UserKey, actor: &Actor) -> StoreResult<Option<Merged>>;

    /// Mail of this type to this user by this channel becomes `suppressed` (`unsubscribed`). Idempotent.
    async fn unsubscribe(&self, key: &UserKey, channel: &ChannelName, notification_type: &str) -> StoreResult<()>;
    /// What a delivery's unsubscribe link is about: its user, channel and type.
    async fn unsubscribe_target(&self, delivery: DeliveryId) -> StoreResult<Option<(UserKey, ChannelName, String)>>;
    async fn suppressions(&self, app: &AppId, after: Option<String>, limit: u32) -> StoreResult<Vec<Suppression>>;
    async fn add_suppression(
        &self,
        app: &AppId,
        channel: &ChannelName,
        address: &str,
        reason: &str,
        actor: &Actor,
    ) -> StoreResult<()>;
    /// Lifts it (audited); false when there was none.
    async fn lift_suppression(&self, app: &AppId, id: &str, actor: &Actor) -> StoreResult<bool>;
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Suppression {
    /// Opaque, stable; also the paging cursor.
    pub id: String,
    pub channel: ChannelName,
    /// Set for a suppressed address.
    pub address: Option<String>,
    /// Set for an unsubscription.
    pub user_id: Option<UserId>,
    pub notification_type: Option<String>,
    pub reason: String,
    #[serde(with = "crate::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
}

// ----------------------------------------------------------------------------------------------- operators

/// Who did it, for the audit log.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// `key:<id>`, `operator`, `admin:<name>`, `user:<id>`, `system`.
    pub who: String,
    pub address: Option<String>,
    pub request_id: String,
}

#[derive(Clone, Debug)]
pub struct AttemptRow {
    pub attempt: u32,
    pub started_at: Timestamp,
    pub duration_ms: i64,
    pub outcome: String,
    pub code: Option<String>,
    pub message: Option<String>,
    pub uncertain: bool,
    /// Of the channel's instances, the one that made it; none in attempts that ended before one was chosen.
    pub instance: Option<String>,
    /// The template that rendered it and the version of it: `email/default 1f8a02c4`; none where nothing is rendered.
    pub template: Option<String>,
    /// The plugin that made it and the version of it: `webhook 1.2.0`.
    pub code_version: Option<String>,
    /// Which node made it; unknown for those of before nodes were written down.
    pub node: Option<NodeId>,
}

#[derive(Clone, Debug)]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub notification_id: NotificationId,
    pub user_id: UserId,
    pub channel: ChannelName,
    pub recipient: Option<String>,
    pub state: DeliveryState,
    pub shown: ShownState,
    pub reason: Option<String>,
    pub attempt: u32,
    pub created_at: Timestamp,
    pub due_at: Timestamp,
    pub next_attempt_at: Option<Timestamp>,
    pub sent_at: Option<Timestamp>,
    pub settled_at: Option<Timestamp>,
    pub seen_at: Option<Timestamp>,
    pub read_at: Option<Timestamp>,
    pub archived_at: Option<Timestamp>,
    pub provider_id: Option<String>,
    /// What the last attempt that failed ended with: a code, else its outcome; empty without one.
    pub error: String,
    /// Domain of the address or host of the URL, known once an attempt failed.
    pub destination: String,
    /// A dead letter that somebody put out of sight.
    pub dismissed_at: Option<Timestamp>,
    /// Newest last; empty in lists.
    pub attempts: Vec<AttemptRow>,
}

#[derive(Clone, Debug)]
pub struct NotificationRow {
    pub notification: Arc<crate::Notification>,
    pub request: serde_json::Value,
    pub source: String,
    /// `key:…`, `admin:…`, `operator`, `amqp`; empty on what was accepted before this was kept.
    pub sent_by: String,
    pub idempotency_key: Option<String>,
    pub cancelled_at: Option<Timestamp>,
    /// (recipients, expanded) for a large audience.
    pub audience: Option<(u32, u32)>,
}

#[derive(Clone, Debug)]
pub struct NotificationDetail {
    pub row: NotificationRow,
    /// Deliveries by shown state.
    pub summary: Vec<(ShownState, u64)>,
    pub deliveries: Vec<DeliveryRow>,
    /// Pass as `after` for the next 100.
    pub next: Option<DeliveryId>,
}

/// How a notification came out, all its deliveries together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whole {
    /// Something was given up on, and nothing was delivered.
    Failed,
    /// Some was delivered and the rest never will be.
    Partly,
}

#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    pub app: AppId,
    pub user: Option<UserId>,
    pub notification_type: Option<String>,
    pub channel: Option<ChannelName>,
    /// As shown: `pending` is what is due, `scheduled` what is not yet.
    pub state: Option<ShownState>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub idempotency_key: Option<String>,
    /// Sent or delivered, in place of `state`.
    pub handed_over: bool,
    /// How it came out as a whole, in place of `state`; among the newest thousand of each state that is not delivered.
    pub whole: Option<Whole>,
    /// Only with a delivery that failed with this code, outcome or reason, among the newest few thousand that failed.
    pub error: Option<String>,
    /// Keyset cursor: ids below this, newest first.
    pub before: Option<NotificationId>,
    /// The other direction: the ones right above this id; the answer is newest first all the same.
    pub after: Option<NotificationId>,
    pub limit: u32,
}

#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct CancelOutcome {
    pub cancelled: u64,
    pub in_flight: u64,
    pub already_sent: u64,
}

#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    pub app: AppId,
    pub channel: Option<ChannelName>,
    pub reason: Option<String>,
    pub user: Option<UserId>,
    /// Keyset cursor: ids below this, newest first.
    pub before: Option<DeliveryId>,
    pub limit: u32,
}

#[derive(Clone, Debug)]
pub enum ReplayOutcome {
    Replayed,
    /// Cancelled, expired or erased since, not dead (any more), or there is nobody to send to.
    NotReplayable(&'static str),
    NotFound,
}

/// Unsettled deliveries of one channel. `depth` of a queue is ready + retrying + in_flight + held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct QueueStats {
    #[schema(value_type = String)]
    pub channel: String,
    /// Due and waiting.
    pub ready: u64,
    /// Due later.
    pub scheduled: u64,
    pub in_flight: u64,
    pub retrying: u64,
    /// Waiting because the channel is paused.
    pub held: u64,
    pub dead: u64,
    /// Age of the oldest due delivery that has not been tried, in ms.
    pub oldest_age_ms: Option<i64>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Pause {
    pub channel: ChannelName,
    #[serde(with = "crate::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    #[serde(with = "crate::clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    pub actor: String,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PoisonRow {
    pub id: i64,
    pub source: String,
    pub reason: String,
    pub headers: Option<String>,
    /// The first 4 KiB, lossily decoded.
    pub raw: String,
    #[serde(with = "crate::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct AuditRow {
    pub id: i64,
    #[serde(with = "crate::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub target: String,
    pub detail: Option<serde_json::Value>,
    pub address: Option<String>,
    pub request_id: String,
}

#[async_trait]
pub trait OperatorStore: Send + Sync + 'static {
    /// `after` pages through deliveries, 100 at a time.
    async fn notification(
        &self,
        app: &AppId,
        id: NotificationId,
        after: Option<DeliveryId>,
    ) -> StoreResult<Option<NotificationDetail>>;
    /// (row, deliveries by shown state), newest first.
    async fn notifications(
        &self,
        filter: &NotificationFilter,
    ) -> StoreResult<Vec<(NotificationRow, Vec<(ShownState, u64)>)>>;
    async fn cancel(&self, app: &AppId, id: NotificationId, actor: &Actor) -> StoreResult<Option<CancelOutcome>>;

    async fn dead_letters(&self, filter: &DeadFilter) -> StoreResult<Vec<DeliveryRow>>;
    /// Takes `dead` only; writes the audit entry in the same transaction.
    async fn replay(&self, app: &AppId, id: DeliveryId, actor: &Actor) -> StoreResult<ReplayOutcome>;

    /// Per channel that has unsettled or dead rows.
    async fn queue_stats(&self) -> StoreResult<Vec<QueueStats>>;
    /// Pauses in force.
    async fn pauses(&self) -> StoreResult<Vec<Pause>>;
    /// False: it was paused already (reason and until are updated).
    async fn pause(
        &self,
        channel: &ChannelName,
        until: Option<Timestamp>,
        reason: Option<&str>,
        actor: &Actor,
    ) -> StoreResult<bool>;
    /// Ends the pause and sets `relay_at = now, relay_n = 0` on its unclaimed due rows. False: it was not paused.
    async fn resume(&self, channel: &ChannelName, actor: &Actor) -> StoreResult<bool>;
    /// Ends pauses whose `until` has passed; returns their channels.
    async fn end_lapsed_pauses(&self) -> StoreResult<Vec<ChannelName>>;

    /// Kept once: the same bytes with the same headers a second time change nothing.
    async fn add_poison(&self, source: &str, raw: &[u8], reason: &str, headers: Option<&str>) -> StoreResult<()>;
    async fn poison(&self, before: Option<i64>, limit: u32) -> StoreResult<Vec<PoisonRow>>;
    /// Audits an act that changes no row of its own, such as the closing of a socket.
    async fn note(
        &self,
        actor: &Actor,
        action: &'static str,
        target: &str,
        detail: Option<serde_json::Value>,
    ) -> StoreResult<()>;
    /// Newest first.
    async fn audit(&self, before: Option<i64>, limit: u32) -> StoreResult<Vec<AuditRow>>;
}

// -------------------------------------------------------------------------------------------------- system

/// How long settled things are kept; zero keeps for ever.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Notifications whose deliveries are all settled, with deliveries and attempts.
    pub notifications: Duration,
    /// Feed items: from the low end, raising `min_seq`.
    pub feed: Duration,
    pub dead: Duration,
    pub audit: Duration,
    pub poison: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct StoreFacts {
    pub size_bytes: Option<u64>,
    pub connections_in_use: u32,
    pub connections_idle: u32,
    /// Writes waiting for the next commit.
    pub writes_waiting: u32,
}

#[async_trait]
pub trait SystemStore: Send + Sync + 'static {
    /// A round trip that touches the database, bounded to 2 s.
    async fn ping(&self) -> StoreResult<()>;
    /// The database's clock.
    async fn now(&self) -> StoreResult<Timestamp>;
    /// Random text made with the database; part of every feed epoch.
    fn epoch(&self) -> &str;
    /// A secret that all nodes on this database share: `fresh` is kept unless there is one of this name already.
    async fn shared_secret(&self, name: &'static str, fresh: &str) -> StoreResult<String>;
    fn facts(&self) -> StoreFacts;
    /// Deletes what retention allows, at most `limit` rows of each kind. True: there is more.
    async fn retain(&self, retention: &Retention, limit: u32) -> StoreResult<bool>;
    /// Finishes what runs, checkpoints, closes.
    async fn close(&self);
}
