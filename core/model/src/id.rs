//! A type per id, so that a delivery can't be looked up by a notification's id.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new UUIDv7: ordered by creation within one process.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// One accepted notification. Its order is the order of acceptance within a node ("older" for collapse).
    NotificationId
);
uuid_id!(
    /// One notification × one user × one channel; stable over attempts, the idempotency id towards providers.
    DeliveryId
);
uuid_id!(
    /// One socket or event stream.
    ConnId
);
uuid_id!(
    /// An API key's public half.
    KeyId
);
uuid_id!(
    /// One running process; new at every start.
    NodeId
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(s: impl Into<Arc<str>>) -> Self {
                Self(s.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.into())
            }
        }
        impl From<String> for $name {
            fn from(s: String) -> Self {
                Self(s.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_id!(
    /// The isolation unit: own keys, users, tokens. `default` exists from the first start.
    AppId
);
name_id!(
    /// The caller's own name for a person: 1–255 characters, no control characters.
    UserId
);
name_id!(
    /// A channel's name (`websocket`, `email`, …): queue, address key and metric label.
    ChannelName
);

impl Default for AppId {
    fn default() -> Self {
        Self::from("default")
    }
}

impl ChannelName {
    pub fn websocket() -> Self {
        Self::from("websocket")
    }
    pub fn email() -> Self {
        Self::from("email")
    }
}

/// The longest user id, in characters.
pub const USER_ID_MAX: usize = 255;

impl UserId {
    /// Checks a name that came from outside; the text says what is wrong with it.
    pub fn parse(s: &str) -> Result<Self, &'static str> {
        if s.is_empty() {
            return Err("must not be empty");
        }
        if s.chars().count() > USER_ID_MAX {
            return Err("must be at most 255 characters");
        }
        if s.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        Ok(Self::from(s))
    }
}

/// A user within an app. Its order (app, user) is the lock order of every transaction on feeds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserKey {
    pub app: AppId,
    pub user: UserId,
}

impl UserKey {
    pub fn new(app: impl Into<AppId>, user: impl Into<UserId>) -> Self {
        Self { app: app.into(), user: user.into() }
    }
}
