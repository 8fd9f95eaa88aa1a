//! `/admin`: what is here now, and where to look until the dashboard is.

use super::Frame;
use askama::Template;

#[derive(Template, Debug)]
#[template(path = "pages/console.html")]
pub struct Console {
    pub frame: Frame,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_development_pages_only_where_they_are() {
        let mut page = Console { frame: super::super::sample_frame("/admin") };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(html.contains("href=\"/demo\""));
        page.frame.dev = false;
        assert!(!page.render().unwrap().contains("/demo"));
    }
}
