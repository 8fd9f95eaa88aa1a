//! Plots of one channel, from the rings: what its own page and its queue's page show.
//!
//! Owns: what each is of. Absent on purpose: how it is drawn (`admin-ui`), and the overview's, which are of all channels.

use super::{live::Query, overview};
use crate::{
    console::{
        Facts, pulse,
        rings::{Sample, Slot},
        ticker::OURSELVES,
    },
    services::Services,
};
use campanile_admin_ui::{
    pages::{
        overview::{Mark, RatePlot, Series, Shown},
        plot::{Place, Plot, Unit},
        range::Stretch,
    },
    pieces::Here,
};
use campanile_model::Timestamp;
use chrono::TimeDelta;
use std::sync::PoisonError;

/// Which time an address asks for, and which plot of it as a table.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    range: String,
    until: String,
    from: String,
    to: String,
    pub table: String,
}

impl Asked {
    pub fn read(query: &Query) -> Self {
        let text = |key: &str| query.get(key).to_owned();
        Self { range: text("range"), until: text("until"), from: text("from"), to: text("to"), table: text("table") }
    }
    /// Read each time: "now" moves on.
    pub fn stretch(&self, s: &Services) -> Stretch {
        let get = |key: &str| match key {
            "range" => self.range.as_str(),
            "until" => &self.until,
            "from" => &self.from,
            "to" => &self.to,
            _ => "",
        };
        Stretch::read(get, s.clock.now())
    }
    /// The page at this address with what is asked for in it.
    pub fn put(&self, s: &Services, bare: Here) -> Here {
        self.stretch(s).put(bare).put("table", &self.table)
    }
}

/// The rings' figures of one channel over a stretch of time.
pub struct Channel<'a> {
    name: &'a str,
    /// The page's address without its time and without a table.
    bare: &'a Here,
    table: &'a str,
    stretch: Stretch,
    start: Timestamp,
    bucket_s: u32,
    samples: Vec<Option<Sample>>,
    marks: Vec<Mark>,
}

impl<'a> Channel<'a> {
    /// `also`: subjects whose marks are the channel's, too.
    pub fn read(s: &Services, facts: &Facts, asked: &'a Asked, name: &'a str, bare: &'a Here, also: &[&str]) -> Self {
        let (now, stretch) = (s.clock.now(), asked.stretch(s));
        let (bucket_s, n) = stretch.buckets(now);
        let (start, samples) = {
            let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
            rings.read_until(now, stretch.until.unwrap_or(now), bucket_s, n)
        };
        let end = start + TimeDelta::seconds(i64::from(bucket_s) * n as i64);
        let wanted = |subject: &str| subject == name || subject == OURSELVES || also.contains(&subject);
        let marks = overview::marks(facts, start, end, wanted);
        Self { name, bare, table: &asked.table, stretch, start, bucket_s, samples, marks }
    }

    fn place(&self, id: &'static str, title: &'static str) -> Place {
        Place::new(id, title, self.stretch, self.bare, self.table).buckets(self.start, self.bucket_ms())
    }

    fn bucket_ms(&self) -> i64 {
        i64::from(self.bucket_s) * 1_000
    }

    /// A channel that did nothing in a bucket counts nothing in it; a bucket in which nobody looked is a gap.
    fn counted(&self, of: impl Fn(&Slot) -> f64) -> Vec<Option<f64>> {
        let slot = |sample: &Sample| sample.channels.get(self.name).map_or(0.0, &of);
        self.samples.iter().map(|sample| sample.as_ref().map(slot)).collect()
    }

    /// What only something that happened, or somebody who looked, gives a value.
    fn known(&self, of: impl Fn(&Slot) -> Option<f64>) -> Vec<Option<f64>> {
        self.samples.iter().map(|sample| of(sample.as_ref()?.channels.get(self.name)?)).collect()
    }

    fn rate(&self, of: impl Fn(&Slot) -> u32) -> Vec<Option<f64>> {
        self.counted(|slot| f64::from(of(slot)) / f64::from(self.bucket_s))
    }

    pub fn depth(&self) -> Plot {
        let lines = vec![("waiting", "l1", self.counted(|slot| f64::from(slot.depth)))];
        Plot::new(self.place("depth", "Waiting"), Unit::Count, lines, &self.marks).pinned_by(self.bare, self.table)
    }

    pub fn flow(&self) -> Plot {
        let out = self.rate(|slot| slot.sent + slot.failed);
        let lines = vec![("out", "l1", out), ("in", "l2", self.rate(|slot| slot.accepted))];
        Plot::new(self.place("flow", "In and out, per second"), Unit::PerSecond, lines, &self.marks)
    }

    /// How long the oldest due delivery has waited, beside how long it may.
    pub fn age(&self, target_ms: i64) -> Plot {
        let oldest = self.known(|slot| slot.oldest_s.map(|s| f64::from(s) * 1e3));
        let lines = vec![("oldest", "l1", oldest)];
        Plot::of_times(self.place("age", "Age of the oldest"), lines, Some(target_ms as f64), &self.marks)
    }

    pub fn rates(&self) -> RatePlot {
        let series = Series {
            start: self.start,
            bucket_ms: self.bucket_ms(),
            accepted: self.rate(|slot| slot.accepted),
            delivered: self.rate(|slot| slot.sent),
            failed: self.rate(|slot| slot.failed),
            retried: self.rate(|slot| slot.retried),
            depth: Vec::new(),
            marks: self.marks.clone(),
        };
        RatePlot::new(series, self.stretch, Shown::parse(self.table), self.bare)
    }

    pub fn success(&self) -> Plot {
        let share = self.known(|slot| {
            let all = u64::from(slot.sent) + u64::from(slot.failed) + u64::from(slot.retried);
            (all > 0).then(|| f64::from(slot.sent) / all as f64 * 100.0)
        });
        let place = self.place("success", "Success");
        Plot::new(place, Unit::Percent, vec![("success", "l1", share)], &self.marks).low()
    }

    pub fn latency(&self) -> Plot {
        let percentile = |share: f64| {
            self.known(|slot| {
                let latency: Vec<u64> = slot.latency.iter().map(|n| u64::from(*n)).collect();
                pulse::percentile(&latency, share)
            })
        };
        let lines = vec![("p95", "l1", percentile(0.95)), ("p50", "l2", percentile(0.5))];
        Plot::of_times(self.place("latency", "Time to deliver"), lines, None, &self.marks).low()
    }
}
