//! What one connection says and when: the protocol's rules, without a socket.
//!
//! Owns the promise "each sequence number once, in order, per socket": `last_seq`, gaps, resume, catching up from the
//! feed. One event is worked off at a time by the connection's task; what must be read from the feed in pages is kept
//! as `busy` work, so that the task can let the socket set the pace. Absent on purpose: time outs, queues, framing.

mod catchup;
#[cfg(test)]
mod tests;

use super::{
    backend::Backend,
    close::{self, Close},
    inbox::{Hint, Item},
    limits::Bucket,
    protocol::{self as p, Protocol, Refusal, Request},
    transport::Text,
};
use crate::http::auth::jwt::TokenError;
use campanile_model::{
    ConnId, NotificationId, Timestamp, UserKey,
    effects::{FeedChange, FeedChangeKind, Marked},
    feed::{Counts, FeedState, MarkAs, MarkSelection, SeenByClient},
    ports::StoreError,
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Frames that could not be understood before the socket is closed.
const MALFORMED_MAX: u8 = 5;
/// Live items held back behind a gap; more means that waiting is pointless.
const HELD_MAX: usize = 64;

/// The session's share of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub heartbeat_ms: i64,
    pub resume_max: i64,
    pub client_rate: u32,
    pub client_burst: u32,
}

/// Where a client says it stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub epoch: String,
    pub since: i64,
}

/// Frames to write, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    pub frames: Vec<Out>,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Out {
    pub text: Text,
    /// A feed item: confirmed when written.
    pub seq: Option<i64>,
    /// What an event stream may resume from once this is through.
    pub cursor: Option<i64>,
}

impl Outbox {
    fn push(&mut self, text: Text) {
        self.put(text, None, None);
    }
    fn put(&mut self, text: Text, seq: Option<i64>, cursor: Option<i64>) {
        self.bytes += text.len();
        self.frames.push(Out { text, seq, cursor });
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    Go,
    Close(Close),
}

/// Whether replays were made or refused, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub resumed: u32,
    pub reset: u32,
    pub replayed: u64,
}

pub struct Session {
    id: ConnId,
    user: UserKey,
    issuer: Issuer,
    protocol: Protocol,
    stream: bool,
    rules: Rules,
    expires_at: Timestamp,
    epoch: Box<str>,
    /// What [`look`](Self::look) found, until `open`.
    found: Option<Box<FeedState>>,
    /// Where the feed stood at `hello`: what a `resume` frame replays up to.
    opened_at: i64,
    last_seq: i64,
    /// The newest this connection knows.
    counts: Counts,
    /// Changes up to this version were part of what the client was told at its start.
    floor: i64,
    resume_used: bool,
    acked: i64,
    malformed: u8,
    bucket: Bucket,
    resume: Option<catchup::Resume>,
    pull: Option<catchup::Pull>,
    /// The epoch may have changed: look.
    recheck: bool,
    /// Live items behind a gap, and since when they wait.
    held: BTreeMap<i64, (Arc<Item>, Counts)>,
    pub tally: Tally,
}

impl Session {
    pub fn new(id: ConnId, user: UserKey, protocol: Protocol, stream: bool, rules: Rules, token: Credential) -> Self {
        Self {
            id,
            user,
            issuer: token.issuer,
            protocol,
            stream,
            rules,
            expires_at: token.expires_at,
            epoch: Box::default(),
            found: None,
            opened_at: 0,
            last_seq: 0,
            counts: Counts::default(),
            floor: 0,
            resume_used: false,
            acked: 0,
            malformed: 0,
            bucket: Bucket::full(rules.client_burst, Instant::now()),
            resume: None,
            pull: None,
            recheck: false,
            held: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub fn last_seq(&self) -> i64 {
        self.last_seq
    }
    /// The newest item that the client has confirmed; 0: it confirms nothing.
    pub fn acked(&self) -> i64 {
        self.acked
    }
    pub fn epoch(&self) -> &str {
        &self.epoch
    }
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
    fn v1(&self) -> bool {
        self.protocol == Protocol::V1
    }

    // --- the start ---------------------------------------------------------------------------------------------

    /// After the connection was registered and before its client hears that it is open: reads where the feed stands.
    /// Read later, the head could cover what was accepted since, and a classic client would never be told of that.
    pub async fn look(&mut self, b: &dyn Backend) {
        self.found = b.state(&self.user).await.ok().map(Box::new);
    }

    /// Greets, and plans the resume that came with the address. Hints that arrived since [`look`](Self::look) wait; those
    /// it already covers will be dropped.
    pub async fn open(&mut self, resume: Option<Cursor>, b: &dyn Backend, out: &mut Outbox) -> Flow {
        let state = match self.found.take() {
            Some(found) => *found,
            None => match b.state(&self.user).await {
                Ok(state) => state,
                Err(e) => return given_up(&e),
            },
        };
        self.adopt(&state);
        self.opened_at = state.head_seq;
        // A stream's cursor must not move before the items it stands for are through.
        let cursor = resume.is_none().then_some(state.head_seq);
        if self.v1() {
            let hello = p::Hello {
                conn_id: self.id,
                epoch: &self.epoch,
                head_seq: state.head_seq,
                counts: state.counts,
                heartbeat_ms: self.rules.heartbeat_ms,
                expires_in: (self.expires_at - b.now()).num_seconds().max(0),
            };
            out.put(p::hello(&hello), None, cursor);
        } else if self.stream && cursor.is_some() {
            out.put(Text::default(), None, cursor);
        }
        match resume {
            Some(cursor) => self.plan_resume(&state, cursor, b, out).await,
            None => Flow::Go,
        }
    }

    fn adopt(&mut self, state: &FeedState) {
        self.epoch = state.epoch.as_str().into();
        self.last_seq = self.last_seq.max(state.head_seq);
        self.counts = newer(self.counts, state.counts);
        self.floor = self.floor.max(state.counts.version);
    }

    // --- what the client says ----------------------------------------------------------------------------------

    pub async fn request(&mut self, text: &str, now: Instant, b: &dyn Backend, out: &mut Outbox) -> Flow {
        if let Err(wait) = self.bucket.take(self.rules.client_rate, self.rules.client_burst, now) {
            // Long enough that a client which obeys has half its burst again.
            let half = u64::from(self.rules.client_burst) * 500 / u64::from(self.rules.client_rate.max(1));
            let ms = (wait.as_millis() as u64).max(half).clamp(1, 60_000);
            return Flow::Close(close::RATE_LIMITED.after(ms as u32));
        }
        let request = match p::parse(text, self.protocol) {
            Ok(r) => r,
            Err(Refusal::UnknownType(kind)) => {
                out.push(p::error("unknown_type", &format!("type: {kind:?} is not known here")));
                return Flow::Go;
            }
            Err(Refusal::Malformed(why)) => {
                self.malformed += 1;
                out.push(p::error("malformed", &why));
                let enough = self.malformed >= MALFORMED_MAX;
                return if enough { Flow::Close(close::MALFORMED) } else { Flow::Go };
            }
        };
        match request {
            Request::BarePing => out.push(p::bare_pong()),
            Request::Ping => out.push(p::pong()),
            Request::GetUnreadCount => {
                // Asked of the feed, so that a read made elsewhere a moment ago counts; else the newest we know.
                if let Ok(state) = b.state(&self.user).await
                    && *state.epoch == *self.epoch
                {
                    self.counts = newer(self.counts, state.counts);
                }
                out.push(p::unread_count(self.counts.unread));
            }
            Request::MarkRead(None) => out.push(not_found(&[])),
            Request::MarkRead(Some(id)) => self.mark(MarkSelection::Ids(vec![id]), MarkAs::Read, vec![], b, out).await,
            Request::Mark { what, mark, strange } => self.mark(what, mark, strange, b, out).await,
            Request::Resume { epoch, since } => return self.resume_frame(Cursor { epoch, since }, b, out).await,
            Request::Ack(seq) => {
                // What was never sent can't have been seen.
                let to = seq.min(self.last_seq);
                if to > self.acked {
                    b.delivered(SeenByClient { user: self.user.clone(), from_seq: self.acked + 1, to_seq: to });
                    self.acked = to;
                }
            }
            Request::List { before, limit } => match b.page(&self.user, before, limit).await {
                Ok(page) => out.push(p::list(&page.items, page.next_before)),
                Err(e) => out.push(unavailable(&e)),
            },
            Request::Auth(token) => return self.auth(&token, b, out).await,
        }
        Flow::Go
    }

    async fn mark(
        &mut self,
        what: MarkSelection,
        mark: MarkAs,
        strange: Vec<String>,
        b: &dyn Backend,
        out: &mut Outbox,
    ) {
        let mut missing = strange;
        if what != MarkSelection::Ids(vec![]) {
            match b.mark(&self.user, what.clone(), mark).await {
                Ok(done) => {
                    missing.extend(done.not_found.iter().map(NotificationId::to_string));
                    // A change is told to all of the user's sockets, this one too, by the commit itself. What was so
                    // already is told to nobody else, but the one who asked gets an answer.
                    if done.changed == 0 {
                        self.counts = newer(self.counts, done.counts);
                        self.confirm_mark(what, &done.not_found, mark, out);
                    }
                }
                Err(e) => {
                    out.push(unavailable(&e));
                    return;
                }
            }
        }
        if !missing.is_empty() {
            out.push(not_found(&missing));
        }
    }

    fn confirm_mark(&mut self, what: MarkSelection, gone: &[NotificationId], mark: MarkAs, out: &mut Outbox) {
        let marked = match what {
            MarkSelection::UpToSeq(to) => Marked::UpToSeq(to),
            MarkSelection::Ids(mut ids) => {
                ids.retain(|id| !gone.contains(id));
                if ids.is_empty() {
                    return;
                }
                Marked::Ids(ids)
            }
        };
        self.tell_mark(&marked, mark, true, out);
    }

    async fn auth(&mut self, token: &str, b: &dyn Backend, out: &mut Outbox) -> Flow {
        match b.verify(token).await {
            Ok(t) if t.user != self.user || self.issuer.refuses(t.issuer.as_deref()) => Flow::Close(close::WRONG_USER),
            Ok(t) => {
                self.expires_at = t.expires_at;
                self.issuer = Issuer::Known(t.issuer);
                Flow::Go
            }
            Err(TokenError::Invalid) => Flow::Close(close::INVALID_TOKEN),
            Err(TokenError::Expired) => Flow::Close(close::TOKEN_EXPIRED),
            Err(TokenError::Unavailable) => {
                out.push(p::error("unavailable", "the token can't be checked now; send it again in a moment"));
                Flow::Go
            }
        }
    }

    // --- what the host says ------------------------------------------------------------------------------------

    /// Only while not [`busy`](Self::busy).
    pub fn hint(&mut self, hint: &Hint, out: &mut Outbox) {
        match hint {
            // No seq: it is in no feed, and both protocols show it alike.
            Hint::Ephemeral(item) => out.push(item.classic.clone()),
            Hint::Item { item, seq, counts } => self.item(item, *seq, *counts, out),
            Hint::Feed(change) => self.change(change, out),
        }
    }

    fn item(&mut self, item: &Arc<Item>, seq: i64, counts: Counts, out: &mut Outbox) {
        if seq <= self.last_seq {
            return;
        }
        if seq > self.last_seq + 1 {
            self.held.insert(seq, (item.clone(), counts));
            if self.held.len() > HELD_MAX {
                self.close_gap();
            }
            return;
        }
        self.send_item(item, seq, counts, out);
        self.release(out);
    }

    fn send_item(&mut self, item: &Item, seq: i64, counts: Counts, out: &mut Outbox) {
        self.last_seq = seq;
        self.counts = newer(self.counts, counts);
        let text = if self.v1() { v1(&item.frame, seq, self.counts.unread) } else { item.classic.clone() };
        out.put(text, Some(seq), Some(seq));
    }

    /// Sends what a gap held back and holds back no longer.
    fn release(&mut self, out: &mut Outbox) {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > self.last_seq + 1 {
                return;
            }
            let (seq, (item, counts)) = entry.remove_entry();
            if seq > self.last_seq {
                self.send_item(&item, seq, counts, out);
            }
        }
    }

    /// Whether live items wait for one that has not come.
    pub fn has_gap(&self) -> bool {
        !self.held.is_empty()
    }

    fn change(&mut self, change: &FeedChange, out: &mut Outbox) {
        if change.counts.version <= self.floor {
            return;
        }
        match &change.kind {
            FeedChangeKind::Marked { what, mark } => {
                self.counts = newer(self.counts, change.counts);
                self.tell_mark(what, *mark, change.unread_changed, out);
            }
            FeedChangeKind::Erased { epoch, head_seq } => {
                if *epoch != *self.epoch {
                    let state = FeedState {
                        epoch: epoch.clone(),
                        head_seq: *head_seq,
                        min_seq: *head_seq + 1,
                        counts: change.counts,
                    };
                    self.reset("erased", &state, out);
                }
            }
        }
    }

    /// The counts told are always the newest known, so an older change can't turn them back.
    fn tell_mark(&mut self, what: &Marked, mark: MarkAs, unread_changed: bool, out: &mut Outbox) {
        match what {
            Marked::Ids(ids) if mark == MarkAs::Read && ids.len() == 1 => {
                out.push(p::notification_update(ids[0], "read"));
                out.push(p::unread_count(self.counts.unread));
            }
            _ if unread_changed => out.push(p::unread_count(self.counts.unread)),
            _ => {}
        }
        if self.v1() {
            out.push(p::marked(what, mark));
            out.push(p::counts(&self.counts));
        }
    }

    pub fn bye(&self, after_ms: u32, spread_ms: u32, out: &mut Outbox) {
        if self.v1() {
            out.push(p::bye(u64::from(after_ms), u64::from(spread_ms)));
        }
    }
}

/// Who signed the token that let the client in.
#[derive(Clone, Debug)]
pub enum Issuer {
    /// `None`: the token named none.
    Known(Option<String>),
    /// It came by a ticket, which does not say.
    Unknown,
}

impl Issuer {
    fn refuses(&self, other: Option<&str>) -> bool {
        matches!(self, Self::Known(mine) if mine.as_deref() != other)
    }
}

/// What let the client in.
#[derive(Clone, Debug)]
pub struct Credential {
    pub issuer: Issuer,
    pub expires_at: Timestamp,
}

fn newer(a: Counts, b: Counts) -> Counts {
    if b.version > a.version { b } else { a }
}

fn v1(frame: &campanile_model::frame::Frame, seq: i64, unread: i64) -> Text {
    Text::try_from(frame.v1(seq, unread)).unwrap_or_default()
}

fn not_found(ids: &[String]) -> Text {
    if ids.is_empty() {
        return p::error("not_found", "no such notification");
    }
    let shown = ids.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if ids.len() > 20 { ", …" } else { "" };
    p::error("not_found", &format!("no such notification: {shown}{more}"))
}

fn unavailable(e: &StoreError) -> Text {
    match e {
        StoreError::Row { .. } | StoreError::Statement { .. } => {
            tracing::error!(error = e as &dyn std::error::Error, "A client's request failed");
            p::error("internal", "something went wrong here")
        }
        _ => p::error("unavailable", "the database can't be used now; try again"),
    }
}

fn given_up(e: &StoreError) -> Flow {
    match e {
        StoreError::Row { .. } | StoreError::Statement { .. } => {
            tracing::error!(error = e as &dyn std::error::Error, "A feed could not be read");
            Flow::Close(close::FAULT)
        }
        _ => Flow::Close(close::OVERLOAD),
    }
}
