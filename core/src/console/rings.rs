//! Figures over time: ten seconds for a day, a minute for a week, in memory.
//!
//! Every node samples the cumulative figures of all nodes, so each holds the sums and any of them can draw the page.
//! A node that vanished stops adding; one that is new adds from its first look on. Absent on purpose: the database.

use super::{pulse::BUCKETS, sockets::Sockets};
use campanile_model::{
    Timestamp,
    ports::{ChannelCounts, NodeFigures, SocketCounts},
};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Length of a fine sample.
pub const FINE_S: i64 = 10;
const FINE: usize = 24 * 360;
const COARSE: usize = 7 * 24 * 60;
/// Channels beyond this are not kept apart: memory stays bounded whatever plugins are called.
const CHANNELS: usize = 24;

/// One channel in one stretch of time: differences, not totals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slot {
    pub accepted: u32,
    pub sent: u32,
    pub failed: u32,
    pub retried: u32,
    /// Empty when nothing was sent.
    pub latency: Vec<u32>,
    /// Unsettled deliveries at the end of it.
    pub depth: f32,
    /// Seconds that the oldest due delivery had waited, the most of it; 0 while none was due. `None`: nobody knew, as in
    /// minutes that an older version wrote down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_s: Option<f32>,
}

/// All channels in one stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    pub connections: f32,
    pub users: f32,
    pub sockets: Sockets,
    pub channels: BTreeMap<String, Slot>,
}

/// What a look sees beside the nodes' figures.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub nodes: HashMap<String, NodeFigures>,
    /// Unsettled deliveries by channel.
    pub depth: BTreeMap<String, u64>,
    /// Seconds that the oldest due delivery of each channel has waited.
    pub oldest_s: BTreeMap<String, f32>,
}

/// Samples in order; `None` where nobody looked.
#[derive(Debug)]
struct Ring {
    step_s: i64,
    size: usize,
    /// Number of the newest sample since 1970.
    newest: i64,
    samples: VecDeque<Option<Sample>>,
}

impl Ring {
    fn new(step_s: i64, size: usize) -> Self {
        Self { step_s, size, newest: 0, samples: VecDeque::new() }
    }

    /// The sample at this moment, made room for; `None` when it lies before everything kept.
    fn at(&mut self, at: Timestamp) -> Option<&mut Option<Sample>> {
        let number = at.timestamp().div_euclid(self.step_s);
        if self.samples.is_empty() {
            self.newest = number;
            self.samples.push_back(None);
        }
        // A clock that jumped far ahead must not make us loop.
        if number - self.newest > self.size as i64 {
            self.samples.clear();
            self.newest = number;
            self.samples.push_back(None);
        }
        while self.newest < number {
            self.newest += 1;
            self.samples.push_back(None);
            if self.samples.len() > self.size {
                self.samples.pop_front();
            }
        }
        let back = usize::try_from(self.newest - number).ok()?;
        while self.samples.len() <= back && self.samples.len() < self.size {
            self.samples.push_front(None);
        }
        let i = self.samples.len().checked_sub(back + 1)?;
        self.samples.get_mut(i)
    }

    /// Samples of `[from, to)` in steps of this ring, oldest first.
    fn range(&self, from: Timestamp, n: usize) -> impl Iterator<Item = Option<&Sample>> {
        let first = from.timestamp().div_euclid(self.step_s);
        let oldest = self.newest - self.samples.len() as i64 + 1;
        (0..n as i64).map(move |i| {
            usize::try_from(first + i - oldest).ok().and_then(|i| self.samples.get(i)).and_then(Option::as_ref)
        })
    }
}

#[derive(Debug)]
pub struct Rings {
    fine: Ring,
    coarse: Ring,
    /// The last figures of each node: what the next difference is taken from.
    last: HashMap<String, NodeFigures>,
}

impl Default for Rings {
    fn default() -> Self {
        Self { fine: Ring::new(FINE_S, FINE), coarse: Ring::new(60, COARSE), last: HashMap::new() }
    }
}

impl Rings {
    /// Takes in what is seen at `at`. The first look at a node only sets where to count from, unless the node is `own`:
    /// this process has counted since its start.
    pub fn look(&mut self, at: Timestamp, look: &Look, own: &str) {
        let mut sample = Sample::default();
        for (node, figures) in &look.nodes {
            sample.connections += figures.connections as f32;
            sample.users += figures.users as f32;
            sample.sockets.held_by(node, figures.connections);
            let before = self.last.get(node);
            if before.is_none() && node != own {
                continue;
            }
            let nothing = SocketCounts::default();
            sample.sockets.add(before.map_or(&nothing, |b| &b.sockets), &figures.sockets);
            for (channel, counts) in &figures.channels {
                let zero = ChannelCounts::default();
                let old = before.and_then(|b| b.channels.get(channel)).unwrap_or(&zero);
                if let Some(slot) = slot(&mut sample.channels, channel) {
                    add_difference(slot, old, counts);
                }
            }
        }
        for (channel, depth) in &look.depth {
            if let Some(slot) = slot(&mut sample.channels, channel) {
                slot.depth = *depth as f32;
            }
        }
        for (channel, oldest) in &look.oldest_s {
            if let Some(slot) = slot(&mut sample.channels, channel) {
                slot.oldest_s = Some(*oldest);
            }
        }
        self.last.clone_from(&look.nodes);
        self.put(at, sample);
    }

    fn put(&mut self, at: Timestamp, sample: Sample) {
        for ring in [&mut self.fine, &mut self.coarse] {
            if let Some(place) = ring.at(at) {
                match place {
                    Some(known) => known.merge(&sample),
                    None => *place = Some(sample.clone()),
                }
            }
        }
    }

    /// A minute of before our start, read from the database. What was seen since wins.
    pub fn restore(&mut self, at: Timestamp, sample: Sample) {
        if let Some(place) = self.coarse.at(at) {
            match place {
                Some(known) => known.merge(&sample),
                None => *place = Some(sample.clone()),
            }
        }
        // Spread over its six fine samples: the plot of the last hour needs them.
        let part = sample.divided(6);
        for i in 0..6 {
            if let Some(place) = self.fine.at(at + TimeDelta::seconds(i * FINE_S))
                && place.is_none()
            {
                *place = Some(part.clone());
            }
        }
    }

    /// `n` buckets of `bucket_s` seconds that end with the one `now` lies in; with the start of the first.
    pub fn read(&self, now: Timestamp, bucket_s: u32, n: usize) -> (Timestamp, Vec<Option<Sample>>) {
        self.read_until(now, now, bucket_s, n)
    }

    /// The same for buckets that end with the one of `until`.
    pub fn read_until(
        &self,
        now: Timestamp,
        until: Timestamp,
        bucket_s: u32,
        n: usize,
    ) -> (Timestamp, Vec<Option<Sample>>) {
        let bucket = i64::from(bucket_s.max(1));
        let last = until.timestamp().div_euclid(bucket);
        let start = Timestamp::from_timestamp((last + 1 - n as i64) * bucket, 0).unwrap_or(until);
        let reach = (bucket * n as i64).max((now - start).num_seconds());
        let ring = if bucket % 60 == 0 && reach > FINE as i64 * FINE_S { &self.coarse } else { &self.fine };
        let per = (bucket / ring.step_s).max(1) as usize;
        let all: Vec<_> = ring.range(start, per * n).collect();
        let merged = all
            .chunks(per)
            .map(|chunk| {
                chunk.iter().flatten().fold(None, |sum: Option<Sample>, s| {
                    Some(match sum {
                        None => (*s).clone(),
                        Some(mut sum) => {
                            sum.merge(s);
                            sum
                        }
                    })
                })
            })
            .collect();
        (start, merged)
    }
}

fn slot<'a>(channels: &'a mut BTreeMap<String, Slot>, channel: &str) -> Option<&'a mut Slot> {
    if !channels.contains_key(channel) && channels.len() >= CHANNELS {
        return None;
    }
    Some(channels.entry(channel.to_owned()).or_default())
}

fn add_difference(slot: &mut Slot, old: &ChannelCounts, new: &ChannelCounts) {
    let d = |new: u64, old: u64| u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX);
    slot.accepted += d(new.accepted, old.accepted);
    slot.sent += d(new.sent, old.sent);
    slot.failed += d(new.failed, old.failed);
    slot.retried += d(new.retried, old.retried);
    if new.sent > old.sent {
        slot.latency.resize(BUCKETS, 0);
        for (i, n) in new.latency.iter().take(BUCKETS).enumerate() {
            slot.latency[i] += d(*n, old.latency.get(i).copied().unwrap_or(0));
        }
    }
}

/// The longer one of two waits, where at least one is known.
fn worse(a: Option<f32>, b: Option<f32>) -> Option<f32> {
    a.into_iter().chain(b).reduce(f32::max)
}

impl Slot {
    fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.sent += other.sent;
        self.failed += other.failed;
        self.retried += other.retried;
        if !other.latency.is_empty() {
            self.latency.resize(BUCKETS, 0);
            for (sum, n) in self.latency.iter_mut().zip(&other.latency) {
                *sum += n;
            }
        }
        // The end of the stretch counts.
        self.depth = other.depth;
        // Here the worst of it: a wait that was over within an hour's bucket was one all the same.
        self.oldest_s = worse(self.oldest_s, other.oldest_s);
    }
}

impl Sample {
    /// What a node did between two looks at its own figures.
    pub fn between(old: &NodeFigures, new: &NodeFigures) -> Self {
        let mut sample = Self { connections: new.connections as f32, users: new.users as f32, ..Self::default() };
        sample.sockets.add(&old.sockets, &new.sockets);
        for (channel, counts) in &new.channels {
            let zero = ChannelCounts::default();
            if let Some(slot) = slot(&mut sample.channels, channel) {
                add_difference(slot, old.channels.get(channel).unwrap_or(&zero), counts);
            }
        }
        sample
    }

    /// Adds what another node did at the same time.
    pub fn join(&mut self, other: &Self) {
        self.connections += other.connections;
        self.users += other.users;
        self.sockets.join(&other.sockets);
        for (channel, slot) in &other.channels {
            if let Some(sum) = self::slot(&mut self.channels, channel) {
                let depth = sum.depth.max(slot.depth);
                sum.merge(slot);
                sum.depth = depth;
            }
        }
    }

    /// Joins a later one.
    pub fn merge(&mut self, later: &Self) {
        self.connections = later.connections;
        self.users = later.users;
        self.sockets.merge(&later.sockets);
        for (channel, slot) in &later.channels {
            if let Some(sum) = self::slot(&mut self.channels, channel) {
                sum.merge(slot);
            }
        }
    }

    fn divided(&self, by: u32) -> Self {
        let mut part = Self { sockets: self.sockets.divided(by), ..self.clone() };
        for slot in part.channels.values_mut() {
            for n in [&mut slot.accepted, &mut slot.sent, &mut slot.failed, &mut slot.retried] {
                *n /= by;
            }
            for n in &mut slot.latency {
                *n = n.div_ceil(by);
            }
        }
        part
    }

    /// A sum over channels.
    pub fn total(&self, of: impl Fn(&Slot) -> u32) -> u64 {
        self.channels.values().map(|s| u64::from(of(s))).sum()
    }

    /// Successes among attempts, and attempts.
    pub fn success(&self) -> (u64, u64) {
        let ok = self.total(|s| s.sent);
        (ok, ok + self.total(|s| s.failed) + self.total(|s| s.retried))
    }

    /// Latencies of all channels.
    pub fn latency(&self) -> Vec<u64> {
        let mut sum = vec![0; BUCKETS];
        for slot in self.channels.values() {
            for (sum, n) in sum.iter_mut().zip(&slot.latency) {
                *sum += u64::from(*n);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }
    fn figures(sent: u64, connections: u64) -> NodeFigures {
        let mut latency = vec![0; BUCKETS];
        latency[3] = sent;
        let counts = ChannelCounts { accepted: sent, sent, latency, ..ChannelCounts::default() };
        NodeFigures {
            channels: [("email".to_owned(), counts)].into(),
            connections,
            users: connections,
            ..NodeFigures::default()
        }
    }
    fn look(nodes: &[(&str, u64, u64)], depth: u64) -> Look {
        Look {
            nodes: nodes.iter().map(|(n, sent, open)| ((*n).to_owned(), figures(*sent, *open))).collect(),
            depth: [("email".to_owned(), depth)].into(),
            oldest_s: BTreeMap::new(),
        }
    }
    fn sent(samples: &[Option<Sample>]) -> Vec<Option<u64>> {
        samples.iter().map(|s| s.as_ref().map(|s| s.total(|s| s.sent))).collect()
    }

    #[test]
    fn sums_of_buckets_are_exactly_what_was_counted() {
        let mut rings = Rings::default();
        for i in 0..20_u64 {
            rings.look(at(i as i64 * 10), &look(&[("me", (i + 1) * 7, 3)], i), "me");
        }
        let (_, hour) = rings.read(at(190), 20, 180);
        assert_eq!(sent(&hour).iter().flatten().sum::<u64>(), 140);
        let (start, minutes) = rings.read(at(190), 10, 90);
        assert_eq!(sent(&minutes).iter().flatten().sum::<u64>(), 140);
        assert_eq!(minutes.len(), 90);
        assert_eq!((at(190) - start).num_seconds(), 890);
        let (_, week) = rings.read(at(190), 3_600, 168);
        assert_eq!(sent(&week).iter().flatten().sum::<u64>(), 140);
    }

    #[test]
    fn nodes_are_summed_and_one_that_is_new_adds_only_what_comes() {
        let mut rings = Rings::default();
        rings.look(at(0), &look(&[("me", 5, 1)], 0), "me");
        rings.look(at(10), &look(&[("me", 6, 1), ("other", 1_000, 2)], 0), "me");
        rings.look(at(20), &look(&[("me", 6, 1), ("other", 1_010, 2)], 0), "me");
        // It died and came back as another process.
        rings.look(at(30), &look(&[("me", 6, 1)], 0), "me");
        let (_, samples) = rings.read(at(30), 10, 4);
        assert_eq!(sent(&samples), [Some(5), Some(1), Some(10), Some(0)]);
        let open: Vec<_> = samples.iter().flatten().map(|s| s.connections).collect();
        assert_eq!(open, [1.0, 3.0, 3.0, 1.0]);
    }

    #[test]
    fn a_stretch_without_looks_is_a_gap() {
        let mut rings = Rings::default();
        rings.look(at(0), &look(&[("me", 5, 1)], 0), "me");
        rings.look(at(40), &look(&[("me", 9, 1)], 4), "me");
        let (_, samples) = rings.read(at(40), 10, 6);
        assert_eq!(sent(&samples), [None, Some(5), None, None, None, Some(4)]);
        assert!((samples[5].as_ref().unwrap().channels["email"].depth - 4.0).abs() < 0.1);
    }

    #[test]
    fn a_restart_leaves_no_blank() {
        let mut rings = Rings::default();
        let minute = Sample {
            connections: 4.0,
            users: 4.0,
            channels: [("email".to_owned(), Slot { sent: 60, ..Slot::default() })].into(),
            ..Sample::default()
        };
        rings.look(at(120), &look(&[("me", 1, 1)], 0), "me");
        rings.restore(at(0), minute.clone());
        rings.restore(at(60), minute);
        let (_, samples) = rings.read(at(120), 20, 7);
        assert_eq!(sent(&samples), [Some(20), Some(20), Some(20), Some(20), Some(20), Some(20), Some(1)]);
        let (_, hours) = rings.read(at(120), 3_600, 168);
        assert_eq!(sent(&hours).iter().flatten().sum::<u64>(), 121);
    }

    #[test]
    fn of_waits_the_longest_of_a_stretch_is_kept_and_what_nobody_knew_is_no_data() {
        let mut rings = Rings::default();
        for (i, oldest) in [Some(3.0), None, Some(41.0), Some(0.0)].into_iter().enumerate() {
            let oldest_s = oldest.map(|s| ("email".to_owned(), s)).into_iter().collect();
            rings.look(at(i as i64 * 10), &Look { oldest_s, ..look(&[("me", 1, 1)], 2) }, "me");
        }
        let oldest = |samples: &[Option<Sample>]| -> Vec<Option<f32>> {
            samples.iter().map(|s| s.as_ref().and_then(|s| s.channels.get("email")?.oldest_s)).collect()
        };
        assert_eq!(oldest(&rings.read(at(30), 10, 4).1), [Some(3.0), None, Some(41.0), Some(0.0)]);
        assert_eq!(oldest(&rings.read(at(30), 20, 2).1), [Some(3.0), Some(41.0)]);
        // Written down and read again, beside a minute of a version that knew of none.
        let known = rings.read(at(30), 60, 1).1.remove(0).unwrap();
        let written = serde_json::to_string(&known).unwrap();
        let old = r#"{"connections":1.0,"channels":{"email":{"sent":6,"depth":9.0}}}"#;
        assert!(!serde_json::to_string(&serde_json::from_str::<Sample>(old).unwrap()).unwrap().contains("oldest"));
        let mut after = Rings::default();
        after.restore(at(0), serde_json::from_str(old).unwrap());
        after.restore(at(60), serde_json::from_str(&written).unwrap());
        assert_eq!(oldest(&after.read(at(119), 60, 2).1), [None, Some(41.0)]);
        assert_eq!(oldest(&after.read(at(119), 10, 12).1)[6..], [Some(41.0); 6]);
        let mut joined = known.clone();
        joined.join(&serde_json::from_str(old).unwrap());
        assert_eq!(joined.channels["email"].oldest_s, Some(41.0), "another node may be of an older version");
    }

    #[test]
    fn memory_is_bounded_by_time_and_by_channels() {
        let mut rings = Rings::default();
        rings.look(at(0), &look(&[("me", 1, 1)], 0), "me");
        rings.look(at(40 * 86_400), &look(&[("me", 2, 1)], 0), "me");
        assert!(rings.fine.samples.len() <= FINE);
        let mut many = Look::default();
        let channels =
            (0..100).map(|i| (format!("c{i}"), ChannelCounts { sent: 1, ..ChannelCounts::default() })).collect();
        many.nodes.insert("me".into(), NodeFigures { channels, ..NodeFigures::default() });
        rings.look(at(40 * 86_400 + 10), &many, "me");
        let (_, samples) = rings.read(at(40 * 86_400 + 10), 10, 1);
        assert_eq!(samples[0].as_ref().unwrap().channels.len(), CHANNELS);
    }
}
