//! People and their addresses.

use crate::{AppId, ChannelName, Timestamp, UserId, UserKey};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Borrow,
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

/// A user's key by its parts, so that a map of [`UserKey`] can be asked without building one.
pub trait UserRef {
    fn app(&self) -> &str;
    fn user(&self) -> &str;
}

impl UserRef for UserKey {
    fn app(&self) -> &str {
        self.app.as_str()
    }
    fn user(&self) -> &str {
        self.user.as_str()
    }
}

/// App and user.
impl UserRef for (&str, &str) {
    fn app(&self) -> &str {
        self.0
    }
    fn user(&self) -> &str {
        self.1
    }
}

/// Hash and equality are those of `UserKey`, as `Borrow` demands.
impl Hash for dyn UserRef + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.app().hash(state);
        self.user().hash(state);
    }
}

impl PartialEq for dyn UserRef + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.app() == other.app() && self.user() == other.user()
    }
}

impl Eq for dyn UserRef + '_ {}

impl<'a> Borrow<dyn UserRef + 'a> for UserKey {
    fn borrow(&self) -> &(dyn UserRef + 'a) {
        self
    }
}

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

    /// These contact points, and of `other`'s those that are missing here.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        // Under either name it is the address of the channel `email`: a second one must not take its place.
        if self.address(&ChannelName::email()).is_none() {
            self.email = other.email;
        }
        let has_email = self.email.is_some();
        for (channel, address) in other.addresses {
            if !(has_email && channel == ChannelName::email()) {
                self.addresses.entry(channel).or_insert(address);
            }
        }
        self.locale = self.locale.or(other.locale);
        self.timezone = self.timezone.or(other.timezone);
        self
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
    /// Raised by every erase, and for both by a merge. A plan made from an older generation is refused, so that an erased
    /// address can't come back.
    pub generation: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn what_is_missing_is_taken_from_another_and_nothing_else() {
        let some = |text: &str| Some(text.to_owned());
        let addresses = |all: &[(&str, &str)]| {
            all.iter().map(|(channel, a)| (ChannelName::from(*channel), (*a).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let other = Contact {
            email: some("other@x"),
            locale: some("de"),
            timezone: some("UTC"),
            addresses: addresses(&[("sms", "+1"), ("hook", "https://x")]),
        };
        assert_eq!(Contact::default().or(other.clone()), other);
        let own = Contact {
            locale: some("fr"),
            addresses: addresses(&[("sms", "+2"), ("email", "own@x")]),
            ..Contact::default()
        };
        let both = own.or(other);
        assert_eq!((both.email.as_deref(), both.address(&ChannelName::email())), (None, Some("own@x")));
        assert_eq!((both.locale, both.timezone), (some("fr"), some("UTC")));
        assert_eq!(both.addresses, addresses(&[("sms", "+2"), ("email", "own@x"), ("hook", "https://x")]));
    }

    #[test]
    fn a_map_of_users_is_asked_by_parts() {
        let map = HashMap::from([(UserKey::new("default", "ann"), 1)]);
        assert_eq!(map.get(&("default", "ann") as &dyn UserRef), Some(&1));
        assert_eq!(map.get(&("default", "an") as &dyn UserRef), None);
        assert_eq!(map.get(&("defaulta", "nn") as &dyn UserRef), None);
    }
}
