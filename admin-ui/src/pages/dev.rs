//! `/dev`: what a development server has that another has not.

use super::Frame;
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/dev.html")]
pub struct Dev {
    pub frame: Frame,
    pub hooks: usize,
    pub mails: usize,
    /// Mail goes to a relay instead of being caught.
    pub relayed: bool,
    pub data_dir: String,
    /// `well`, `slow` or `failing`; empty when mail is not caught.
    pub provider: &'static str,
    pub sockets: usize,
    /// Newest first.
    pub events: Vec<Event>,
}

/// Something that became of a delivery.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Timestamp,
    pub channel: String,
    pub user: String,
    pub state: &'static str,
    pub detail: String,
    pub attempt: u32,
}

impl Event {
    fn tone(&self) -> &'static str {
        match self.state {
            "sent" | "delivered" => "ok",
            "retrying" => "warn",
            "dead" => "bad",
            _ => "off",
        }
    }
}

/// How the mail provider may behave.
pub const PROVIDERS: [(&str, &str); 3] =
    [("well", "takes mail at once"), ("slow", "takes five seconds for each"), ("failing", "answers 503")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders() {
        let event = Event {
            at: Timestamp::UNIX_EPOCH,
            channel: "<img src=x>".into(),
            user: "<img src=x>".into(),
            state: "dead",
            detail: "<img src=x>".into(),
            attempt: 3,
        };
        let page = Dev {
            frame: super::super::sample_frame("/dev"),
            hooks: 1,
            mails: 2,
            relayed: false,
            data_dir: "/data/<x>".into(),
            provider: "slow",
            sockets: 2,
            events: vec![event],
        };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img"));
        assert!(html.contains("&lt;x&gt;") || html.contains("&#60;x&#62;"));
    }
}
