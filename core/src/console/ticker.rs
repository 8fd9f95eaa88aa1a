//! Looks at the figures every ten seconds and writes down each minute, so that a restart leaves no blank.
//!
//! Owns the rhythm. A look that fails leaves a gap in the plot and nothing else.

use super::{
    Facts,
    rings::{Look, Sample},
    standing,
};
use crate::{connection::TransportKind, queue::backoff::Outage, services::Services, status::annotate};
use campanile_admin_ui::sentence::Breaker;
use campanile_model::{
    Timestamp,
    ports::{NodeFigures, StoreResult},
};
use chrono::TimeDelta;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

/// As long as the longest plot.
const KEEP: Duration = Duration::from_hours(7 * 24);
const LOOK: Duration = Duration::from_secs(super::rings::FINE_S as u64);
/// Minutes and marks are trimmed once an hour.
const TRIM: u32 = 60;

pub fn start(services: &Arc<Services>) {
    services.tasks.spawn(run(services.clone()));
}

/// This node's figures now.
fn own(s: &Services) -> NodeFigures {
    NodeFigures {
        connections: s.hub.connection_count() as u64,
        users: s.hub.user_count() as u64,
        event_streams: s.hub.count_of(TransportKind::Sse),
        sockets: s.hub.counts().read(),
        channels: s.pulse.counts(),
        ..NodeFigures::default()
    }
}

async fn run(s: Arc<Services>) {
    if let Err(e) = restore(&s).await {
        tracing::warn!(error = &e as &dyn std::error::Error, "The plots begin empty: the last week could not be read");
    }
    mark_start(&s).await;
    let mut minute = Minute { begins: floor(s.clock.now()), figures: NodeFigures::default(), written: 0 };
    let mut watch = Watch::default();
    let mut outage = Outage::of("Writing down the console's figures");
    loop {
        look(&s).await;
        watch.turn(&s).await;
        match minute.turn(&s).await {
            Ok(()) => outage.over(),
            Err(e) => {
                outage.failed(&e);
            }
        }
        // At round times, so that samples of all nodes lie side by side.
        let now = s.clock.now();
        let into = now.timestamp_millis().rem_euclid(LOOK.as_millis() as i64);
        let wait = Duration::from_millis((LOOK.as_millis() as i64 - into).unsigned_abs());
        tokio::select! {
            () = s.draining.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    // The part of the last minute that was lived here.
    look(&s).await;
    let _ = minute.write(&s).await;
}

fn floor(at: Timestamp) -> Timestamp {
    at - TimeDelta::milliseconds(at.timestamp_millis().rem_euclid(60_000))
}

async fn restore(s: &Services) -> StoreResult<()> {
    let since = s.clock.now() - TimeDelta::seconds(KEEP.as_secs() as i64);
    let mut minutes: BTreeMap<Timestamp, Sample> = BTreeMap::new();
    for (at, _, data) in s.store.minutes(since).await? {
        // What another version wrote and we can't read is a gap.
        let Ok(sample) = serde_json::from_str::<Sample>(&data) else { continue };
        minutes.entry(at).and_modify(|sum| sum.join(&sample)).or_insert(sample);
    }
    let mut rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
    for (at, sample) in minutes {
        rings.restore(at, sample);
    }
    Ok(())
}

async fn look(s: &Services) {
    let facts = s.console.facts.get(s).await;
    let me = s.node.to_string();
    let mut nodes: HashMap<String, NodeFigures> =
        facts.nodes.rows.iter().map(|n| (n.said.node.to_string(), n.said.figures.clone())).collect();
    nodes.insert(me.clone(), own(s));
    let depth = facts.queues.iter().map(|(name, q)| (name.clone(), waiting(q))).collect();
    let oldest_s = oldest(s, &facts);
    let mut rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
    rings.look(s.clock.now(), &Look { nodes, depth, oldest_s }, &me);
}

/// Of every channel, in seconds; of none while the database does not say. A channel of which nothing is stored has nothing due.
fn oldest(s: &Services, facts: &Facts) -> BTreeMap<String, f32> {
    if facts.database.is_some() {
        return BTreeMap::new();
    }
    let age = |name: &str| facts.queues.get(name).and_then(|q| q.oldest_age_ms).unwrap_or(0).max(0) as f32 / 1e3;
    let views = s.channels.views();
    let known =
        views.iter().filter(|v| v.enabled).map(|v| v.name.as_str()).chain(facts.queues.keys().map(String::as_str));
    known.map(|name| (name.to_owned(), age(name))).collect()
}

/// Everything of a channel that is not settled and not due later.
pub fn waiting(q: &campanile_model::ports::QueueStats) -> u64 {
    q.ready + q.retrying + q.in_flight + q.held
}

/// The minute that is being lived.
struct Minute {
    begins: Timestamp,
    /// Our figures when it began.
    figures: NodeFigures,
    written: u32,
}

impl Minute {
    async fn turn(&mut self, s: &Services) -> StoreResult<()> {
        let now = floor(s.clock.now());
        if now == self.begins {
            return Ok(());
        }
        let done = self.write(s).await;
        self.begins = now;
        self.figures = own(s);
        self.written += 1;
        s.console.chain.advance(s.store.as_ref(), s.clock.now()).await?;
        if self.written.is_multiple_of(TRIM) {
            s.store.trim_console(KEEP).await?;
        }
        done
    }

    async fn write(&self, s: &Services) -> StoreResult<()> {
        let now = own(s);
        let mut sample = Sample::between(&self.figures, &now);
        sample.sockets.held_by(&s.node.to_string(), now.connections);
        let facts = s.console.facts.get(s).await;
        for (name, q) in &facts.queues {
            sample.channels.entry(name.clone()).or_default().depth = waiting(q) as f32;
        }
        // The longest waits that were seen at the looks of this minute, not only at its end.
        let seen = {
            let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
            rings.read_until(s.clock.now(), self.begins, 60, 1).1
        };
        for (name, slot) in seen.into_iter().flatten().flat_map(|m| m.channels) {
            if slot.oldest_s.is_some() {
                sample.channels.entry(name).or_default().oldest_s = slot.oldest_s;
            }
        }
        let Ok(data) = serde_json::to_string(&sample) else { return Ok(()) };
        s.store.put_minute(self.begins, s.node, &data).await
    }
}

async fn mark(s: &Services, subject: &str, what: String) {
    annotate(s.store.as_ref(), s.clock.now(), subject, what).await;
}

/// A restart, or a deploy when the version is another one than before.
async fn mark_start(s: &Services) {
    let version = env!("CARGO_PKG_VERSION");
    let since = s.clock.now() - TimeDelta::seconds(KEEP.as_secs() as i64);
    let before = s.store.marks(since).await.unwrap_or_default();
    let last = before.iter().rev().find(|m| m.subject == OURSELVES).and_then(|m| m.what.split(' ').nth(1));
    let what = match last {
        None => format!("version {version} started"),
        Some(last) if last == version => format!("version {version} restarted"),
        Some(_) => format!("version {version} deployed"),
    };
    mark(s, OURSELVES, what).await;
}

/// Subject of the marks that are about the whole.
pub const OURSELVES: &str = "campanile";

/// What each channel was like at the last look.
#[derive(Default)]
struct Watch {
    breakers: BTreeMap<String, String>,
    suffering: BTreeMap<String, bool>,
    restarting: BTreeMap<String, bool>,
}

impl Watch {
    async fn turn(&mut self, s: &Services) {
        let facts = s.console.facts.get(s).await;
        for channel in standing::of(s, &facts) {
            let (name, state) = (channel.name.clone(), format!("{:?}", channel.breaker));
            let opened = channel.breaker == Breaker::Open;
            let before = self.breakers.insert(name.clone(), state.clone());
            if before.is_some_and(|b| b != state) && (opened || channel.breaker == Breaker::Closed) {
                mark(s, &name, if opened { "breaker opened" } else { "breaker closed" }.to_owned()).await;
            }
            let restarts = channel.restarting.is_some();
            if !self.restarting.insert(name.clone(), restarts).unwrap_or(false) && restarts {
                mark(s, &name, "a plugin's process ended".to_owned()).await;
            }
            let suffers = channel.suffers();
            if self.suffering.insert(name.clone(), suffers).unwrap_or(false) != suffers {
                let cause = channel.cause.as_deref().and_then(|c| c.split([':', ' ']).next());
                let what = match cause {
                    _ if !suffers => "works again".to_owned(),
                    Some(cause) => format!("fails with {cause}"),
                    None => "begins to fail".to_owned(),
                };
                mark(s, &name, what).await;
            }
        }
    }
}
