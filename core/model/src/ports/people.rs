//! What the console shows and changes of people, and of the keys of applications, beyond what the API needs.

use super::{Actor, ApiKey, StoreResult, Suppression};
use crate::{
    AppId, ChannelName, KeyId, UserId, UserKey,
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

#[async_trait]
pub trait PeopleStore: Send + Sync + 'static {
    /// In the order of their ids.
    async fn users(&self, filter: &UserFilter) -> StoreResult<Vec<User>>;
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
}
