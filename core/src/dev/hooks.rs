//! The webhook bin: requests that came to `/dev/hook/…`, in memory, newest last. Absent on purpose: disk, and any part in
//! production.

use campanile_admin_ui::pages::hooks::ANSWERS;
use campanile_model::{
    Clock, Timestamp,
    clock::{SystemClock, wire},
};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::sync::watch;

/// Older requests make room.
const KEPT: usize = 200;

/// One request, and what it was answered.
#[derive(Clone, Debug, Serialize)]
pub struct Caught {
    /// From 1, in order of arrival; never used again.
    pub id: u64,
    #[serde(with = "wire")]
    pub at: Timestamp,
    pub method: String,
    /// Below `/dev/hook/`, with the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub answered: u16,
}

pub struct Hooks {
    answer: AtomicU16,
    requests: Mutex<VecDeque<Arc<Caught>>>,
    /// The newest id; a clear changes it too.
    changed: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            answer: AtomicU16::new(ANSWERS[0].0),
            requests: Mutex::default(),
            changed: watch::Sender::new(0),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Hooks {
    /// Keeps it, and says with which status it is answered.
    pub fn catch(&self, method: &str, path: &str, headers: Vec<(String, String)>, body: &[u8]) -> u16 {
        let answered = self.answer();
        let mut requests = self.requests();
        self.changed.send_modify(|id| {
            *id += 1;
            while requests.len() >= KEPT {
                requests.pop_front();
            }
            requests.push_back(Arc::new(Caught {
                id: *id,
                at: self.clock.now(),
                method: method.to_owned(),
                path: path.to_owned(),
                headers,
                body: String::from_utf8_lossy(body).into_owned(),
                answered,
            }));
        });
        answered
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Arc<Caught>> {
        self.requests().iter().cloned().collect()
    }

    pub fn get(&self, id: u64) -> Option<Arc<Caught>> {
        self.requests().iter().find(|r| r.id == id).cloned()
    }

    pub fn clear(&self) {
        self.requests().clear();
        self.changed.send_modify(|_| ());
    }

    pub fn answer(&self) -> u16 {
        self.answer.load(Ordering::Relaxed)
    }

    /// False: none that the page offers.
    pub fn set_answer(&self, status: u16) -> bool {
        let known = ANSWERS.iter().any(|(known, _)| *known == status);
        if known {
            self.answer.store(status, Ordering::Relaxed);
            self.changed.send_modify(|_| ());
        }
        known
    }

    /// Wakes at every change, with the newest id so far.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn requests(&self) -> MutexGuard<'_, VecDeque<Arc<Caught>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_answered_as_wished() {
        let hooks = Hooks::default();
        for n in 0..=KEPT {
            assert_eq!(hooks.catch("POST", &n.to_string(), Vec::new(), b"\xff"), 200);
        }
        let list = hooks.list();
        assert_eq!((list.len(), list[0].path.as_str(), list[0].id), (KEPT, "1", 2));
        assert_eq!(list[0].body, "\u{fffd}", "what is no text is shown all the same");
        assert!(hooks.set_answer(503) && !hooks.set_answer(302));
        assert_eq!(hooks.catch("POST", "x", Vec::new(), b""), 503);
        hooks.clear();
        assert!(hooks.list().is_empty() && hooks.get(2).is_none());
        assert_eq!(*hooks.watch().borrow(), KEPT as u64 + 2, "ids are never used again");
    }
}
