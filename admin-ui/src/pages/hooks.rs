//! `/dev/hooks`: caught webhooks as a list, one of them open, and how the bin answers.

use super::Frame;
use askama::Template;
use campanile_model::Timestamp;

/// One caught request.
#[derive(Clone, Debug)]
pub struct Hook {
    pub id: u64,
    pub at: Timestamp,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub answered: u16,
}

/// What the bin may answer, and what a channel makes of it.
pub const ANSWERS: [(u16, &str); 4] = [
    (200, "takes it"),
    (410, "the endpoint is gone for good"),
    (429, "too many, come again in 5 s"),
    (503, "out of order for now"),
];

#[derive(Template, Debug)]
#[template(path = "pages/hooks.html")]
pub struct HooksPage {
    pub frame: Frame,
    /// Where requests are caught; anything may follow.
    pub url: String,
    /// Newest first.
    pub hooks: Vec<Hook>,
    pub open: Option<Hook>,
    pub answer: u16,
}

impl HooksPage {
    fn is_open(&self, hook: &Hook) -> bool {
        self.open.as_ref().is_some_and(|open| open.id == hook.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_sent_is_text() {
        const EVIL: &str = "\"><img src=x onerror=alert(1)>";
        let hook = Hook {
            id: 7,
            at: Timestamp::UNIX_EPOCH,
            method: "POST".into(),
            path: EVIL.into(),
            headers: vec![(EVIL.into(), EVIL.into())],
            body: EVIL.into(),
            answered: 503,
        };
        for open in [None, Some(hook.clone())] {
            let page = HooksPage {
                frame: super::super::sample_frame("/dev/hooks"),
                url: "http://127.0.0.1:8000/dev/hook/".into(),
                hooks: vec![hook.clone()],
                open,
                answer: 429,
            };
            let html = page.render().unwrap();
            super::super::check(&html);
            assert!(!html.contains("<img") && html.contains("503"));
        }
    }
}
