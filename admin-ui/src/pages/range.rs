//! The stretch of time that a page's plots show; part of its URL.

use campanile_model::Timestamp;
use chrono::{SubsecRound, TimeDelta};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Range {
    Minutes15,
    #[default]
    Hour1,
    Hours6,
    Day1,
    Days7,
}

impl Range {
    pub const ALL: [Self; 5] = [Self::Minutes15, Self::Hour1, Self::Hours6, Self::Day1, Self::Days7];

    /// `?range=`; anything else is the default, since a mistyped link should still show something.
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|r| r.as_str() == text).unwrap_or_default()
    }
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minutes15 => "15m",
            Self::Hour1 => "1h",
            Self::Hours6 => "6h",
            Self::Day1 => "24h",
            Self::Days7 => "7d",
        }
    }
    pub const fn label(self) -> &'static str {
        match self {
            Self::Minutes15 => "15 m",
            Self::Hour1 => "1 h",
            Self::Hours6 => "6 h",
            Self::Day1 => "24 h",
            Self::Days7 => "7 d",
        }
    }
    /// `last hour`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Minutes15 => "last 15 minutes",
            Self::Hour1 => "last hour",
            Self::Hours6 => "last 6 hours",
            Self::Day1 => "last 24 hours",
            Self::Days7 => "last 7 days",
        }
    }
    /// (seconds of one bucket, buckets): at most 180 points a plot.
    pub const fn buckets(self) -> (u32, usize) {
        match self {
            Self::Minutes15 => (10, 90),
            Self::Hour1 => (20, 180),
            Self::Hours6 => (120, 180),
            Self::Day1 => (480, 180),
            Self::Days7 => (3_600, 168),
        }
    }
    /// `20 s`.
    pub const fn bucket_label(self) -> &'static str {
        match self {
            Self::Minutes15 => "10 s",
            Self::Hour1 => "20 s",
            Self::Hours6 => "2 min",
            Self::Day1 => "8 min",
            Self::Days7 => "1 h",
        }
    }
}

/// Ten seconds are told apart for a day; a minute for a week.
const FINE_S: i64 = 24 * 3_600;

/// A range that ends now, or at a moment that its address names: such a link shows the same for as long as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stretch {
    pub range: Range,
    /// None: now, and it moves on.
    pub until: Option<Timestamp>,
}

impl From<Range> for Stretch {
    fn from(range: Range) -> Self {
        Self { range, until: None }
    }
}

impl Stretch {
    /// `?range=` and `?until=`, a moment in RFC 3339; what is none, or far ahead, is now. (A bucket that has begun ends later.)
    pub fn parse(range: &str, until: &str, now: Timestamp) -> Self {
        let until =
            until.parse().ok().filter(|at| *at < now + TimeDelta::hours(1)).map(|at: Timestamp| at.trunc_subsecs(0));
        Self { range: Range::parse(range), until }
    }
    #[must_use]
    pub fn with(self, range: Range) -> Self {
        Self { range, ..self }
    }
    #[must_use]
    pub fn ending(self, at: Timestamp) -> Self {
        Self { until: Some(at.trunc_subsecs(0)), ..self }
    }
    /// `last hour`, `the hour until 14:07 UTC on 29 Nov`.
    pub fn words(self) -> String {
        match self.until {
            None => self.range.words().to_owned(),
            Some(at) => format!("{} until {} UTC", self.range.label(), crate::format::day_clock(at)),
        }
    }
    /// (seconds of one bucket, buckets): coarser where the fine figures of that time are gone.
    pub fn buckets(self, now: Timestamp) -> (u32, usize) {
        let (bucket_s, n) = self.range.buckets();
        let whole_s = bucket_s as usize * n;
        let old = self.until.is_some_and(|at| (now - at).num_seconds() + whole_s as i64 > FINE_S);
        if old && bucket_s < 60 { (60, whole_s / 60) } else { (bucket_s, n) }
    }
}

/// As its address has it, behind `range=`.
impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range.fmt(f)?;
        match self.until {
            None => Ok(()),
            Some(at) => write!(f, "&until={}", crate::format::machine(at)),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_back_and_a_strange_one_is_an_hour() {
        for r in Range::ALL {
            assert_eq!(Range::parse(r.as_str()), r);
        }
        assert_eq!(Range::parse("a fortnight"), Range::Hour1);
    }

    #[test]
    fn a_link_keeps_the_moment_that_it_names() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-29T03:20:00Z");
        let pinned = Stretch::parse("15m", "2026-11-29T03:10:00.25Z", now);
        assert_eq!(pinned.until, Some(at("2026-11-29T03:10:00Z")));
        let (range, until) =
            pinned.to_string().split_once("&until=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(Stretch::parse(&range, &until, now), pinned);
        assert!(pinned.words().ends_with("UTC") && Stretch::from(Range::Hour1).words() == "last hour");
        for later in ["2027-01-01T00:00:00Z", "soon", ""] {
            assert_eq!(Stretch::parse("15m", later, now), Range::Minutes15.into());
        }
        assert_eq!(pinned.buckets(now), (10, 90));
        assert_eq!(
            pinned.buckets(at("2026-11-30T09:00:00Z")),
            (60, 15),
            "a minute is the finest that is kept for long"
        );
    }
}
