//! The stretch of time that a page's plots show; part of its URL.

use crate::{format, pieces::Here};
use askama::Template;
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
    /// As long as it is.
    pub fn length(self) -> TimeDelta {
        let (bucket_s, n) = self.buckets();
        TimeDelta::seconds(i64::from(bucket_s) * n as i64)
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
/// Most points of a plot.
const POINTS: i64 = 180;

/// A range that ends now, or at a moment that its address names, or a time from one moment to another: such a link shows the
/// same for as long as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stretch {
    /// Of a time between two moments, the shortest that holds it.
    pub range: Range,
    /// None: now, and it moves on.
    pub until: Option<Timestamp>,
    /// Only with `until`.
    pub from: Option<Timestamp>,
}

impl From<Range> for Stretch {
    fn from(range: Range) -> Self {
        Self { range, until: None, from: None }
    }
}

impl Stretch {
    /// `?range=` and `?until=`, a moment in RFC 3339; what is none, or far ahead, is now. (A bucket that has begun ends later.)
    pub fn parse(range: &str, until: &str, now: Timestamp) -> Self {
        let until =
            until.parse().ok().filter(|at| *at < now + TimeDelta::hours(1)).map(|at: Timestamp| at.trunc_subsecs(0));
        Self { until, ..Range::parse(range).into() }
    }
    /// By the parameters of an address: `from` and `to`, if they are moments in order, win over the others. More than a week
    /// is kept nowhere, so the week before `to` it is then.
    pub fn read<'a>(get: impl Fn(&str) -> &'a str, now: Timestamp) -> Self {
        let moment = |key: &str| get(key).parse().ok().map(|at: Timestamp| at.trunc_subsecs(0));
        match moment("from").zip(moment("to")) {
            Some((from, to)) if from < to && from < now && to < now + TimeDelta::hours(1) => {
                let from = from.max(to - Range::Days7.length());
                let range = Range::ALL.into_iter().find(|r| to - from <= r.length()).unwrap_or(Range::Days7);
                Self { range, until: Some(to), from: Some(from) }
            }
            _ => Self::parse(get("range"), get("until"), now),
        }
    }
    #[must_use]
    pub fn with(self, range: Range) -> Self {
        Self { range, from: None, ..self }
    }
    #[must_use]
    pub fn ending(self, at: Timestamp) -> Self {
        Self { until: Some(at.trunc_subsecs(0)), from: None, ..self }
    }
    /// The page at this address with the stretch in it.
    #[must_use]
    pub fn put(self, here: Here) -> Here {
        let moment = |at: Option<Timestamp>| at.map(format::machine).unwrap_or_default();
        match self.from {
            Some(from) => here.put("from", format::machine(from)).put("to", moment(self.until)),
            None => here.put("range", self.range).put("until", moment(self.until)),
        }
    }
    /// `last hour`, `1 h until 29 Nov 14:07:00 UTC`.
    pub fn words(self) -> String {
        match (self.from, self.until) {
            (Some(from), Some(to)) => {
                format!("{} to {} UTC", format::day_clock(from), format::day_clock(to))
            }
            (_, Some(at)) => format!("{} until {} UTC", self.range.label(), format::day_clock(at)),
            (_, None) => self.range.words().to_owned(),
        }
    }
    /// (seconds of one bucket, buckets): coarser where the fine figures of that time are gone.
    pub fn buckets(self, now: Timestamp) -> (u32, usize) {
        if let Some((from, to)) = self.from.zip(self.until) {
            let least = if (now - from).num_seconds() > FINE_S { 60 } else { 10 };
            let span = (to - from).num_seconds();
            let steps = [10, 20, 60, 120, 300, 600, 1_200, 1_800, 3_600];
            let bucket = steps.into_iter().find(|step| *step >= least && span <= step * POINTS).unwrap_or(3_600);
            return (bucket as u32, usize::try_from(span / bucket + 1).unwrap_or(1).max(2));
        }
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
        match (self.from, self.until) {
            (Some(from), Some(to)) => write!(f, "&from={}&to={}", format::machine(from), format::machine(to)),
            (_, Some(at)) => write!(f, "&until={}", format::machine(at)),
            (_, None) => Ok(()),
        }
    }
}

/// The links of a page from one range to another, and what it says where it does not show the newest.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/ranges.html")]
pub struct Ranges {
    /// Label, address, whether it is this one.
    pub links: Vec<(&'static str, String, bool)>,
}

/// Says that plots are of another time than the rest of the page, and leads back.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/pinned.html")]
pub struct Pinned {
    pub stretch: Stretch,
    /// The page with the plots of now.
    pub now: String,
}

impl Stretch {
    /// `bare`: the page's address without its time.
    pub fn ranges(self, bare: &Here) -> Ranges {
        let link = |r: Range| (r.label(), self.with(r).put(bare.clone()).url(), self.from.is_none() && r == self.range);
        Ranges { links: Range::ALL.into_iter().map(link).collect() }
    }
    pub fn pinned(self, bare: &Here) -> Option<Pinned> {
        self.until.map(|_| Pinned { stretch: self, now: Self::from(self.range).put(bare.clone()).url() })
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

    #[test]
    fn a_time_between_two_moments_is_a_stretch_too() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-29T03:20:00Z");
        let of = |from: &'static str, to: &'static str, now| {
            let get = move |key: &str| match key {
                "from" => from,
                "to" => to,
                "range" => "6h",
                _ => "",
            };
            Stretch::read(get, now)
        };
        let half = of("2026-11-29T02:00:00Z", "2026-11-29T02:30:00.4Z", now);
        assert_eq!((half.range, half.buckets(now)), (Range::Hour1, (10, 181)));
        assert_eq!(half.words(), "29 Nov 02:00:00 to 29 Nov 02:30:00 UTC");
        let url = half.put(Here::new("/a")).url();
        assert_eq!(url, "/a?from=2026-11-29T02:00:00.000Z&to=2026-11-29T02:30:00.000Z");
        assert_eq!(half.buckets(at("2026-12-02T00:00:00Z")), (60, 31));
        assert_eq!(half.with(Range::Minutes15).to_string(), "15m&until=2026-11-29T02:30:00.000Z");
        assert!(half.ranges(&Here::new("/a")).links.iter().all(|(_, _, current)| !current));
        assert!(half.pinned(&Here::new("/a")).unwrap().now.ends_with("range=1h"));
        let year = of("2025-11-29T00:00:00Z", "2026-11-29T00:00:00Z", now);
        assert_eq!((year.range, year.buckets(now)), (Range::Days7, (3_600, 169)));
        for (from, to) in [
            ("2026-11-29T02:30:00Z", "2026-11-29T02:00:00Z"),
            ("2026-11-29T02:30:00Z", ""),
            ("soon", "2026-11-29T02:00:00Z"),
            ("2027-11-29T02:30:00Z", "2027-11-29T02:31:00Z"),
        ] {
            assert_eq!(of(from, to, now), Range::Hours6.into(), "{from} {to}");
        }
    }
}
