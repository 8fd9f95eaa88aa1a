//! Who is connected here, and the way from a commit to their sockets.
//!
//! A map from user to connections, in shards, each behind a short lock that is never held across an await. Pushing
//! fills each connection's own bounded queue and wakes its task. Absent on purpose: what is said to whom (the session),
//! writing (the connection's task), other nodes (the bus).

use super::{
    close::{self, Close},
    confirm::Confirms,
    conn::{Conn, ConnectionInfo, TransportKind, Visitor},
    counts::Counts,
    inbox::{Head, Hint, Item},
    ledger::Ledger,
    limits::{Brake, HandshakeRate},
    session::Rules,
    watch::Watches,
};
use crate::{
    config::Config,
    observe::{Metrics, metrics as m},
};
use campanile_model::{
    AppId, ConnId, NodeId, Timestamp, UserKey,
    effects::PushBatch,
    frame::Frame,
    ports::{Bus, Realtime, SignalSink},
    signal::{Disconnect, PushTarget, Signal, Watch, Watched},
    user::UserRef,
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Also the steps of the regular look at the feed: one shard at a time, spread over the heartbeat.
pub const SHARDS: usize = 64;

type Shard = HashMap<UserKey, Vec<Arc<Conn>>>;

/// The hub's share of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_message: usize,
    pub queue_bytes: usize,
    pub write_stall: Duration,
    pub heartbeat: Duration,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub expiry_grace: Duration,
    pub per_user: usize,
    pub rules: Rules,
}

pub struct Hub {
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
    limits: Limits,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    open: AtomicUsize,
    draining: AtomicBool,
    /// Rings when signals of other nodes may have been lost.
    missed: Notify,
    confirms: Confirms,
    ledger: Ledger,
    counts: Counts,
    watches: Watches,
    pub handshakes: HandshakeRate,
    pub brake: Brake,
    /// Zero of the monotonic milliseconds used for pings.
    started: Instant,
}

impl Hub {
    pub fn new(config: &Config, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) -> Arc<Self> {
        let w = &config.websocket;
        let limits = Limits {
            max_message: w.max_message,
            queue_bytes: w.queue_bytes,
            write_stall: *w.write_stall,
            heartbeat: (*w.heartbeat).max(Duration::from_millis(100)),
            ping_interval: *w.ping_interval,
            pong_timeout: *w.pong_timeout,
            expiry_grace: *w.expiry_grace,
            per_user: w.per_user.max(1),
            rules: Rules {
                heartbeat_ms: w.heartbeat.as_ms(),
                resume_max: i64::from(w.resume_max),
                client_rate: w.client_rate,
                client_burst: w.client_burst,
            },
        };
        Arc::new(Self {
            bus,
            metrics,
            limits,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            open: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            missed: Notify::new(),
            confirms: Confirms::default(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            watches: Watches::default(),
            handshakes: HandshakeRate::new(w.handshake_rate),
            brake: Brake::new(w.failed_handshakes),
            started: Instant::now(),
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    pub fn confirms(&self) -> &Confirms {
        &self.confirms
    }
    /// Who came and went, for whoever writes it down.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the sockets did since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What was asked for of single connections, on any node.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    fn shard_of(&self, user: &dyn UserRef) -> usize {
        self.hasher.hash_one(user) as usize % SHARDS
    }
    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn shard_with(&self, user: &UserKey) -> MutexGuard<'_, Shard> {
        self.shard(self.shard_of(user))
    }

    /// Milliseconds since the hub began.
    pub fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Until when the pong of a ping written now must be here.
    pub fn pong_deadline(&self) -> u64 {
        self.monotonic_ms() + self.limits.pong_timeout.as_millis() as u64
    }

    /// The next ping: a fifth earlier to an eighth later than the interval, so that neither pings nor a lost peer's end
    /// come in waves, and interval + pong timeout stay within 45 s.
    fn next_ping(&self, now: u64) -> u64 {
        let interval = self.limits.ping_interval.as_millis() as u64;
        now + interval * 4 / 5 + rand::random_range(0..=(interval * 13 / 40).max(1))
    }

    // --- coming and going --------------------------------------------------------------------------------------

    /// Makes a connection known: from here on hints reach it. The oldest of a user with too many is closed.
    pub fn register(self: &Arc<Self>, visitor: Visitor, now: Timestamp) -> Registration {
        let ping_at = self.next_ping(self.monotonic_ms());
        let conn = Arc::new(Conn::new(visitor, now, self.limits.queue_bytes, ping_at));
        conn.active.store(self.monotonic_ms(), Relaxed);
        let kind = conn.transport;
        let mut evicted = None;
        {
            let mut shard = self.shard_with(&conn.user);
            let conns = shard.entry(conn.user.clone()).or_insert_with(|| Vec::with_capacity(1));
            if conns.len() >= self.limits.per_user {
                let old = conns.remove(0);
                self.uncount(old.transport, conns);
                evicted = Some(old);
            }
            self.open.fetch_add(1, Relaxed);
            let label = m::ByTransport::new(kind.as_str());
            self.metrics.connections.get_or_create(&label).inc();
            self.metrics.connections_opened.get_or_create(&label).inc();
            self.counts.opened();
            if conns.iter().all(|c| c.transport != kind) {
                self.metrics.connected_users.get_or_create(&label).inc();
            }
            conns.push(conn.clone());
        }
        self.ledger.opened(&conn);
        if let Some(old) = evicted {
            self.ledger.closed(&old);
            old.close(close::REPLACED);
        }
        // A handshake that was under way when the drain began.
        if self.draining.load(Relaxed) {
            conn.close(close::RESTART);
        }
        Registration { hub: self.clone(), conn, left: AtomicBool::new(false) }
    }

    /// `rest`: what is left of that user.
    fn uncount(&self, kind: TransportKind, rest: &[Arc<Conn>]) {
        self.open.fetch_sub(1, Relaxed);
        let label = m::ByTransport::new(kind.as_str());
        self.metrics.connections.get_or_create(&label).dec();
        if rest.iter().all(|c| c.transport != kind) {
            self.metrics.connected_users.get_or_create(&label).dec();
        }
    }

    fn unregister(&self, conn: &Arc<Conn>) {
        let mut shard = self.shard_with(&conn.user);
        let Some(conns) = shard.get_mut(&conn.user) else { return };
        let Some(at) = conns.iter().position(|c| Arc::ptr_eq(c, conn)) else { return };
        conns.remove(at);
        self.uncount(conn.transport, conns);
        if conns.is_empty() {
            shard.remove(&conn.user);
        }
        drop(shard);
        self.ledger.closed(conn);
    }

    // --- asked by the API and the console ------------------------------------------------------------------------

    /// Open sockets and streams.
    pub fn connection_count(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Users with at least one of them.
    pub fn user_count(&self) -> usize {
        (0..SHARDS).map(|i| self.shard(i).len()).sum()
    }

    /// Open connections of one kind.
    pub fn count_of(&self, kind: TransportKind) -> u64 {
        let label = m::ByTransport::new(kind.as_str());
        self.metrics.connections.get_or_create(&label).get().try_into().unwrap_or_default()
    }

    /// One connection as it is now.
    pub fn info(&self, conn: &Conn, node: NodeId) -> ConnectionInfo {
        conn.info(node, self.monotonic_ms())
    }

    /// Every connection of this node.
    pub fn all(&self) -> Vec<Arc<Conn>> {
        (0..SHARDS).flat_map(|i| self.shard(i).values().flatten().cloned().collect::<Vec<_>>()).collect()
    }

    /// Those `n` that `of` puts first, in that order, and how many it puts anywhere. One shard is held at a time, and what is
    /// kept never grows beyond a few times `n`.
    pub fn first<K: Ord>(&self, n: usize, mut of: impl FnMut(&Conn) -> Option<K>) -> (Vec<Arc<Conn>>, usize) {
        let (mut kept, mut fit): (Vec<(K, Arc<Conn>)>, usize) = (Vec::new(), 0);
        let room = (4 * n).max(64);
        let shorten = |kept: &mut Vec<(K, Arc<Conn>)>| {
            kept.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            kept.truncate(n);
        };
        for i in 0..SHARDS {
            for conn in self.shard(i).values().flatten() {
                let Some(key) = of(conn) else { continue };
                fit += 1;
                if kept.len() >= room {
                    shorten(&mut kept);
                }
                kept.push((key, conn.clone()));
            }
        }
        shorten(&mut kept);
        (kept.into_iter().map(|(_, conn)| conn).collect(), fit)
    }

    /// Closes one connection of this app, on whatever node it is.
    pub fn disconnect_anywhere(&self, app: AppId, conn: ConnId, why: Disconnect) {
        self.bus.publish(Signal::CloseConnection { app, conn, why });
    }

    /// Closes all connections of a user, on all nodes.
    pub fn disconnect_user(&self, user: &UserKey, why: Disconnect) {
        self.bus.publish(Signal::Disconnect { user: user.clone(), why });
    }

    /// Wishes to see more of one connection, on whatever node it is.
    pub fn watch(&self, conn: ConnId, wish: Watch) {
        self.bus.publish(Signal::Watch { conn, wish });
    }

    /// Tells all nodes what was wished for.
    pub fn watched(&self, conn: ConnId, at: Timestamp, what: Watched) {
        self.bus.publish(Signal::Watched { conn, at, what });
    }

    fn find(&self, wanted: impl Fn(&Conn) -> bool) -> Option<Arc<Conn>> {
        (0..SHARDS).find_map(|i| self.shard(i).values().flatten().find(|c| wanted(c)).cloned())
    }

    // --- the shared ticks ----------------------------------------------------------------------------------------

    /// Users of one shard.
    pub fn users_of(&self, shard: usize) -> Vec<UserKey> {
        self.shard(shard).keys().cloned().collect()
    }

    /// Returns when signals of other nodes may have been lost since the last call.
    pub async fn missed(&self) {
        self.missed.notified().await;
    }

    /// What a look at the feed found for this user, or that it could not look.
    pub fn head(&self, user: &UserKey, head: &Head) {
        self.each(user, |c| c.head(head.clone()));
    }

    pub fn close_user(&self, user: &UserKey, close: Close) {
        self.each(user, |c| c.close(close));
    }

    /// Pings that are due, pongs that are overdue, tokens that have ended.
    pub fn tick(&self, now: Timestamp) {
        let (mono, wall) = (self.monotonic_ms(), now.timestamp_millis());
        let grace = self.limits.expiry_grace.as_millis() as i64;
        for i in 0..SHARDS {
            for conn in self.shard(i).values().flatten() {
                conn.measure(mono);
                if wall >= conn.expires_ms().saturating_add(grace) {
                    conn.close(close::TOKEN_EXPIRED);
                    continue;
                }
                let pong_by = conn.pong_by.load(Relaxed);
                if pong_by != 0 && mono > pong_by {
                    conn.close(close::NO_PONG);
                } else if mono >= conn.ping_at.load(Relaxed) {
                    conn.ping_at.store(self.next_ping(mono), Relaxed);
                    conn.ping();
                }
            }
        }
    }

    /// Closes everything with 1012, evenly over `spread`, so that no herd comes back at once; returns when all are gone
    /// from here. Close frames may still be on their way then; the connections' tasks see to that.
    pub async fn drain(&self, spread: Duration) {
        self.draining.store(true, Relaxed);
        self.scatter(spread).await;
        self.empty().await;
    }

    /// Closes what is open now, each told first when to come back. Others may come meanwhile.
    pub async fn scatter(&self, spread: Duration) {
        let all = self.all();
        for conn in &all {
            // The wait before coming back that 1012 asks for: 5 to 30 s.
            conn.bye(5_000, 25_000);
        }
        let step = spread / u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
        let start = tokio::time::Instant::now();
        for (i, conn) in all.iter().enumerate() {
            tokio::time::sleep_until(start + step * i as u32).await;
            conn.close(close::RESTART);
        }
    }

    /// Returns when no connection is open.
    pub async fn empty(&self) {
        while self.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    // --- the way of a push ---------------------------------------------------------------------------------------

    fn each(&self, user: &UserKey, mut tell: impl FnMut(&Conn)) {
        if let Some(conns) = self.shard_with(user).get(user) {
            for conn in conns {
                tell(conn);
            }
        }
    }

    fn hint(&self, user: &UserKey, hint: &Hint) {
        self.each(user, |c| {
            let waiting = c.hint(hint.clone());
            if waiting > 0 {
                self.metrics.send_buffer.observe(waiting as f64);
                self.counts.waiting(waiting);
            }
        });
    }

    pub fn count_sent(&self, kind: TransportKind, messages: u64, bytes: u64) {
        let label = m::ByTransport::new(kind.as_str());
        self.metrics.messages_sent.get_or_create(&label).inc_by(messages);
        self.metrics.bytes_sent.get_or_create(&label).inc_by(bytes);
    }
}

fn close_for(why: Disconnect) -> Close {
    match why {
        Disconnect::Disabled => close::NOT_ALLOWED,
        Disconnect::Revoked => close::REVOKED,
        Disconnect::Reconnect => close::RESTART,
    }
}

impl Realtime for Hub {
    fn push(&self, batches: &[PushBatch]) {
        let start = Instant::now();
        for batch in batches {
            let users: Arc<[PushTarget]> =
                batch.users.iter().map(|p| PushTarget { user: p.user.clone(), seq: p.seq, counts: p.counts }).collect();
            self.bus.publish(Signal::Push { frame: Frame::of(&batch.notification), users });
        }
        self.metrics.fanout.observe(start.elapsed().as_secs_f64());
    }
}

impl SignalSink for Hub {
    fn signal(&self, signal: &Signal) {
        match signal {
            Signal::Push { frame, users } => {
                let item = Item::new(frame.clone());
                for t in users.iter() {
                    self.hint(&t.user, &Hint::Item { item: item.clone(), seq: t.seq, counts: t.counts });
                }
            }
            Signal::Behind { users } => {
                for t in users.iter() {
                    self.each(&t.user, |c| c.behind(t.seq, t.counts));
                }
            }
            Signal::Ephemeral { frame, users } => {
                let hint = Hint::Ephemeral(Item::new(frame.clone()));
                for user in users.iter() {
                    self.hint(user, &hint);
                }
            }
            Signal::Feed(change) => self.hint(&change.user, &Hint::Feed(change.clone())),
            Signal::Disconnect { user, why } => self.close_user(user, close_for(*why)),
            Signal::CloseConnection { app, conn, why } => {
                if let Some(c) = self.find(|c| c.id == *conn && c.user.app == *app) {
                    c.close(close_for(*why));
                }
            }
            Signal::Watch { conn, wish } => {
                let held = self.find(|c| c.id == *conn);
                match wish {
                    Watch::Ping => {
                        if let Some(c) = held {
                            c.asked.store(true, Relaxed);
                            c.ping();
                        }
                    }
                    Watch::Tail(until) => {
                        self.watches.begin(*conn, *until);
                        if let Some(c) = held {
                            c.tail(*until);
                        }
                    }
                }
            }
            Signal::Watched { conn, at, what } => self.watches.hear(*conn, *at, what),
            Signal::Missed => self.missed.notify_one(),
            Signal::ChannelChanged(_)
            | Signal::KeysChanged(_)
            | Signal::Rest { .. }
            | Signal::BreakerReset(_)
            | Signal::InstancesChanged
            | Signal::InstanceReset(_)
            | Signal::InstanceRestart { .. }
            | Signal::PluginReload { .. }
            | Signal::PluginTrial { .. }
            | Signal::PluginSettle { .. } => {}
        }
    }

    fn wants(&self, user: &dyn UserRef) -> bool {
        self.shard(self.shard_of(user)).contains_key(user)
    }
}

/// Being known to the hub. Ends when dropped, so that a task that panics leaves nothing behind.
pub struct Registration {
    hub: Arc<Hub>,
    conn: Arc<Conn>,
    left: AtomicBool,
}

impl Registration {
    pub fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Ends it now, with the reason for the metrics; only the first call counts.
    pub fn leave(&self, reason: &str) {
        if !self.left.swap(true, Relaxed) {
            self.hub.unregister(&self.conn);
            let label = m::TransportReason::new(self.conn.transport.as_str(), reason);
            self.hub.metrics.connections_closed.get_or_create(&label).inc();
            self.hub.counts.closed(reason);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.leave("fault");
    }
}
