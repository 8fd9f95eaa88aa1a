//! `/dev/mail`: caught mail as a list, one of them open as HTML, text or source.

use super::Frame;
use askama::Template;
use campanile_model::{Timestamp, clock::rfc3339};

/// One caught mail.
#[derive(Clone, Debug)]
pub struct Mail {
    pub id: u64,
    pub at: Timestamp,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub has_html: bool,
    pub source: String,
}

impl Mail {
    fn iso(&self) -> String {
        rfc3339(self.at)
    }
    fn caught(&self) -> String {
        self.at.format("%F %T UTC").to_string()
    }
    fn clock(&self) -> String {
        self.at.format("%H:%M:%S").to_string()
    }
}

/// How the open mail is shown; all of it stands in the URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum View {
    #[default]
    Html,
    Phone,
    Text,
    Source,
}

impl View {
    pub const ALL: [Self; 4] = [Self::Html, Self::Phone, Self::Text, Self::Source];
    pub const fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Phone => "phone",
            Self::Text => "text",
            Self::Source => "source",
        }
    }
    const fn label(self) -> &'static str {
        match self {
            Self::Html => "HTML",
            Self::Phone => "Phone",
            Self::Text => "Text",
            Self::Source => "Source",
        }
    }
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

#[derive(Template, Debug)]
#[template(path = "pages/mail.html")]
pub struct MailPage {
    pub frame: Frame,
    /// Newest first.
    pub mails: Vec<Mail>,
    pub open: Option<Mail>,
    pub view: View,
    /// Mail goes to a relay instead of being caught.
    pub relayed: bool,
}

impl MailPage {
    fn is_open(&self, mail: &Mail) -> bool {
        self.open.as_ref().is_some_and(|open| open.id == mail.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(open: bool, view: View) -> MailPage {
        let mail = Mail {
            id: 7,
            at: "2026-01-01T09:08:07Z".parse().unwrap(),
            from: "Campanile <dev@example.org>".into(),
            to: "ada@example.org".into(),
            subject: "<img onerror=alert(1)>".into(),
            text: "plain".into(),
            has_html: true,
            source: "Subject: x\n\nplain".into(),
        };
        MailPage {
            frame: super::super::sample_frame("/dev/mail"),
            open: open.then(|| mail.clone()),
            mails: vec![mail],
            view,
            relayed: false,
        }
    }

    #[test]
    fn a_hostile_subject_is_text() {
        for view in View::ALL {
            let html = page(true, view).render().unwrap();
            super::super::check(&html);
            assert!(!html.contains("<img"));
        }
    }

    #[test]
    fn html_stays_in_a_sandbox_of_its_own() {
        let html = page(true, View::Html).render().unwrap();
        assert!(html.contains("src=\"/dev/mail/7/html\"") && html.contains("sandbox"));
        assert!(!page(true, View::Text).render().unwrap().contains("<iframe"));
        assert!(page(false, View::Html).render().unwrap().contains("09:08:07"));
    }
}
