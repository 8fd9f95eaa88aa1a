//! How much waits, counted once a second for all who ask on this node.
//!
//! Counting reads an index over everything unsettled: cheap for one, dear for every dashboard, scrape and request. Absent on
//! purpose: what is done about it.

use campanile_model::ports::{QueueStats, Store, StoreResult};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

const FRESH: Duration = Duration::from_secs(1);

/// What an accept waits for the count; a silent database would have its whole patience from it otherwise, before the accept
/// has even begun.
const COUNTING: Duration = Duration::from_millis(250);

type Counted = (Instant, Arc<[QueueStats]>);

pub struct Depths {
    store: Arc<dyn Store>,
    last: Mutex<Option<Counted>>,
    /// When an accept last had it counted.
    asked: Mutex<Option<Instant>>,
    /// Held by whoever counts.
    counting: tokio::sync::Mutex<()>,
}

impl Depths {
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, last: Mutex::new(None), asked: Mutex::new(None), counting: tokio::sync::Mutex::new(()) })
    }

    fn last(&self) -> Option<Counted> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Arc<[QueueStats]>> {
        self.last().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, stats)| stats)
    }

    /// At most a second old.
    pub async fn now(&self) -> StoreResult<Arc<[QueueStats]>> {
        if let Some(stats) = self.fresh() {
            return Ok(stats);
        }
        let _counting = self.counting.lock().await;
        if let Some(stats) = self.fresh() {
            return Ok(stats);
        }
        self.count().await
    }

    /// Unsettled deliveries of all channels, scheduled ones too. Counts again at most once a second; others meanwhile, and
    /// who would have to wait long, go by the last count.
    pub async fn unsettled(self: &Arc<Self>) -> u64 {
        if self.fresh().is_none() && self.claim() {
            let this = self.clone();
            let counting = tokio::spawn(async move {
                // The accept itself will say so with more right; an old count is no reason to refuse.
                if let Err(error) = this.now().await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "The backlog was not counted");
                }
            });
            let _ = tokio::time::timeout(COUNTING, counting).await;
        }
        let stats = self.last().map(|(_, stats)| stats).unwrap_or_default();
        stats.iter().map(|q| q.ready + q.scheduled + q.retrying + q.in_flight + q.held).sum()
    }

    fn claim(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = asked.is_none_or(|at| at.elapsed() >= FRESH);
        if due {
            *asked = Some(Instant::now());
        }
        due
    }

    async fn count(&self) -> StoreResult<Arc<[QueueStats]>> {
        let stats: Arc<[QueueStats]> = self.store.queue_stats().await?.into();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), stats.clone()));
        Ok(stats)
    }
}
