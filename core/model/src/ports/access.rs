//! API keys and socket tickets: what the door asks of the store. Of a secret only its hash is ever kept.

use super::{Actor, StoreResult};
use crate::{AppId, KeyId, Timestamp, UserKey};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Send,
    Read,
    Manage,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Send, Self::Read, Self::Manage];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Manage => "manage",
        }
    }
}

#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub app: AppId,
    pub name: String,
    /// SHA-256 of the secret half.
    pub secret_hash: [u8; 32],
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    /// The address that used it last, and for which route.
    pub last_used_from: Option<String>,
    pub last_used_for: Option<String>,
    /// From where it may be used, addresses or networks (CIDR); empty: from anywhere.
    pub networks: Vec<String>,
    /// Who made it, as the audit log names them; not known of old ones.
    pub created_by: Option<String>,
}

/// What was done with one key since the last time this was written.
#[derive(Clone, Debug)]
pub struct KeyUse {
    pub key: KeyId,
    pub at: Timestamp,
    pub address: Option<String>,
    /// `POST /api/v1/notifications`.
    pub route: String,
    /// 0: it was refused at the door alone; then `address` and `route` say nothing.
    pub calls: u64,
    /// Answered with 4xx.
    pub refused: u64,
    /// Answered with 401 or 403, or refused at the door: the key has ended, or the secret was another one.
    pub denied: u64,
    /// The calls, by what made them.
    pub by: Vec<KeyUseBy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUseBy {
    pub kind: UseKind,
    /// A route or an address; empty: all beyond the first few.
    pub name: String,
    pub calls: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    Address,
    Route,
}

impl UseKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Route => "route",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Ticket {
    pub user: UserKey,
    /// The Origin that asked for it, if one was sent; it must be the one that uses it.
    pub origin: Option<String>,
    /// When the token behind it ends: the socket ends with it.
    pub token_expires_at: Timestamp,
}

#[async_trait]
pub trait AccessStore: Send + Sync + 'static {
    async fn create_key(&self, key: ApiKey, actor: &Actor) -> StoreResult<()>;
    async fn find_key(&self, id: KeyId) -> StoreResult<Option<ApiKey>>;
    /// Whether there is such an app: `default`, or one that a key was made for.
    async fn app_exists(&self, app: &AppId) -> StoreResult<bool>;
    async fn list_keys(&self, app: &AppId) -> StoreResult<Vec<ApiKey>>;
    async fn revoke_key(&self, app: &AppId, id: KeyId, actor: &Actor) -> StoreResult<bool>;
    /// Once a minute, for all keys used since.
    async fn touch_keys(&self, used: &[KeyUse]) -> StoreResult<()>;

    /// `hash` is the SHA-256 of the ticket.
    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket, ttl: Duration) -> StoreResult<()>;
    /// Single use: gone with this call, whether it was still valid or not.
    async fn take_ticket(&self, hash: [u8; 32]) -> StoreResult<Option<Ticket>>;
}
