//! `/dev`: what a development server has that another has not.

use super::Frame;
use askama::Template;

#[derive(Template, Debug)]
#[template(path = "pages/dev.html")]
pub struct Dev {
    pub frame: Frame,
    pub mails: usize,
    /// Mail goes to a relay instead of being caught.
    pub relayed: bool,
    pub data_dir: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders() {
        let page =
            Dev { frame: super::super::sample_frame("/dev"), mails: 2, relayed: false, data_dir: "/tmp/<x>".into() };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(html.contains("&lt;x&gt;") || html.contains("&#60;x&#62;"));
    }
}
