//! What the console shows and changes of people, and of the keys of applications, beyond what the API needs.

use super::{Actor, ApiKey, KeyUseBy, StoreResult, Suppression};
use crate::{
    AppId, ChannelName, KeyId, Timestamp, UserId, UserKey,
    user::{Contact, User},
};
use async_trait::async_trait;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub app: AppId,
    /// The beginning of an id.
    pub prefix: Option<String>,
    /// The whole address, whatever its case.
    pub email: Option<String>,
    /// Keyset cursor: ids above this, in order.
    pub after: Option<UserId>,
    pub limit: u32,
}

/// How many people there are, and why some of them get less than is sent. Counts stop at [`FIGURES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeopleFigures {
    pub known: u64,
    /// Connected within the last day, the last thirty days.
    pub active_day: u64,
    pub active_month: u64,
    /// Who chose not to get a type by a channel, most first.
    pub opted_out: Vec<OptedOut>,
    /// Addresses that are not sent to, by channel and reason, most first.
    pub suppressed: Vec<SuppressedBy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCalls {
    pub key: KeyId,
    pub calls: u64,
    /// Answered with 4xx.
    pub refused: u64,
    /// Answered with 401 or 403, or refused at the door.
    pub denied: u64,
    /// The most of those within one hour.
    pub denied_peak: u64,
    /// Different ones that it came from, as far as they are told apart.
    pub addresses: u64,
}

/// What used a key, over the hours that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUsed {
    pub key: KeyId,
    pub by: KeyUseBy,
}

/// What a person chose, when, and who wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    pub at: Timestamp,
    pub channel: ChannelName,
    /// None: everything.
    pub notification_type: Option<String>,
    /// Yes again, after a no.
    pub agreed: bool,
    pub by: ConsentBy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentBy {
    /// They themselves, by the link in a mail.
    User,
    /// Somebody for them, as the audit log names it.
    Actor(String),
    /// It was said before this was kept.
    Unknown,
}

/// Lines of what is held back, newest first.
#[derive(Clone, Debug, Default)]
pub struct HeldFilter {
    pub app: AppId,
    /// What people said no to; else addresses that nothing is sent to.
    pub chosen: bool,
    /// Only of this channel, and this type or this reason.
    pub of: Option<(ChannelName, String)>,
    /// Keyset cursor: the id of the last line that was read.
    pub before: Option<String>,
    pub limit: u32,
}

/// Who was here, latest first.
#[derive(Clone, Debug)]
pub struct SeenFilter {
    pub app: AppId,
    /// Within this time.
    pub within: Duration,
    /// Keyset cursor: the last line that was read.
    pub before: Option<(Timestamp, UserId)>,
    pub limit: u32,
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub user_id: UserId,
    /// When they last connected, to the hour.
    pub at: Timestamp,
    /// Their contact points, if they are registered.
    pub user: Option<User>,
}

/// As far as figures of people count.
pub const FIGURES_MAX: u64 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptedOut {
    pub channel: ChannelName,
    pub notification_type: String,
    pub people: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressedBy {
    pub channel: ChannelName,
    pub reason: String,
    pub addresses: u64,
}

#[async_trait]
pub trait PeopleStore: Send + Sync + 'static {
    /// In the order of their ids.
    async fn users(&self, filter: &UserFilter) -> StoreResult<Vec<User>>;
    /// `limit` rows of each list.
    async fn people_figures(&self, app: &AppId, limit: u32) -> StoreResult<PeopleFigures>;
    /// Lines of what is held back. With an address, somebody whose e-mail address that is.
    async fn held_lines(&self, filter: &HeldFilter) -> StoreResult<Vec<(Suppression, Option<UserId>)>>;
    /// Who connected lately.
    async fn seen_lately(&self, filter: &SeenFilter) -> StoreResult<Vec<Seen>>;
    /// What this person said no and yes to, newest first.
    async fn consents(&self, key: &UserKey, limit: u32) -> StoreResult<Vec<Consent>>;
    /// Registers somebody. Audited, without the addresses themselves. `None`: they are registered already.
    async fn add_user(&self, key: &UserKey, contact: Contact, actor: &Actor) -> StoreResult<Option<User>>;
    /// When this person last connected, to the hour; kept by whoever holds connections.
    async fn last_seen(&self, key: &UserKey) -> StoreResult<Option<Timestamp>>;
    /// Unsubscribes this person from a type by a channel, as their own link in a mail does. Audited. False: they were.
    async fn opt_out(
        &self,
        key: &UserKey,
        channel: &ChannelName,
        notification_type: &str,
        actor: &Actor,
    ) -> StoreResult<bool>;
    /// Replaces the contact points of somebody who exists. Audited, without the addresses themselves.
    async fn edit_user(&self, key: &UserKey, contact: Contact, actor: &Actor) -> StoreResult<Option<User>>;
    /// Why this person gets less than is sent: unsubscriptions, and which of these addresses are suppressed.
    async fn held_back(
        &self,
        key: &UserKey,
        addresses: &[(ChannelName, String)],
        limit: u32,
    ) -> StoreResult<Vec<Suppression>>;

    /// A second key with the name and scopes of the first, which ends after `overlap` unless it ends sooner. `None`: the
    /// first is not there or has ended. Audited.
    async fn rotate_key(
        &self,
        app: &AppId,
        id: KeyId,
        fresh: ApiKey,
        overlap: Duration,
        actor: &Actor,
    ) -> StoreResult<Option<ApiKey>>;
    /// From where a key may be used; empty: from anywhere. Audited. From where it could be before; `None`: it is not there
    /// or revoked.
    async fn restrict_key(
        &self,
        app: &AppId,
        id: KeyId,
        networks: &[String],
        actor: &Actor,
    ) -> StoreResult<Option<Vec<String>>>;
    /// What each key of the app did since then, by the hour that it fell in.
    async fn key_calls(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<KeyCalls>>;
    /// What used this key, or each, since then; most calls first, `limit` rows.
    async fn key_uses(
        &self,
        app: &AppId,
        key: Option<KeyId>,
        since: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<KeyUsed>>;
}
