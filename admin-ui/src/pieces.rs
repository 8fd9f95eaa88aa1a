//! Pieces that pages are made of: links that keep the filters, tabs, pagers, what is shown in place of nothing or of
//! something that failed, messages after an act, the ask before a dangerous one.
//!
//! Absent on purpose: what any of them is about.

use crate::{pages::Frame, sentence::Rest};
use askama::Template;
use campanile_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// Names of query parameters that say where in a list one is: a changed filter begins at the top again.
const CURSORS: [&str; 2] = ["before", "after"];

/// A page's address with everything it is filtered by. The address is the state: each link changes one thing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Here {
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), pairs: Vec::new() }
    }

    /// With this parameter; an empty value takes it away.
    #[must_use]
    pub fn put(mut self, key: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        self.pairs.retain(|(k, _)| k != key);
        if !value.is_empty() {
            self.pairs.push((key.to_owned(), value));
        }
        self
    }

    /// With this parameter, which says something even when it is empty.
    #[must_use]
    pub fn put_even_empty(mut self, key: &str, value: &str) -> Self {
        self.pairs.retain(|(k, _)| k != key);
        self.pairs.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn url(&self) -> String {
        let mut out = self.path.clone();
        write_query(&mut out, '?', &self.pairs);
        out
    }

    /// The same list from its top, with another filter.
    pub fn with(&self, key: &str, value: impl fmt::Display) -> String {
        let mut here = self.clone();
        here.pairs.retain(|(k, _)| !CURSORS.contains(&k.as_str()));
        here.put(key, value).url()
    }

    pub fn without(&self, key: &str) -> String {
        self.with(key, "")
    }

    /// The same filters from another place in the list.
    pub fn at(&self, cursor: &str, value: impl fmt::Display) -> String {
        let mut here = self.clone();
        here.pairs.retain(|(k, _)| !CURSORS.contains(&k.as_str()));
        here.put(cursor, value).url()
    }

    /// The stream of this very page.
    pub fn live(&self, page: &str) -> String {
        let mut out = format!("/admin/live?page={page}");
        write_query(&mut out, '&', &self.pairs);
        out
    }

    /// What a form of the page must carry along, without `key` and without the place in the list.
    pub fn others<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a (String, String)> {
        self.pairs.iter().filter(move |(k, _)| k != key && !CURSORS.contains(&k.as_str()))
    }
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

fn write_query(out: &mut String, first: char, pairs: &[(String, String)]) {
    for (i, (key, value)) in pairs.iter().enumerate() {
        out.push(if i == 0 { first } else { '&' });
        encode(out, key);
        out.push('=');
        encode(out, value);
    }
}

/// Everything but what a query may hold as it is.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// A part of a page: drawn, or a card that says why it is not. The rest of the page goes on.
#[derive(Clone, Debug)]
pub enum Part<T> {
    Well(T),
    Failed(Failure),
}

impl<T> Part<T> {
    pub fn well(&self) -> Option<&T> {
        match self {
            Self::Well(part) => Some(part),
            Self::Failed(_) => None,
        }
    }
}

impl<T: Template> fmt::Display for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well(part) => part.render_into(f),
            Self::Failed(failure) => failure.render_into(f),
        }
        .map_err(|_| fmt::Error)
    }
}

/// In place of a part that can't be drawn.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/failure.html")]
pub struct Failure {
    /// Id of the part it stands for.
    pub id: &'static str,
    /// What is missing: `The list of notifications`.
    pub what: &'static str,
    pub why: String,
    pub since: Timestamp,
    pub request_id: String,
}

/// In place of an empty list: what will be here, why it is not, what fills it.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/empty.html")]
pub struct Empty {
    pub title: String,
    pub why: String,
    /// Ready to copy.
    pub command: Option<String>,
    /// Where the filters that hide everything are gone.
    pub clear: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Tab {
    pub label: String,
    pub href: String,
    pub count: Option<String>,
    /// Class of the count: `bad`, `warn` or none.
    pub tone: &'static str,
    pub current: bool,
}

#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/tabs.html")]
pub struct Tabs {
    /// Id of the part, for the stream.
    pub id: &'static str,
    pub label: &'static str,
    pub tabs: Vec<Tab>,
}

/// Under a list: where it goes on. Never a page number, since what it lists moves.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/pager.html")]
pub struct Pager {
    /// `50 of about 1.2 million`.
    pub words: String,
    pub newer: Option<String>,
    pub older: Option<String>,
}

/// New rows do not push a list: this says that they are there.
#[derive(Template, Clone, Debug, Default)]
#[template(path = "parts/pill.html")]
pub struct Pill {
    pub count: u64,
    /// There are more than were counted.
    pub more: bool,
    pub href: String,
}

/// The last line of a page.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/footer.html")]
pub struct Footer {
    pub at: Timestamp,
    /// `Counts are from the database, the broker is away`.
    pub note: Option<String>,
}

/// What became of an act: one message, seen once.
#[derive(Template, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[template(path = "parts/toast.html")]
pub struct Toast {
    /// `ok`, `warn` or `bad`.
    pub tone: String,
    pub text: Rest,
    pub undo: Option<Undo>,
    /// The session's token, for the undoing form.
    #[serde(skip)]
    pub csrf: String,
}

/// The form that takes an act back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    pub action: String,
    pub fields: Vec<(String, String)>,
}

impl Toast {
    pub fn ok(text: impl Into<Rest>) -> Self {
        Self { tone: "ok".into(), text: text.into(), ..Self::default() }
    }
    pub fn bad(text: impl Into<Rest>) -> Self {
        Self { tone: "bad".into(), text: text.into(), ..Self::default() }
    }
    #[must_use]
    pub fn undone_by(mut self, action: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.undo = Some(Undo { action: action.into(), fields });
        self
    }
}

/// Asked before a dangerous act; where scripts run, the same words stand in a dialog (see `data-ask` in `app.js`).
#[derive(Template, Debug)]
#[template(path = "pages/confirm.html")]
pub struct Confirm {
    pub frame: Frame,
    /// `Discard 40 dead letters?`
    pub title: String,
    pub consequence: String,
    /// Label of the button.
    pub label: String,
    /// To be typed, when many things are at stake.
    pub word: Option<&'static str>,
    pub action: String,
    /// The form as it was posted.
    pub fields: Vec<(String, String)>,
    pub back: String,
}

/// In place of a page: why it can't be shown to this admin, or at all.
#[derive(Template, Debug)]
#[template(path = "pages/refused.html")]
pub struct Refused {
    pub theme: &'static str,
    pub title: String,
    pub detail: String,
    pub request_id: String,
    /// Where to go from here.
    pub back: String,
}

/// The same for somebody who is signed in: menu and search stay.
#[derive(Template, Debug)]
#[template(path = "pages/refused_inside.html")]
pub struct RefusedInside {
    pub frame: Frame,
    pub title: String,
    pub detail: String,
    pub request_id: String,
    pub back: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    #[test]
    fn a_link_changes_one_thing() {
        let here = Here::new("/admin/notifications").put("q", "channel:email a b").put("before", "01");
        assert_eq!(here.url(), "/admin/notifications?q=channel:email%20a%20b&before=01");
        assert_eq!(here.with("status", "dead"), "/admin/notifications?q=channel:email%20a%20b&status=dead");
        assert_eq!(here.without("q"), "/admin/notifications");
        assert_eq!(here.at("after", "02"), "/admin/notifications?q=channel:email%20a%20b&after=02");
        assert_eq!(here.live("notifications"), "/admin/live?page=notifications&q=channel:email%20a%20b&before=01");
        assert_eq!(Here::new("/a").put("x", "&=\"é").url(), "/a?x=%26%3D%22%C3%A9");
        assert_eq!(here.others("range").count(), 1);
    }

    #[test]
    fn no_piece_lets_markup_through() {
        let toast = Toast::bad(EVIL).undone_by(EVIL, &[("a", EVIL)]);
        let empty =
            Empty { title: EVIL.into(), why: EVIL.into(), command: Some(EVIL.into()), clear: Some(EVIL.into()) };
        let tab = Tab { label: EVIL.into(), href: EVIL.into(), count: Some(EVIL.into()), ..Tab::default() };
        let failure = Failure {
            id: "rows",
            what: "The list",
            why: EVIL.into(),
            since: Timestamp::UNIX_EPOCH,
            request_id: EVIL.into(),
        };
        let pager = Pager { words: EVIL.into(), newer: Some(EVIL.into()), older: Some(EVIL.into()) };
        let confirm = Confirm {
            frame: sample_frame("/admin"),
            title: EVIL.into(),
            consequence: EVIL.into(),
            label: EVIL.into(),
            word: Some("discard"),
            action: "/admin/dead/discard".into(),
            fields: vec![("id".into(), EVIL.into())],
            back: EVIL.into(),
        };
        let refused =
            Refused { theme: "", title: EVIL.into(), detail: EVIL.into(), request_id: EVIL.into(), back: EVIL.into() };
        let (confirm, refused) = (confirm.render().unwrap(), refused.render().unwrap());
        check(&confirm);
        check(&refused);
        let tabs = Tabs { id: "tabs", label: "Status", tabs: vec![tab] };
        let drawn = [
            toast.render().unwrap(),
            empty.render().unwrap(),
            tabs.render().unwrap(),
            Part::<Empty>::Failed(failure).to_string(),
            pager.render().unwrap(),
            confirm,
            refused,
        ];
        for html in drawn {
            assert!(!html.contains("<img"), "{html}");
        }
    }
}
