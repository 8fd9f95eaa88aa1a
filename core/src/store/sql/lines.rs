//! Whose turn it is on a feed, where several writers share one queue.
//!
//! Groups that change one feed run in the order in which they were gathered, so what one caller sent in an order (a batch)
//! gets its `seq` in that order. It costs nothing: the later one would wait for the row's lock anyway. Absent on purpose:
//! other nodes, and safety; both are the row lock's. Whoever has waited too long goes on.

use campanile_model::UserKey;
use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A group before that takes longer has met a lock of another node's; those behind it need not all stand still for that.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Lines {
    /// The last group in each feed's line.
    last: Mutex<HashMap<UserKey, Arc<CancellationToken>>>,
    patience: Duration,
}

impl Default for Lines {
    fn default() -> Self {
        Self { last: Mutex::default(), patience: PATIENCE }
    }
}

/// A group's place in the lines of its feeds; they move on when it is dropped.
pub struct Place {
    lines: Arc<Lines>,
    users: BTreeSet<UserKey>,
    before: Vec<Arc<CancellationToken>>,
    done: Arc<CancellationToken>,
}

impl Lines {
    /// Called in the order in which groups are gathered.
    pub fn join(self: &Arc<Self>, users: BTreeSet<UserKey>) -> Place {
        let done = Arc::new(CancellationToken::new());
        let mut last = self.lock();
        let before = users.iter().filter_map(|user| last.insert(user.clone(), done.clone())).collect();
        drop(last);
        Place { lines: self.clone(), users, before, done }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserKey, Arc<CancellationToken>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for the groups before. They wait for none behind them, so it ends.
    pub async fn come(&self) {
        let all = async {
            for earlier in &self.before {
                earlier.cancelled().await;
            }
        };
        if !self.before.is_empty() && tokio::time::timeout(self.lines.patience, all).await.is_err() {
            tracing::debug!("Commits before this one take long; it no longer waits for its turn");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut last = self.lines.lock();
        for user in std::mem::take(&mut self.users) {
            if let Entry::Occupied(entry) = last.entry(user)
                && Arc::ptr_eq(entry.get(), &self.done)
            {
                entry.remove();
            }
        }
        drop(last);
        self.done.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn users(names: &[&str]) -> BTreeSet<UserKey> {
        names.iter().map(|name| UserKey::new("default", *name)).collect()
    }

    #[tokio::test]
    async fn who_shares_a_feed_waits_and_nobody_else() {
        let lines = Arc::new(Lines::default());
        let first = lines.join(users(&["ada", "bo"]));
        let second = lines.join(users(&["bo", "cy"]));
        let other = lines.join(users(&["di"]));
        let third = lines.join(users(&["ada", "cy"]));
        assert!(first.come().now_or_never().is_some() && other.come().now_or_never().is_some());
        assert!(second.come().now_or_never().is_none());
        drop(first);
        assert!(second.come().now_or_never().is_some());
        assert!(third.come().now_or_never().is_none(), "cy's line has the second before it");
        drop(second);
        third.come().await;
        drop((third, other));
        assert!(lines.lock().is_empty(), "nobody is remembered");
    }

    #[tokio::test]
    async fn patience_ends() {
        let lines = Arc::new(Lines { patience: Duration::from_millis(1), ..Lines::default() });
        let _stuck = lines.join(users(&["ada"]));
        lines.join(users(&["ada"])).come().await;
    }
}
