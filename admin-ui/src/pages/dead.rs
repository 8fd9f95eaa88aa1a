//! `/admin/dead`: what was given up on, by its cause; and messages of a queue that nobody could read.

use super::{
    Frame,
    notifications::{Chip, Status},
};
use crate::pieces::{Empty, Footer, Here, Pager, Part, Tabs};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/dead.html")]
pub struct Dead {
    pub frame: Frame,
    pub here: Here,
    pub tabs: Part<Tabs>,
    pub tasks: Part<Tasks>,
    /// None where nothing can be filtered.
    pub sift: Option<Sift>,
    pub body: Body,
    pub foot: Footer,
}

#[derive(Debug)]
pub enum Body {
    Groups(Part<Groups>),
    Items(Part<Items>),
    Poison(Part<Poison>),
}

/// What the list is filtered by, as a form and as chips.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/dead_sift.html")]
pub struct Sift {
    pub hidden: Vec<(String, String)>,
    pub channels: Vec<String>,
    pub reasons: Vec<String>,
    pub channel: String,
    pub reason: String,
    pub error: String,
    pub destination: String,
    pub user: String,
    pub since: String,
    pub until: String,
    /// What of it could not be read.
    pub hint: Option<String>,
    pub chips: Vec<Chip>,
    /// The page without any filter.
    pub clear: String,
}

/// What can be done with all that match.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/dead_all.html")]
pub struct All {
    pub fields: Vec<(String, String)>,
    /// It is not simply everything.
    pub filtered: bool,
    pub total: u64,
    pub total_words: String,
    /// Channels they may be sent by instead.
    pub others: Vec<String>,
    pub csrf: String,
    pub back: String,
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/dead_groups.html")]
pub struct Groups {
    pub groups: Vec<Group>,
    /// There are more causes than are shown.
    pub more: bool,
    /// What a group's form carries beside its cause.
    pub beside: Vec<(String, String)>,
    pub all: Option<All>,
    /// The same, one by one.
    pub items: String,
    /// Where they are taken away as a file, without its ending.
    pub download: Option<Here>,
    pub csrf: String,
    pub may_act: bool,
    pub empty: Empty,
    pub back: String,
}

/// Dead letters with one cause.
#[derive(Clone, Debug)]
pub struct Group {
    pub channel: String,
    pub reason: String,
    pub error: String,
    pub destination: String,
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// What the far side said to the newest; none for those who see no content.
    pub said: Option<String>,
    pub href: String,
}

impl Group {
    /// `email, 550, northwind.example`.
    pub fn name(&self) -> String {
        let mut name = format!("{}, {}", self.channel, if self.error.is_empty() { &self.reason } else { &self.error });
        if !self.destination.is_empty() {
            name.push_str(", ");
            name.push_str(&self.destination);
        }
        name
    }
    fn fields(&self) -> [(&'static str, &str); 4] {
        [
            ("channel", &self.channel),
            ("reason", &self.reason),
            ("error", &self.error),
            ("destination", &self.destination),
        ]
    }
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/dead_items.html")]
pub struct Items {
    /// What they have in common.
    pub name: String,
    pub rows: Vec<Item>,
    /// How many match, as far as it was counted.
    pub total_words: String,
    pub all: Option<All>,
    pub pager: Pager,
    pub csrf: String,
    pub may_act: bool,
    pub empty: Empty,
    pub back: String,
    /// Channels they may be sent by instead.
    pub others: Vec<String>,
    /// Where they are taken away as a file, without its ending.
    pub download: Option<Here>,
}

#[derive(Clone, Debug)]
pub struct Item {
    pub id: String,
    pub notification: String,
    pub user: String,
    pub address: String,
    pub channel: String,
    pub reason: String,
    pub error: String,
    pub said: String,
    pub attempts: u32,
    pub at: Timestamp,
}

/// A dead letter, to be corrected and sent as a new version.
#[derive(Template, Debug)]
#[template(path = "pages/edit_dead.html")]
pub struct Edit {
    pub frame: Frame,
    pub delivery: String,
    pub notification: String,
    pub user: String,
    pub channel: String,
    /// The channel needs an address.
    pub addressed: bool,
    pub reason: String,
    /// What the far side said last.
    pub said: String,
    pub edited: Edited,
    /// What is wrong with it, by field; an empty name is about the whole.
    pub problems: Vec<(String, String)>,
}

/// As typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edited {
    pub address: String,
    pub title: String,
    pub text: String,
}

impl Edit {
    fn problem(&self, field: &str) -> String {
        let said = self.problems.iter().filter(|(f, _)| f == field);
        said.map(|(_, message)| message.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Bulk acts under way, and those that just ended.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/tasks.html")]
pub struct Tasks {
    pub tasks: Vec<Task>,
    pub csrf: String,
    pub may_act: bool,
    pub back: String,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    pub words: String,
    pub status: Status,
    pub done: u64,
    pub total: u64,
    pub skipped: u64,
    pub running: bool,
}

impl Task {
    fn bar(&self) -> f64 {
        (self.done + self.skipped) as f64 / self.total.max(1) as f64 * 100.0
    }
}

#[derive(Template, Clone, Debug)]
#[template(path = "parts/poison.html")]
pub struct Poison {
    pub rows: Vec<PoisonRow>,
    pub pager: Pager,
    pub csrf: String,
    pub may_act: bool,
    pub empty: Empty,
    pub back: String,
}

#[derive(Clone, Debug)]
pub struct PoisonRow {
    pub id: i64,
    pub at: Timestamp,
    pub source: String,
    pub reason: String,
    /// None for those who see no content.
    pub raw: Option<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    fn page(body: Body, may_act: bool) -> String {
        let task = Task {
            id: EVIL.into(),
            words: EVIL.into(),
            status: Status::new("ok", EVIL),
            done: 3,
            total: 9,
            skipped: 1,
            running: true,
        };
        let dead = Dead {
            frame: sample_frame("/admin/queues"),
            here: Here::new("/admin/dead"),
            tabs: Part::Well(Tabs::default()),
            tasks: Part::Well(Tasks { tasks: vec![task], csrf: "t".into(), may_act, back: EVIL.into() }),
            sift: Some(sift()),
            body,
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        };
        let html = dead.render().unwrap();
        check(&html);
        assert!(!html.contains("<img"), "{html}");
        html
    }

    fn sift() -> Sift {
        let evil = || EVIL.to_owned();
        Sift {
            hidden: vec![("f".into(), evil())],
            channels: vec![evil()],
            reasons: vec![evil()],
            channel: evil(),
            reason: evil(),
            error: evil(),
            destination: evil(),
            user: evil(),
            since: evil(),
            until: evil(),
            hint: Some(evil()),
            chips: vec![Chip { text: evil(), without: evil() }],
            clear: evil(),
        }
    }

    fn all() -> All {
        All {
            fields: vec![("channel".into(), EVIL.into())],
            filtered: true,
            total: 140,
            total_words: EVIL.into(),
            others: vec![EVIL.into()],
            csrf: "t".into(),
            back: EVIL.into(),
        }
    }

    fn groups(may_act: bool) -> Body {
        let group = Group {
            channel: EVIL.into(),
            reason: EVIL.into(),
            error: EVIL.into(),
            destination: EVIL.into(),
            count: 101,
            first: Timestamp::UNIX_EPOCH,
            last: Timestamp::UNIX_EPOCH,
            said: Some(EVIL.into()),
            href: EVIL.into(),
        };
        let csrf = "t".to_owned();
        let groups = vec![group];
        Body::Groups(Part::Well(Groups {
            groups,
            more: true,
            beside: vec![("since".into(), EVIL.into())],
            all: may_act.then(all),
            items: EVIL.into(),
            download: Some(Here::new(EVIL)),
            csrf,
            may_act,
            empty: Empty::default(),
            back: EVIL.into(),
        }))
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        let html = page(groups(true), true);
        assert!(html.contains("data-word=\"discard\""), "over a hundred the word is typed");
        let item = Item {
            id: EVIL.into(),
            notification: EVIL.into(),
            user: EVIL.into(),
            address: EVIL.into(),
            channel: EVIL.into(),
            reason: EVIL.into(),
            error: EVIL.into(),
            said: EVIL.into(),
            attempts: 6,
            at: Timestamp::UNIX_EPOCH,
        };
        let items = Items {
            name: EVIL.into(),
            rows: vec![item],
            total_words: EVIL.into(),
            all: Some(all()),
            pager: Pager::default(),
            csrf: "t".into(),
            may_act: true,
            empty: Empty::default(),
            back: EVIL.into(),
            others: vec![EVIL.into()],
            download: Some(Here::new(EVIL)),
        };
        page(Body::Items(Part::Well(items)), true);
        for addressed in [true, false] {
            let edit = Edit {
                frame: sample_frame("/admin/queues"),
                delivery: EVIL.into(),
                notification: EVIL.into(),
                user: EVIL.into(),
                channel: EVIL.into(),
                addressed,
                reason: EVIL.into(),
                said: EVIL.into(),
                edited: Edited { address: EVIL.into(), title: EVIL.into(), text: EVIL.into() },
                problems: vec![(String::new(), EVIL.into()), ("address".into(), EVIL.into())],
            };
            let html = edit.render().unwrap();
            check(&html);
            assert!(!html.contains("<img") && html.contains("name=\"address\"") == addressed);
        }
        let row = PoisonRow {
            id: 1,
            at: Timestamp::UNIX_EPOCH,
            source: EVIL.into(),
            reason: EVIL.into(),
            raw: Some((EVIL.into(), EVIL.into())),
        };
        let poison = Poison {
            rows: vec![row],
            pager: Pager::default(),
            csrf: "t".into(),
            may_act: true,
            empty: Empty::default(),
            back: EVIL.into(),
        };
        page(Body::Poison(Part::Well(poison)), true);
    }

    #[test]
    fn who_may_not_act_sees_no_button() {
        let html = page(groups(false), false);
        assert!(!html.contains("Retry group") && !html.contains("Discard") && !html.contains(">Stop<"));
    }
}
