//! What came and went since it was last asked: the hub's side of the list that every node can read.
//!
//! Noting is a push under a short lock, so a handshake never waits for the database. Absent on purpose: writing it down
//! (`crate::cluster`).

use super::conn::Conn;
use campanile_model::ConnId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};
use tokio::sync::Notify;

#[derive(Default)]
pub struct Ledger {
    changes: Mutex<Changes>,
    bell: Notify,
}

#[derive(Default)]
pub struct Changes {
    pub opened: HashMap<ConnId, Arc<Conn>>,
    pub closed: Vec<ConnId>,
}

impl Ledger {
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn opened(&self, conn: &Arc<Conn>) {
        self.changes().opened.insert(conn.id, conn.clone());
        self.bell.notify_one();
    }

    pub fn closed(&self, conn: &Conn) {
        let mut changes = self.changes();
        conn.gone.store(true, Relaxed);
        // What was never written down needs no taking off.
        if changes.opened.remove(&conn.id).is_none() {
            changes.closed.push(conn.id);
        }
        drop(changes);
        self.bell.notify_one();
    }

    /// Returns when something came or went, at once when it did before.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    pub fn take(&self) -> Changes {
        std::mem::take(&mut *self.changes())
    }

    /// Everything that is open, of which `seen` was read just before; later comings and goings are told as changes.
    pub fn start_anew(&self, seen: Vec<Arc<Conn>>) -> HashMap<ConnId, Arc<Conn>> {
        let mut changes = self.changes();
        changes.closed.clear();
        let mut open = std::mem::take(&mut changes.opened);
        // Marked under this lock: whoever is not gone now is told of when it goes.
        open.extend(seen.into_iter().filter(|c| !c.gone.load(Relaxed)).map(|c| (c.id, c)));
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{
        TransportKind,
        conn::{Conn, Visitor},
        protocol::Protocol,
    };
    use campanile_model::UserKey;

    fn conn() -> Arc<Conn> {
        let epoch = chrono::DateTime::UNIX_EPOCH;
        let visitor = Visitor {
            user: UserKey::new("default", "ada"),
            transport: TransportKind::Sse,
            protocol: Protocol::V1,
            address: None,
            user_agent: None,
            expires_at: epoch,
        };
        Arc::new(Conn::new(visitor, epoch, 1024, 0))
    }

    #[test]
    fn what_came_and_went_between_two_looks_is_not_told() {
        let ledger = Ledger::default();
        let (short, long) = (conn(), conn());
        ledger.opened(&short);
        ledger.opened(&long);
        ledger.closed(&short);
        let changes = ledger.take();
        assert_eq!(changes.opened.into_keys().collect::<Vec<_>>(), [long.id]);
        assert!(changes.closed.is_empty());
        ledger.closed(&long);
        assert_eq!(ledger.take().closed, [long.id]);
    }

    #[test]
    fn a_new_start_holds_what_is_open_and_nothing_that_went_while_it_was_read() {
        let ledger = Ledger::default();
        let (stays, goes, comes) = (conn(), conn(), conn());
        ledger.opened(&stays);
        ledger.opened(&goes);
        // The hub was read, then one went and one came.
        let seen = vec![stays.clone(), goes.clone()];
        ledger.closed(&goes);
        ledger.opened(&comes);
        let open = ledger.start_anew(seen);
        assert!(open.contains_key(&stays.id) && open.contains_key(&comes.id) && !open.contains_key(&goes.id));
        let changes = ledger.take();
        assert!(changes.opened.is_empty() && changes.closed.is_empty(), "told once");
        ledger.closed(&comes);
        assert_eq!(ledger.take().closed, [comes.id], "and its end is told");
    }
}
