//! The way in: name and password, and the first password behind a one-time link.

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
        let page = SignIn { theme: "", back: "/admin".into(), name: evil.into(), error: Some(evil.into()) };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img"));
        let page = Welcome { theme: "dark", once: evil.into(), error: None, shortest: 12 };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img") && html.contains("data-theme=\"dark\""));
    }
}
