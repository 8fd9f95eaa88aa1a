//! `/admin/notifications`: what was accepted, found by anything that is known of it.

use super::{Frame, dead::Tasks, range::Range};
use crate::{
    chart::{self, Scale},
    pages::overview::{Tick, TimeAxis},
    pieces::{Empty, Footer, Here, Pager, Part, Pill, Tabs},
};
use askama::Template;
use campanile_model::Timestamp;
use std::borrow::Borrow;

#[derive(Template, Debug)]
#[template(path = "pages/notifications.html")]
pub struct Notifications {
    pub frame: Frame,
    pub here: Here,
    /// The newest row shown: what came after it is counted and not pushed in.
    pub top: String,
    /// `None`: of all time.
    pub range: Option<Range>,
    /// The search as it was read.
    pub q: String,
    pub chips: Vec<Chip>,
    /// What of the search says nothing.
    pub hint: Option<String>,
    /// For completion.
    pub words: Vec<String>,
    pub tabs: Part<Tabs>,
    pub histogram: Histogram,
    pub tasks: Part<Tasks>,
    pub rows: Part<Rows>,
    pub pill: Pill,
    pub foot: Footer,
    /// Where the list is taken away as a file, without its ending; none for those who see no content.
    pub export: Option<Here>,
}

impl Notifications {
    fn is_range(&self, range: impl Borrow<Range>) -> bool {
        self.range == Some(*range.borrow())
    }
}

/// One thing that is asked for, and the list without it.
#[derive(Clone, Debug)]
pub struct Chip {
    pub text: String,
    pub without: String,
}

/// What was accepted over the range.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/histogram.html")]
pub struct Histogram {
    pub words: String,
    pub scale: Scale,
    pub axis: TimeAxis,
    pub accepted: Vec<f64>,
    pub failed: Vec<f64>,
    /// Start and end of each bar: a bar leads to its stretch of time.
    pub stretches: Vec<String>,
    pub total: String,
    /// When each bar begins.
    pub starts: Vec<Timestamp>,
    pub as_table: bool,
    /// The same list with the table, or with the plot again.
    pub other: String,
}

impl Histogram {
    /// A row for each bar, newest first.
    fn rows(&self) -> Vec<(Timestamp, [String; 2])> {
        let cell = |p: &[f64], i: usize| crate::format::count(p.get(i).copied().unwrap_or(0.0) as u64);
        let row = |(i, at): (usize, &Timestamp)| (*at, [cell(&self.accepted, i), cell(&self.failed, i)]);
        self.starts.iter().enumerate().rev().map(row).collect()
    }
    fn width(&self) -> usize {
        self.accepted.len().max(1)
    }
    fn accepted_bars(&self) -> String {
        chart::bars(&[], &self.accepted, &self.scale)
    }
    fn failed_bars(&self) -> String {
        chart::bars(&[], &self.failed, &self.scale)
    }
    fn ticks(&self) -> &[Tick] {
        &self.axis.ticks
    }
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/notification_rows.html")]
pub struct Rows {
    pub rows: Vec<Row>,
    pub pager: Pager,
    /// What stands there when there is no row.
    pub empty: Empty,
    pub csrf: String,
    pub may_act: bool,
    /// Where acts on rows come back to.
    pub back: String,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub at: Timestamp,
    /// `None`: this admin reads no content.
    pub title: Option<String>,
    pub kind: String,
    pub recipients: String,
    pub shapes: Vec<Shape>,
    pub status: Status,
    pub key: Option<String>,
}

/// A channel's part in it.
#[derive(Clone, Debug)]
pub struct Shape {
    pub channel: String,
    pub status: Status,
}

/// A word with its shape and colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `ok`, `warn`, `bad` or `off`.
    pub tone: &'static str,
    pub word: String,
}

impl Status {
    pub fn new(tone: &'static str, word: impl Into<String>) -> Self {
        Self { tone, word: word.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    fn sample(text: &str) -> Notifications {
        let at = Timestamp::UNIX_EPOCH;
        let status = Status::new("ok", text);
        let row = Row {
            id: "0192".into(),
            at,
            title: Some(text.into()),
            kind: text.into(),
            recipients: text.into(),
            shapes: vec![Shape { channel: text.into(), status: status.clone() }],
            status,
            key: Some(text.into()),
        };
        let here = Here::new("/admin/notifications").put("q", text);
        Notifications {
            frame: sample_frame("/admin/notifications"),
            top: text.into(),
            range: Some(Range::Hour1),
            q: text.into(),
            chips: vec![Chip { text: text.into(), without: here.without("q") }],
            hint: Some(text.into()),
            words: vec![text.into()],
            tabs: Part::Well(Tabs::default()),
            histogram: Histogram {
                words: text.into(),
                accepted: vec![1.0, 2.0],
                failed: vec![0.0, 1.0],
                stretches: vec![here.with("from", text), here.with("from", text)],
                starts: vec![at, at],
                other: text.into(),
                ..Histogram::default()
            },
            tasks: Part::Well(Tasks::default()),
            rows: Part::Well(Rows {
                rows: vec![row],
                pager: Pager::default(),
                empty: Empty::default(),
                csrf: "t".into(),
                may_act: true,
                back: here.url(),
            }),
            pill: Pill { count: 3, more: true, href: here.url() },
            foot: Footer { at, note: None },
            export: Some(here.clone()),
            here,
        }
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        for as_table in [false, true] {
            let mut page = sample("\"><img src=x onerror=alert(1)>");
            page.histogram.as_table = as_table;
            let html = page.render().unwrap();
            check(&html);
            assert!(!html.contains("<img"), "{html}");
            assert_eq!(html.contains("As plot"), as_table);
        }
    }

    #[test]
    fn who_may_not_act_sees_no_box() {
        let mut page = sample("plain");
        assert!(page.render().unwrap().contains("type=\"checkbox\""));
        let Part::Well(rows) = &mut page.rows else { unreachable!() };
        rows.may_act = false;
        rows.rows[0].title = None;
        let html = page.render().unwrap();
        assert!(!html.contains("type=\"checkbox\"") && html.contains("hidden from your role"));
    }
}
