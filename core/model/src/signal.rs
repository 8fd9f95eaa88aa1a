//! What travels on the node bus: hints for sockets, and orders that must reach every node quickly.
//!
//! A signal may be lost, doubled or late; nothing but speed depends on it.

use crate::{AppId, ChannelName, ConnId, NodeId, Timestamp, UserKey, effects::FeedChange, feed::Counts, frame::Frame};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Signal {
    /// New feed items of one notification.
    Push {
        frame: Frame,
        users: Arc<[PushTarget]>,
    },
    /// New feed items whose frame is too large for the bus: a socket that is behind reads them from the feed.
    Behind {
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
    /// Close one connection of this app, wherever it is.
    CloseConnection {
        app: AppId,
        conn: ConnId,
        why: Disconnect,
    },
    /// Somebody wants to see more of one connection, wherever it is.
    Watch {
        conn: ConnId,
        wish: Watch,
    },
    /// What the node that holds it has to tell.
    Watched {
        conn: ConnId,
        at: Timestamp,
        what: Watched,
    },
    /// This node is to give its connections away, evenly over so long.
    Rest {
        node: NodeId,
        spread_ms: u64,
    },
    /// Pauses of this channel changed; the rows are the truth.
    ChannelChanged(ChannelName),
    /// Keys of this app changed (revoked, created).
    KeysChanged(AppId),
    /// Let a channel with an open breaker try again.
    BreakerReset(ChannelName),
    /// Instances of plugins, or the order of a channel's, changed; the rows are the truth.
    InstancesChanged,
    /// Let an instance with an open breaker try again.
    InstanceReset(String),
    /// Start an instance anew; the node where it was asked for has done so.
    InstanceRestart {
        instance: String,
        by: NodeId,
    },
    /// Read a plugin's file anew; the node where it was asked for has done so.
    PluginReload {
        plugin: String,
        by: NodeId,
    },
    /// Read a plugin's file anew, and give it a share of the deliveries beside the old version.
    PluginTrial {
        plugin: String,
        share: u8,
        by: NodeId,
    },
    /// A trial is over: the new version takes everything, or nothing.
    PluginSettle {
        plugin: String,
        keep_new: bool,
        by: NodeId,
    },
    /// Signals of other nodes may have been lost: forget what is remembered by their grace and look at the rows again.
    /// Never travels; a node tells it to itself.
    Missed,
}

#[derive(Clone, Debug)]
pub struct PushTarget {
    pub user: UserKey,
    pub seq: i64,
    pub counts: Counts,
}

/// What is wished of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Watch {
    /// A ping now, and how long it takes.
    Ping,
    /// Its frames, until this time.
    Tail(Timestamp),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Watched {
    Pong {
        took_us: u64,
    },
    /// A frame from the client, as much of it as may be told.
    In(String),
    /// A frame to the client.
    Out(String),
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
