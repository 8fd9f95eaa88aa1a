//! The time axis under a plot and what happened along it.
//!
//! Absent on purpose: the figures themselves, and markup.

use super::Series;
use crate::pages::range::Range;
use campanile_model::Timestamp;

/// Something that happened: a pause, a breaker, a restart, a deploy.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub at: Timestamp,
    pub subject: String,
    pub what: String,
}

/// A mark on the plot.
#[derive(Debug, Clone)]
pub struct Rule {
    pub bucket: usize,
    /// Column of 60; its text ends before it in the right half and begins at it in the left half.
    pub column: usize,
    pub left: bool,
    /// Line of the plot in which its text stands, from 1; 0 where there is no room for it.
    pub line: usize,
    pub mark: Mark,
}

impl Rule {
    /// Columns that the text takes, roughly: a character is six tenths of one.
    fn text(&self) -> (usize, usize) {
        let chars = "14:07 ".len() + self.mark.subject.chars().count() + 1 + self.mark.what.chars().count();
        let wide = chars * 6 / 10 + 1;
        if self.left { (self.column, self.column + wide) } else { (self.column.saturating_sub(wide), self.column) }
    }
}

/// A label of the time axis: column of 60, and the time.
#[derive(Debug, Clone)]
pub struct Tick {
    pub column: usize,
    pub at: Timestamp,
    /// `hm` or `day`.
    pub kind: &'static str,
}

/// The axis of a plot.
#[derive(Debug, Clone, Default)]
pub struct TimeAxis {
    pub ticks: Vec<Tick>,
    pub rules: Vec<Rule>,
}

const COLUMNS: usize = 60;
/// Lines that texts of marks may stand in.
const LINES: usize = 3;

impl TimeAxis {
    /// The axis of a series, with its marks.
    pub fn of(series: &Series, range: Range, wanted: usize) -> Self {
        let mut axis = Self::plain(series.start, series.bucket_ms, series.len(), range, wanted);
        axis.mark(&series.marks, series.start, series.bucket_ms, series.len());
        axis
    }

    /// About `wanted` ticks at round times.
    pub fn plain(from: Timestamp, bucket_ms: i64, n: usize, range: Range, wanted: usize) -> Self {
        if n < 2 {
            return Self::default();
        }
        let span = bucket_ms * n as i64;
        let step = [60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600, 43_200, 86_400, 172_800]
            .into_iter()
            .map(|s| s * 1_000)
            .find(|s| span / s <= wanted as i64)
            .unwrap_or(172_800_000);
        let column = |at: Timestamp| ((at - from).num_milliseconds() * COLUMNS as i64 / span) as usize;
        let start = from.timestamp_millis();
        let kind = if range == Range::Days7 { "day" } else { "hm" };
        let mut ticks = Vec::new();
        let mut at = (start / step + 1) * step;
        while at < start + span {
            if let Some(at) = Timestamp::from_timestamp_millis(at) {
                let column = column(at);
                // A label at the very edge would stick out of the card.
                if (2..=57).contains(&column) {
                    ticks.push(Tick { column, at, kind });
                }
            }
            at += step;
        }
        Self { ticks, rules: Vec::new() }
    }

    /// Marks what happened; what lies off the plot is not shown.
    pub fn mark(&mut self, marks: &[Mark], start: Timestamp, bucket_ms: i64, n: usize) {
        let rules = &mut self.rules;
        for mark in marks {
            let bucket = (mark.at - start).num_milliseconds().checked_div(bucket_ms.max(1));
            let Some(bucket) = bucket.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < n) else { continue };
            let column = (bucket * COLUMNS / n).clamp(1, COLUMNS - 1);
            // Two rules in one place can't be told apart; the later one is the news.
            rules.retain(|r| r.column.abs_diff(column) > 2);
            rules.push(Rule { bucket, column, left: column < COLUMNS / 2, line: 0, mark: mark.clone() });
        }
        // The newest first, each in the first line where it covers no other.
        let mut taken: [Vec<(usize, usize)>; LINES] = Default::default();
        for rule in rules.iter_mut().rev() {
            let (from, to) = rule.text();
            let free = |line: &Vec<(usize, usize)>| line.iter().all(|(a, b)| to < *a || *b < from);
            if let Some(at) = taken.iter().position(free) {
                taken[at].push((from, to));
                rule.line = at + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn texts_of_marks_cover_no_other() {
        let start: Timestamp = "2026-11-22T13:00:00Z".parse().unwrap();
        let mark = |minute: i64| Mark {
            at: start + TimeDelta::minutes(minute),
            subject: "email".into(),
            what: "fails with 554_5.6.0".into(),
        };
        let mut axis = TimeAxis::default();
        axis.mark(&[mark(5), mark(25), mark(29), mark(35), mark(36), mark(58)], start, 20_000, 180);
        let lines: Vec<_> = axis.rules.iter().map(|r| (r.column, r.line)).collect();
        assert!(!lines.iter().any(|(column, _)| *column == 35), "the later of two at one place: {lines:?}");
        for (n, a) in axis.rules.iter().enumerate() {
            for b in axis.rules[n + 1..].iter().filter(|b| b.line == a.line && b.line > 0) {
                assert!(a.text().1 < b.text().0 || b.text().1 < a.text().0, "texts cover each other: {lines:?}");
            }
        }
        assert!(lines.iter().all(|(_, line)| *line > 0), "three lines are enough here: {lines:?}");
    }
}
