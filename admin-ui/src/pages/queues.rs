//! `/admin/queues`: what waits, what moves, and when it will be done.

use super::{
    Frame,
    notifications::Status,
    plot::Plot,
    range::{Pinned, Ranges},
};
use crate::{
    format,
    pieces::{Empty, Footer, Here, Part},
    sentence::Rest,
};
use askama::Template;

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
    pub ranges: Ranges,
    pub pinned: Option<Pinned>,
    pub head: Part<QueueHead>,
    pub depth: Plot,
    pub flow: Plot,
    pub age: Plot,
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

impl QueueHead {
    /// As ill as the channel is, or as what waits for it says.
    fn tone(&self) -> &'static str {
        let row = &self.row;
        match row.status.tone {
            "bad" => "bad",
            "warn" => "warn",
            _ if row.paused || row.late || row.drain.tone == "warn" => "warn",
            _ => "ok",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{
        check,
        range::{Range, Stretch},
        sample_frame,
    };
    use campanile_model::Timestamp;

    fn sample_row(evil: &str) -> Row {
        Row {
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
        }
    }

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
        let row = sample_row(evil);
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
        let (here, stretch) = (Here::new("/admin/queues/x"), Stretch::from(Range::Hour1));
        let plot = crate::pages::plot::sample(evil);
        let page = Queue {
            frame: sample_frame("/admin/queues"),
            here: here.clone(),
            name: evil.into(),
            ranges: stretch.ranges(&here),
            pinned: stretch.ending(Timestamp::UNIX_EPOCH).pinned(&here),
            head: Part::Well(QueueHead { row, facts: vec![("Ready", evil.into(), "", evil.into())] }),
            depth: Plot { id: "depth", as_table: false, ..plot.clone() },
            age: Plot { id: "age", as_table: false, ..plot.clone() },
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

    #[test]
    fn the_box_of_a_queue_is_as_ill_as_its_channel() {
        let drain = |tone| Drain { tone, words: "steady".into() };
        for (status, drains, paused, late, tone) in [
            ("ok", "", false, false, "ok"),
            ("warn", "", false, false, "warn"),
            ("bad", "", false, false, "bad"),
            ("off", "", true, false, "warn"),
            ("ok", "warn", false, false, "warn"),
            ("ok", "", false, true, "warn"),
        ] {
            let row = Row { drain: drain(drains), paused, late, status: Status::new(status, "x"), ..sample_row("x") };
            let html = QueueHead { row, facts: Vec::new() }.render().unwrap();
            assert!(html.contains(&format!("class=\"say {tone}\"")), "{status} {drains}: {html}");
        }
    }
}
