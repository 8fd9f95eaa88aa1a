//! Gauges that are read, not counted: refreshed when someone asks, from the database once a second at most.

use crate::{observe::metrics as m, services::Services};
use campanile_model::ports::QueueStats;
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// Remembers every channel it has shown, so that one whose last row went reads zero and not its last value.
#[derive(Default)]
pub struct Gauges(Mutex<BTreeMap<String, QueueStats>>);

impl Gauges {
    pub async fn refresh(&self, s: &Services) {
        let facts = s.store.facts();
        for (state, n) in [("in_use", facts.connections_in_use), ("idle", facts.connections_idle)] {
            s.metrics.db_pool.get_or_create(&m::ByState::new(state)).set(n.into());
        }
        // One look at a time, so that of two the newer one is shown.
        let mut seen = self.0.lock().await;
        let stats = match s.depths.now().await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Can't read queue depths for the metrics");
                return;
            }
        };
        let empty = |name: &str| QueueStats { channel: name.to_owned(), ..QueueStats::default() };
        for (name, stats) in seen.iter_mut() {
            *stats = empty(name);
        }
        for channel in s.channels.guards() {
            let name = channel.name().as_str();
            seen.entry(name.to_owned()).or_insert_with(|| empty(name));
        }
        seen.extend(stats.iter().map(|stats| (stats.channel.clone(), stats.clone())));
        for stats in seen.values() {
            set(s, stats);
        }
        s.metrics.outbox_pending.set(gauge(seen.values().map(|stats| stats.ready).sum()));
    }
}

fn set(s: &Services, stats: &QueueStats) {
    let queue = stats.channel.as_str();
    for (state, n) in [
        ("ready", stats.ready),
        ("scheduled", stats.scheduled),
        ("in_flight", stats.in_flight),
        ("retrying", stats.retrying),
        ("held", stats.held),
    ] {
        s.metrics.queue_depth.get_or_create(&m::QueueState::new(queue, state)).set(gauge(n));
    }
    s.metrics.queue_oldest_age.get_or_create(&m::ByQueue::new(queue)).set(stats.oldest_age_ms.unwrap_or(0) / 1000);
    s.metrics.dead_letters.get_or_create(&m::ByChannel::new(queue)).set(gauge(stats.dead));
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
