//! What a page of the console is drawn from, read at most once a second however many look.
//!
//! A part that does not answer is a fact too: the page still draws, from memory. What lasts is remembered with its start.

use super::nodes::{Known, Nodes};
use crate::services::Services;
use campanile_model::{
    Timestamp,
    ports::{MarkRow, Pause, QueueStats},
};
use chrono::TimeDelta;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Younger facts are good enough.
const FRESH: Duration = Duration::from_secs(1);
/// The database's share in drawing a page.
const PATIENCE: Duration = Duration::from_secs(3);
/// All connections in use for a moment is what a pool is for; for so long is a queue before it.
const PRESSED: TimeDelta = TimeDelta::seconds(10);

/// As long as the longest plot.
const MARKED: TimeDelta = TimeDelta::days(7);

/// Since when something is so, and what was said of it.
pub type Since = (Timestamp, String);

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub at: Timestamp,
    /// By channel; what was last known while the database is away.
    pub queues: BTreeMap<String, QueueStats>,
    pub nodes: Nodes,
    pub pauses: Vec<Pause>,
    /// Of the last week, oldest first.
    pub marks: Vec<MarkRow>,
    /// Since when the database does not answer.
    pub database: Option<Since>,
    pub broker: Option<Since>,
    pub bus: Option<Since>,
    /// Since when every reading connection has been in use, once that has lasted.
    pub pool: Option<Timestamp>,
    /// Used share of the disk with the data, and its free bytes; only where the data lies in a file of ours.
    pub disk: Option<(f64, u64)>,
    /// A round trip to the database.
    pub ping_ms: Option<f64>,
    full_since: Option<Timestamp>,
}

#[derive(Default)]
struct Kept {
    facts: Option<(Instant, Arc<Facts>)>,
    nodes: Known,
}

#[derive(Default)]
pub struct FactsCache(Mutex<Kept>);

impl FactsCache {
    /// Single flight: who comes while they are being read waits for them.
    pub async fn get(&self, s: &Services) -> Arc<Facts> {
        let mut kept = self.0.lock().await;
        if let Some((at, facts)) = kept.facts.as_ref()
            && at.elapsed() < FRESH
        {
            return facts.clone();
        }
        let before = kept.facts.as_ref().map(|(_, facts)| facts.clone()).unwrap_or_default();
        let facts = Arc::new(read(s, &before, &mut kept.nodes).await);
        kept.facts = Some((Instant::now(), facts.clone()));
        facts
    }

    /// Something was just changed here: the next page must show it.
    pub async fn forget(&self) {
        if let Some((at, _)) = self.0.lock().await.facts.as_mut() {
            *at = at.checked_sub(FRESH).unwrap_or(*at);
        }
    }
}

async fn read(s: &Services, before: &Facts, known: &mut Known) -> Facts {
    let now = s.clock.now();
    let since = |before: &Option<Since>, why: String| Some((before.as_ref().map_or(now, |(since, _)| *since), why));
    let store = s.store.facts();
    let full = store.connections_idle == 0 && store.connections_in_use >= s.config.database.readers;
    let full_since = full.then(|| before.full_since.unwrap_or(now));
    let mut facts = Facts {
        at: now,
        broker: s.queue.health().err().and_then(|e| since(&before.broker, e.to_string())),
        bus: s.bus.health().err().and_then(|e| since(&before.bus, e.to_string())),
        pool: full_since.filter(|since| now - *since >= PRESSED),
        full_since,
        disk: s.config.database.is_embedded().then(|| disk(s)).flatten(),
        ping_ms: None,
        database: None,
        queues: before.queues.clone(),
        nodes: before.nodes.clone(),
        pauses: before.pauses.clone(),
        marks: before.marks.clone(),
    };
    let asked = Instant::now();
    let all = async {
        s.store.ping().await?;
        let ping = asked.elapsed();
        let silent = s.config.cluster.silent();
        let (queues, nodes, pauses, marks) = tokio::try_join!(
            s.store.queue_stats(),
            s.store.nodes(silent),
            s.store.pauses(),
            s.store.marks(now - MARKED),
        )?;
        Ok::<_, campanile_model::ports::StoreError>((ping, queues, nodes, pauses, marks))
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(Ok((ping, queues, nodes, pauses, marks))) => {
            facts.ping_ms = Some(ping.as_secs_f64() * 1e3);
            facts.queues = queues.into_iter().map(|q| (q.channel.clone(), q)).collect();
            facts.nodes = known.seen(now, nodes, *s.config.cluster.heartbeat);
            facts.pauses = pauses;
            facts.marks = marks;
        }
        Ok(Err(e)) => facts.database = since(&before.database, e.to_string()),
        Err(_) => facts.database = since(&before.database, format!("no answer within {} s", PATIENCE.as_secs())),
    }
    facts
}

fn disk(s: &Services) -> Option<(f64, u64)> {
    let fs = rustix::fs::statvfs(&s.config.server.data_dir).ok()?;
    // What only root may fill is neither used nor free.
    let (used, free) = (fs.f_blocks.saturating_sub(fs.f_bfree), fs.f_bavail);
    let all = used + free;
    (all > 0).then(|| (used as f64 / all as f64, free.saturating_mul(fs.f_frsize)))
}
