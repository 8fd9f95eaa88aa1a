//! What travels on the node bus: hints for sockets, and orders that must reach every node quickly.
//!
//! A signal may be lost, doubled or late; nothing but speed depends on it.

use crate::{AppId, ChannelName, UserKey, effects::FeedChange, feed::Counts, frame::Frame};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Signal {
    /// New feed items of one notification.
    Push {
        frame: Frame,
        users: Arc<[PushTarget]>,
    },
    /// `persist:false`: to open sockets only, no seq; slow sockets drop it.
    Ephemeral {
        frame: Frame,
        users: Arc<[UserKey]>,
    },
    Feed(Arc<FeedChange>),
    /// Close this user's sockets (disabled, erased, logged out).
    Disconnect {
        user: UserKey,
        why: Disconnect,
    },
    /// Pauses of this channel changed; the rows are the truth.
    ChannelChanged(ChannelName),
    /// Keys of this app changed (revoked, created).
    KeysChanged(AppId),
}

#[derive(Clone, Debug)]
pub struct PushTarget {
    pub user: UserKey,
    pub seq: i64,
    pub counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disconnect {
    /// 4403 (classic: 1000): do not come back.
    Disabled,
    /// 4401 `revoked`: fetch a new token once.
    Revoked,
    /// 1012: come back.
    Reconnect,
}
