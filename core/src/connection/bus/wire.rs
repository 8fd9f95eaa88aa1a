//! Signals as bytes for the other nodes.
//!
//! A message is `version u8 · sender 16 bytes · number u64`, then records `kind u8 · length u32 · body`. The sender
//! numbers its messages without a hole, and leaves a number out for what it had to drop: so every receiver notices a
//! loss. Several signals share a message, a large one is parted over several, and a frame travels as the bytes that
//! were encoded once. Records of an unknown kind and bytes behind a known body are passed over, so that nodes of two
//! releases can talk; another version is another language. Absent on purpose: brokers, queues, who sent what when.

use bytes::{BufMut, Bytes, BytesMut};
use campanile_model::{
    AppId, ChannelName, ConnId, NodeId, NotificationId, UserId, UserKey,
    effects::{FeedChange, FeedChangeKind, Marked},
    feed::{Counts, MarkAs},
    frame::Frame,
    signal::{Disconnect, PushTarget, Signal},
    user::UserRef,
};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use uuid::Uuid;

const VERSION: u8 = 1;
/// Version, sender, number.
const HEAD: usize = 1 + 16 + 8;
/// A message is closed once it has grown to this.
pub const MESSAGE: usize = 64 * 1024;
/// A larger frame stays at home: the receivers read the feed.
pub const FRAME_MAX: usize = 32 * 1024;
/// Before a number of users is believed, memory for so many at most.
const BELIEVED: usize = 4096;

mod kind {
    pub const PUSH: u8 = 1;
    pub const BEHIND: u8 = 2;
    pub const EPHEMERAL: u8 = 3;
    pub const FEED: u8 = 4;
    pub const DISCONNECT: u8 = 5;
    pub const CLOSE_CONNECTION: u8 = 6;
    pub const CHANNEL_CHANGED: u8 = 7;
    pub const KEYS_CHANGED: u8 = 8;
    pub const BREAKER_RESET: u8 = 9;
    pub const INSTANCES_CHANGED: u8 = 10;
    pub const INSTANCE_RESET: u8 = 11;
    pub const INSTANCE_RESTART: u8 = 12;
    pub const PLUGIN_RELOAD: u8 = 13;
    pub const WATCH: u8 = 14;
    pub const WATCHED: u8 = 15;
    pub const REST: u8 = 16;
    pub const PLUGIN_TRIAL: u8 = 17;
    pub const PLUGIN_SETTLE: u8 = 18;
}

/// A message ready for the broker.
#[derive(Clone, Debug)]
pub struct Packed {
    pub number: u64,
    pub bytes: Bytes,
}

/// Writes signals into messages.
#[derive(Debug)]
pub struct Packer {
    node: NodeId,
    number: u64,
    open: BytesMut,
    done: Vec<Packed>,
}

impl Packer {
    pub fn new(node: NodeId) -> Self {
        Self { node, number: 0, open: BytesMut::new(), done: Vec::new() }
    }

    /// Leaves a number out: the receivers will know that something is missing.
    pub fn skip(&mut self) {
        self.close();
        self.number += 1;
    }

    /// Everything added so far; a message without signals when there was nothing, which proves the way.
    pub fn take(&mut self) -> Vec<Packed> {
        if self.open.is_empty() && self.done.is_empty() {
            self.begin();
        }
        self.close();
        std::mem::take(&mut self.done)
    }

    fn begin(&mut self) {
        if self.open.is_empty() {
            self.number += 1;
            self.open.put_u8(VERSION);
            self.open.put_slice(self.node.0.as_bytes());
            self.open.put_u64(self.number);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(Packed { number: self.number, bytes: self.open.split().freeze() });
        }
    }

    /// One record; the message is closed when it has become long enough.
    fn record(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.begin();
        let at = self.start(kind);
        body(&mut self.open);
        self.end(at);
        if self.open.len() >= MESSAGE {
            self.close();
        }
    }

    fn start(&mut self, kind: u8) -> usize {
        self.open.put_u8(kind);
        self.open.put_u32(0);
        self.open.len()
    }

    fn end(&mut self, body: usize) {
        let length = (self.open.len() - body) as u32;
        self.open[body - 4..body].copy_from_slice(&length.to_be_bytes());
    }

    pub fn add(&mut self, signal: &Signal) {
        match signal {
            Signal::Push { frame, users } if frame.classic().len() <= FRAME_MAX => {
                self.users(kind::PUSH, Some(frame), users, |u| &u.user, put_target);
            }
            Signal::Push { users, .. } | Signal::Behind { users } => {
                self.users(kind::BEHIND, None, users, |u| &u.user, put_target);
            }
            Signal::Ephemeral { frame, users } => {
                self.users(kind::EPHEMERAL, Some(frame), users, |u| u, |out, u| put_str(out, u.user.as_str()));
            }
            Signal::Feed(change) => self.record(kind::FEED, |out| put_change(out, change)),
            Signal::Disconnect { user, why } => self.record(kind::DISCONNECT, |out| {
                put_str(out, user.app.as_str());
                put_str(out, user.user.as_str());
                out.put_u8(disconnect_code(*why));
            }),
            Signal::CloseConnection { app, conn, why } => self.record(kind::CLOSE_CONNECTION, |out| {
                put_str(out, app.as_str());
                out.put_slice(conn.0.as_bytes());
                out.put_u8(disconnect_code(*why));
            }),
            Signal::ChannelChanged(channel) => {
                self.record(kind::CHANNEL_CHANGED, |out| put_str(out, channel.as_str()));
            }
            Signal::KeysChanged(app) => self.record(kind::KEYS_CHANGED, |out| put_str(out, app.as_str())),
            Signal::BreakerReset(channel) => {
                self.record(kind::BREAKER_RESET, |out| put_str(out, channel.as_str()));
            }
            Signal::InstancesChanged => self.record(kind::INSTANCES_CHANGED, |_| {}),
            Signal::InstanceReset(instance) => self.record(kind::INSTANCE_RESET, |out| put_str(out, instance)),
            Signal::InstanceRestart { instance, by } => self.record(kind::INSTANCE_RESTART, |out| {
                put_str(out, instance);
                out.put_slice(by.0.as_bytes());
            }),
            Signal::PluginReload { plugin, by } => self.record(kind::PLUGIN_RELOAD, |out| {
                put_str(out, plugin);
                out.put_slice(by.0.as_bytes());
            }),
            Signal::Watch { conn, wish } => self.told(kind::WATCH, &(conn, wish)),
            Signal::Watched { conn, at, what } => self.told(kind::WATCHED, &(conn, at, what)),
            Signal::Rest { node, spread_ms } => self.told(kind::REST, &(node, spread_ms)),
            Signal::PluginTrial { plugin, share, by } => self.told(kind::PLUGIN_TRIAL, &(plugin, share, by)),
            Signal::PluginSettle { plugin, keep_new, by } => self.told(kind::PLUGIN_SETTLE, &(plugin, keep_new, by)),
            Signal::Missed => {}
        }
    }

    /// What people ask for is rare: it travels as JSON.
    fn told(&mut self, kind: u8, what: &impl Serialize) {
        // Nothing of it is a map with keys that are no text, or a number that JSON lacks.
        if let Ok(text) = serde_json::to_string(what) {
            self.record(kind, |out| put_str(out, &text));
        }
    }

    /// A record per app and message: frame, app, then users until the message is full.
    fn users<U>(
        &mut self,
        kind: u8,
        frame: Option<&Frame>,
        users: &[U],
        key: impl Fn(&U) -> &UserKey,
        put: impl Fn(&mut BytesMut, &U),
    ) {
        let frame_size = frame.map_or(0, |f| f.classic().len());
        // A frame that fills a message by itself still takes many users along.
        let full = MESSAGE.max(HEAD + frame_size + MESSAGE / 2);
        let mut rest = users;
        while let Some(first) = rest.first() {
            if !self.open.is_empty() && self.open.len() + frame_size + 256 > MESSAGE {
                self.close();
            }
            self.begin();
            self.open.reserve(frame_size + rest.len().min(1024) * 48);
            let app = &key(first).app;
            let at = self.start(kind);
            if let Some(frame) = frame {
                self.open.put_slice(frame.notification_id.0.as_bytes());
                put_bytes(&mut self.open, &frame.classic());
            }
            put_str(&mut self.open, app.as_str());
            let count_at = self.open.len();
            self.open.put_u32(0);
            let mut count = 0;
            while let Some(user) = rest.get(count)
                && key(user).app == *app
                && (count == 0 || self.open.len() < full)
            {
                put(&mut self.open, user);
                count += 1;
            }
            self.open[count_at..count_at + 4].copy_from_slice(&(count as u32).to_be_bytes());
            self.end(at);
            rest = &rest[count..];
            if self.open.len() >= MESSAGE {
                self.close();
            }
        }
    }
}

fn put_varint(out: &mut BytesMut, n: i64) {
    // Our numbers are never negative; were one, it would come through as it is, only longer.
    let mut n = n as u64;
    while n >= 0x80 {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as i64);
    out.put_slice(bytes);
}

fn put_str(out: &mut BytesMut, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_counts(out: &mut BytesMut, c: Counts) {
    for n in [c.unseen, c.unread, c.total, c.version] {
        put_varint(out, n);
    }
}

fn put_target(out: &mut BytesMut, target: &PushTarget) {
    put_str(out, target.user.user.as_str());
    put_varint(out, target.seq);
    put_counts(out, target.counts);
}

fn put_change(out: &mut BytesMut, change: &FeedChange) {
    put_str(out, change.user.app.as_str());
    put_str(out, change.user.user.as_str());
    put_counts(out, change.counts);
    out.put_u8(u8::from(change.unread_changed));
    match &change.kind {
        FeedChangeKind::Marked { what: Marked::Ids(ids), mark } => {
            out.put_u8(0);
            out.put_u8(mark_code(*mark));
            put_varint(out, ids.len() as i64);
            for id in ids {
                out.put_slice(id.0.as_bytes());
            }
        }
        FeedChangeKind::Marked { what: Marked::UpToSeq(seq), mark } => {
            out.put_u8(1);
            out.put_u8(mark_code(*mark));
            put_varint(out, *seq);
        }
        FeedChangeKind::Erased { epoch, head_seq } => {
            out.put_u8(2);
            put_str(out, epoch);
            put_varint(out, *head_seq);
        }
    }
}

const fn mark_code(mark: MarkAs) -> u8 {
    match mark {
        MarkAs::Seen => 0,
        MarkAs::Read => 1,
        MarkAs::Unread => 2,
        MarkAs::Archived => 3,
        MarkAs::Unarchived => 4,
    }
}

const fn disconnect_code(why: Disconnect) -> u8 {
    match why {
        Disconnect::Disabled => 0,
        Disconnect::Revoked => 1,
        Disconnect::Reconnect => 2,
    }
}

/// Why a message says nothing to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Foreign {
    #[error("it is of version {0} of the bus's language; this node speaks {VERSION}")]
    Version(u8),
    #[error("it is no message of this bus")]
    Garbage,
}

/// A received message: the head is read, the records are not yet.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub node: NodeId,
    pub number: u64,
    records: &'a [u8],
}

/// What was in a message beside signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Strange {
    pub malformed: u32,
    /// Of a newer release.
    pub unknown: u32,
}

impl<'a> Message<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Foreign> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&other) if bytes.len() >= HEAD => return Err(Foreign::Version(other)),
            _ => return Err(Foreign::Garbage),
        }
        let mut r = Reader(&bytes[1..]);
        let (Some(node), Some(number)) = (r.uuid(), r.u64()) else { return Err(Foreign::Garbage) };
        Ok(Self { node: NodeId(node), number, records: r.0 })
    }

    /// Hands the signals over, in order. Of users that nobody `wants`, nothing is built.
    pub fn signals(&self, wants: impl Fn(&dyn UserRef) -> bool, mut each: impl FnMut(&Signal)) -> Strange {
        let mut strange = Strange::default();
        let mut r = Reader(self.records);
        while !r.0.is_empty() {
            let Some((kind, body)) = r.record() else {
                strange.malformed += 1;
                break;
            };
            match signal(kind, &mut Reader(body), &wants) {
                Read::Signal(s) => each(&s),
                Read::NotForUs => {}
                Read::Unknown => strange.unknown += 1,
                Read::Malformed => strange.malformed += 1,
            }
        }
        strange
    }
}

enum Read {
    Signal(Signal),
    NotForUs,
    Unknown,
    Malformed,
}

fn signal(kind: u8, r: &mut Reader, wants: &impl Fn(&dyn UserRef) -> bool) -> Read {
    let read = match kind {
        kind::PUSH => push(r, wants),
        kind::BEHIND => targets(r, wants).map(|users| (!users.is_empty()).then_some(Signal::Behind { users })),
        kind::EPHEMERAL => ephemeral(r, wants),
        kind::FEED => change(r, wants),
        kind::DISCONNECT => disconnect(r, wants),
        kind::CLOSE_CONNECTION => close_connection(r),
        kind::CHANNEL_CHANGED => r.str().map(|name| Some(Signal::ChannelChanged(ChannelName::from(name)))),
        kind::KEYS_CHANGED => r.str().map(|app| Some(Signal::KeysChanged(AppId::from(app)))),
        kind::BREAKER_RESET => r.str().map(|name| Some(Signal::BreakerReset(ChannelName::from(name)))),
        kind::INSTANCES_CHANGED => Some(Some(Signal::InstancesChanged)),
        kind::INSTANCE_RESET => r.str().map(|name| Some(Signal::InstanceReset(name.to_owned()))),
        kind::INSTANCE_RESTART => named_by(r).map(|(instance, by)| Some(Signal::InstanceRestart { instance, by })),
        kind::PLUGIN_RELOAD => named_by(r).map(|(plugin, by)| Some(Signal::PluginReload { plugin, by })),
        kind::WATCH => r.json().map(|(conn, wish)| Some(Signal::Watch { conn, wish })),
        kind::WATCHED => r.json().map(|(conn, at, what)| Some(Signal::Watched { conn, at, what })),
        kind::PLUGIN_TRIAL => r.json().map(|(plugin, share, by)| Some(Signal::PluginTrial { plugin, share, by })),
        kind::PLUGIN_SETTLE => {
            r.json().map(|(plugin, keep_new, by)| Some(Signal::PluginSettle { plugin, keep_new, by }))
        }
        kind::REST => r.json().map(|(node, spread_ms)| Some(Signal::Rest { node, spread_ms })),
        _ => return Read::Unknown,
    };
    match read {
        Some(Some(signal)) => Read::Signal(signal),
        Some(None) => Read::NotForUs,
        None => Read::Malformed,
    }
}

type Wanted = Option<Option<Signal>>;

fn push(r: &mut Reader, wants: &impl Fn(&dyn UserRef) -> bool) -> Wanted {
    let (id, classic) = (r.uuid()?, r.bytes()?);
    let users = targets(r, wants)?;
    if users.is_empty() {
        return Some(None);
    }
    Some(Some(Signal::Push { frame: frame(id, classic)?, users }))
}

/// A copy of its own: a slow reader that keeps a frame must not keep the whole message.
fn frame(id: Uuid, classic: &[u8]) -> Option<Frame> {
    Frame::from_classic(NotificationId(id), Bytes::copy_from_slice(classic))
}

fn targets(r: &mut Reader, wants: &impl Fn(&dyn UserRef) -> bool) -> Option<Arc<[PushTarget]>> {
    users(r, wants, |r| Some((r.varint()?, r.counts()?)), |user, (seq, counts)| PushTarget { user, seq, counts })
}

fn ephemeral(r: &mut Reader, wants: &impl Fn(&dyn UserRef) -> bool) -> Wanted {
    let (id, classic) = (r.uuid()?, r.bytes()?);
    let users: Arc<[UserKey]> = users(r, wants, |_| Some(()), |user, ()| user)?;
    if users.is_empty() {
        return Some(None);
    }
    Some(Some(Signal::Ephemeral { frame: frame(id, classic)?, users }))
}

/// App, number of users, then each with what follows its name. The app's name is shared by all.
fn users<T, U>(
    r: &mut Reader,
    wants: &impl Fn(&dyn UserRef) -> bool,
    rest: impl Fn(&mut Reader) -> Option<T>,
    make: impl Fn(UserKey, T) -> U,
) -> Option<Arc<[U]>> {
    let (app, count) = (r.str()?, r.u32()? as usize);
    let mut shared = None;
    let mut found = Vec::new();
    for _ in 0..count {
        let name = r.str()?;
        let with = rest(r)?;
        if wants(&(app, name)) {
            if found.is_empty() {
                found.reserve(count.min(BELIEVED));
            }
            let app: &AppId = shared.get_or_insert_with(|| AppId::from(app));
            found.push(make(UserKey { app: app.clone(), user: UserId::from(name) }, with));
        }
    }
    Some(found.into())
}

fn change(r: &mut Reader, wants: &impl Fn(&dyn UserRef) -> bool) -> Wanted {
    let (app, user, counts) = (r.str()?, r.str()?, r.counts()?);
    let unread_changed = r.u8()? != 0;
    let kind = match r.u8()? {
        0 => {
            let (mark, count) = (r.mark()?, r.varint()?);
            let count = usize::try_from(count).ok().filter(|count| count.saturating_mul(16) <= r.0.len())?;
            let ids = (0..count).map(|_| r.uuid().map(NotificationId)).collect::<Option<Vec<_>>>()?;
            FeedChangeKind::Marked { what: Marked::Ids(ids), mark }
        }
        1 => FeedChangeKind::Marked { mark: r.mark()?, what: Marked::UpToSeq(r.varint()?) },
        2 => FeedChangeKind::Erased { epoch: r.str()?.to_owned(), head_seq: r.varint()? },
        _ => return None,
    };
    if !wants(&(app, user)) {
        return Some(None);
    }
    let user = UserKey::new(app, user);
    Some(Some(Signal::Feed(Arc::new(FeedChange { user, kind, counts, unread_changed }))))
}

/// A name, and the node where somebody asked.
fn named_by(r: &mut Reader) -> Option<(String, NodeId)> {
    Some((r.str()?.to_owned(), NodeId(r.uuid()?)))
}

fn disconnect(r: &mut Reader, wants: &impl Fn(&dyn UserRef) -> bool) -> Wanted {
    let (app, user, why) = (r.str()?, r.str()?, r.disconnect()?);
    Some(wants(&(app, user)).then(|| Signal::Disconnect { user: UserKey::new(app, user), why }))
}

fn close_connection(r: &mut Reader) -> Wanted {
    let (app, conn, why) = (r.str()?, r.uuid()?, r.disconnect()?);
    Some(Some(Signal::CloseConnection { app: AppId::from(app), conn: ConnId(conn), why }))
}

/// Takes from the front; `None` when there is not enough or it makes no sense.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
    fn uuid(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.take(16)?).ok()
    }
    fn varint(&mut self) -> Option<i64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(n as i64);
            }
        }
        None
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
    fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
    fn json<T: DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_str(self.str()?).ok()
    }
    fn counts(&mut self) -> Option<Counts> {
        let (unseen, unread, total, version) = (self.varint()?, self.varint()?, self.varint()?, self.varint()?);
        Some(Counts { unseen, unread, total, version })
    }
    fn mark(&mut self) -> Option<MarkAs> {
        let code = self.u8()?;
        MarkAs::ALL.into_iter().find(|mark| mark_code(*mark) == code)
    }
    fn disconnect(&mut self) -> Option<Disconnect> {
        let code = self.u8()?;
        [Disconnect::Disabled, Disconnect::Revoked, Disconnect::Reconnect]
            .into_iter()
            .find(|why| disconnect_code(*why) == code)
    }
    fn record(&mut self) -> Option<(u8, &'a [u8])> {
        let kind = self.u8()?;
        let length = self.u32()? as usize;
        Some((kind, self.take(length)?))
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
