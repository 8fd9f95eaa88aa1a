//! A plot of one or two lines over a stretch of time, with its marks, its table and a line that it should keep under.
//!
//! Owns: units, and what a stretch of a table says. Absent on purpose: whose figures they are.

use super::{
    overview::{Mark, TimeAxis},
    range::Stretch,
};
use crate::{
    chart::{self, Scale},
    format,
    pieces::Here,
};
use askama::Template;
use campanile_model::Timestamp;
use chrono::TimeDelta;

/// What the values are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Things that are counted.
    #[default]
    Count,
    PerSecond,
    /// Shares; 100 is all.
    Percent,
    Millis,
    Seconds,
    Minutes,
    Hours,
}

impl Unit {
    /// In which times of up to `most_ms` are read best, as [`format::duration`] has it.
    fn of_time(most_ms: f64) -> Self {
        match most_ms {
            m if m < 1_000.0 => Self::Millis,
            m if m < 120_000.0 => Self::Seconds,
            m if m < 7_200_000.0 => Self::Minutes,
            _ => Self::Hours,
        }
    }
    /// Milliseconds; 1 for what is no time.
    const fn ms(self) -> f64 {
        match self {
            Self::Seconds => 1e3,
            Self::Minutes => 60e3,
            Self::Hours => 3.6e6,
            _ => 1.0,
        }
    }
    /// Behind a value; empty for what is counted.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::PerSecond => "/s",
            Self::Percent => "%",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::Minutes => "min",
            Self::Hours => "h",
        }
    }
    /// One value in words.
    fn say(self, v: f64) -> String {
        match self {
            Self::Count | Self::PerSecond => format::rate(v),
            Self::Percent => format!("{} %", format::percent(v / 100.0)),
            _ => format::duration(v * self.ms()).text(),
        }
    }
    /// What one cell of the table is of several buckets: of what should be high the lowest, of what should be low the highest.
    fn of_several(self, known: &[f64]) -> Option<f64> {
        match self {
            Self::Count | Self::PerSecond => {
                (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
            }
            Self::Percent => known.iter().copied().reduce(f64::min),
            _ => known.iter().copied().reduce(f64::max),
        }
    }
    const fn several(self) -> &'static str {
        match self {
            Self::Count | Self::PerSecond => "",
            Self::Percent => ", lowest",
            _ => ", highest",
        }
    }
}

/// Where a plot is and what of it.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub id: &'static str,
    pub title: &'static str,
    pub stretch: Stretch,
    pub start: Timestamp,
    pub bucket_ms: i64,
    pub as_table: bool,
    /// The same page with the table, or with the plot again.
    pub other: String,
    /// An address that keeps showing this time, where the plot is the one that offers it.
    pub pin: Option<String>,
}

impl Place {
    /// `bare`: the page's address without its time and without a table. `table`: which plot is shown as one; `1` means all.
    pub fn new(id: &'static str, title: &'static str, stretch: Stretch, bare: &Here, table: &str) -> Self {
        let as_table = table == id || table == "1";
        let other = stretch.put(bare.clone()).put("table", if as_table { "" } else { id }).url();
        Self { id, title, stretch, as_table, other, ..Self::default() }
    }
    #[must_use]
    pub fn buckets(self, start: Timestamp, bucket_ms: i64) -> Self {
        Self { start, bucket_ms, ..self }
    }
}

/// Legend, class of the line, points.
pub type Line = (&'static str, &'static str, Vec<Option<f64>>);

#[derive(Template, Clone, Debug)]
#[template(path = "parts/plot.html")]
pub struct Plot {
    pub id: &'static str,
    pub title: &'static str,
    pub stretch: Stretch,
    pub axis: TimeAxis,
    pub scale: Scale,
    pub unit: Unit,
    pub lines: Vec<Line>,
    /// What it should stay under, in its unit.
    pub limit: Option<f64>,
    pub start: Timestamp,
    pub bucket_ms: i64,
    pub as_table: bool,
    pub other: String,
    pub pin: Option<String>,
    /// Class of its height.
    pub height: &'static str,
}

impl Plot {
    /// `unit` is one of the first three; times are [`Self::of_times`].
    pub fn new(place: Place, unit: Unit, lines: Vec<Line>, marks: &[Mark]) -> Self {
        let known = || lines.iter().flat_map(|(_, _, points)| points.iter().flatten()).copied();
        let scale = match unit {
            Unit::Percent => Scale::percent(known().fold(100.0, f64::min)),
            _ => Scale::of(known().fold(0.0, f64::max), unit == Unit::Count),
        };
        let n = lines.first().map_or(0, |(_, _, points)| points.len());
        let mut axis = TimeAxis::plain(place.start, place.bucket_ms, n, place.stretch.range, 5);
        axis.mark(marks, place.start, place.bucket_ms, n);
        Self {
            id: place.id,
            title: place.title,
            stretch: place.stretch,
            axis,
            scale,
            unit,
            lines,
            limit: None,
            start: place.start,
            bucket_ms: place.bucket_ms,
            as_table: place.as_table,
            other: place.other,
            pin: place.pin,
            height: "mid",
        }
    }

    /// Of points in milliseconds, drawn in the unit in which the highest of them is read best.
    pub fn of_times(place: Place, lines: Vec<Line>, limit_ms: Option<f64>, marks: &[Mark]) -> Self {
        let known = lines.iter().flat_map(|(_, _, points)| points.iter().flatten()).copied();
        let most = known.fold(0.0, f64::max);
        let unit = Unit::of_time(if most > 0.0 { most } else { limit_ms.unwrap_or(0.0) });
        let of = |points: Vec<Option<f64>>| points.into_iter().map(|p| p.map(|ms| ms / unit.ms())).collect();
        let lines = lines.into_iter().map(|(name, class, points)| (name, class, of(points))).collect();
        let mut plot = Self { limit: limit_ms.map(|ms| ms / unit.ms()), ..Self::new(place, unit, lines, marks) };
        // A line to keep under that is near is shown with what nears it.
        if let Some(limit) = plot.limit.filter(|limit| *limit <= plot.scale.top * 2.0 || most <= 0.0) {
            plot.scale = Scale::of(limit.max(most / unit.ms()), false);
        }
        plot
    }

    /// Half as high, so with fewer steps.
    #[must_use]
    pub fn low(self) -> Self {
        let scale = if self.unit == Unit::Percent { self.scale } else { Scale::halves(self.scale.top) };
        Self { height: "half", scale, ..self }
    }

    /// With a link to this very time.
    #[must_use]
    pub fn pinned_by(self, bare: &Here, table: &str) -> Self {
        let end = self.start + TimeDelta::milliseconds(self.bucket_ms * (self.last() as i64 + 1) - 1);
        let link = || self.stretch.ending(end).put(bare.clone()).put("table", table).url();
        let pin = self.stretch.until.is_none().then(link);
        Self { pin, ..self }
    }

    fn last(&self) -> usize {
        self.lines.first().map_or(1, |(_, _, p)| p.len().saturating_sub(1)).max(1)
    }
    /// Of the first and the last bucket, in milliseconds.
    fn span(&self) -> (i64, i64) {
        let start = self.start.timestamp_millis();
        (start, start + self.bucket_ms * self.last() as i64)
    }
    fn path(&self, points: &[Option<f64>]) -> String {
        chart::line(points, &self.scale)
    }
    fn lone(&self, points: &[Option<f64>]) -> String {
        chart::lone(points, &self.scale)
    }
    /// Under the first line. None for shares: there an area would tell of how much is missing.
    fn area(&self) -> String {
        let first = self.lines.first().filter(|_| self.unit != Unit::Percent);
        first.map(|(_, _, p)| chart::area(p, &self.scale)).unwrap_or_default()
    }
    fn limit_line(&self) -> String {
        self.limit.map(|v| chart::level(v, &self.scale, self.last())).unwrap_or_default()
    }
    fn limit_text(&self) -> String {
        self.limit.map(|v| format!("target {}", self.unit.say(v))).unwrap_or_default()
    }
    /// Beside the plot; what is counted, or so many a second as the title says, without a unit.
    fn labels(&self) -> Vec<String> {
        let bare = matches!(self.unit, Unit::Count | Unit::PerSecond);
        let label = |l: String| if bare || l == "0" { l } else { format!("{l} {}", self.unit.suffix()) };
        self.scale.labels().into_iter().map(label).collect()
    }
    fn is_empty(&self) -> bool {
        self.lines.iter().all(|(_, _, points)| points.iter().all(Option::is_none))
    }
    /// What the picture says, for those who do not see it.
    fn description(&self) -> String {
        let now = |p: &[Option<f64>]| p.iter().rev().flatten().next().copied();
        let say =
            |v: Option<f64>| v.map_or_else(|| "without data".to_owned(), |v| format!("{} last", self.unit.say(v)));
        let mut said: Vec<String> = self.lines.iter().map(|(name, _, p)| format!("{name} {}", say(now(p)))).collect();
        said.extend(self.limit.map(|_| self.limit_text()));
        format!("{}.{}", said.join(", "), self.axis.said())
    }
    /// At most thirty rows, newest first.
    fn rows(&self) -> Vec<(Timestamp, Vec<String>)> {
        let n = self.last() + 1;
        let per = n.div_ceil(30).max(1);
        (0..n.div_ceil(per))
            .rev()
            .map(|i| {
                let cell = |p: &Vec<Option<f64>>| {
                    let known: Vec<f64> = p.iter().skip(i * per).take(per).flatten().copied().collect();
                    self.unit.of_several(&known).map_or_else(|| "–".to_owned(), |v| self.unit.say(v))
                };
                let at = self.start + TimeDelta::milliseconds(self.bucket_ms * (i * per) as i64);
                (at, self.lines.iter().map(|(_, _, p)| cell(p)).collect())
            })
            .collect()
    }
}

/// What the tests of pages draw.
#[cfg(test)]
pub fn sample(evil: &str) -> Plot {
    let place = Place { id: "flow", title: "In and out", bucket_ms: 20_000, ..Place::default() };
    let lines = vec![("in", "l2", vec![Some(1.0), Some(2.0)]), ("out", "l1", vec![Some(1.0), None])];
    let mark = Mark { at: Timestamp::UNIX_EPOCH, subject: evil.into(), what: evil.into() };
    let plot = Plot::new(place, Unit::PerSecond, lines, &[mark]);
    Plot { as_table: true, other: evil.into(), pin: Some(evil.into()), limit: Some(1.0), ..plot }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::range::Range;

    fn place() -> Place {
        let start = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        let bare = Here::new("/admin/queues/email");
        Place::new("age", "Age", Range::Hour1.into(), &bare, "").buckets(start, 20_000)
    }

    #[test]
    fn times_are_drawn_in_the_unit_in_which_they_are_read() {
        let of = |ms: f64, limit| Plot::of_times(place(), vec![("oldest", "l1", vec![None, Some(ms)])], limit, &[]);
        for (ms, unit, text) in [
            (412.0, Unit::Millis, "412 ms"),
            (41_000.0, Unit::Seconds, "41 s"),
            (2_280_000.0, Unit::Minutes, "38 min"),
            (36_000_000.0, Unit::Hours, "10 h"),
        ] {
            let plot = of(ms, None);
            assert_eq!(plot.unit, unit);
            assert_eq!(plot.rows()[0].1, [text]);
            assert_eq!(plot.rows()[1].1, ["–"], "no data is not nothing");
            assert!(plot.labels()[0].ends_with(unit.suffix()) && plot.labels().last().unwrap() == "0");
        }
        let near = of(41_000.0, Some(60_000.0));
        assert_eq!((near.limit_line().as_str(), near.limit_text().as_str()), ("M0 0H1", "target 60 s"));
        let far = of(41.0, Some(60_000.0));
        assert_eq!((far.limit_line().as_str(), far.unit), ("", Unit::Millis), "what is far off does not flatten it");
        assert!(!of(0.0, Some(60_000.0)).limit_line().is_empty());
    }

    #[test]
    fn a_link_to_this_time_shows_the_same_buckets() {
        let bare = Here::new("/admin/queues/email");
        let plot = Plot::new(place(), Unit::Count, vec![("waiting", "l1", vec![Some(1.0); 180])], &[]);
        let pin = plot.pinned_by(&bare, "").pin.unwrap();
        assert!(pin.contains("range=1h&until=2027-01-15T08:59:59.000Z"), "{pin}");
        let pinned = Place { stretch: Stretch::from(Range::Hour1).ending(Timestamp::UNIX_EPOCH), ..place() };
        let plot = Plot::new(pinned, Unit::Count, vec![("waiting", "l1", vec![Some(1.0); 180])], &[]);
        assert!(plot.pinned_by(&bare, "").pin.is_none());
    }

    #[test]
    fn each_plot_has_a_table_of_its_own_and_one_word_means_all() {
        let bare = Here::new("/admin/queues/email");
        let of = |table| Place::new("age", "Age", Range::Hour1.into(), &bare, table);
        assert!(of("age").as_table && of("1").as_table && !of("flow").as_table);
        assert_eq!(of("flow").other, "/admin/queues/email?range=1h&table=age");
        assert_eq!(of("age").other, "/admin/queues/email?range=1h");
        let html = Plot { as_table: true, ..sample("<b>") }.render().unwrap();
        assert!(html.contains("<table>") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn what_stands_alone_is_seen() {
        let share = vec![None, Some(100.0), None, Some(98.0)];
        let plot = Plot::new(place(), Unit::Percent, vec![("success", "l1", share)], &[]);
        assert_eq!(plot.scale, Scale::percent(98.0));
        let html = plot.render().unwrap();
        assert!(html.contains("d=\"M1 0h0M3 20h0\"") && html.contains("success 98.0 % last"), "{html}");
        let none = Plot::new(place(), Unit::Percent, vec![("success", "l1", vec![None; 9])], &[]);
        assert!(none.render().unwrap().contains("without data"));
    }
}
