//! `delivered`: numbers that reached a client, gathered for up to a second and told to the store in one statement.
//!
//! Nothing waits for it, and what a crash loses stays `sent`.

use campanile_model::{UserKey, feed::SeenByClient};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use tokio::sync::Notify;

/// Ranges told in one statement.
const BATCH: usize = 500;
/// Users remembered while the database is away; more are forgotten.
const USERS_MAX: usize = 100_000;

#[derive(Default)]
pub struct Confirms {
    seen: Mutex<HashMap<UserKey, Vec<(i64, i64)>>>,
    some: Notify,
}

impl Confirms {
    pub fn add(&self, s: SeenByClient) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.is_empty();
        if seen.len() >= USERS_MAX && !seen.contains_key(&s.user) {
            return;
        }
        insert(seen.entry(s.user).or_default(), s.from_seq, s.to_seq);
        drop(seen);
        if first {
            self.some.notify_one();
        }
    }

    /// Waits until there is something.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    /// Everything gathered, in batches.
    pub fn take(&self) -> Vec<Vec<SeenByClient>> {
        let taken = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let all: Vec<_> = taken
            .into_iter()
            .flat_map(|(user, ranges)| {
                ranges.into_iter().map(move |(from_seq, to_seq)| SeenByClient { user: user.clone(), from_seq, to_seq })
            })
            .collect();
        all.chunks(BATCH).map(<[_]>::to_vec).collect()
    }
}

/// Adds a range to a short sorted list, joining what touches.
fn insert(ranges: &mut Vec<(i64, i64)>, from: i64, to: i64) {
    let start = ranges.partition_point(|r| r.1 < from - 1);
    let end = ranges.partition_point(|r| r.0 <= to + 1);
    let joined = ranges[start..end].iter().fold((from, to), |a, r| (a.0.min(r.0), a.1.max(r.1)));
    ranges.splice(start..end, [joined]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_hold_exactly_what_was_added(adds in prop::collection::vec((1i64..60, 0i64..6), 0..40)) {
            let mut ranges = Vec::new();
            let mut model = BTreeSet::new();
            for (from, len) in adds {
                insert(&mut ranges, from, from + len);
                model.extend(from..=from + len);
            }
            let got: Vec<i64> = ranges.iter().flat_map(|(a, b)| *a..=*b).collect();
            prop_assert_eq!(got, model.into_iter().collect::<Vec<_>>());
            prop_assert!(ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{ranges:?} is not joined");
        }
    }

    #[test]
    fn gathers_by_user() {
        let c = Confirms::default();
        let user = UserKey::new("default", "u");
        for seq in [1, 3, 2, 9] {
            c.add(SeenByClient { user: user.clone(), from_seq: seq, to_seq: seq });
        }
        let got = c.take().concat();
        assert_eq!(got.iter().map(|s| (s.from_seq, s.to_seq)).collect::<Vec<_>>(), [(1, 3), (9, 9)]);
        assert!(c.take().is_empty());
    }
}
