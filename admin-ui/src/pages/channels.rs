//! `/admin/channels`: every channel as on the overview, with what its code is and how it fares. `/admin/plugins`: the code
//! itself, what was refused, and the form that makes another instance of it.

use super::{Frame, overview::ChannelRow};
use crate::{form::Field, pieces::Footer};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/channels.html")]
pub struct ChannelsPage {
    pub frame: Frame,
    pub list: ChannelList,
    pub foot: Footer,
}

#[derive(Template, Debug)]
#[template(path = "parts/channel_list.html")]
pub struct ChannelList {
    pub rows: Vec<Line>,
    pub csrf: String,
    pub may_act: bool,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub row: ChannelRow,
    /// Class of its shape, and the word.
    pub breaker: (&'static str, &'static str),
    /// In the order in which they are tried.
    pub instances: String,
    pub version: String,
    pub restarts: String,
    pub memory: String,
    /// `built-in`, `in-process`, `process`.
    pub isolation: String,
}

#[derive(Template, Debug)]
#[template(path = "pages/plugins.html")]
pub struct PluginsPage {
    pub frame: Frame,
    pub plugins: Vec<PluginRow>,
    pub refused: Vec<RefusedRow>,
    /// Where files are looked for; none is set when it is empty.
    pub dir: String,
    pub foot: Footer,
}

#[derive(Debug, Clone)]
pub struct PluginRow {
    pub name: String,
    pub version: String,
    /// Of the interface it was built for.
    pub abi: String,
    pub isolation: String,
    pub file: String,
    pub sha256: String,
    pub authors: String,
    /// Hosts that it may call, and those it asked for in vain.
    pub calls: String,
    /// Addresses it takes.
    pub recipient: String,
    pub instances: Vec<(String, String)>,
    /// From a file, which may be read anew.
    pub reloadable: bool,
    /// A newer version beside it.
    pub trial: Option<TrialLine>,
    /// More of it can be made.
    pub makeable: bool,
}

/// A new version that takes a share of the deliveries.
#[derive(Debug, Clone)]
pub struct TrialLine {
    pub version: String,
    /// Percent.
    pub share: u8,
    pub since: Timestamp,
    pub worked: u64,
    pub failed: u64,
}

impl TrialLine {
    fn came_to(&self) -> String {
        let good = crate::format::count(self.worked);
        match self.failed {
            0 => format!("{good} went well, none failed."),
            n => format!("{good} went well, {} failed.", crate::format::count(n)),
        }
    }
}

impl PluginRow {
    /// Enough to compare by eye.
    fn short(&self) -> String {
        self.sha256.chars().take(12).collect()
    }
}

#[derive(Debug, Clone)]
pub struct RefusedRow {
    pub plugin: String,
    pub file: String,
    pub step: String,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Template, Debug)]
#[template(path = "pages/new_instance.html")]
pub struct NewInstance {
    pub frame: Frame,
    pub plugin: String,
    pub name: String,
    pub channel: String,
    pub fields: Vec<Field>,
    /// What has no field of its own.
    pub problems: Vec<String>,
    pub name_problem: String,
    pub channel_problem: String,
    /// Class and text of what a try without saving came to.
    pub tried: Option<(&'static str, String)>,
    /// Of the values as they were typed.
    pub draft: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<img src=x onerror=alert(1)>";

    #[test]
    fn names_and_reasons_of_strangers_stay_text() {
        let at: Timestamp = "2026-11-22T14:07:09Z".parse().unwrap();
        let plugin = PluginRow {
            name: EVIL.into(),
            version: EVIL.into(),
            abi: "1.0".into(),
            isolation: EVIL.into(),
            file: EVIL.into(),
            sha256: EVIL.into(),
            authors: EVIL.into(),
            calls: EVIL.into(),
            recipient: EVIL.into(),
            instances: vec![(EVIL.into(), EVIL.into())],
            reloadable: true,
            trial: Some(TrialLine { version: EVIL.into(), share: 10, since: at, worked: 3, failed: 1 }),
            makeable: true,
        };
        let refused = RefusedRow { plugin: EVIL.into(), file: EVIL.into(), step: EVIL.into(), reason: EVIL.into(), at };
        let page = PluginsPage {
            frame: super::super::sample_frame("/admin/plugins"),
            plugins: vec![plugin],
            refused: vec![refused],
            dir: EVIL.into(),
            foot: Footer { at, note: None },
        };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img"), "{html}");
    }

    #[test]
    fn the_list_draws() {
        let row = super::super::overview::sample::overview().channels.rows[1].clone();
        let line = Line {
            row,
            breaker: ("bad", "open"),
            instances: format!("brevo, then {EVIL}"),
            version: "1.2.0".into(),
            restarts: "2".into(),
            memory: "12 MB".into(),
            isolation: "process".into(),
        };
        let page = ChannelsPage {
            frame: super::super::sample_frame("/admin/channels"),
            list: ChannelList { rows: vec![line], csrf: "token".into(), may_act: true },
            foot: Footer { at: "2026-11-22T14:07:09Z".parse().unwrap(), note: None },
        };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img") && html.contains("12 MB"), "{html}");
    }

    #[test]
    fn the_form_of_a_new_instance_draws() {
        let page = NewInstance {
            frame: super::super::sample_frame("/admin/plugins"),
            plugin: EVIL.into(),
            name: EVIL.into(),
            channel: EVIL.into(),
            fields: Vec::new(),
            problems: vec![EVIL.into()],
            name_problem: EVIL.into(),
            channel_problem: EVIL.into(),
            tried: Some(("bad", EVIL.into())),
            draft: EVIL.into(),
        };
        let html = page.render().unwrap();
        super::super::check(&html);
        assert!(!html.contains("<img"), "{html}");
    }
}
