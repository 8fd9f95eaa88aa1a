//! A fact of the database that ingest asks so often that a second's memory must do. (How much waits is the other:
//! [`crate::queue::Depths`].)

use campanile_model::{ChannelName, ports::Store};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const FRESH: Duration = Duration::from_secs(1);

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
