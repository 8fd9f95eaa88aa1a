//! The time axis under a plot and what happened along it.
//!
//! Absent on purpose: the figures themselves, and markup.

use super::Series;
use crate::{format, pages::range::Range};
use campanile_model::Timestamp;

/// Something that happened: a pause, a breaker, a restart, a deploy.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub at: Timestamp,
    pub subject: String,
    pub what: String,
}

/// A mark on the plot. Its words stand between its line and the next one, on either side: no line goes through them. Where
/// there is no room they lie over other lines, which end at them.
#[derive(Debug, Clone)]
pub struct Rule {
    pub bucket: usize,
    /// Column of 60.
    pub column: usize,
    /// Its text begins at it; else it ends at it.
    pub left: bool,
    /// Columns that its text may take: what is longer ends with an ellipsis.
    pub from: usize,
    pub to: usize,
    /// Its text lies over other marks' lines.
    pub over: bool,
    /// Line of the plot in which its text stands, from 1; 0 where there is no room for it.
    pub line: usize,
    pub mark: Mark,
}

impl Rule {
    /// Columns that the text takes, roughly: a character is six tenths of one.
    fn wide(&self) -> usize {
        let chars = "14:07 ".len() + self.mark.subject.chars().count() + 1 + self.mark.what.chars().count();
        chars * 6 / 10 + 1
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
/// Fewer columns hold a time and nothing else.
const LEAST: usize = 8;
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

    /// The marks in words, for those who do not see them; empty without any.
    pub fn said(&self) -> String {
        let one = |r: &Rule| format!(" {} UTC: {} {}.", format::minute(r.mark.at), r.mark.subject, r.mark.what);
        self.rules.iter().map(one).collect()
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
            let left = column < COLUMNS / 2;
            rules.push(Rule { bucket, column, left, from: 0, to: 0, over: false, line: 0, mark: mark.clone() });
        }
        // Where a line is drawn, in columns: a text begins after it and ends before it.
        let last = n.saturating_sub(1).max(1);
        let after = |r: &Rule| (r.bucket * COLUMNS).div_ceil(last);
        let before = |r: &Rule| r.bucket * COLUMNS / last;
        let mut taken: Vec<Vec<(usize, usize)>> = vec![Vec::new(); LINES];
        let mut cramped = Vec::new();
        // The newest first: of two texts between the same lines it has the upper one.
        for i in (0..rules.len()).rev() {
            let rule = &rules[i];
            let right = (after(rule), rules.get(i + 1).map_or(COLUMNS, before));
            let left = (i.checked_sub(1).map_or(0, |at| after(&rules[at])), before(rule));
            let (own, other) = if rule.left { (right, left) } else { (left, right) };
            let room = |(from, to): (usize, usize)| to.saturating_sub(from);
            let fits = |side| room(side) >= rule.wide();
            let swapped = !fits(own) && (fits(other) || room(other) > room(own));
            let (from, to) = if swapped { other } else { own };
            if room((from, to)) < LEAST {
                cramped.push(i);
                continue;
            }
            let free = |line: &Vec<(usize, usize)>| line.iter().all(|(a, b)| to <= *a || *b <= from);
            // Two texts at most lie between two lines.
            let Some(at) = taken.iter().position(free) else { continue };
            taken[at].push((from, to));
            let rule = &mut rules[i];
            *rule = Rule { left: rule.left != swapped, from, to, line: at + 1, ..rule.clone() };
        }
        for i in cramped {
            let rule = &rules[i];
            let (from, to) = if rule.left {
                (after(rule), (after(rule) + rule.wide()).min(COLUMNS))
            } else {
                (before(rule).saturating_sub(rule.wide()), before(rule))
            };
            let free = |line: &Vec<(usize, usize)>| line.iter().all(|(a, b)| to <= *a || *b <= from);
            let Some(at) = taken.iter().position(free) else { continue };
            taken[at].push((from, to));
            let rule = &mut rules[i];
            *rule = Rule { from, to, over: true, line: at + 1, ..rule.clone() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn no_line_and_no_other_text_goes_through_the_words_of_a_mark() {
        let start: Timestamp = "2026-11-22T13:00:00Z".parse().unwrap();
        let mark = |minute: i64| Mark {
            at: start + TimeDelta::minutes(minute),
            subject: "email".into(),
            what: "fails with 554_5.6.0".into(),
        };
        for minutes in
            [&[5, 25, 29, 35, 36, 58][..], &[0, 59], &[10, 13, 50], &[30], &[1, 4, 7, 10, 57], &[40, 45, 48, 51, 54]]
        {
            let marks: Vec<_> = minutes.iter().map(|m| mark(*m)).collect();
            let mut axis = TimeAxis::default();
            axis.mark(&marks, start, 20_000, 180);
            let told: Vec<_> = axis.rules.iter().filter(|r| r.line > 0).collect();
            assert!(!told.is_empty(), "{minutes:?}");
            let newest = axis.rules.last().unwrap();
            assert!(newest.line > 0, "the news is told however little room there is: {newest:?}");
            for (n, a) in told.iter().enumerate() {
                let drawn = |r: &Rule| r.bucket as f64 * 60.0 / 179.0;
                assert!(a.to - a.from >= LEAST && a.to <= COLUMNS && a.line <= LINES, "{a:?}");
                assert!((drawn(a) - (if a.left { a.from } else { a.to }) as f64).abs() < 1.0, "beside its line: {a:?}");
                for b in axis.rules.iter().filter(|_| !a.over) {
                    assert!(drawn(b) <= a.from as f64 || drawn(b) >= a.to as f64, "{b:?} goes through {a:?}");
                }
                for b in told[n + 1..].iter().filter(|b| b.line == a.line) {
                    assert!(a.to <= b.from || b.to <= a.from, "{a:?} covers {b:?}");
                }
            }
        }
    }

    #[test]
    fn of_two_marks_in_one_place_the_later_is_told() {
        let start: Timestamp = "2026-11-22T13:00:00Z".parse().unwrap();
        let mark = |minute, what: &str| Mark {
            at: start + TimeDelta::minutes(minute),
            subject: "a".into(),
            what: what.into(),
        };
        let mut axis = TimeAxis::default();
        axis.mark(&[mark(35, "first"), mark(36, "second")], start, 20_000, 180);
        let told: Vec<_> = axis.rules.iter().map(|r| r.mark.what.as_str()).collect();
        assert_eq!(told, ["second"]);
    }
}
