//! Judges a history by the invariants I1–I15 of the delivery promise. A pure function: no clock, no host.
//!
//! Owns: the order of judging and the list of breaches. The rules stand by theme: `delivery` (accepted, mailed, retried,
//! settled), `feed` (sequences, devices, counts, marks), `bounds` (apps apart, secrets, memory, coming back). All are
//! close to linear in the history: a long run is judged in seconds.

mod bounds;
mod delivery;
mod feed;

pub use bounds::{HEALTHY_WITHIN, PER_IDLE_SOCKET};

use crate::history::{History, Outcome};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// `I1` … `I15`.
    pub invariant: &'static str,
    pub detail: String,
}

const SETTLED: [&str; 6] = ["sent", "delivered", "dead", "expired", "suppressed", "cancelled"];

/// Every breach found.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Found(Vec::new());
    delivery::accepted_settles(history, &mut found);
    feed::nothing_from_nowhere(history, &mut found);
    feed::sequences(history, &mut found);
    feed::commit_order(history, &mut found);
    feed::devices(history, &mut found);
    feed::counts(history, &mut found);
    feed::reads_stay(history, &mut found);
    delivery::mails(history, &mut found);
    delivery::attempts(history, &mut found);
    delivery::settled_stays(history, &mut found);
    delivery::no_forgotten_lease(history, &mut found);
    delivery::nothing_left(history, &mut found);
    bounds::apps_apart(history, &mut found);
    bounds::secrets_kept(history, &mut found);
    bounds::idle_memory(history, &mut found);
    bounds::recovered(history, &mut found);
    found.0
}

/// The first breaches in words, for a report.
pub fn shown(found: &[Violation]) -> String {
    let first: Vec<_> = found.iter().take(20).map(|v| format!("{}: {}", v.invariant, v.detail)).collect();
    format!("{} breaches:\n{}", found.len(), first.join("\n"))
}

/// Panics with every breach.
#[track_caller]
pub fn assert_holds(history: &History) {
    let found = check(history);
    assert!(found.is_empty(), "{}", shown(&found));
}

struct Found(Vec<Violation>);
impl Found {
    fn add(&mut self, invariant: &'static str, detail: impl Into<String>) {
        self.0.push(Violation { invariant, detail: detail.into() });
    }
    fn unless(&mut self, good: bool, invariant: &'static str, detail: impl FnOnce() -> String) {
        if !good {
            self.add(invariant, detail());
        }
    }
}

/// Outcomes and ids of all posts with one key.
struct Call<'a> {
    user: &'a str,
    channels: &'a [String],
    ok: bool,
    info: bool,
    ids: BTreeSet<Uuid>,
}

fn calls(history: &History) -> BTreeMap<&str, Call<'_>> {
    let mut calls: BTreeMap<&str, Call<'_>> = BTreeMap::new();
    for post in &history.posts {
        let call = calls.entry(&post.key).or_insert_with(|| Call {
            user: &post.user,
            channels: &post.channels,
            ok: false,
            info: false,
            ids: BTreeSet::new(),
        });
        call.ok |= post.outcome == Outcome::Ok;
        call.info |= post.outcome == Outcome::Info;
        call.ids.extend(post.id);
    }
    calls
}

/// Collects under keys.
fn grouped<K: std::hash::Hash + Eq, V>(pairs: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}

#[cfg(test)]
mod tests;
