//! The way in: name and password, and the first password behind a one-time link.

use super::Frame;
use askama::Template;

#[derive(Template, Debug)]
#[template(path = "pages/sign_in.html")]
pub struct SignIn {
    pub theme: &'static str,
    /// Where to go afterwards.
    pub back: String,
    /// As typed before, so that a mistyped password costs no name.
    pub name: String,
    pub error: Option<String>,
    /// A form that came when the session had ended.
    pub kept: Option<Kept>,
}

/// A form that goes along through the sign-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its target.
    pub to: String,
    /// As a form is sent.
    pub form: String,
}

/// Behind the sign-in: whether that form is sent now.
#[derive(Template, Debug)]
#[template(path = "pages/go_on.html")]
pub struct GoOn {
    pub frame: Frame,
    pub action: String,
    /// Names and texts that people wrote or chose.
    pub shown: Vec<(String, String)>,
    pub fields: Vec<(String, String)>,
    pub back: String,
}

#[derive(Template, Debug)]
#[template(path = "pages/welcome.html")]
pub struct Welcome {
    pub theme: &'static str,
    pub once: String,
    pub error: Option<String>,
    pub shortest: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_comes_back_as_text() {
        let evil = "\"><img src=x onerror=alert(1)>";
        let kept = Some(Kept { to: evil.into(), form: evil.into() });
        let page = SignIn { theme: "", back: "/admin".into(), name: evil.into(), error: Some(evil.into()), kept };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img"));
        let pair = || vec![(evil.to_owned(), evil.to_owned())];
        let frame = super::super::sample_frame("/admin");
        let page = GoOn { frame, action: evil.into(), shown: pair(), fields: pair(), back: evil.into() };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img") && !html.contains("name=\"sure\""), "nothing is sure yet");
        let page = Welcome { theme: "dark", once: evil.into(), error: None, shortest: 12 };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img") && html.contains("data-theme=\"dark\""));
    }
}
