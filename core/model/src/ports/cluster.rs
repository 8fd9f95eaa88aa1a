//! The nodes of one cluster, and which of them holds which connection.
//!
//! Facts, not truth: nothing is delivered by them. They are for the people who look and for closing a connection from any
//! node. A node that is silent for too long, by the database's clock, is in no answer, and neither is what it held.

use super::StoreResult;
use crate::{AppId, ConnId, NodeId, Timestamp, UserId, UserKey};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// What one channel did on one node, counted since the node began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ChannelCounts {
    /// Deliveries that were accepted.
    pub accepted: u64,
    /// First arrivals at `sent`.
    pub sent: u64,
    /// Attempts after which the delivery was given up on.
    pub failed: u64,
    /// Attempts that failed and will be repeated.
    pub retried: u64,
    /// Times to `sent`, by bucket; the bounds are the console's.
    pub latency: Vec<u64>,
}

/// What a node's sockets did, counted since the node began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct SocketCounts {
    pub opened: u64,
    /// By reason.
    pub closed: BTreeMap<String, u64>,
    /// Clients that came back and got what they had missed.
    pub resumed: u64,
    /// Clients that came back too late for that and began anew.
    pub reset: u64,
    /// Messages sent again to those who resumed.
    pub replayed: u64,
    /// Round trips of pings, by bucket; the bounds are the console's, as below.
    pub ping: Vec<u64>,
    /// Bytes that waited when another message came.
    pub buffer: Vec<u64>,
}

/// What a node counts of itself. Kept as one text, so that nodes of two builds read each other while a cluster is updated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct NodeFigures {
    /// Open sockets and event streams.
    pub connections: u64,
    /// Of these, event streams.
    pub event_streams: u64,
    /// Users with at least one of them.
    pub users: u64,
    /// Resident memory; null where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// Writes waiting for the next commit.
    pub writes_waiting: u64,
    /// Parts that do not work now: `queue`, `bus`, `ingest`.
    pub degraded: Vec<String>,
    /// What its sockets did; the others sum it up.
    pub sockets: SocketCounts,
    /// What its channels did; the others sum it up.
    pub channels: BTreeMap<String, ChannelCounts>,
}

/// What a node says with every beat.
#[derive(Clone, Debug)]
pub struct Beat {
    pub node: NodeId,
    /// The machine's name.
    pub host: String,
    /// Where it listens.
    pub address: String,
    pub version: String,
    pub started_at: Timestamp,
    /// It is on its way out.
    pub draining: bool,
    pub figures: NodeFigures,
}

/// A node that lives, as far as the others know.
#[derive(Clone, Debug)]
pub struct NodeRow {
    pub said: Beat,
    /// Its last beat.
    pub seen_at: Timestamp,
    /// How long ago that was, by the database's clock.
    pub silent_ms: i64,
}

/// A connection as its node wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldConnection {
    pub conn: ConnId,
    pub user: UserKey,
    pub transport: String,
    pub protocol: String,
    /// Without its last part.
    pub client_address: Option<String>,
    pub user_agent: Option<String>,
    pub connected_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    pub app: AppId,
    pub user: Option<UserId>,
    pub transport: Option<String>,
    /// Only of this node.
    pub node: Option<NodeId>,
    /// Not of this node.
    pub except: Option<NodeId>,
    /// Keyset cursor: ids above this, oldest first.
    pub after: Option<ConnId>,
    pub limit: u32,
}

#[async_trait]
pub trait ClusterStore: Send + Sync + 'static {
    /// Says that this node lives. False: the others did not know it (any more), so whatever it holds must be written again.
    async fn beat(&self, beat: &Beat) -> StoreResult<bool>;

    /// Writes connections down; one that stands there already stays. False, and nothing is written: the node has no row.
    async fn hold(&self, node: NodeId, opened: Vec<HeldConnection>) -> StoreResult<bool>;

    /// Takes connections of this node off; those that are not there don't matter.
    async fn release(&self, node: NodeId, closed: Vec<ConnId>) -> StoreResult<()>;

    /// Every connection written down for this node.
    async fn held(&self, node: NodeId) -> StoreResult<Vec<ConnId>>;

    /// A clean goodbye: the node and all it held.
    async fn leave(&self, node: NodeId) -> StoreResult<()>;

    /// Removes nodes that have been silent for at least this long, with all they held. Returns them.
    async fn bury(&self, silent: Duration) -> StoreResult<Vec<NodeId>>;

    /// Nodes heard of within `silent`, oldest first.
    async fn nodes(&self, silent: Duration) -> StoreResult<Vec<NodeRow>>;

    /// Connections of nodes heard of within `silent`.
    async fn connections(
        &self,
        filter: &ConnectionFilter,
        silent: Duration,
    ) -> StoreResult<Vec<(NodeId, HeldConnection)>>;

    /// Who holds this connection.
    async fn holder(
        &self,
        app: &AppId,
        conn: ConnId,
        silent: Duration,
    ) -> StoreResult<Option<(NodeId, HeldConnection)>>;
}
