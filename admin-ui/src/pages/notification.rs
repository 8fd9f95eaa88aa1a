//! `/admin/notifications/{id}`: where one notification went, lane by lane, and what can still be done.

use super::{Frame, notifications::Status};
use crate::{
    format,
    pieces::{Empty, Footer, Here, Part, Tabs},
};
use askama::Template;
use campanile_model::Timestamp;
use chrono::TimeDelta;

/// A wait between two steps that is worth a word.
const GAP: TimeDelta = TimeDelta::seconds(1);

#[derive(Template, Debug)]
#[template(path = "pages/notification.html")]
pub struct Notification {
    pub frame: Frame,
    pub here: Here,
    pub id: String,
    pub head: Part<Head>,
    pub tabs: Tabs,
    pub body: Body,
    pub foot: Footer,
}

/// What the chosen tab shows.
#[derive(Debug)]
pub enum Body {
    Lanes(Part<Lanes>),
    Request(Request),
    Output(Output),
    Answers(Answers),
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/notification_head.html")]
pub struct Head {
    pub id: String,
    /// `Delivered on 2 of 3 channels; webhook is on try 3 of 6, next in 4 min.`
    pub sentence: String,
    /// `ok`, `warn`, `bad` or none.
    pub tone: &'static str,
    pub title: Option<String>,
    /// Label and text; `true` for what is set in the machine's letters.
    pub facts: Vec<(&'static str, String, bool)>,
    pub at: Timestamp,
    pub csrf: String,
    pub may_act: bool,
    pub dead: u64,
    pub waiting: u64,
    pub curl: Option<String>,
    pub link: String,
    pub back: String,
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/lanes.html")]
pub struct Lanes {
    pub lanes: Vec<Lane>,
    pub csrf: String,
    pub may_act: bool,
    pub id: String,
    pub back: String,
    /// The next hundred.
    pub more: Option<String>,
    pub empty: Empty,
}

/// One delivery: a channel and a recipient.
#[derive(Clone, Debug)]
pub struct Lane {
    pub n: usize,
    pub delivery: String,
    pub channel: String,
    pub user: String,
    /// Masked.
    pub address: String,
    pub status: Status,
    pub steps: Vec<Step>,
    /// Dead and not put aside: it may be corrected, or go by one of these channels.
    pub movable: bool,
    pub others: Vec<String>,
    /// It may be tried again.
    pub dead: bool,
    /// For its next try, which may be now.
    pub waits: bool,
}

/// One thing that happened, or will.
#[derive(Clone, Debug)]
pub struct Step {
    /// `None`: it happened, and nobody wrote down when.
    pub at: Option<Timestamp>,
    pub name: String,
    pub detail: String,
    pub tone: &'static str,
    /// How long it took.
    pub took: Option<i64>,
    /// It has not happened yet.
    pub ahead: bool,
    pub uncertain: bool,
}

impl Step {
    pub fn new(at: Timestamp, tone: &'static str, name: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            name: name.into(),
            detail: String::new(),
            tone,
            took: None,
            ahead: false,
            uncertain: false,
        }
    }
    #[must_use]
    pub fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
    fn took(&self) -> Option<String> {
        self.took.map(|ms| format::duration(ms.max(0) as f64).text())
    }
}

impl Lane {
    /// Steps, each with the wait before it where that was long.
    fn told(&self) -> Vec<(Option<String>, &Step)> {
        let mut end: Option<Timestamp> = None;
        self.steps
            .iter()
            .map(|step| {
                let gap = match (end, step.at) {
                    (Some(end), Some(at)) if at - end > GAP => Some(at - end),
                    _ => None,
                };
                if let Some(at) = step.at {
                    end = Some(at + TimeDelta::milliseconds(step.took.unwrap_or(0).max(0)));
                }
                (gap.map(|g| format::duration(g.num_milliseconds() as f64).text()), step)
            })
            .collect()
    }
}

/// The request as the application sent it.
#[derive(Debug, Clone)]
pub struct Request {
    /// `None`: hidden until it is revealed, which is written down.
    pub json: Option<String>,
    pub may_reveal: bool,
    pub action: String,
    pub csrf: String,
}

/// What each channel was given to send.
#[derive(Debug, Clone)]
pub struct Output {
    /// `None`: hidden.
    pub shown: Option<Vec<Sent>>,
    pub may_reveal: bool,
    pub action: String,
    pub csrf: String,
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub channel: String,
    pub to: String,
    pub subject: Option<String>,
    /// Where the mail's HTML is framed from.
    pub frame: Option<String>,
    pub text: String,
    pub error: Option<String>,
}

/// What far sides answered, newest first.
#[derive(Debug, Clone)]
pub struct Answers {
    pub rows: Vec<Answer>,
    pub empty: Empty,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub at: Timestamp,
    pub channel: String,
    pub user: String,
    pub attempt: u32,
    pub status: Status,
    pub took: String,
    pub code: String,
    pub message: String,
    pub provider: String,
    pub node: String,
    pub uncertain: bool,
}

/// An id that was here once: retention removed what it named.
#[derive(Template, Debug)]
#[template(path = "pages/gone.html")]
pub struct Gone {
    pub frame: Frame,
    pub id: String,
    pub accepted: Timestamp,
    /// `90-day`.
    pub rule: String,
    pub removed: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    fn at(s: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + s, 0).unwrap()
    }

    fn lane(steps: Vec<Step>) -> Lane {
        Lane {
            n: 1,
            delivery: EVIL.into(),
            channel: EVIL.into(),
            user: EVIL.into(),
            address: EVIL.into(),
            status: Status::new("bad", EVIL),
            steps,
            movable: true,
            others: vec![EVIL.into()],
            waits: true,
            dead: true,
        }
    }

    fn page(body: Body) -> Notification {
        let head = Head {
            id: "0192".into(),
            sentence: EVIL.into(),
            tone: "warn",
            title: Some(EVIL.into()),
            facts: vec![("Key", EVIL.into(), true)],
            at: at(0),
            csrf: "t".into(),
            may_act: true,
            dead: 1,
            waiting: 1,
            curl: Some(EVIL.into()),
            link: EVIL.into(),
            back: EVIL.into(),
        };
        Notification {
            frame: sample_frame("/admin/notifications"),
            here: Here::new("/admin/notifications/0192"),
            id: "0192".into(),
            head: Part::Well(head),
            tabs: Tabs::default(),
            body,
            foot: Footer { at: at(9), note: None },
        }
    }

    #[test]
    fn long_waits_are_told_and_short_ones_are_not() {
        let mut slow = Step::new(at(0), "bad", "attempt 1");
        slow.took = Some(2_500);
        let lane = lane(vec![slow, Step::new(at(3), "ok", "queued"), Step::new(at(303), "ok", "attempt 2")]);
        let gaps: Vec<_> = lane.told().into_iter().map(|(gap, _)| gap).collect();
        assert_eq!(gaps, [None, None, Some("5 min".to_owned())], "from the end of a step to the next");
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        let step = Step { uncertain: true, ..Step::new(at(0), "bad", EVIL).saying(EVIL) };
        let lanes = Lanes {
            lanes: vec![lane(vec![step])],
            csrf: "t".into(),
            may_act: true,
            id: EVIL.into(),
            back: EVIL.into(),
            more: Some(EVIL.into()),
            empty: Empty::default(),
        };
        let request = |json| Request { json, may_reveal: true, action: EVIL.into(), csrf: "t".into() };
        let sent = Sent {
            channel: EVIL.into(),
            to: EVIL.into(),
            subject: Some(EVIL.into()),
            frame: Some(EVIL.into()),
            text: EVIL.into(),
            error: Some(EVIL.into()),
        };
        let output = Output { shown: Some(vec![sent]), may_reveal: true, action: EVIL.into(), csrf: "t".into() };
        let answer = Answer {
            at: at(0),
            channel: EVIL.into(),
            user: EVIL.into(),
            attempt: 1,
            status: Status::new("bad", EVIL),
            took: EVIL.into(),
            code: EVIL.into(),
            message: EVIL.into(),
            provider: EVIL.into(),
            node: EVIL.into(),
            uncertain: true,
        };
        for body in [
            Body::Lanes(Part::Well(lanes)),
            Body::Request(request(Some(EVIL.into()))),
            Body::Request(request(None)),
            Body::Output(output),
            Body::Answers(Answers { rows: vec![answer], empty: Empty::default() }),
        ] {
            let html = page(body).render().unwrap();
            check(&html);
            assert!(!html.contains("<img"), "{html}");
        }
        let gone = Gone {
            frame: sample_frame("/admin/notifications"),
            id: EVIL.into(),
            accepted: at(0),
            rule: EVIL.into(),
            removed: at(1),
        };
        let html = gone.render().unwrap();
        check(&html);
        assert!(!html.contains("<img"));
    }

    #[test]
    fn who_may_not_act_or_read_gets_no_button() {
        let mut plain =
            page(Body::Request(Request { json: None, may_reveal: false, action: String::new(), csrf: String::new() }));
        let Part::Well(head) = &mut plain.head else { unreachable!() };
        head.may_act = false;
        let html = plain.render().unwrap();
        assert!(!html.contains("/retry\"") && !html.contains("Cancel pending") && !html.contains("Reveal</button>"));
    }
}
