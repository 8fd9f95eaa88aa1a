//! From what became of a message to what the broker is told. Pure.

use crate::ingest::IngestError;
use campanile_model::ports::{AcceptError, StoreError};

/// What a failed attempt to accept a message leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The sender must change it: to the poison list, then ack.
    Aside,
    /// Somebody else is at the same thing just now: try again here.
    Again,
    /// It failed by itself while others may not: try again here, then aside, so that one message can't stop all others.
    Doubt,
    /// The database is away, or too much is waiting: nothing is said to the broker, and the consumer ends.
    Later,
}

pub fn decide(e: &IngestError) -> Decision {
    match e {
        IngestError::Invalid(_) | IngestError::Accept(AcceptError::KeyMismatch) => Decision::Aside,
        IngestError::Accept(AcceptError::KeyBusy | AcceptError::Stale) => Decision::Again,
        IngestError::Backlog => Decision::Later,
        IngestError::Accept(AcceptError::Store(e)) => match e {
            StoreError::Unavailable(_) | StoreError::CommitUnknown(_) | StoreError::Overloaded => Decision::Later,
            StoreError::Row { .. } | StoreError::Statement { .. } => Decision::Doubt,
        },
    }
}

/// One acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub tag: u64,
    /// This one and every one before it.
    pub multiple: bool,
}

/// Acknowledges what is settled: everything up to the first open message in one run, what is settled behind it singly.
///
/// Tags rise, and whatever came before the first of them is acknowledged already.
pub fn acks(messages: &[(u64, bool)]) -> Vec<Ack> {
    let run = messages.iter().take_while(|(_, settled)| *settled).count();
    let (before, behind) = messages.split_at(run);
    let run = before.last().map(|(tag, _)| Ack { tag: *tag, multiple: true });
    let single = behind.iter().filter(|(_, settled)| *settled).map(|(tag, _)| Ack { tag: *tag, multiple: false });
    run.into_iter().chain(single).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Invalid;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(e: impl Into<IngestError>) -> Decision {
        decide(&e.into())
    }

    #[test]
    fn only_the_senders_own_faults_put_a_message_aside() {
        assert_eq!(of(Invalid { code: "not_available", faults: Vec::new() }), Decision::Aside);
        assert_eq!(of(AcceptError::KeyMismatch), Decision::Aside);
        assert_eq!(of(AcceptError::KeyBusy), Decision::Again);
        assert_eq!(of(AcceptError::Stale), Decision::Again);
        assert_eq!(of(IngestError::Backlog), Decision::Later);
        assert_eq!(of(StoreError::Overloaded), Decision::Later);
        assert_eq!(of(StoreError::Unavailable("gone".into())), Decision::Later);
        assert_eq!(of(StoreError::CommitUnknown("gone".into())), Decision::Later);
        assert_eq!(of(StoreError::Statement { what: "x", source: "y".into() }), Decision::Doubt);
        let row = StoreError::Row { table: "t", column: "c", row: String::new(), detail: String::new() };
        assert_eq!(of(row), Decision::Doubt);
    }

    #[test]
    fn a_run_ends_at_the_first_open_message() {
        let ack = |tag, multiple| Ack { tag, multiple };
        assert_eq!(acks(&[(5, true), (6, true), (7, true)]), [ack(7, true)]);
        assert_eq!(acks(&[(5, true), (6, false), (7, true), (8, false)]), [ack(5, true), ack(7, false)]);
        assert_eq!(acks(&[(5, false), (6, true)]), [ack(6, false)]);
        assert!(acks(&[(5, false)]).is_empty());
        assert!(acks(&[]).is_empty());
    }

    proptest! {
        /// What a broker would make of the acks is just what is settled.
        #[test]
        fn nothing_open_is_ever_acked(settled in proptest::collection::vec(any::<bool>(), 0..50), first in 1_u64..1000) {
            let messages: Vec<_> = (first..).zip(settled).collect();
            let mut acked = BTreeSet::new();
            for ack in acks(&messages) {
                let from = if ack.multiple { first } else { ack.tag };
                acked.extend(from..=ack.tag);
            }
            let wanted: BTreeSet<_> = messages.iter().filter(|m| m.1).map(|m| m.0).collect();
            prop_assert_eq!(acked, wanted);
        }
    }
}
