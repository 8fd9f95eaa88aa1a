//! One connection as the rest of the host sees it: who it is, what waits for it, when it must end.
//!
//! The task that owns the wire is `run.rs`; everything here may be touched by any thread and never waits.

use super::{
    close::Close,
    inbox::{Head, Hint, Inbox, Taken},
    protocol::Protocol,
};
use campanile_model::{AppId, ConnId, NodeId, Timestamp, UserId, UserKey, feed::Counts, ports::HeldConnection};
use futures_util::task::AtomicWaker;
use serde::Serialize;
use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransportKind {
    WebSocket,
    Sse,
}

impl TransportKind {
    pub const ALL: [Self; 2] = [Self::WebSocket, Self::Sse];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
        }
    }
}

/// What is known of a connection before it is one.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub user: UserKey,
    pub transport: TransportKind,
    pub protocol: Protocol,
    pub address: Option<IpAddr>,
    pub user_agent: Option<Box<str>>,
    pub expires_at: Timestamp,
}

pub struct Conn {
    pub id: ConnId,
    pub user: UserKey,
    pub transport: TransportKind,
    pub protocol: Protocol,
    address: Option<IpAddr>,
    user_agent: Option<Box<str>>,
    pub since: Timestamp,
    inbox: Mutex<Inbox>,
    waker: AtomicWaker,
    cap: usize,
    /// Unix ms at which the token ends.
    expires_ms: AtomicI64,
    /// Monotonic ms (the hub's) of the next ping, and until when its pong must be here (0: none is awaited).
    pub ping_at: AtomicU64,
    pub pong_by: AtomicU64,
    pub last_seq: AtomicI64,
    /// The newest item of its user's feed that this node has heard of, and the newest that the client has confirmed (0: it
    /// confirms nothing).
    head_seq: AtomicI64,
    pub acked: AtomicI64,
    pub sent: AtomicU64,
    rate: Rate,
    /// Monotonic ms (the hub's) of the last message in either direction.
    pub active: AtomicU64,
    /// The ledger's: it has been told that this one is no more.
    pub gone: AtomicBool,
    /// Somebody waits for the answer of the next ping.
    pub asked: AtomicBool,
    /// Unix s until which its frames are told, and how many more of them; 0: they are not.
    tail_until: AtomicU32,
    tail_left: AtomicU32,
}

/// How many messages a second, by the difference between two looks.
#[derive(Default)]
struct Rate {
    /// Of the last look: monotonic ms, and what had been sent.
    at: AtomicU64,
    sent: AtomicU64,
    /// In thousandths, and one more; 0: not known yet.
    known: AtomicU64,
}

const RATE_MS: u64 = 10_000;

impl Rate {
    fn measure(&self, now: u64, sent: u64) {
        let since = self.at.load(Relaxed);
        // The first look only begins.
        if since != 0 && now < since + RATE_MS {
            return;
        }
        self.at.store(now.max(1), Relaxed);
        let before = self.sent.swap(sent, Relaxed);
        if since != 0 {
            let thousandths = sent.saturating_sub(before).saturating_mul(1_000_000) / (now - since).max(1);
            self.known.store(thousandths + 1, Relaxed);
        }
    }
    fn get(&self) -> Option<u64> {
        self.known.load(Relaxed).checked_sub(1)
    }
}

/// `last_seq` until its session has read where the feed stands.
const NOT_BEGUN: i64 = -1;

/// So many items behind its feed, a connection is slow. Fewer may be on their way at any moment.
pub const SLOW_LAG: u64 = 20;

/// Frames told of one wish at most: a busy connection must not fill the bus.
const TAIL_FRAMES: u32 = 500;

impl Conn {
    pub fn new(v: Visitor, since: Timestamp, cap: usize, ping_at: u64) -> Self {
        Self {
            id: ConnId::new(),
            user: v.user,
            transport: v.transport,
            protocol: v.protocol,
            address: v.address,
            user_agent: v.user_agent,
            since,
            inbox: Mutex::default(),
            waker: AtomicWaker::new(),
            cap,
            expires_ms: AtomicI64::new(v.expires_at.timestamp_millis()),
            ping_at: AtomicU64::new(ping_at),
            pong_by: AtomicU64::new(0),
            last_seq: AtomicI64::new(NOT_BEGUN),
            head_seq: AtomicI64::new(0),
            acked: AtomicI64::new(0),
            sent: AtomicU64::new(0),
            rate: Rate::default(),
            active: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            tail_until: AtomicU32::new(0),
            tail_left: AtomicU32::new(0),
        }
    }

    /// Its frames are told until then.
    pub fn tail(&self, until: Timestamp) {
        self.tail_until.store(u32::try_from(until.timestamp()).unwrap_or(0), Relaxed);
        self.tail_left.store(TAIL_FRAMES, Relaxed);
    }

    /// Whether this frame is one to tell of.
    pub fn tells(&self, now: impl FnOnce() -> Timestamp) -> bool {
        let until = self.tail_until.load(Relaxed);
        if until == 0 {
            return false;
        }
        if i64::from(until) < now().timestamp() || self.tail_left.load(Relaxed) == 0 {
            self.tail_until.store(0, Relaxed);
            return false;
        }
        self.tail_left.fetch_sub(1, Relaxed);
        true
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a hint. Returns the bytes that waited before it.
    pub fn hint(&self, hint: Hint) -> usize {
        if let Hint::Item { seq, .. } = &hint {
            self.head_seq.fetch_max(*seq, Relaxed);
        }
        let mut inbox = self.inbox();
        let waiting = inbox.bytes();
        inbox.push(hint, self.cap);
        drop(inbox);
        self.waker.wake();
        waiting
    }

    /// A new item is in the feed, and only that is known of it.
    pub fn behind(&self, seq: i64, counts: Counts) {
        self.head_seq.fetch_max(seq, Relaxed);
        self.order(|i| i.behind(seq, counts));
    }

    fn order(&self, give: impl FnOnce(&mut Inbox)) {
        give(&mut self.inbox());
        self.waker.wake();
    }
    pub fn head(&self, head: Head) {
        if let Some(state) = &head {
            self.head_seq.fetch_max(state.head_seq, Relaxed);
        }
        self.order(|i| i.head(head));
    }
    /// Puts a head back whose turn had not come.
    pub fn head_again(&self, head: Head) {
        self.order(|i| i.head_again(head));
    }
    pub fn bye(&self, after_ms: u32, spread_ms: u32) {
        self.order(|i| i.bye(after_ms, spread_ms));
    }
    pub fn ping(&self) {
        self.order(Inbox::ping);
    }
    pub fn gap_over(&self) {
        self.order(Inbox::gap_over);
    }
    pub fn close(&self, close: Close) {
        self.order(|i| i.close(close));
    }

    /// Ready when something waits.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.inbox().is_empty() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // Something may have come between the look and the registration.
        if self.inbox().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    pub fn ordered_close(&self) -> Option<Close> {
        self.inbox().take_close()
    }

    pub fn take(&self) -> Taken {
        self.inbox().take()
    }

    pub fn expires_ms(&self) -> i64 {
        self.expires_ms.load(Relaxed)
    }
    pub fn renew(&self, expires_at: Timestamp) {
        self.expires_ms.store(expires_at.timestamp_millis(), Relaxed);
    }

    // --- how it does -------------------------------------------------------------------------------------------

    /// Items of the feed that it has not been given yet.
    pub fn lag(&self) -> u64 {
        match self.last_seq.load(Relaxed) {
            NOT_BEGUN => 0,
            given => (self.head_seq.load(Relaxed) - given).max(0).unsigned_abs(),
        }
    }

    /// Items given and not confirmed; `None` for a client that confirms nothing.
    pub fn unacked(&self) -> Option<u64> {
        let acked = self.acked.load(Relaxed);
        (acked > 0).then(|| (self.last_seq.load(Relaxed) - acked).max(0).unsigned_abs())
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.inbox().bytes()
    }

    /// Messages a second over the last ten, in thousandths.
    pub fn rate(&self) -> Option<u64> {
        self.rate.get()
    }

    /// Looked at by the hub's tick.
    pub fn measure(&self, now: u64) {
        self.rate.measure(now, self.sent.load(Relaxed));
    }

    pub fn idle_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.active.load(Relaxed))
    }

    /// It reads more slowly than it is written to: what is worth nothing later is dropped for it from here on.
    pub fn is_slow(&self) -> bool {
        self.lag() >= SLOW_LAG || self.waiting() > self.cap / 4
    }

    /// As it is written down for other nodes.
    pub fn held(&self) -> HeldConnection {
        HeldConnection {
            conn: self.id,
            user: self.user.clone(),
            transport: self.transport.as_str().to_owned(),
            protocol: self.protocol.as_str().to_owned(),
            client_address: self.address.map(masked),
            user_agent: self.user_agent.as_deref().map(str::to_owned),
            connected_at: self.since,
        }
    }

    /// With what only its own node knows.
    pub fn info(&self, node: NodeId, now: u64) -> ConnectionInfo {
        ConnectionInfo {
            idle_ms: Some(self.idle_ms(now)),
            last_seq: Some(self.last_seq.load(Relaxed).max(0)),
            behind: Some(self.lag()),
            unacked: self.unacked(),
            queued_bytes: Some(self.waiting()),
            sent_messages: Some(self.sent.load(Relaxed)),
            sent_per_second: self.rate().map(|thousandths| thousandths as f64 / 1_000.0),
            ..ConnectionInfo::held_by(node, self.held())
        }
    }
}

/// One open connection, for the API and the console.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ConnectionInfo {
    pub conn_id: ConnId,
    /// The node that holds it.
    pub node_id: NodeId,
    pub app: AppId,
    pub user_id: UserId,
    /// `websocket` or `sse`.
    #[schema(example = "websocket")]
    pub transport: String,
    /// `classic` or `v1`.
    #[schema(example = "v1")]
    pub protocol: String,
    /// The client's network: the last part of the address is left out.
    #[schema(example = "203.0.113.*")]
    pub client_address: Option<String>,
    pub user_agent: Option<String>,
    #[serde(with = "campanile_model::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    /// The newest feed item this connection has got; this and what follows is null when another node holds it.
    pub last_seq: Option<i64>,
    /// Items of the feed that it has not been given yet.
    pub behind: Option<u64>,
    /// Items given and not confirmed by an `ack`; null also for a client that confirms nothing.
    pub unacked: Option<u64>,
    /// Bytes that wait to be written.
    pub queued_bytes: Option<usize>,
    pub sent_messages: Option<u64>,
    /// Over the last ten seconds; null in the first ten.
    pub sent_per_second: Option<f64>,
    /// Since the last message in either direction.
    pub idle_ms: Option<u64>,
}

impl ConnectionInfo {
    /// What every node knows of a connection.
    pub fn held_by(node: NodeId, held: HeldConnection) -> Self {
        Self {
            conn_id: held.conn,
            node_id: node,
            app: held.user.app,
            user_id: held.user.user,
            transport: held.transport,
            protocol: held.protocol,
            client_address: held.client_address,
            user_agent: held.user_agent,
            since: held.connected_at,
            last_seq: None,
            behind: None,
            unacked: None,
            queued_bytes: None,
            sent_messages: None,
            sent_per_second: None,
            idle_ms: None,
        }
    }
}

fn masked(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            let [a, b, c, _] = a.octets();
            format!("{a}.{b}.{c}.*")
        }
        IpAddr::V6(a) => {
            let s = a.segments();
            format!("{:x}:{:x}:{:x}:*", s[0], s[1], s[2])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_time_between_two_looks() {
        let rate = Rate::default();
        for (now, sent, known) in [
            (500, 3, None),
            (5_000, 9, None),
            (10_500, 23, Some(2_000)),
            (20_499, 99, Some(2_000)),
            (30_500, 23, Some(0)),
        ] {
            rate.measure(now, sent);
            assert_eq!(rate.get(), known, "at {now}");
        }
    }

    #[test]
    fn what_it_has_not_got_is_told_and_many_make_it_slow() {
        let visitor = Visitor {
            user: UserKey::new("default", "ada"),
            transport: TransportKind::WebSocket,
            protocol: Protocol::V1,
            address: None,
            user_agent: None,
            expires_at: Timestamp::UNIX_EPOCH,
        };
        let conn = Conn::new(visitor, Timestamp::UNIX_EPOCH, 1_024, 0);
        conn.last_seq.store(40, Relaxed);
        assert_eq!((conn.lag(), conn.unacked(), conn.is_slow()), (0, None, false), "it knows of no newer one");
        conn.behind(45, Counts::default());
        conn.behind(44, Counts::default());
        conn.acked.store(38, Relaxed);
        assert_eq!((conn.lag(), conn.unacked(), conn.is_slow()), (5, Some(2), false));
        conn.behind(60, Counts::default());
        assert!(conn.is_slow());
    }

    #[test]
    fn addresses_are_shown_without_their_last_part() {
        assert_eq!(masked("203.0.113.9".parse().unwrap()), "203.0.113.*");
        assert_eq!(masked("::ffff:203.0.113.9".parse().unwrap()), "203.0.113.*");
        assert_eq!(masked("2001:db8:1:2::9".parse().unwrap()), "2001:db8:1:*");
    }
}
