//! `/admin/channels/{name}`: how one channel fares, what its instances are configured with, what they say, what they are.

use super::{
    Frame,
    overview::{Health, RatePlot},
    plot::Plot,
    queues::PauseForm,
    range::{Pinned, Ranges},
};
use crate::{
    form::{Difference, Field},
    pieces::{Footer, Tabs},
    sentence::Rest,
};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/channel.html")]
pub struct ChannelPage {
    pub frame: Frame,
    pub name: String,
    pub head: Head,
    pub tabs: Tabs,
    /// Of the tab with the plots.
    pub ranges: Option<Ranges>,
    /// The drawn tab.
    pub body: String,
    /// Address of the stream; empty where nothing changes by itself.
    pub live: String,
    pub foot: Footer,
}

/// How it is, in a line, and what may be done.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_head.html")]
pub struct Head {
    pub name: String,
    pub health: Health,
    pub health_text: String,
    pub detail: Rest,
    pub paused: bool,
    /// Its breaker lets nothing through.
    pub open: bool,
    pub csrf: String,
    pub may_act: bool,
    /// The page as it is, for after an act.
    pub back: String,
}

impl Head {
    fn tone(&self) -> &'static str {
        match self.health {
            Health::Healthy => "ok",
            Health::Failing => "bad",
            Health::Degraded | Health::Paused | Health::Idle => "warn",
        }
    }
}

/// The tab, each part of which the stream sends by itself.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_well.html")]
pub struct WellTab {
    pub pinned: Option<Pinned>,
    pub crashes: Crashes,
    pub rate: RatePlot,
    pub success: Plot,
    pub latency: Plot,
    pub health: HealthTab,
    pub pauses: PauseForm,
}

/// Instances that ended by themselves.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_crash.html")]
pub struct Crashes {
    pub instances: Vec<Instance>,
    pub csrf: String,
    pub may_act: bool,
}

impl Crashes {
    fn some(&self) -> bool {
        self.instances.iter().any(|i| i.crash.is_some())
    }
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_health.html")]
pub struct HealthTab {
    /// Label and figure.
    pub facts: Vec<(&'static str, String)>,
    pub instances: Vec<Instance>,
    /// Errors since the node began: word, count, newest words, when.
    pub errors: Vec<ErrorRow>,
    pub marks: Vec<(Timestamp, String)>,
    pub csrf: String,
    pub may_act: bool,
    /// And read its code anew, and delete it.
    pub may_manage: bool,
}

impl HealthTab {
    fn marks(&self) -> Vec<(Timestamp, String)> {
        self.marks.clone()
    }
    fn stamp(at: &Timestamp) -> String {
        crate::format::machine(at)
    }
    fn clock(at: &Timestamp) -> String {
        crate::format::day_clock(at)
    }
}

#[derive(Debug, Clone)]
pub struct ErrorRow {
    pub code: String,
    pub count: String,
    pub said: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct Instance {
    pub name: String,
    /// `webhook 1.2.0`.
    pub plugin: String,
    /// Name of the plugin, for a reload.
    pub code: String,
    pub tone: &'static str,
    pub state: String,
    /// Why, when it is not simply running.
    pub detail: String,
    pub breaker: String,
    pub busy: String,
    pub rate: String,
    pub restarts: String,
    pub memory: String,
    pub enabled: bool,
    /// Made by the console or the API: it can be changed here.
    pub editable: bool,
    pub reloadable: bool,
    pub open: bool,
    pub first: bool,
    pub last: bool,
    /// It ended by itself: its last lines, and when it starts again.
    pub crash: Option<Crash>,
}

impl Instance {
    /// Verb, label, and whether it makes sense now.
    fn verbs(&self) -> [(&'static str, &'static str, bool); 6] {
        [
            ("up", "Try earlier", !self.first),
            ("down", "Try later", !self.last),
            ("reset", "Try again now", self.open),
            ("restart", "Restart", self.enabled),
            ("disable", "Switch off", self.editable && self.enabled),
            ("enable", "Switch on", self.editable && !self.enabled),
        ]
    }
}

#[derive(Debug, Clone, Default)]
pub struct Crash {
    pub reason: String,
    /// It runs again already.
    pub again: bool,
    /// For machines, and in UTC.
    pub next: Option<(String, String)>,
    pub lines: Vec<CrashLine>,
}

/// A line that it wrote before.
#[derive(Debug, Clone)]
pub struct CrashLine {
    pub at: Timestamp,
    pub text: String,
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_config.html")]
pub struct ConfigTab {
    pub channel: String,
    pub instance: String,
    /// The others of this channel.
    pub choices: Vec<(String, String, bool)>,
    /// Why nothing can be changed here; empty when it can.
    pub fixed: String,
    pub fields: Vec<Field>,
    /// What has no field of its own.
    pub problems: Vec<String>,
    /// What applying would change.
    pub review: Option<Vec<Difference>>,
    /// Class and text of what a try without saving came to.
    pub tried: Option<(&'static str, String)>,
    /// Names the values that were typed, on this server.
    pub draft: String,
    /// The version that is changed.
    pub version: u64,
    pub versions: Vec<Version>,
    pub limits: Limits,
    pub csrf: String,
    pub may_act: bool,
}

/// How fast and how many at once, as typed or as it is; what is empty is as the plugin says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub rate: String,
    /// `second`, `minute` or `hour`.
    pub per: String,
    pub workers: String,
    pub timeout_s: String,
    /// What it comes to on this node.
    pub now: String,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Version {
    pub number: u64,
    pub at: Timestamp,
    pub by: String,
    pub current: bool,
    /// What it changed.
    pub changes: String,
}

impl ConfigTab {
    fn stamp(at: &Timestamp) -> String {
        crate::format::machine(at)
    }
    fn clock(at: &Timestamp) -> String {
        crate::format::day_clock(at)
    }
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_log.html")]
pub struct LogTab {
    pub channel: String,
    /// Level, its address, whether it is chosen.
    pub levels: Vec<(&'static str, String, bool)>,
    pub lines: Vec<LogLine>,
}

#[derive(Debug, Clone)]
pub struct LogLine {
    pub at: Timestamp,
    pub level: &'static str,
    pub source: String,
    pub text: String,
}

impl LogLine {
    fn tone(&self) -> &'static str {
        match self.level {
            "error" => "bad",
            "warn" => "warn",
            _ => "",
        }
    }
}

impl LogTab {
    fn stamp(at: &Timestamp) -> String {
        crate::format::machine(at)
    }
    fn clock(at: &Timestamp) -> String {
        crate::format::clock(at)
    }
}

#[derive(Template, Debug, Clone)]
#[template(path = "parts/channel_about.html")]
pub struct AboutTab {
    /// A card for each instance's code: its name, then labels and values.
    pub cards: Vec<(String, Vec<(&'static str, String)>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<img src=x onerror=alert(1)>";

    fn at() -> Timestamp {
        "2026-11-22T14:07:09Z".parse().unwrap()
    }

    fn bodies(may_act: bool) -> Vec<String> {
        let instance = Instance {
            name: EVIL.into(),
            plugin: EVIL.into(),
            code: EVIL.into(),
            tone: "bad",
            state: EVIL.into(),
            detail: EVIL.into(),
            breaker: EVIL.into(),
            editable: true,
            reloadable: true,
            open: true,
            crash: Some(Crash {
                reason: EVIL.into(),
                again: false,
                next: Some(("x".into(), "y".into())),
                lines: vec![CrashLine { at: at(), text: EVIL.into() }],
            }),
            ..Instance::default()
        };
        let csrf = || "token".to_owned();
        let error = ErrorRow { code: EVIL.into(), count: "3".into(), said: EVIL.into(), at: at() };
        let crashes = Crashes { instances: vec![instance.clone()], csrf: csrf(), may_act };
        let health = HealthTab {
            facts: vec![("Success", EVIL.into())],
            instances: vec![instance],
            errors: vec![error],
            marks: vec![(at(), EVIL.into())],
            csrf: csrf(),
            may_act,
            may_manage: may_act,
        };
        let version = Version { number: 3, at: at(), by: EVIL.into(), current: false, changes: EVIL.into() };
        let difference = Difference { label: EVIL.into(), from: EVIL.into(), to: EVIL.into() };
        let config = ConfigTab {
            channel: EVIL.into(),
            instance: EVIL.into(),
            choices: vec![(EVIL.into(), "/x".into(), true), ("b".into(), "/y".into(), false)],
            fixed: String::new(),
            fields: Vec::new(),
            problems: vec![EVIL.into()],
            review: Some(vec![difference]),
            tried: Some(("bad", EVIL.into())),
            draft: EVIL.into(),
            version: 4,
            versions: vec![version],
            limits: Limits {
                rate: EVIL.into(),
                per: "minute".into(),
                now: EVIL.into(),
                problems: vec![EVIL.into()],
                ..Limits::default()
            },
            csrf: csrf(),
            may_act,
        };
        let line = LogLine { at: at(), level: "error", source: EVIL.into(), text: EVIL.into() };
        let log = LogTab { channel: EVIL.into(), levels: vec![("all", "/z".into(), true)], lines: vec![line] };
        let about = AboutTab { cards: vec![(EVIL.into(), vec![("Version", EVIL.into())])] };
        let here = crate::pieces::Here::new("/admin/channels/email");
        let stretch = crate::pages::range::Stretch::default();
        let overview = crate::pages::overview::sample::overview();
        let plot = crate::pages::plot::sample(EVIL);
        let well = WellTab {
            pinned: stretch.ending(at()).pinned(&here),
            crashes,
            rate: overview.rate,
            success: Plot { id: "success", as_table: false, ..plot.clone() },
            latency: Plot { id: "latency", ..plot },
            health,
            pauses: PauseForm {
                name: EVIL.into(),
                paused: true,
                csrf: csrf(),
                may_act,
                back: EVIL.into(),
                why: Some(Rest::of(EVIL)),
            },
        };
        vec![well.render().unwrap(), config.render().unwrap(), log.render().unwrap(), about.render().unwrap()]
    }

    #[test]
    fn what_plugins_say_stays_text_on_every_tab() {
        for body in bodies(true) {
            let page = ChannelPage {
                frame: super::super::sample_frame("/admin/channels"),
                name: EVIL.into(),
                head: Head {
                    name: EVIL.into(),
                    health: Health::Failing,
                    health_text: EVIL.into(),
                    detail: Rest::of(EVIL),
                    paused: false,
                    open: true,
                    csrf: "token".into(),
                    may_act: true,
                    back: EVIL.into(),
                },
                tabs: Tabs::default(),
                ranges: None,
                body,
                live: String::new(),
                foot: Footer { at: at(), note: None },
            };
            let html = page.render().unwrap();
            super::super::check(&html);
            assert!(!html.contains("<img"), "{html}");
        }
    }

    #[test]
    fn a_viewer_gets_no_form() {
        assert!(bodies(true).concat().contains("<form"));
        for body in bodies(false) {
            assert!(!body.contains("<form"), "{body}");
        }
    }
}
