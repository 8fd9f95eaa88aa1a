//! `/admin`: is it well, how much flows, what waits.
//!
//! Each part is a template of its own, so that the page and its live stream are drawn by the same code.

mod axis;

pub use axis::{Mark, Rule, Tick, TimeAxis};

use super::{
    Frame,
    range::{Pinned, Ranges, Stretch},
};
use crate::{
    chart::{self, Scale, Spark},
    format::{self, Figure},
    pieces::Here,
    sentence::{Help, Sentence},
};
use askama::Template;
use campanile_model::Timestamp;
use chrono::TimeDelta;

#[derive(Template, Debug)]
#[template(path = "pages/overview.html")]
pub struct Overview {
    pub frame: Frame,
    pub range: Stretch,
    pub ranges: Ranges,
    pub pinned: Option<Pinned>,
    pub say: Say,
    /// What a new install shows in place of plots.
    pub steps: Option<FirstSteps>,
    pub tiles: Tiles,
    pub rate: RatePlot,
    pub depth: DepthPlot,
    pub channels: Channels,
    pub recent: Recent,
    pub foot: Foot,
}

#[derive(Template, Debug)]
#[template(path = "parts/say.html")]
pub struct Say {
    pub sentence: Sentence,
    pub csrf: String,
    /// Whether this admin may act.
    pub may_act: bool,
}

/// One figure with its little line.
#[derive(Debug, Clone)]
pub struct Tile {
    pub href: &'static str,
    pub label: &'static str,
    pub figure: Figure,
    /// Pieces under the figure; a class (`warn`, `bad` or none) and a text each.
    pub notes: Vec<(&'static str, String)>,
    pub spark: Spark,
    /// `acc`, `warn`, `bad` or `neu`.
    pub tone: &'static str,
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/tiles.html")]
pub struct Tiles {
    pub tiles: Vec<Tile>,
}

/// Bucketed figures over the range, oldest first; `None` where nothing is known.
#[derive(Debug, Clone)]
pub struct Series {
    pub start: Timestamp,
    /// Milliseconds.
    pub bucket_ms: i64,
    pub accepted: Vec<Option<f64>>,
    pub delivered: Vec<Option<f64>>,
    pub failed: Vec<Option<f64>>,
    pub retried: Vec<Option<f64>>,
    /// Waiting deliveries by channel, in the order of the channels.
    pub depth: Vec<(String, Vec<Option<f64>>)>,
    pub marks: Vec<Mark>,
}

impl Series {
    pub fn len(&self) -> usize {
        self.delivered.len()
    }
    pub fn is_empty(&self) -> bool {
        self.delivered.is_empty()
    }
    /// Of the first and the last bucket, for the script that reads a plot out: milliseconds.
    fn span(&self) -> (i64, i64) {
        let start = self.start.timestamp_millis();
        (start, start + self.bucket_ms * self.len().saturating_sub(1) as i64)
    }
    /// The last of the newest bucket's time: a link to it shows the same buckets.
    fn end(&self) -> Timestamp {
        self.at(self.len()) - TimeDelta::milliseconds(1)
    }
    fn at(&self, bucket: usize) -> Timestamp {
        self.start + TimeDelta::milliseconds(self.bucket_ms * bucket as i64)
    }
    /// Stretches of buckets for a table, newest first: at most thirty.
    fn stretches(&self) -> Vec<std::ops::Range<usize>> {
        let n = self.len();
        let per = n.div_ceil(30).max(1);
        (0..n.div_ceil(per)).rev().map(|i| i * per..((i + 1) * per).min(n)).collect()
    }
}

/// Which plot is shown as a table instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    #[default]
    Plots,
    Rate,
    Depth,
}

impl Shown {
    /// `?table=`; `1` was the rate's name once.
    pub fn parse(text: &str) -> Self {
        match text {
            "rate" | "1" => Self::Rate,
            "depth" => Self::Depth,
            _ => Self::Plots,
        }
    }
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plots => "",
            Self::Rate => "rate",
            Self::Depth => "depth",
        }
    }
    /// What an address needs to show the same again.
    fn query(self) -> String {
        if self == Self::Plots { String::new() } else { format!("&table={}", self.as_str()) }
    }
}

/// Bars under the rate: wide enough to be seen apart.
const BARS: usize = 60;

#[derive(Template, Debug, Clone)]
#[template(path = "parts/rate.html")]
pub struct RatePlot {
    pub range: Stretch,
    pub series: Series,
    pub axis: TimeAxis,
    pub scale: Scale,
    pub low: Scale,
    /// One value a bar.
    pub failed: Vec<f64>,
    pub retried: Vec<f64>,
    pub shown: Shown,
    /// The same page with the table, or with the plot again.
    pub other: String,
    /// An address that keeps showing this time.
    pub pin: Option<String>,
}

impl RatePlot {
    /// `bare`: the page's address without its time and without a table.
    pub fn new(series: Series, range: impl Into<Stretch>, shown: Shown, bare: &Here) -> Self {
        let range = range.into();
        let link = |stretch: Stretch, as_table| {
            stretch.put(bare.clone()).put("table", if as_table { "rate" } else { "" }).url()
        };
        let as_table = shown == Shown::Rate;
        let pin = range.until.is_none().then(|| link(range.ending(series.end()), as_table));
        let most =
            |points: &[&[Option<f64>]]| points.iter().flat_map(|p| p.iter().flatten()).copied().fold(0.0, f64::max);
        let (failed, retried) = (known(&chart::thin(&series.failed, BARS)), known(&chart::thin(&series.retried, BARS)));
        let stacked = failed.iter().zip(&retried).map(|(f, r)| f + r).fold(0.0, f64::max);
        Self {
            axis: TimeAxis::of(&series, range.range, 6),
            scale: Scale::of(most(&[&series.accepted, &series.delivered]), false),
            low: Scale::halves(stacked),
            failed,
            retried,
            range,
            series,
            shown,
            other: link(range, !as_table),
            pin,
        }
    }

    fn last(&self) -> usize {
        self.series.len().saturating_sub(1).max(1)
    }
    fn is_empty(&self) -> bool {
        self.columns().iter().all(|(_, points)| points.iter().all(Option::is_none))
    }
    fn delivered_line(&self) -> String {
        chart::line(&self.series.delivered, &self.scale)
    }
    fn delivered_area(&self) -> String {
        chart::area(&self.series.delivered, &self.scale)
    }
    fn accepted_line(&self) -> String {
        chart::line(&self.series.accepted, &self.scale)
    }
    fn end_dot(&self) -> String {
        let points = &self.series.delivered;
        points
            .iter()
            .rposition(Option::is_some)
            .map(|i| {
                let mut lone = vec![None; i];
                lone.push(points[i]);
                chart::line(&lone, &self.scale)
            })
            .unwrap_or_default()
    }
    fn failed_bars(&self) -> String {
        chart::bars(&[], &self.failed, &self.low)
    }
    fn retried_bars(&self) -> String {
        chart::bars(&self.failed, &self.retried, &self.low)
    }
    fn bars(&self) -> usize {
        self.failed.len().max(1)
    }
    /// Where a mark stands among the bars: under the same mark of the lines, not at the edge of a bar.
    fn bar_of(&self, rule: &Rule) -> String {
        format!("{:.2}", rule.bucket as f64 * self.bars() as f64 / self.last() as f64)
    }
    /// What the picture says, for those who do not see it.
    fn description(&self) -> String {
        let mean = |p: &[Option<f64>]| {
            let v: Vec<f64> = p.iter().flatten().copied().collect();
            if v.is_empty() { 0.0 } else { v.iter().sum::<f64>() / v.len() as f64 }
        };
        format!(
            "Per second on average: {} accepted, {} delivered, {} failed, {} retried.{}",
            format::rate(mean(&self.series.accepted)),
            format::rate(mean(&self.series.delivered)),
            format::rate(mean(&self.series.failed)),
            format::rate(mean(&self.series.retried)),
            self.axis.said()
        )
    }
    fn columns(&self) -> [(&'static str, &[Option<f64>]); 4] {
        let s = &self.series;
        [("accepted", &s.accepted), ("delivered", &s.delivered), ("failed", &s.failed), ("retried", &s.retried)]
    }
    /// Rows of the table: the mean rates of a stretch.
    fn rows(&self) -> Vec<(Timestamp, [String; 4])> {
        let cell = |points: &[Option<f64>]| {
            let v: Vec<f64> = points.iter().flatten().copied().collect();
            if v.is_empty() { "–".into() } else { format::rate(v.iter().sum::<f64>() / v.len() as f64) }
        };
        let stretches = self.series.stretches();
        stretches
            .into_iter()
            .map(|r| (self.series.at(r.start), self.columns().map(|(_, points)| cell(&points[r.clone()]))))
            .collect()
    }
    /// How many there were in the whole range.
    fn sums(&self) -> [(&'static str, String); 4] {
        let seconds = self.series.bucket_ms as f64 / 1e3;
        self.columns().map(|(name, points)| {
            (name, format::count((points.iter().flatten().sum::<f64>() * seconds).round().max(0.0) as u64))
        })
    }
}

fn known(points: &[Option<f64>]) -> Vec<f64> {
    points.iter().map(|p| p.unwrap_or(0.0)).collect()
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/depth.html")]
pub struct DepthPlot {
    pub range: Stretch,
    pub axis: TimeAxis,
    pub scale: Scale,
    pub width: usize,
    /// Of the first and the last bucket, in milliseconds.
    pub span: (i64, i64),
    pub bands: Vec<Band>,
    /// Of the table: what waited at the end of each stretch, by channel.
    pub rows: Vec<(Timestamp, Vec<String>)>,
    pub shown: Shown,
}

/// One channel's share of the waiting deliveries.
#[derive(Debug, Clone)]
pub struct Band {
    pub channel: String,
    /// Class of its hue.
    pub hue: &'static str,
    pub path: String,
    /// `paused` is said beside the name.
    pub held: bool,
    pub now: String,
}

/// Hues belong to channels by their place and never mean a state.
pub fn hue(place: usize) -> &'static str {
    ["h-plum", "h-blue", "h-clay", "h-olive"][place % 4]
}

impl DepthPlot {
    /// `now`: waiting deliveries by channel (same order as the series), and whether they are held.
    pub fn new(series: &Series, range: impl Into<Stretch>, now: &[(u64, bool)], shown: Shown) -> Self {
        let range = range.into();
        let n = series.len();
        let mut tops: Vec<Vec<f64>> = vec![vec![0.0; n]];
        for (_, points) in &series.depth {
            let below = tops.last().cloned().unwrap_or_default();
            tops.push(below.iter().zip(points).map(|(low, p)| low + p.unwrap_or(0.0)).collect());
        }
        let most = tops.last().map_or(0.0, |t| t.iter().copied().fold(0.0, f64::max));
        let scale = Scale::of(most, true);
        let bands = series
            .depth
            .iter()
            .enumerate()
            .map(|(i, (channel, points))| {
                let (waiting, held) = now.get(i).copied().unwrap_or_default();
                let some = points.iter().flatten().any(|v| *v > 0.0);
                Band {
                    channel: channel.clone(),
                    hue: hue(i),
                    path: if some { chart::band(&tops[i], &tops[i + 1], &scale) } else { String::new() },
                    held,
                    now: format::count(waiting),
                }
            })
            .collect();
        let last = |points: &[Option<f64>]| points.iter().rev().flatten().next().copied();
        let cell = |waiting: Option<f64>| waiting.map_or_else(|| "–".to_owned(), |v| format::count(v.round() as u64));
        let rows = series
            .stretches()
            .into_iter()
            .map(|r| (series.at(r.start), series.depth.iter().map(|(_, p)| cell(last(&p[r.clone()]))).collect()))
            .collect();
        Self {
            axis: TimeAxis::of(series, range.range, 3),
            scale,
            width: n.saturating_sub(1).max(1),
            span: series.span(),
            bands,
            rows,
            range,
            shown,
        }
    }
    pub(crate) fn table(&self) -> Vec<(Timestamp, Vec<String>)> {
        self.rows.clone()
    }
    /// What the picture says, for those who do not see it.
    fn description(&self) -> String {
        let parts: Vec<_> = self.bands.iter().map(|b| format!("{} {}", b.channel, b.now)).collect();
        format!("Waiting now: {}.", parts.join(", "))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Degraded,
    Failing,
    Paused,
    Idle,
}

impl Health {
    /// Class of its shape.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Healthy => "ok",
            Self::Degraded => "warn",
            Self::Failing => "bad",
            Self::Paused | Self::Idle => "off",
        }
    }
}

#[derive(Debug, Clone)]
pub struct ChannelRow {
    pub name: String,
    pub paused: bool,
    /// Its breaker lets nothing through: it may be told to try at once.
    pub open: bool,
    /// `SMTP relay`, `WebSocket, SSE`, `plugin slack 0.9.2`.
    pub about: String,
    pub health: Health,
    /// `Healthy`, `Paused by dana`.
    pub health_text: String,
    pub rate: String,
    pub spark: Spark,
    /// Share of successes; `None` without attempts.
    pub success: Option<f64>,
    pub p95: String,
    pub queued: String,
    pub oldest: String,
    pub oldest_late: bool,
}

impl ChannelRow {
    pub(crate) fn success_text(&self) -> String {
        self.success.map_or_else(|| "–".into(), |s| format!("{} %", format::percent(s)))
    }
    /// The bar shows 90 to 100 %.
    pub(crate) fn bar(&self) -> f64 {
        self.success.map_or(0.0, |s| ((s - 0.9) * 10.0).clamp(0.0, 1.0) * 46.0)
    }
    pub(crate) fn low(&self) -> bool {
        self.success.is_some_and(|s| s < crate::sentence::GOOD_SHARE)
    }
    pub(crate) fn tone(&self) -> &'static str {
        match self.health {
            Health::Healthy => "acc",
            Health::Degraded => "warn",
            Health::Failing => "bad",
            Health::Paused | Health::Idle => "off",
        }
    }
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/channels.html")]
pub struct Channels {
    pub rows: Vec<ChannelRow>,
    pub csrf: String,
    /// Whether this admin may act.
    pub may_act: bool,
}

/// What became of one delivery, just now.
#[derive(Debug, Clone)]
pub struct RecentRow {
    pub id: String,
    /// `ok`, `retry`, `bad`, `dead`: shape and colour.
    pub kind: &'static str,
    pub word: &'static str,
    pub channel: String,
    pub to: String,
    pub text: String,
    pub at: Timestamp,
}

impl RecentRow {
    pub(crate) fn tone(&self) -> &'static str {
        match self.kind {
            "ok" => "ok",
            "retry" => "warn",
            _ => "bad",
        }
    }
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/recent.html")]
pub struct Recent {
    pub rows: Vec<RecentRow>,
    /// Set when there were too many to show: one of so many is shown.
    pub one_in: Option<u64>,
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/foot.html")]
pub struct Foot {
    pub at: Timestamp,
    /// Seconds between two looks of this browser's pages.
    pub every: u8,
    pub bucket: String,
    /// `2 of 3 nodes reporting`, when sums are partial.
    pub partial: Option<String>,
}

/// A new install: what to do first, each ticked off when done; gone after the first delivery.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/steps.html")]
pub struct FirstSteps {
    pub has_key: bool,
    pub has_sent: bool,
    pub has_socket: bool,
    /// Where this server is reached.
    pub base: String,
    /// Demo pages are there.
    pub dev: bool,
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentence::Part;

    #[test]
    fn the_whole_page_draws() {
        let html = sample::overview().render().unwrap();
        super::super::check(&html);
        for id in ["say", "tiles", "rate", "depth", "channels", "recent", "foot"] {
            assert!(html.contains(&format!("id=\"{id}\"")), "no {id}");
        }
        assert!(html.contains("503s begin"));
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        let mut page = sample::overview();
        let evil = "<img src=x onerror=alert(1)>";
        page.channels.rows[0].name = evil.into();
        page.channels.rows[0].about = evil.into();
        page.recent.rows[0].text = evil.into();
        page.recent.rows[0].to = evil.into();
        page.say.sentence.rest = crate::sentence::Rest(vec![Part::Text(evil.into())]);
        page.rate.axis.rules[0].mark.what = evil.into();
        page.depth.bands[0].channel = evil.into();
        let html = page.render().unwrap();
        assert!(!html.contains("<img"), "{html}");
    }

    #[test]
    fn a_viewer_gets_no_button() {
        let mut page = sample::overview();
        page.say.may_act = false;
        page.channels.may_act = false;
        let html = page.render().unwrap();
        assert!(!html.contains("method=\"post\" action=\"/admin/channels/"), "{html}");
    }

    #[test]
    fn nothing_links_to_a_page_that_does_not_exist() {
        let html = sample::overview().render().unwrap();
        for link in html.split("href=\"/admin").skip(1) {
            let path = format!("/admin{}", link.split('"').next().unwrap());
            assert!(crate::pages::leads(&path), "{path}");
        }
        assert!(crate::pages::leads("/admin?range=1h") && !crate::pages::leads("/administrator"));
    }

    #[test]
    fn ticks_are_at_round_times() {
        let page = sample::overview();
        assert!(page.rate.axis.ticks.len() >= 4);
        for t in &page.rate.axis.ticks {
            assert_eq!(t.at.timestamp() % 60, 0);
        }
        assert_eq!(page.rate.axis.rules.len(), 1);
    }

    /// Writes the sample to `CAMPANILE_SAMPLE_PAGE`, to look at it in a browser.
    #[test]
    #[ignore = "writes a file for the eye"]
    fn draw_for_the_eye() {
        let path = std::env::var("CAMPANILE_SAMPLE_PAGE").unwrap();
        std::fs::write(path, sample::overview().render().unwrap()).unwrap();
    }
}
