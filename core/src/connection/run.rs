//! The task of one connection: between its wire, its session and what the hub has for it.
//!
//! One task per connection, one small future; pings, expiry and the regular look at the feed come from the hub's shared
//! ticks. A reader that does not read is closed, never awaited for longer than the stall limit.

use super::{
    backend::Backend,
    close::{self, Close},
    conn::{Conn, TransportKind},
    hub::Registration,
    inbox::{CHUNK, Hint, Taken},
    session::{Cursor, Flow, Outbox, Session},
    transport::{Incoming, Lost, Transport},
    watch,
};
use crate::observe::metrics as m;
use campanile_model::{feed::SeenByClient, signal::Watched};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

/// How long a missing number may be on its way before it is read from the feed.
const GAP: Duration = Duration::from_millis(50);
/// What a close frame and the peer's answer may take.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(5);

enum Event {
    In(Incoming),
    Inbox,
}

/// How a connection ended.
enum End {
    /// We say why and wait a little for the answer.
    Ours(Close),
    /// The peer said goodbye.
    Theirs,
    Lost,
}

struct Loop<'a> {
    conn: &'a Arc<Conn>,
    reg: &'a Registration,
    backend: &'a dyn Backend,
    stall: Duration,
    /// When the ping that is out was sent.
    pinged: Option<Instant>,
    gap_armed: bool,
    pending: VecDeque<Hint>,
    out: Outbox,
}

/// Runs until the connection ends; the registration goes with it, whatever happens.
pub async fn run(
    mut transport: Transport,
    reg: Registration,
    mut session: Box<Session>,
    resume: Option<Cursor>,
    backend: &dyn Backend,
) {
    let conn = reg.conn().clone();
    let mut l = Loop {
        conn: &conn,
        reg: &reg,
        backend,
        stall: reg.hub().limits().write_stall,
        pinged: None,
        gap_armed: false,
        pending: VecDeque::new(),
        out: Outbox::default(),
    };
    let end = match Box::pin(l.open(&mut transport, &mut session, resume)).await {
        Err(end) => end,
        Ok(()) => loop {
            if let Err(end) = l.turn(&mut transport, &mut session).await {
                break end;
            }
        },
    };
    l.count(&mut session);
    let classic = conn.protocol == super::protocol::Protocol::Classic;
    match end {
        End::Ours(c) => {
            let c = if classic { c.for_classic() } else { c };
            // Gone from the hub at once: what follows is only politeness.
            reg.leave(c.reason);
            // A socket that gave no sign of life, or takes nothing, won't take the close frame for long either.
            Box::pin(transport.close(c, CLOSE_LIMIT)).await;
        }
        End::Theirs => {
            reg.leave("client");
            Box::pin(transport.finish(CLOSE_LIMIT)).await;
        }
        End::Lost => reg.leave("lost"),
    }
}

impl Loop<'_> {
    async fn open(&mut self, t: &mut Transport, s: &mut Session, resume: Option<Cursor>) -> Result<(), End> {
        let flow = s.open(resume, self.backend, &mut self.out).await;
        self.settle(t, s, flow).await
    }

    /// One event, worked off to its end.
    async fn turn(&mut self, t: &mut Transport, s: &mut Session) -> Result<(), End> {
        if s.busy() {
            // Pongs and goodbyes are heard between two pages.
            if let Some(incoming) = t.receive_now() {
                return self.incoming(t, s, incoming).await;
            }
            // An order to close does not wait for the pages.
            if let Some(close) = self.conn.ordered_close() {
                return self.ordered(close);
            }
            let flow = Box::pin(s.work(self.backend, &mut self.out)).await;
            return self.settle(t, s, flow).await;
        }
        if let Some(hint) = self.pending.pop_front() {
            s.hint(&hint, &mut self.out);
            if self.pending.is_empty() || s.busy() || self.out.bytes >= CHUNK {
                return self.settle(t, s, Flow::Go).await;
            }
            return Ok(());
        }
        match next(t, self.conn).await {
            Event::In(incoming) => self.incoming(t, s, incoming).await,
            Event::Inbox => {
                let taken = self.conn.take();
                self.orders(t, s, taken).await
            }
        }
    }

    async fn incoming(&mut self, t: &mut Transport, s: &mut Session, incoming: Incoming) -> Result<(), End> {
        match incoming {
            Incoming::Text(text) => {
                self.conn.active.store(self.reg.hub().monotonic_ms(), Relaxed);
                if self.conn.tells(|| self.backend.now()) {
                    let told = Watched::In(watch::told(&text));
                    self.reg.hub().watched(self.conn.id, self.backend.now(), told);
                }
                let flow = Box::pin(s.request(&text, Instant::now(), self.backend, &mut self.out)).await;
                self.conn.renew(s.expires_at());
                self.settle(t, s, flow).await
            }
            Incoming::Pong => {
                self.conn.pong_by.store(0, Relaxed);
                if let Some(sent) = self.pinged.take() {
                    let label = m::ByTransport::new(self.conn.transport.as_str());
                    let took = sent.elapsed();
                    self.reg.hub().metrics().ping.get_or_create(&label).observe(took.as_secs_f64());
                    self.reg.hub().counts().pong(took);
                    if self.conn.asked.swap(false, Relaxed) {
                        let took_us = took.as_micros() as u64;
                        self.reg.hub().watched(self.conn.id, self.backend.now(), Watched::Pong { took_us });
                    }
                }
                Ok(())
            }
            Incoming::Ping => Ok(()),
            Incoming::Closed => Err(End::Theirs),
            Incoming::Lost => Err(End::Lost),
            Incoming::Binary(_) => Err(End::Ours(close::BINARY)),
            Incoming::Fault(f) => Err(End::Ours(f.close())),
        }
    }

    fn ordered(&mut self, close: Close) -> Result<(), End> {
        // A pong that lay unread while this task was busy has been read by now.
        if close == close::NO_PONG && self.conn.pong_by.load(Relaxed) == 0 {
            return Ok(());
        }
        Err(End::Ours(close))
    }

    async fn orders(&mut self, t: &mut Transport, s: &mut Session, mut taken: Taken) -> Result<(), End> {
        if let Some(close) = taken.close {
            // On a busy machine the end of a drain catches up with its announcement, which says when to come back.
            if let Some((after_ms, spread_ms)) = taken.bye.take() {
                s.bye(after_ms, spread_ms, &mut self.out);
                self.settle(t, s, Flow::Go).await?;
            }
            self.ordered(close)?;
        }
        if taken.ping {
            t.ping().map_err(|Lost| End::Lost)?;
            if self.conn.transport == TransportKind::WebSocket {
                self.pinged = Some(Instant::now());
                self.conn.pong_by.store(self.reg.hub().pong_deadline(), Relaxed);
            }
        }
        if taken.gap_over {
            self.gap_armed = false;
            s.close_gap();
        }
        if let Some(o) = taken.overflow {
            s.overflow(o);
        }
        if let Some((after_ms, spread_ms)) = taken.bye {
            s.bye(after_ms, spread_ms, &mut self.out);
        }
        self.pending.extend(taken.hints);
        if let Some(head) = taken.head {
            if self.pending.is_empty() && !s.busy() {
                s.head(&head, &mut self.out);
            } else {
                // Its turn comes when the rest is through, unless a newer one has come by then.
                self.conn.head_again(*head);
            }
        }
        if taken.ping || !self.out.frames.is_empty() {
            return self.settle(t, s, Flow::Go).await;
        }
        Ok(())
    }

    /// Writes what there is, in one flush; then what the flow says.
    async fn settle(&mut self, t: &mut Transport, s: &mut Session, flow: Flow) -> Result<(), End> {
        self.conn.last_seq.store(s.last_seq(), Relaxed);
        self.conn.acked.store(s.acked(), Relaxed);
        if s.has_gap() && !self.gap_armed && !s.busy() {
            self.gap_armed = true;
            let conn = Arc::downgrade(self.conn);
            // Rare, so it may cost a task: a timer in every connection's future would cost memory for all.
            tokio::spawn(async move {
                tokio::time::sleep(GAP).await;
                if let Some(conn) = conn.upgrade() {
                    conn.gap_over();
                }
            });
        }
        let out = std::mem::take(&mut self.out);
        let stream = t.is_stream();
        for frame in &out.frames {
            if frame.text.is_empty() && !stream {
                continue;
            }
            if !frame.text.is_empty() && self.conn.tells(|| self.backend.now()) {
                let told = Watched::Out(watch::beginning(&frame.text));
                self.reg.hub().watched(self.conn.id, self.backend.now(), told);
            }
            let cursor = frame.cursor.map(|seq| (s.epoch(), seq));
            t.feed(frame.text.clone(), cursor).map_err(|Lost| End::Lost)?;
        }
        match tokio::time::timeout(self.stall, t.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(Lost)) => return Err(End::Lost),
            Err(_) => return Err(End::Ours(close::SLOW)),
        }
        if !out.frames.is_empty() {
            self.written(&out);
            self.count(s);
        }
        match flow {
            Flow::Go => Ok(()),
            Flow::Close(c) => Err(End::Ours(c)),
        }
    }

    fn written(&self, out: &Outbox) {
        let n = out.frames.iter().filter(|f| !f.text.is_empty()).count() as u64;
        self.conn.sent.fetch_add(n, Relaxed);
        self.conn.active.store(self.reg.hub().monotonic_ms(), Relaxed);
        self.reg.hub().count_sent(self.conn.transport, n, out.bytes as u64);
        let mut run: Option<(i64, i64)> = None;
        let confirm = |(from_seq, to_seq): (i64, i64)| {
            self.backend.delivered(SeenByClient { user: self.conn.user.clone(), from_seq, to_seq });
        };
        for seq in out.frames.iter().filter_map(|f| f.seq) {
            match &mut run {
                Some((_, to)) if seq == *to + 1 => *to = seq,
                _ => {
                    if let Some(done) = run.replace((seq, seq)) {
                        confirm(done);
                    }
                }
            }
        }
        if let Some(done) = run {
            confirm(done);
        }
    }

    fn count(&self, s: &mut Session) {
        let t = std::mem::take(&mut s.tally);
        if t != super::session::Tally::default() {
            let metrics = self.reg.hub().metrics();
            metrics.resumes.get_or_create(&m::ByOutcome::new("resumed")).inc_by(u64::from(t.resumed));
            metrics.resumes.get_or_create(&m::ByOutcome::new("reset")).inc_by(u64::from(t.reset));
            metrics.replayed.inc_by(t.replayed);
            self.reg.hub().counts().caught_up(t.resumed, t.reset, t.replayed);
        }
    }
}

/// Reads go first: a pong or a goodbye that is there already must count before an order to close for the lack of it.
/// They can't starve the writes, as the session closes a client that sends too much.
async fn next(t: &mut Transport, conn: &Conn) -> Event {
    let mut receive = pin!(t.receive());
    poll_fn(|cx| {
        if let Poll::Ready(incoming) = receive.as_mut().poll(cx) {
            return Poll::Ready(Event::In(incoming));
        }
        conn.poll_ready(cx).map(|()| Event::Inbox)
    })
    .await
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
