//! Open connections of all nodes: this one's as they are now, the others' as they wrote them down.

use crate::{
    connection::{ConnectionInfo, conn::Conn},
    services::Services,
};
use campanile_model::{
    AppId, ConnId,
    ports::{ConnectionFilter, StoreError, StoreResult},
    signal::Watch,
};
use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

/// One page of them, oldest first unless something else was wished.
pub struct Listed {
    pub items: Vec<ConnectionInfo>,
    /// More lie after the last one.
    pub more: bool,
    /// All open connections of all nodes, whatever the filter.
    pub total: u64,
    /// The database did not answer: other nodes' connections are left out.
    pub partial: bool,
    /// This node's that fit, listed or not.
    pub fit: usize,
}

/// What only the node that holds a connection knows of it, as a number to order and to narrow by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Figure {
    Lag,
    Rate,
    Unacked,
    Buffer,
    Idle,
}

impl Figure {
    pub const ALL: [Self; 5] = [Self::Lag, Self::Rate, Self::Unacked, Self::Buffer, Self::Idle];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == text)
    }
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Rate => "rate",
            Self::Unacked => "unacked",
            Self::Buffer => "buffer",
            Self::Idle => "idle",
        }
    }
    /// What one of an address's `least` is of the figure itself: seconds of milliseconds, KiB of bytes, whole of thousandths.
    const fn unit(self) -> u64 {
        match self {
            Self::Lag | Self::Unacked => 1,
            Self::Rate | Self::Idle => 1_000,
            Self::Buffer => 1_024,
        }
    }
    fn of(self, conn: &Conn, now: u64) -> Option<u64> {
        match self {
            Self::Lag => Some(conn.lag()),
            Self::Rate => conn.rate(),
            Self::Unacked => conn.unacked(),
            Self::Buffer => Some(conn.waiting() as u64),
            Self::Idle => Some(conn.idle_ms(now)),
        }
    }
}

/// What is wished beyond what every node knows of a connection.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wish {
    /// The highest first; oldest first when not given.
    pub by: Option<Figure>,
    /// With so much of it at least.
    pub least: Option<(Figure, u64)>,
    pub slow: bool,
}

impl Wish {
    /// Other nodes' connections can't be judged by it.
    pub fn is_own(&self) -> bool {
        self.by.is_some() || self.least.is_some() || self.slow
    }

    /// Where it stands among those that fit; `None`: it does not fit.
    fn place(&self, conn: &Conn, now: u64) -> Option<(Reverse<u64>, ConnId)> {
        let enough =
            self.least.is_none_or(|(f, n)| f.of(conn, now).is_some_and(|has| has >= n.saturating_mul(f.unit())));
        if !enough || (self.slow && !conn.is_slow()) {
            return None;
        }
        // What is not known comes last.
        let rank = self.by.map_or(0, |by| by.of(conn, now).map_or(0, |n| n.saturating_add(1)));
        Some((Reverse(rank), conn.id))
    }
}

/// `filter.limit` is the page; what it says of this node is set here. By a wish, this node's alone are listed.
pub async fn list(s: &Services, filter: ConnectionFilter, wish: Wish) -> Listed {
    let page = filter.limit as usize;
    // One more tells that there is a next page.
    let filter = ConnectionFilter { except: Some(s.node), limit: filter.limit + 1, ..filter };
    let (mut items, fit) = own(s, &filter, wish);
    let elsewhere = elsewhere(s, &filter, wish.is_own()).await;
    let partial = elsewhere.is_none();
    let (others, others_total) = elsewhere.unwrap_or_default();
    if !wish.is_own() {
        items.extend(others);
        items.sort_unstable_by_key(|c| c.conn_id);
    }
    let more = items.len() > page;
    items.truncate(page);
    Listed { items, more, total: s.hub.connection_count() as u64 + others_total, partial, fit }
}

/// This node's, as they are now: a page of them, and how many fit.
fn own(s: &Services, filter: &ConnectionFilter, wish: Wish) -> (Vec<ConnectionInfo>, usize) {
    if filter.node.is_some_and(|node| node != s.node) {
        return (Vec::new(), 0);
    }
    let now = s.hub.monotonic_ms();
    let (own, fit) = s.hub.first(filter.limit as usize, |c| {
        let fits = c.user.app == filter.app
            && filter.user.as_ref().is_none_or(|user| c.user.user == *user)
            && filter.transport.as_ref().is_none_or(|kind| c.transport.as_str() == kind)
            && filter.after.is_none_or(|after| c.id > after);
        fits.then(|| wish.place(c, now)).flatten()
    });
    (own.iter().map(|c| s.hub.info(c, s.node)).collect(), fit)
}

/// How many of this node's read too slowly.
pub fn slow(s: &Services) -> usize {
    s.hub.first(0, |c| c.is_slow().then_some(())).1
}

/// What other nodes have written down, and how many they hold in all. `None`: the database does not answer.
async fn elsewhere(s: &Services, filter: &ConnectionFilter, only_count: bool) -> Option<(Vec<ConnectionInfo>, u64)> {
    let silent = s.config.cluster.silent();
    let read = async {
        let nodes = s.store.nodes(silent).await?;
        let others = nodes.iter().filter(|n| n.said.node != s.node);
        let total = others.clone().map(|n| n.said.figures.connections).sum();
        // Alone, as every embedded host is: nothing to look for.
        let held =
            if only_count || others.count() == 0 { Vec::new() } else { s.store.connections(filter, silent).await? };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        connection::{
            Hub, LocalBus, TransportKind,
            conn::{SLOW_LAG, Visitor},
            protocol::Protocol,
        },
        observe::Metrics,
    };
    use campanile_model::{Timestamp, UserKey, feed::Counts};
    use std::sync::{Arc, atomic::Ordering::Relaxed};

    #[test]
    fn the_highest_come_first_however_many_there_are() {
        let hub = Hub::new(&config::defaults().unwrap(), LocalBus::new(), Arc::new(Metrics::new()));
        let here: Vec<_> = (0..1_000)
            .map(|n: i64| {
                let visitor = Visitor {
                    user: UserKey::new("default", format!("u{n}").as_str()),
                    transport: TransportKind::WebSocket,
                    protocol: Protocol::V1,
                    address: None,
                    user_agent: None,
                    expires_at: Timestamp::UNIX_EPOCH,
                };
                let here = hub.register(visitor, Timestamp::UNIX_EPOCH);
                here.conn().last_seq.store(1, Relaxed);
                // In no order: 0 to 999, each once.
                here.conn().behind(1 + n * 7 % 1_000, Counts::default());
                here
            })
            .collect();
        let now = hub.monotonic_ms();
        let first = |n: usize, wish: Wish| {
            let (found, fit) = hub.first(n, |c| wish.place(c, now));
            (found.iter().map(|c| c.lag()).collect::<Vec<_>>(), fit)
        };
        let by = Wish { by: Some(Figure::Lag), ..Wish::default() };
        assert_eq!(first(3, by), (vec![999, 998, 997], 1_000));
        let least = Wish { least: Some((Figure::Lag, 998)), ..by };
        assert_eq!(first(3, least), (vec![999, 998], 2));
        assert_eq!(
            first(3, Wish { least: Some((Figure::Unacked, 0)), ..by }),
            (vec![], 0),
            "what is not known is not 0"
        );
        assert_eq!(first(2, Wish { slow: true, ..by }), (vec![999, 998], 1_000 - SLOW_LAG as usize));
        // Oldest first, as they came.
        assert_eq!(first(3, Wish::default()), (vec![0, 7, 14], 1_000));
        drop(here);
        assert_eq!(first(3, by), (vec![], 0));
    }

    #[test]
    fn a_figure_reads_back() {
        for figure in Figure::ALL {
            assert_eq!(Figure::parse(figure.as_str()), Some(figure));
        }
        assert_eq!(Figure::parse("since"), None);
    }
}
