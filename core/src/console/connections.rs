//! Open connections of all nodes: this one's as they are now, the others' as they wrote them down.

use crate::{connection::ConnectionInfo, services::Services};
use campanile_model::{
    AppId, ConnId,
    ports::{ConnectionFilter, StoreError, StoreResult},
    signal::Watch,
};
use std::time::{Duration, Instant};

/// One page of them, oldest first.
pub struct Listed {
    pub items: Vec<ConnectionInfo>,
    /// More lie after the last one.
    pub more: bool,
    /// All open connections of all nodes, whatever the filter.
    pub total: u64,
    /// The database did not answer: other nodes' connections are left out.
    pub partial: bool,
}

/// `filter.limit` is the page; what it says of this node is set here.
pub async fn list(s: &Services, filter: ConnectionFilter) -> Listed {
    let page = filter.limit as usize;
    // One more tells that there is a next page.
    let filter = ConnectionFilter { except: Some(s.node), limit: filter.limit + 1, ..filter };
    let mut items = own(s, &filter);
    let elsewhere = elsewhere(s, &filter).await;
    let partial = elsewhere.is_none();
    let (others, others_total) = elsewhere.unwrap_or_default();
    items.extend(others);
    items.sort_unstable_by_key(|c| c.conn_id);
    let more = items.len() > page;
    items.truncate(page);
    Listed { items, more, total: s.hub.connection_count() as u64 + others_total, partial }
}

/// This node's, as they are now.
fn own(s: &Services, filter: &ConnectionFilter) -> Vec<ConnectionInfo> {
    if filter.node.is_some_and(|node| node != s.node) {
        return Vec::new();
    }
    let mut own: Vec<_> = s
        .hub
        .all()
        .into_iter()
        .filter(|c| c.user.app == filter.app && filter.user.as_ref().is_none_or(|user| c.user.user == *user))
        .filter(|c| filter.transport.as_ref().is_none_or(|kind| c.transport.as_str() == kind))
        .filter(|c| filter.after.is_none_or(|after| c.id > after))
        .collect();
    own.sort_unstable_by_key(|c| c.id);
    own.truncate(filter.limit as usize);
    own.iter().map(|c| s.hub.info(c, s.node)).collect()
}

/// What other nodes have written down, and how many they hold in all. `None`: the database does not answer.
async fn elsewhere(s: &Services, filter: &ConnectionFilter) -> Option<(Vec<ConnectionInfo>, u64)> {
    let silent = s.config.cluster.silent();
    let read = async {
        let nodes = s.store.nodes(silent).await?;
        let others = nodes.iter().filter(|n| n.said.node != s.node);
        let total = others.clone().map(|n| n.said.figures.connections).sum();
        // Alone, as every embedded host is: nothing to look for.
        let held = if others.count() == 0 { Vec::new() } else { s.store.connections(filter, silent).await? };
        Ok::<_, StoreError>((held.into_iter().map(|(node, c)| ConnectionInfo::held_by(node, c)).collect(), total))
    };
    read.await
        .inspect_err(|e| tracing::warn!(error = e as &dyn std::error::Error, "Can't read other nodes' connections"))
        .ok()
}

/// One connection, on whatever node it is. Another node's is found once it is in the list.
pub async fn find(s: &Services, app: &AppId, id: ConnId) -> StoreResult<Option<ConnectionInfo>> {
    if let Some(here) = s.hub.all().into_iter().find(|c| c.id == id && c.user.app == *app) {
        return Ok(Some(s.hub.info(&here, s.node)));
    }
    let elsewhere = s.store.holder(app, id, s.config.cluster.silent()).await?;
    // What this node wrote down and does not hold is gone, and will be taken off within a second.
    let elsewhere = elsewhere.filter(|(node, _)| *node != s.node);
    Ok(elsewhere.map(|(node, held)| ConnectionInfo::held_by(node, held)))
}

/// Longest wait for a pong.
const PONG: Duration = Duration::from_secs(3);
const PONG_LOOK: Duration = Duration::from_millis(10);

/// Pings a connection, wherever it is; how many ms until it answered, if it did.
pub async fn ping(s: &Services, id: ConnId) -> Option<f64> {
    let (before, ends) = (s.hub.watches().pong(id), Instant::now() + PONG);
    s.hub.watch(id, Watch::Ping);
    loop {
        tokio::time::sleep(PONG_LOOK).await;
        let heard = s.hub.watches().pong(id);
        if let Some((_, took_us)) = heard.filter(|_| heard != before) {
            return Some(took_us as f64 / 1_000.0);
        }
        if Instant::now() >= ends {
            return None;
        }
    }
}
