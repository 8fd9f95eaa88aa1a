//! People and their addresses.

use crate::{AppId, ChannelName, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a user can be reached, as stored. `email` is also the address of the channel `email`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    pub email: Option<String>,
    pub locale: Option<String>,
    pub timezone: Option<String>,
    #[serde(default)]
    pub addresses: BTreeMap<ChannelName, String>,
}

impl Contact {
    /// The address for a channel, if there is one.
    pub fn address(&self, channel: &ChannelName) -> Option<&str> {
        match channel.as_str() {
            "email" => self.email.as_deref().or_else(|| self.addresses.get(channel).map(String::as_str)),
            _ => self.addresses.get(channel).map(String::as_str),
        }
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub app: AppId,
    pub user_id: UserId,
    pub contact: Contact,
    /// A disabled user gets nothing and its sockets are closed 4403.
    pub disabled_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A user as ingest needs it: contact points and the generation they were read at.
///
/// An unknown user resolves to no contact points and generation 0; the first send creates its row.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    pub contact: Contact,
    pub disabled: bool,
    /// Raised by every erase. A plan made from an older generation is refused, so that an erased address can't come back.
    pub generation: i64,
}
