//! Accounts and sessions of the console, and what its plots keep.

use super::{Actor, StoreResult};
use crate::{NodeId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// What an admin may do, least first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at everything but the content of messages.
    Support,
    /// Looks at everything.
    Viewer,
    /// Also retries, pauses, disconnects, tests.
    Operator,
    /// Also keys, admins, erasing.
    Owner,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Support, Self::Viewer, Self::Operator, Self::Owner];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Support => "support",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
    /// Retry, pause, disconnect, test.
    pub fn may_act(self) -> bool {
        self >= Self::Operator
    }
    /// Bodies of messages.
    pub fn may_read_content(self) -> bool {
        self >= Self::Viewer
    }
    /// Keys, admins, erasing.
    pub fn may_manage(self) -> bool {
        self == Self::Owner
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub id: Uuid,
    pub name: String,
    pub role: Role,
    pub has_password: bool,
    pub created_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
    pub signed_in_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct AdminSession {
    pub admin: Admin,
    pub created_at: Timestamp,
    pub seen_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What a change of an account came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminChange {
    Done,
    NotFound,
    /// The last owner who can sign in must stay one.
    LastOwner,
}

/// An event that a plot is marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRow {
    pub at: Timestamp,
    pub subject: String,
    pub what: String,
}

/// Hashes are SHA-256; what they are of is never stored.
#[async_trait]
pub trait ConsoleStore: Send + Sync + 'static {
    /// A one-time link for this name, valid for `ttl`; the account is made when there is none. Older links of the account end.
    /// Returns the account as it is now: an existing one keeps its role. Audited.
    async fn put_admin_link(
        &self,
        name: &str,
        role: Role,
        hash: [u8; 32],
        ttl: Duration,
        actor: &Actor,
    ) -> StoreResult<Admin>;
    /// Single use: gone with this call. `None`: unknown, used, too old, or the account is disabled.
    async fn take_admin_link(&self, hash: [u8; 32]) -> StoreResult<Option<Admin>>;
    /// With its password's PHC text, if it has one.
    async fn find_admin(&self, name: &str) -> StoreResult<Option<(Admin, Option<String>)>>;
    async fn admins(&self) -> StoreResult<Vec<Admin>>;
    /// Ends all sessions of the account but `keep`. Audited.
    async fn set_admin_password(
        &self,
        id: Uuid,
        phc: &str,
        keep: Option<[u8; 32]>,
        actor: &Actor,
    ) -> StoreResult<AdminChange>;
    /// Ends the account's sessions and links when its role changes or it is disabled. Audited.
    async fn change_admin(&self, id: Uuid, role: Role, disabled: bool, actor: &Actor) -> StoreResult<AdminChange>;

    /// Audited as a sign-in.
    async fn open_admin_session(
        &self,
        hash: [u8; 32],
        admin: Uuid,
        absolute: Duration,
        user_agent: Option<&str>,
        actor: &Actor,
    ) -> StoreResult<()>;
    /// A session that is neither too old nor idle for longer than `idle`, of an account that is not disabled.
    async fn admin_session(&self, hash: [u8; 32], idle: Duration) -> StoreResult<Option<AdminSession>>;
    /// It was used now.
    async fn touch_admin_session(&self, hash: [u8; 32]) -> StoreResult<()>;
    /// Audited as a sign-out.
    async fn end_admin_session(&self, hash: [u8; 32], actor: &Actor) -> StoreResult<()>;

    /// What this node counted in the minute that begins at `at`; a second call replaces it.
    async fn put_minute(&self, at: Timestamp, node: NodeId, data: &str) -> StoreResult<()>;
    /// All nodes' minutes from `since` on, oldest first.
    async fn minutes(&self, since: Timestamp) -> StoreResult<Vec<(Timestamp, NodeId, String)>>;
    async fn put_mark(&self, mark: &MarkRow) -> StoreResult<()>;
    /// Oldest first, at most 200.
    async fn marks(&self, since: Timestamp) -> StoreResult<Vec<MarkRow>>;
    /// Deletes minutes and marks older than `keep`, sessions and links that have ended.
    async fn trim_console(&self, keep: Duration) -> StoreResult<()>;
}
