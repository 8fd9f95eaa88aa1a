//! Two facts of the database that ingest asks so often that a second's memory must do.

use campanile_model::{ChannelName, ports::Store};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const FRESH: Duration = Duration::from_secs(1);

/// Unsettled deliveries, scheduled ones too.
#[derive(Debug, Default)]
pub struct Backlog {
    depth: AtomicU64,
    counted_at: Mutex<Option<Instant>>,
}

impl Backlog {
    /// Counts again at most once a second; others meanwhile go by the last count.
    pub async fn depth(&self, store: &dyn Store) -> u64 {
        if self.claim_count() {
            match store.queue_stats().await {
                Ok(stats) => {
                    let depth = stats.iter().map(|q| q.ready + q.scheduled + q.retrying + q.in_flight + q.held).sum();
                    self.depth.store(depth, Ordering::Relaxed);
                }
                // The accept itself will say so with more right; an old count is no reason to refuse.
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "The backlog was not counted"),
            }
        }
        self.depth.load(Ordering::Relaxed)
    }

    fn claim_count(&self) -> bool {
        let mut at = self.counted_at.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = at.is_none_or(|t| t.elapsed() >= FRESH);
        if stale {
            *at = Some(Instant::now());
        }
        stale
    }
}

/// Whether the websocket channel is paused: forgotten at once when the bus tells of a change.
#[derive(Debug, Default)]
pub struct PauseCache {
    state: Mutex<PauseState>,
}

#[derive(Debug, Default)]
struct PauseState {
    known: Option<(Instant, bool)>,
    /// Rises with every `forget`, so that an answer read before it is not kept after it.
    changes: u64,
}

impl PauseCache {
    pub async fn websocket(&self, store: &dyn Store) -> campanile_model::ports::StoreResult<bool> {
        let changes = {
            let state = self.lock();
            if let Some((at, paused)) = state.known
                && at.elapsed() < FRESH
            {
                return Ok(paused);
            }
            state.changes
        };
        let websocket = ChannelName::websocket();
        let paused = store.pauses().await?.iter().any(|p| p.channel == websocket);
        let mut state = self.lock();
        if state.changes == changes {
            state.known = Some((Instant::now(), paused));
        }
        Ok(paused)
    }

    pub fn forget(&self) {
        let mut state = self.lock();
        state.known = None;
        state.changes += 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PauseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
