//! One file per page; each has its fields, its template in `templates/admin/pages/` and a sample for the tests.

pub mod console;
pub mod demo;
pub mod dev;
pub mod mail;

/// What the frame around every page needs.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `serve --dev`: the development pages are in the menu.
    pub dev: bool,
    /// Path of the current page.
    pub path: &'static str,
    pub version: &'static str,
    /// Where this server listens.
    pub address: String,
}

impl Frame {
    /// Whether a menu entry is the page itself.
    fn is_at(&self, path: &str) -> bool {
        self.path == path
    }
}

#[cfg(test)]
pub(crate) fn sample_frame(path: &'static str) -> Frame {
    Frame { dev: true, path, version: "0.1.0", address: "127.0.0.1:8000".into() }
}

/// Rules that hold for every page's text.
#[cfg(test)]
pub(crate) fn check(html: &str) {
    assert_eq!(html.matches("<h1").count(), 1, "one h1");
    for banned in [" style=", "<script>", "onclick=", "onload=", "javascript:"] {
        assert!(!html.contains(banned), "the content security policy forbids {banned:?}");
    }
}
