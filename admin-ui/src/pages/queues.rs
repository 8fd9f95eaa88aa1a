//! `/admin/queues`: what waits, what moves, and when it will be done.

use super::{Frame, notifications::Status, overview::TimeAxis, range::Range};
use crate::{
    chart::{self, Scale},
    format,
    pieces::{Empty, Footer, Here, Part},
    sentence::Rest,
};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/queues.html")]
pub struct Queues {
    pub frame: Frame,
    pub here: Here,
    pub rows: Part<Rows>,
    pub foot: Footer,
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/queue_rows.html")]
pub struct Rows {
    pub rows: Vec<Row>,
    pub csrf: String,
    pub may_act: bool,
    pub empty: Empty,
}

/// One channel's queue, in words.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub status: Status,
    /// `by dana, relay broken, until 14:30`.
    pub pause: Option<Rest>,
    pub ready: String,
    pub scheduled: String,
    pub in_flight: String,
    pub retrying: String,
    pub held: String,
    pub dead: u64,
    pub oldest: String,
    pub late: bool,
    pub incoming: String,
    pub outgoing: String,
    pub drain: Drain,
    pub busy: usize,
    pub workers: usize,
    pub paused: bool,
}

/// When a queue will be empty, going on as now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    pub tone: &'static str,
    pub words: String,
}

impl Drain {
    /// `waiting`: due and not done; `retrying`: waiting for their next try. Rates are per second.
    pub fn of(waiting: u64, retrying: u64, incoming: f64, outgoing: f64, paused: bool) -> Self {
        let said = |tone, words: String| Self { tone, words };
        let net = outgoing - incoming;
        match (waiting, paused) {
            (0, _) if retrying == 1 => said("", "one waits for its next try".into()),
            (0, _) if retrying > 0 => said("", format!("{} wait for their next try", format::count(retrying))),
            (0, _) => said("", "empty".into()),
            (_, true) => said("warn", "held until it is resumed".into()),
            _ if net > 0.05 => {
                let left = format::duration((waiting as f64 / net).max(1.0) * 1e3);
                said("", format!("empty in about {}", left.text()))
            }
            _ if net < -0.05 => said("warn", format!("growing {}/s", format::rate(-net))),
            _ if outgoing > 0.0 => said("", "steady".into()),
            _ => said("warn", "not moving".into()),
        }
    }
}

impl Row {
    /// The share of workers that are busy, on a bar of 46.
    fn bar(&self) -> f64 {
        self.busy as f64 / self.workers.max(1) as f64 * 46.0
    }
}

#[derive(Template, Debug)]
#[template(path = "pages/queue.html")]
pub struct Queue {
    pub frame: Frame,
    pub here: Here,
    pub name: String,
    pub range: Range,
    pub head: Part<QueueHead>,
    pub depth: Plot,
    pub flow: Plot,
    pub pauses: PauseForm,
    pub foot: Footer,
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/queue_head.html")]
pub struct QueueHead {
    pub row: Row,
    /// Label, figure, class, and where it leads.
    pub facts: Vec<(&'static str, String, &'static str, String)>,
}

/// Pause with a reason and an end, or resume.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/pause_form.html")]
pub struct PauseForm {
    pub name: String,
    pub paused: bool,
    pub csrf: String,
    pub may_act: bool,
    pub back: String,
    pub why: Option<Rest>,
}

/// One or two lines over the range.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/flow.html")]
pub struct Plot {
    pub id: &'static str,
    pub title: &'static str,
    pub range: Range,
    pub axis: TimeAxis,
    pub scale: Scale,
    /// Things that are counted; else so many a second.
    pub whole: bool,
    /// Legend, class of the line, points.
    pub lines: Vec<(&'static str, &'static str, Vec<Option<f64>>)>,
    pub start: Timestamp,
    pub bucket_ms: i64,
    pub as_table: bool,
    /// The same page with the table, or with the plot again.
    pub other: String,
}

impl Plot {
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
    fn area(&self) -> String {
        self.lines.first().map(|(_, _, p)| chart::area(p, &self.scale)).unwrap_or_default()
    }
    /// What the picture says, for those who do not see it.
    fn description(&self) -> String {
        let now = |p: &[Option<f64>]| p.iter().rev().flatten().next().copied().unwrap_or(0.0);
        let said: Vec<String> =
            self.lines.iter().map(|(name, _, p)| format!("{name} {} now", format::rate(now(p)))).collect();
        format!("{}.", said.join(", "))
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
                    if known.is_empty() {
                        "–".to_owned()
                    } else {
                        format::rate(known.iter().sum::<f64>() / known.len() as f64)
                    }
                };
                let at = self.start + chrono::TimeDelta::milliseconds(self.bucket_ms * (i * per) as i64);
                (at, self.lines.iter().map(|(_, _, p)| cell(p)).collect())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    #[test]
    fn a_queue_says_when_it_will_be_empty() {
        for (waiting, incoming, outgoing, paused, words) in [
            (0, 0.0, 0.0, false, "empty"),
            (0, 0.0, 0.0, true, "empty"),
            (30, 1.0, 0.0, true, "held until it is resumed"),
            (1_800, 4.0, 14.0, false, "empty in about 3 min"),
            (1_008, 20.0, 6.0, false, "growing 14.0/s"),
            (40, 2.0, 2.0, false, "steady"),
            (40, 0.0, 0.0, false, "not moving"),
        ] {
            assert_eq!(Drain::of(waiting, 0, incoming, outgoing, paused).words, words);
        }
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        let evil = "\"><img src=x onerror=alert(1)>";
        let row = Row {
            name: evil.into(),
            status: Status::new("off", evil),
            pause: Some(Rest::of(evil).on(Timestamp::UNIX_EPOCH)),
            ready: evil.into(),
            scheduled: evil.into(),
            in_flight: evil.into(),
            retrying: evil.into(),
            held: evil.into(),
            dead: 7,
            oldest: evil.into(),
            late: true,
            incoming: evil.into(),
            outgoing: evil.into(),
            drain: Drain { tone: "warn", words: evil.into() },
            busy: 3,
            workers: 8,
            paused: true,
        };
        let rows = |may_act| {
            let csrf = "t".to_owned();
            let rows = Rows { rows: vec![row.clone()], csrf, may_act, empty: Empty::default() };
            Queues {
                frame: sample_frame("/admin/queues"),
                here: Here::new("/admin/queues"),
                rows: Part::Well(rows),
                foot: Footer { at: Timestamp::UNIX_EPOCH, note: Some(evil.into()) },
            }
        };
        let html = rows(true).render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && html.contains("Resume"));
        assert!(!rows(false).render().unwrap().contains("Resume"));
        let plot = Plot {
            id: "flow",
            title: "In and out",
            range: Range::Hour1,
            axis: TimeAxis::default(),
            scale: Scale::of(3.0, false),
            whole: false,
            lines: vec![("in", "l2", vec![Some(1.0), Some(2.0)]), ("out", "l1", vec![Some(1.0), None])],
            start: Timestamp::UNIX_EPOCH,
            bucket_ms: 20_000,
            as_table: true,
            other: evil.into(),
        };
        let page = Queue {
            frame: sample_frame("/admin/queues"),
            here: Here::new("/admin/queues/x"),
            name: evil.into(),
            range: Range::Hour1,
            head: Part::Well(QueueHead { row, facts: vec![("Ready", evil.into(), "", evil.into())] }),
            depth: Plot { id: "depth", as_table: false, ..plot.clone() },
            flow: plot,
            pauses: PauseForm {
                name: evil.into(),
                paused: false,
                csrf: "t".into(),
                may_act: true,
                back: evil.into(),
                why: Some(Rest::of(evil)),
            },
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        };
        let html = page.render().unwrap();
        check(&html);
        assert!(!html.contains("<img"), "{html}");
    }
}
