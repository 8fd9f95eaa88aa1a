//! Closing what is missing between a client and its feed: on the client's wish (resume) and on our own finding (a gap, a
//! full queue, the regular look). Reads page by page, so that the socket sets the pace.

use super::{
    super::{
        backend::Backend,
        close,
        inbox::{Head, Overflow},
        protocol as p,
        transport::Text,
    },
    Cursor, Flow, Outbox, Session, given_up, newer, v1,
};
use campanile_model::feed::{Counts, FeedState};

/// Feed items read at once.
const PAGE: u32 = 50;

/// Missed items, on the client's wish.
#[derive(Debug)]
pub(super) struct Resume {
    since: i64,
    next: i64,
    to: i64,
}

/// Missed items, on our own finding: from `last_seq` on.
#[derive(Debug, Default)]
pub(super) struct Pull {
    to: i64,
    /// The newest counts seen with the finding.
    counts: Counts,
    /// How many unread ones were among those sent.
    unread: i64,
    heartbeat: bool,
    reset: bool,
}

impl Session {
    pub(super) async fn plan_resume(
        &mut self,
        state: &FeedState,
        at: Cursor,
        b: &dyn Backend,
        out: &mut Outbox,
    ) -> Flow {
        self.resume_used = true;
        let to = self.opened_at;
        let refused = if *at.epoch != *state.epoch {
            Some("epoch")
        } else if at.since > state.head_seq {
            Some("ahead")
        } else if at.since < state.min_seq - 1 {
            Some("retention")
        } else if at.since < to {
            match b.missed(&self.user, at.since, to, self.rules.resume_max + 1).await {
                Ok(n) if n > self.rules.resume_max => Some("too_many"),
                Ok(_) => None,
                Err(e) => return given_up(&e),
            }
        } else {
            None
        };
        if let Some(reason) = refused {
            self.tally.reset += 1;
            self.reset(reason, state, out);
        } else {
            self.tally.resumed += 1;
            self.resume = Some(Resume { since: at.since, next: at.since, to: to.max(at.since) });
        }
        Flow::Go
    }

    /// Tells that what is missing will not be sent one by one.
    pub(super) fn reset(&mut self, reason: &str, state: &FeedState, out: &mut Outbox) {
        self.adopt(state);
        // What is newer than the state that the client will ask for was not told by it.
        self.held = self.held.split_off(&(self.last_seq + 1));
        let cursor = Some(state.head_seq);
        if self.v1() {
            out.put(p::reset(reason, &state.epoch, state.head_seq, &self.counts), None, cursor);
        } else {
            // A classic client has no word for it; the badge at least is right.
            out.put(p::unread_count(self.counts.unread), None, cursor);
        }
        self.release(out);
    }

    pub(super) async fn resume_frame(&mut self, at: Cursor, b: &dyn Backend, out: &mut Outbox) -> Flow {
        if self.resume_used {
            out.push(p::error("already_resumed", "resume: is accepted once per connection"));
            return Flow::Go;
        }
        match b.state(&self.user).await {
            Ok(state) => self.plan_resume(&state, at, b, out).await,
            Err(e) => given_up(&e),
        }
    }

    /// The missing ones have had their time: they are read from the feed, if it is still the one we know. After a merge the
    /// numbers up to the new ones are those of everything that was there before.
    pub fn close_gap(&mut self) {
        if let Some((&to, (_, counts))) = self.held.last_key_value() {
            let counts = *counts;
            self.recheck = true;
            self.plan_pull(to, counts);
        }
    }

    fn plan_pull(&mut self, to: i64, counts: Counts) -> &mut Pull {
        let pull = self.pull.get_or_insert_default();
        pull.to = pull.to.max(to);
        pull.counts = newer(pull.counts, counts);
        pull
    }

    /// The queue was full: the rest is read from the feed, if it is still the one we know.
    pub fn overflow(&mut self, o: Overflow) {
        self.recheck = true;
        let pull = self.plan_pull(o.up_to, o.counts);
        pull.reset |= o.lost_marks;
    }

    /// The node's regular look at the feed: repairs what hints have lost, then the heartbeat.
    pub fn head(&mut self, head: &Head, out: &mut Outbox) {
        match head {
            Some(state) if *state.epoch == *self.epoch => {
                let pull = self.plan_pull(state.head_seq, state.counts);
                pull.heartbeat = true;
                self.finish_pull(out);
            }
            other => {
                self.recheck = other.is_some();
                self.heartbeat(out);
            }
        }
    }

    fn heartbeat(&self, out: &mut Outbox) {
        if self.v1() {
            out.push(p::heartbeat(self.last_seq));
        }
    }

    /// While there is such work, hints wait.
    pub fn busy(&self) -> bool {
        self.recheck || self.resume.is_some() || self.pull.is_some()
    }

    /// One page of it.
    pub async fn work(&mut self, b: &dyn Backend, out: &mut Outbox) -> Flow {
        if std::mem::take(&mut self.recheck) {
            return match b.state(&self.user).await {
                Ok(state) => {
                    if *state.epoch != *self.epoch {
                        self.reset("erased", &state, out);
                        // The client starts anew already.
                        if let Some(pull) = &mut self.pull {
                            pull.reset = false;
                        }
                    }
                    Flow::Go
                }
                // The next look will tell again.
                Err(_) => Flow::Go,
            };
        }
        if self.resume.is_some() { self.resume_page(b, out).await } else { self.pull_page(b, out).await }
    }

    async fn resume_page(&mut self, b: &dyn Backend, out: &mut Outbox) -> Flow {
        let v1_spoken = self.v1();
        let Some(r) = self.resume.as_mut() else { return Flow::Go };
        if r.next < r.to {
            let page = match b.replay(&self.user, r.next, r.to, PAGE).await {
                Ok(page) => page,
                // All or nothing: the client still has its cursor.
                Err(e) => return given_up(&e),
            };
            if page.covered_to <= r.next {
                // Can't be: the feed covers what it has counted. Rather an explicit end than a silent gap.
                return Flow::Close(close::FAULT);
            }
            r.next = page.covered_to.min(r.to);
            for item in page.items {
                self.tally.replayed += 1;
                let text = if v1_spoken {
                    v1(&item.frame, item.seq, self.counts.unread)
                } else {
                    Text::try_from(item.frame.classic()).unwrap_or_default()
                };
                out.put(text, Some(item.seq), Some(item.seq));
            }
        }
        if r.next >= r.to {
            let (since, to) = (r.since, r.to);
            self.resume = None;
            if self.v1() {
                out.put(p::resumed(since, to), None, Some(to));
            } else if self.stream {
                out.put(Text::default(), None, Some(to));
            }
        }
        Flow::Go
    }

    async fn pull_page(&mut self, b: &dyn Backend, out: &mut Outbox) -> Flow {
        let Some(to) = self.pull.as_ref().map(|p| p.to) else { return Flow::Go };
        if self.last_seq < to {
            match b.replay(&self.user, self.last_seq, to, PAGE).await {
                Ok(page) if page.covered_to > self.last_seq => {
                    let counts = self.pull.as_ref().map_or(self.counts, |p| newer(p.counts, self.counts));
                    for item in page.items {
                        self.tally.replayed += 1;
                        if let Some(pull) = &mut self.pull {
                            pull.unread += i64::from(item.unread);
                        }
                        let text = if self.v1() {
                            v1(&item.frame, item.seq, counts.unread)
                        } else {
                            Text::try_from(item.frame.classic()).unwrap_or_default()
                        };
                        out.put(text, Some(item.seq), Some(item.seq));
                    }
                    self.last_seq = page.covered_to.min(to);
                }
                // Nothing is lost: `last_seq` stands, and the next look at the feed starts from it.
                Ok(_) | Err(_) => {
                    let pull = self.pull.take();
                    self.held.clear();
                    if pull.is_some_and(|p| p.reset) {
                        return Flow::Close(close::OVERLOAD);
                    }
                    return Flow::Go;
                }
            }
        }
        self.finish_pull(out);
        if self.pull.as_ref().is_some_and(|p| p.reset && self.last_seq >= p.to) {
            return self.reset_after_loss(b, out).await;
        }
        Flow::Go
    }

    fn finish_pull(&mut self, out: &mut Outbox) {
        match &self.pull {
            Some(p) if self.last_seq >= p.to && !p.reset => {}
            _ => return,
        }
        let Some(pull) = self.pull.take() else { return };
        if pull.counts.version > self.counts.version {
            let told = self.counts.unread + pull.unread;
            self.counts = pull.counts;
            if self.v1() {
                out.push(p::counts(&self.counts));
            } else if told != self.counts.unread {
                // A change of marks was lost on the way here.
                out.push(p::unread_count(self.counts.unread));
            }
        }
        self.release(out);
        if pull.heartbeat {
            self.heartbeat(out);
        }
    }

    async fn reset_after_loss(&mut self, b: &dyn Backend, out: &mut Outbox) -> Flow {
        let heartbeat = self.pull.take().is_some_and(|p| p.heartbeat);
        match b.state(&self.user).await {
            Ok(state) => self.reset("slow", &state, out),
            Err(e) => return given_up(&e),
        }
        if heartbeat {
            self.heartbeat(out);
        }
        Flow::Go
    }
}
