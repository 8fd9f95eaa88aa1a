//! Tokens from their beginning to their one end.

use super::Line;
use crate::{
    Info, Permission,
    wire::{Outcome, Status},
};
use futures_util::future::AbortHandle;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// One token.
pub(crate) struct Work {
    line: Arc<Line>,
    token: u64,
    done: AtomicBool,
    cancelled: AtomicBool,
    /// Let past its point of no return.
    asked: AtomicBool,
}

impl Work {
    fn end(&self, outcome: &Outcome) {
        if !self.done.swap(true, Ordering::AcqRel) {
            self.line.complete(self.token, outcome);
        }
    }
}

impl Permission for Work {
    fn may_proceed(&self) -> bool {
        if self.cancelled.load(Ordering::Acquire) || self.line.is_cancelled(self.token) {
            return false;
        }
        self.asked.store(true, Ordering::Release);
        true
    }
}

/// Tokens that one future works on.
struct Group {
    abort: AbortHandle,
    /// Those of them that nobody cancelled.
    wanted: AtomicUsize,
}

type Entries = HashMap<u64, (Arc<Work>, Arc<Group>)>;

/// All tokens under way in an instance.
#[derive(Default)]
pub(crate) struct Board {
    entries: Mutex<Entries>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes tokens in; `abort` drops the future that works on them.
    pub(crate) fn enter(
        self: &Arc<Self>,
        line: &Arc<Line>,
        info: &Info,
        tokens: impl ExactSizeIterator<Item = u64>,
        abort: AbortHandle,
    ) -> Vec<Guard> {
        let group = Arc::new(Group { abort, wanted: AtomicUsize::new(tokens.len()) });
        let mut entries = self.lock();
        tokens
            .map(|token| {
                let flag = || AtomicBool::new(false);
                let work = Work { line: line.clone(), token, done: flag(), cancelled: flag(), asked: flag() };
                let work = Arc::new(work);
                entries.insert(token, (work.clone(), group.clone()));
                Guard { work, board: self.clone(), idempotent: info.idempotent, asks: info.asks_permission }
            })
            .collect()
    }

    /// Drops the future once all of its tokens are cancelled; until then they end with what really became of them.
    pub(crate) fn cancel(&self, token: u64) {
        let Some((work, group)) = self.lock().get(&token).cloned() else { return };
        if !work.cancelled.swap(true, Ordering::AcqRel) && group.wanted.fetch_sub(1, Ordering::AcqRel) == 1 {
            group.abort.abort();
        }
    }
}

/// Held by the future that works on a token. Whichever way it goes, the token ends.
pub(crate) struct Guard {
    pub(crate) work: Arc<Work>,
    board: Arc<Board>,
    idempotent: bool,
    asks: bool,
}

impl Guard {
    pub(crate) fn end(self, outcome: &Outcome) {
        self.work.end(outcome);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.work.done.load(Ordering::Acquire) {
            let mut outcome = if thread::panicking() {
                Outcome::new(Status::Internal, "panic", "the channel panicked")
            } else {
                Outcome::new(Status::Cancelled, "cancelled", "the delivery was cut short")
            };
            let unsent = self.asks && !self.work.asked.load(Ordering::Acquire);
            if !self.idempotent && !unsent {
                outcome.detail = Some(json!({ "campanile_uncertain": true }));
            }
            self.work.end(&outcome);
        }
        self.board.lock().remove(&self.work.token);
    }
}
