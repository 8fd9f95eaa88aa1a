//! Which nodes report, and which should but don't.
//!
//! A node that said goodbye is forgotten at once. One that fell silent is missed until it is back at its address, or for ten
//! minutes: then it was taken away. Absent on purpose: the database, which forgets a silent node after four beats.

use campanile_model::{NodeId, Timestamp, ports::NodeRow};
use chrono::TimeDelta;
use std::{collections::HashMap, time::Duration};

/// A node that is silent for longer than that was taken away.
const MISSED_FOR: TimeDelta = TimeDelta::minutes(10);
/// Beats that may be late before a node counts as silent.
const LATE_BEATS: u32 = 3;

/// The nodes as a page sees them.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// Written down and not forgotten by the database, silent ones among them.
    pub rows: Vec<NodeRow>,
    /// Addresses of nodes that should report and don't.
    pub silent: Vec<String>,
}

impl Nodes {
    /// Nodes heard of lately, and nodes that should be.
    pub fn reporting(&self) -> (usize, usize) {
        let silent_rows = self.rows.iter().filter(|r| self.silent.contains(&place(r))).count();
        let heard = self.rows.len() - silent_rows;
        (heard, heard + self.silent.len())
    }

    /// `2 of 3 nodes reporting`, when not all do.
    pub fn partial(&self) -> Option<String> {
        let (heard, all) = self.reporting();
        (heard < all).then(|| format!("{heard} of {all} nodes reporting"))
    }
}

fn place(row: &NodeRow) -> String {
    format!("{} {}", row.said.host, row.said.address)
}

#[derive(Debug)]
struct Last {
    place: String,
    at: Timestamp,
    leaving: bool,
}

/// What earlier looks saw.
#[derive(Debug, Default)]
pub struct Known(HashMap<NodeId, Last>);

impl Known {
    /// Takes in the rows of now.
    pub fn seen(&mut self, now: Timestamp, rows: Vec<NodeRow>, heartbeat: Duration) -> Nodes {
        let late = (heartbeat * LATE_BEATS).as_millis() as i64;
        let speaks = |row: &NodeRow| row.silent_ms <= late;
        for row in rows.iter().filter(|r| speaks(r)) {
            self.0.insert(row.said.node, Last { place: place(row), at: now, leaving: row.said.draining });
        }
        let spoken: Vec<String> = rows.iter().filter(|r| speaks(r)).map(place).collect();
        let gone = |last: &Last| last.leaving || now - last.at > MISSED_FOR;
        self.0.retain(|_, last| last.at == now || !(gone(last) || spoken.contains(&last.place)));
        let mut silent: Vec<String> = self.0.values().filter(|l| l.at != now).map(|l| l.place.clone()).collect();
        silent.extend(rows.iter().filter(|r| !speaks(r) && !spoken.contains(&place(r)) && !r.said.draining).map(place));
        silent.sort_unstable();
        silent.dedup();
        Nodes { rows, silent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::ports::{Beat, NodeFigures};

    const BEAT: Duration = Duration::from_secs(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }
    fn node(id: NodeId, address: &str, silent_ms: i64) -> NodeRow {
        let said = Beat {
            node: id,
            host: "machine".into(),
            address: address.into(),
            version: "0.1.0".into(),
            started_at: at(0),
            draining: false,
            figures: NodeFigures::default(),
        };
        NodeRow { said, seen_at: at(0), silent_ms }
    }

    #[test]
    fn a_node_that_falls_silent_is_missed_until_it_is_back_or_forgotten() {
        let (a, b, again) = (NodeId::new(), NodeId::new(), NodeId::new());
        let mut known = Known::default();
        let both = known.seen(at(0), vec![node(a, "a:1", 0), node(b, "b:1", 0)], BEAT);
        assert_eq!((both.reporting(), both.partial()), ((2, 2), None));
        // Late, then forgotten by the database.
        let late = known.seen(at(16), vec![node(a, "a:1", 0), node(b, "b:1", 16_000)], BEAT);
        assert_eq!(late.partial().as_deref(), Some("1 of 2 nodes reporting"));
        let buried = known.seen(at(30), vec![node(a, "a:1", 0)], BEAT);
        assert_eq!(buried.reporting(), (1, 2));
        // Another process at the same place.
        let back = known.seen(at(60), vec![node(a, "a:1", 0), node(again, "b:1", 0)], BEAT);
        assert_eq!(back.reporting(), (2, 2));
        // Gone for good.
        known.seen(at(70), vec![node(a, "a:1", 0)], BEAT);
        let later = known.seen(at(60 + 601), vec![node(a, "a:1", 0)], BEAT);
        assert_eq!(later.reporting(), (1, 1));
    }

    #[test]
    fn a_goodbye_is_no_silence() {
        let (a, b) = (NodeId::new(), NodeId::new());
        let mut known = Known::default();
        let mut leaving = node(b, "b:1", 0);
        leaving.said.draining = true;
        known.seen(at(0), vec![node(a, "a:1", 0), leaving], BEAT);
        assert_eq!(known.seen(at(2), vec![node(a, "a:1", 0)], BEAT).reporting(), (1, 1));
    }
}
