//! Caught mail in memory, newest last, for `/dev/mail`. Absent on purpose: disk, and any part in production.

use super::faults::Faults;
use campanile_email::{CaughtMail, Outbox};
use campanile_model::{
    Clock, Timestamp,
    clock::{SystemClock, wire},
};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Older mails make room.
const KEPT: usize = 500;

/// One caught mail.
#[derive(Clone, Debug, Serialize)]
pub struct Caught {
    /// From 1, in order of arrival; never used again.
    pub id: u64,
    #[serde(with = "wire")]
    pub at: Timestamp,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message_id: String,
    /// As it would have gone over the wire.
    #[serde(skip)]
    pub source: Vec<u8>,
}

pub struct Mailbox {
    /// How the provider behaves that would have taken the mail.
    pub faults: Arc<Faults>,
    mails: Mutex<VecDeque<Arc<Caught>>>,
    /// The newest id; 0 before the first mail and after a clear changes it too.
    changed: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            faults: Arc::default(),
            mails: Mutex::default(),
            changed: watch::Sender::new(0),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Mailbox {
    /// Oldest first.
    pub fn list(&self) -> Vec<Arc<Caught>> {
        self.mails().iter().cloned().collect()
    }

    pub fn get(&self, id: u64) -> Option<Arc<Caught>> {
        self.mails().iter().find(|m| m.id == id).cloned()
    }

    pub fn clear(&self) {
        self.mails().clear();
        self.changed.send_modify(|_| ());
    }

    /// Wakes at every change of the list, with the newest id so far.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn mails(&self) -> MutexGuard<'_, VecDeque<Arc<Caught>>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox for Mailbox {
    fn catch(&self, m: CaughtMail) {
        let mut mails = self.mails();
        self.changed.send_modify(|id| {
            *id += 1;
            while mails.len() >= KEPT {
                mails.pop_front();
            }
            mails.push_back(Arc::new(Caught {
                id: *id,
                at: self.clock.now(),
                from: m.from,
                to: m.to,
                subject: m.subject,
                text: m.text,
                html: m.html,
                message_id: m.message_id,
                source: m.source,
            }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str) -> CaughtMail {
        CaughtMail {
            from: "a@x.org".into(),
            to: "b@x.org".into(),
            subject: subject.into(),
            text: String::new(),
            html: String::new(),
            message_id: String::new(),
            source: Vec::new(),
        }
    }

    #[test]
    fn keeps_the_newest_and_wakes_watchers() {
        let mailbox = Mailbox::default();
        let mut watch = mailbox.watch();
        for n in 1..=KEPT + 3 {
            mailbox.catch(mail(&n.to_string()));
        }
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), (KEPT + 3) as u64);
        let list = mailbox.list();
        assert_eq!((list.len(), list[0].id, list[0].subject.as_str()), (KEPT, 4, "4"));
        assert!(mailbox.get(3).is_none() && mailbox.get(4).is_some());
        mailbox.clear();
        assert!(watch.has_changed().unwrap() && mailbox.list().is_empty());
        mailbox.catch(mail("after"));
        assert_eq!(mailbox.list()[0].id, (KEPT + 4) as u64);
    }
}
