//! What waits to be told to the other nodes: bounded, never waited for, and forgotten once it is stale.
//!
//! What does not fit, or has waited too long for a broker that is away, is dropped from the old end. The drop is not
//! hidden: the sender leaves a message number out, so every receiver knows to look at the rows again.

use campanile_model::signal::Signal;
use std::{
    collections::VecDeque,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub signals: usize,
    /// Of memory, roughly.
    pub bytes: usize,
    /// How long a hint is worth telling; the broker's queues drop it after the same time.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { signals: 50_000, bytes: 16 * 1024 * 1024, age: Duration::from_secs(30) }
    }
}

/// Taken at once, so that the queue's lock is short and messages keep moving.
const BATCH_SIGNALS: usize = 1024;
const BATCH_BYTES: usize = 1024 * 1024;

/// Signals that were dropped, by why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    pub overflow: u64,
    pub expired: u64,
}

/// What is to be sent next.
#[derive(Debug, Default)]
pub struct Batch {
    pub signals: Vec<Signal>,
    /// What was dropped since the last batch; the receivers must hear that something is missing.
    pub dropped: Dropped,
}

#[derive(Debug)]
pub struct Outgoing {
    limits: Limits,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    dropped: Dropped,
}

#[derive(Debug)]
struct Entry {
    signal: Signal,
    since: Instant,
    bytes: usize,
}

impl State {
    fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn drop_stale(&mut self, age: Duration) {
        while self.queue.front().is_some_and(|e| e.since.elapsed() >= age) {
            self.pop();
            self.dropped.expired += 1;
        }
    }
}

impl Outgoing {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), filled: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, signal: Signal) {
        let entry = Entry { bytes: memory(&signal), signal, since: Instant::now() };
        let mut state = self.state();
        state.drop_stale(self.limits.age);
        state.bytes += entry.bytes;
        state.queue.push_back(entry);
        while state.queue.len() > self.limits.signals || state.bytes > self.limits.bytes {
            state.pop();
            state.dropped.overflow += 1;
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until there is something to say, even if only that something was dropped.
    pub async fn take(&self) -> Batch {
        loop {
            let batch = self.take_now();
            if !batch.signals.is_empty() || batch.dropped != Dropped::default() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    pub fn take_now(&self) -> Batch {
        let mut state = self.state();
        state.drop_stale(self.limits.age);
        let mut batch = Batch { dropped: take(&mut state.dropped), ..Batch::default() };
        let mut bytes = 0;
        while batch.signals.len() < BATCH_SIGNALS
            && bytes < BATCH_BYTES
            && let Some(entry) = state.pop()
        {
            bytes += entry.bytes;
            batch.signals.push(entry.signal);
        }
        if state.queue.is_empty() {
            // After a burst the memory goes back.
            state.queue.shrink_to(BATCH_SIGNALS);
        }
        batch
    }

    pub fn is_empty(&self) -> bool {
        self.state().queue.is_empty()
    }
}

/// What a waiting signal keeps in memory, roughly: names are short, and the frame is shared by its users.
fn memory(signal: &Signal) -> usize {
    const EACH: usize = 128;
    match signal {
        Signal::Push { frame, users } => EACH * (1 + users.len()) + frame.classic().len(),
        Signal::Behind { users } => EACH * (1 + users.len()),
        Signal::Ephemeral { frame, users } => EACH * (1 + users.len()) + frame.classic().len(),
        _ => 2 * EACH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::AppId;

    fn signal(n: usize) -> Signal {
        Signal::KeysChanged(AppId::from(n.to_string()))
    }
    fn names(batch: &Batch) -> Vec<String> {
        batch.signals.iter().map(|s| if let Signal::KeysChanged(a) = s { a.to_string() } else { panic!() }).collect()
    }

    #[tokio::test]
    async fn the_newest_stay_and_what_went_is_told() {
        let q = Outgoing::new(Limits { signals: 3, ..Limits::default() });
        (0..10).for_each(|n| q.push(signal(n)));
        let batch = q.take().await;
        assert_eq!(names(&batch), ["7", "8", "9"]);
        assert_eq!(batch.dropped, Dropped { overflow: 7, expired: 0 });
        q.push(signal(10));
        assert_eq!(q.take().await.dropped, Dropped::default());
    }

    #[test]
    fn memory_is_bounded_too_even_for_one_signal() {
        let q = Outgoing::new(Limits { bytes: 600, ..Limits::default() });
        (0..10).for_each(|n| q.push(signal(n)));
        assert_eq!(names(&q.take_now()), ["8", "9"]);
        let users = (0..10).map(crate::connection::bus::exam::target).collect();
        q.push(Signal::Behind { users });
        let batch = q.take_now();
        assert!(batch.signals.is_empty());
        assert_eq!(batch.dropped.overflow, 1);
        assert!(q.is_empty());
    }

    #[tokio::test]
    async fn what_waited_too_long_goes_unsaid() {
        let q = Outgoing::new(Limits { age: Duration::ZERO, ..Limits::default() });
        q.push(signal(1));
        let batch = q.take().await;
        assert!(batch.signals.is_empty());
        assert_eq!(batch.dropped, Dropped { overflow: 0, expired: 1 });
    }

    #[test]
    fn a_batch_has_an_end() {
        let q = Outgoing::new(Limits::default());
        (0..BATCH_SIGNALS + 5).for_each(|n| q.push(signal(n)));
        assert_eq!(q.take_now().signals.len(), BATCH_SIGNALS);
        assert_eq!(q.take_now().signals.len(), 5);
    }
}
