//! What sockets did in one stretch of time, as the rings keep it.

use super::pulse::BUCKETS;
use campanile_model::ports::SocketCounts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Nodes beyond this are not told apart in plots.
const NODES: usize = 12;

/// Differences, not totals; `nodes` is what each held at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sockets {
    pub opened: u32,
    /// By reason.
    pub closed: BTreeMap<String, u32>,
    pub resumed: u32,
    pub reset: u32,
    pub replayed: u32,
    /// Empty when no pong came.
    pub ping: Vec<u32>,
    pub buffer: Vec<u32>,
    /// Open connections by node.
    pub nodes: BTreeMap<String, f32>,
}

fn d(new: u64, old: u64) -> u32 {
    u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX)
}

fn add_buckets(sum: &mut Vec<u32>, new: &[u64], old: &[u64]) {
    if new.iter().sum::<u64>() <= old.iter().sum() {
        return;
    }
    sum.resize(BUCKETS, 0);
    for (i, (sum, n)) in sum.iter_mut().zip(new).enumerate() {
        *sum = sum.saturating_add(d(*n, old.get(i).copied().unwrap_or(0)));
    }
}

fn join_buckets(sum: &mut Vec<u32>, other: &[u32]) {
    if other.is_empty() {
        return;
    }
    sum.resize(BUCKETS, 0);
    for (sum, n) in sum.iter_mut().zip(other) {
        *sum = sum.saturating_add(*n);
    }
}

impl Sockets {
    /// What happened between two looks at one node.
    pub fn add(&mut self, old: &SocketCounts, new: &SocketCounts) {
        self.opened += d(new.opened, old.opened);
        self.resumed += d(new.resumed, old.resumed);
        self.reset += d(new.reset, old.reset);
        self.replayed += d(new.replayed, old.replayed);
        for (reason, n) in &new.closed {
            let n = d(*n, old.closed.get(reason).copied().unwrap_or(0));
            if n > 0 {
                *self.closed.entry(reason.clone()).or_default() += n;
            }
        }
        add_buckets(&mut self.ping, &new.ping, &old.ping);
        add_buckets(&mut self.buffer, &new.buffer, &old.buffer);
    }

    pub fn held_by(&mut self, node: &str, connections: u64) {
        if self.nodes.len() < NODES {
            self.nodes.insert(node.to_owned(), connections as f32);
        }
    }

    fn sum(&mut self, other: &Self) {
        self.opened += other.opened;
        self.resumed += other.resumed;
        self.reset += other.reset;
        self.replayed += other.replayed;
        for (reason, n) in &other.closed {
            *self.closed.entry(reason.clone()).or_default() += n;
        }
        join_buckets(&mut self.ping, &other.ping);
        join_buckets(&mut self.buffer, &other.buffer);
    }

    /// Adds what another node did at the same time.
    pub fn join(&mut self, other: &Self) {
        self.sum(other);
        for (node, n) in &other.nodes {
            if self.nodes.len() < NODES {
                self.nodes.insert(node.clone(), *n);
            }
        }
    }

    /// Joins a later stretch: the end of it counts.
    pub fn merge(&mut self, later: &Self) {
        self.sum(later);
        self.nodes.clone_from(&later.nodes);
    }

    pub fn divided(&self, by: u32) -> Self {
        let mut part = self.clone();
        for n in [&mut part.opened, &mut part.resumed, &mut part.reset, &mut part.replayed] {
            *n /= by;
        }
        for n in part.closed.values_mut() {
            *n /= by;
        }
        part.closed.retain(|_, n| *n > 0);
        for n in part.ping.iter_mut().chain(&mut part.buffer) {
            *n = n.div_ceil(by);
        }
        part
    }

    pub fn closed_in_all(&self) -> u64 {
        self.closed.values().map(|n| u64::from(*n)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_differences_and_the_last_holding_counts() {
        let counts = |opened, slow, pings| SocketCounts {
            opened,
            closed: BTreeMap::from([("slow".to_owned(), slow)]),
            ping: vec![pings; BUCKETS],
            ..SocketCounts::default()
        };
        let (mut first, mut second) = (Sockets::default(), Sockets::default());
        first.add(&SocketCounts::default(), &counts(5, 0, 1));
        first.held_by("a", 5);
        second.add(&counts(5, 0, 1), &counts(6, 2, 1));
        second.held_by("a", 4);
        assert!(first.closed.is_empty() && second.ping.is_empty(), "what did not happen takes no room");
        first.merge(&second);
        assert_eq!((first.opened, first.closed_in_all(), first.nodes["a"]), (6, 2, 4.0));
        let mut other = Sockets::default();
        other.held_by("b", 1);
        first.join(&other);
        assert_eq!(first.nodes.len(), 2);
        assert_eq!(first.divided(2).opened, 3);
    }
}
