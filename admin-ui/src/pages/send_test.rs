//! `/admin/send-test`: one notification by one channel, and what its provider really answered.

use super::Frame;
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/send_test.html")]
pub struct SendTest {
    pub frame: Frame,
    /// Channels that are switched on, and whether they need an address.
    pub channels: Vec<(String, bool)>,
    pub asked: Asked,
    /// What is wrong with it, by field; an empty name is about the whole.
    pub problems: Vec<(String, String)>,
    pub tested: Option<Tested>,
}

/// As typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub channel: String,
    pub user: String,
    pub address: String,
    pub title: String,
    pub text: String,
}

impl SendTest {
    fn problem(&self, field: &str) -> String {
        let said = self.problems.iter().filter(|(f, _)| f == field);
        said.map(|(_, message)| message.as_str()).collect::<Vec<_>>().join("; ")
    }
    /// What has no field of its own.
    fn others(&self) -> Vec<String> {
        let known = ["user", "address", "title", "text", "channel"];
        self.problems.iter().filter(|(f, _)| !known.contains(&f.as_str())).map(|(_, m)| m.clone()).collect()
    }
}

/// How far a test has come; a part of its own, so that it fills itself in while one looks.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/tested.html")]
pub struct Tested {
    pub id: String,
    pub channel: String,
    pub to: String,
    /// Class of its shape, and the word.
    pub tone: &'static str,
    pub state: String,
    /// Nothing more will happen by itself soon.
    pub settled: bool,
    pub accepted_at: Timestamp,
    pub attempts: Vec<Attempt>,
    pub next_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub number: u32,
    pub at: Timestamp,
    pub took: String,
    pub tone: &'static str,
    pub outcome: String,
    /// `250`, `451`: a code of the far side, and its words.
    pub code: String,
    pub said: String,
}

impl Attempt {
    fn answer(&self) -> String {
        let given = |text| Some(text).filter(|text: &&str| !text.is_empty());
        crate::format::coded(given(&self.code), given(&self.said)).unwrap_or_default()
    }
}

impl Tested {
    fn next(&self) -> Option<(String, String)> {
        self.next_at.map(|at| (crate::format::machine(at), crate::format::clock(at)))
    }
    fn stamp(at: &Timestamp) -> String {
        crate::format::machine(at)
    }
    fn clock(at: &Timestamp) -> String {
        crate::format::clock(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_and_what_was_answered_are_text() {
        let evil = "\"><img src=x onerror=alert(1)>";
        let at: Timestamp = "2026-11-22T14:07:09Z".parse().unwrap();
        let attempt = Attempt {
            number: 1,
            at,
            took: "12 ms".into(),
            tone: "warn",
            outcome: evil.into(),
            code: evil.into(),
            said: evil.into(),
        };
        let tested = Tested {
            id: evil.into(),
            channel: "email".into(),
            to: evil.into(),
            tone: "warn",
            state: "retrying".into(),
            settled: false,
            accepted_at: at,
            attempts: vec![attempt],
            next_at: Some(at),
        };
        let asked = Asked {
            channel: "email".into(),
            user: evil.into(),
            address: evil.into(),
            title: evil.into(),
            text: evil.into(),
        };
        let problems = vec![("address".to_owned(), evil.to_owned()), (String::new(), evil.to_owned())];
        let page = SendTest {
            frame: super::super::sample_frame("/admin/send-test"),
            channels: vec![("email".into(), true), ("websocket".into(), false)],
            asked,
            problems,
            tested: Some(tested),
        };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img"), "{html}");
        assert!(html.contains("aria-invalid=\"true\"") && html.contains("12 ms"));
    }
}
