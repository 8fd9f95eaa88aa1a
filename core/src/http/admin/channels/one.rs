//! `/admin/channels/{channel}`: its four tabs. Health and log change by themselves; what is typed into a form does not.

use super::{
    super::{
        Signed, console_frame, foot,
        gate::READ,
        live::{Drawn, Live, Query},
        overview, pause, plots,
    },
    PATH, about, breaker, channel_page, config, config_page, dash,
};
use crate::{
    channel::{ChannelView, InstanceView, manage::PluginView},
    console::{Facts, standing},
    http::{
        admin::gate::Who,
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use askama::Template;
use async_trait::async_trait;
use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use campanile_admin_ui::{
    format,
    pages::channel as ui,
    pieces::{Here, Tab, Tabs},
    sentence::Rest,
};
use campanile_model::Timestamp;
use chrono::TimeDelta;
use std::sync::Arc;

/// Newest lines shown of all instances together.
const LINES: usize = 200;
/// Lines of a crashed instance's log.
const LAST_LINES: usize = 20;
/// A crash is told for so long, though it runs again.
const LATELY_MIN: i64 = 5;
/// Marks of "Lately".
const MARKS: usize = 12;
const LEVELS: [(&str, &[&str]); 4] = [
    ("all", &["error", "warn", "info", "debug", "trace"]),
    ("info", &["error", "warn", "info"]),
    ("warnings", &["error", "warn"]),
    ("errors", &["error"]),
];

/// The page as its address says it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) channel: String,
    pub(super) tab: String,
    pub(super) instance: String,
    level: String,
    plots: plots::Asked,
}

impl Asked {
    fn read(channel: &str, query: &Query) -> Self {
        let text = |key: &str| query.get(key).to_owned();
        Self {
            channel: channel.to_owned(),
            tab: text("tab"),
            instance: text("instance"),
            level: text("level"),
            plots: plots::Asked::read(query),
        }
    }
    /// The configuration of one.
    pub(super) fn config_of(instance: &InstanceView) -> Self {
        let (channel, tab) = (instance.channel.to_string(), "config".to_owned());
        Self { channel, tab, instance: instance.name.clone(), level: String::new(), plots: plots::Asked::default() }
    }
    /// Where the plots are.
    fn is_health(&self) -> bool {
        !matches!(self.tab.as_str(), "config" | "log" | "about")
    }
    /// With the time and the table of its plots, where there are some.
    fn place(&self, s: &Services) -> Here {
        if self.is_health() { self.plots.put(s, self.here()) } else { self.here() }
    }
    fn here(&self) -> Here {
        Here::new(channel_page(&self.channel))
            .put("tab", &self.tab)
            .put("instance", &self.instance)
            .put("level", &self.level)
    }
    pub(super) fn view(&self, s: &Services) -> ApiResult<ChannelView> {
        let found = s.channels.views().into_iter().find(|v| v.name.as_str() == self.channel);
        found.ok_or_else(|| ApiError::not_found("channel"))
    }
}

pub(super) async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let asked = Asked::read(&channel, &Query::parse(query.as_deref().unwrap_or_default()));
    let view = asked.view(&s)?;
    let body = match asked.tab.as_str() {
        "config" => {
            let instance = chosen(&asked, &view)?;
            config::tab(&s, &signed, &view, &instance, config::Shown::default()).await?
        }
        "log" => {
            // What a plugin writes may quote what it was given to send.
            let Who::Role(role) = READ else { return Err(ApiError::not_found("page")) };
            signed.require(role)?;
            drawn(&log_tab(&s, &asked, &view))?
        }
        "about" => drawn(&about::tab(&s, &view))?,
        _ => drawn(&well_tab(&s, &signed, &asked, &view, &*s.console.facts.get(&s).await))?,
    };
    draw(&s, &signed, &headers, &asked, &view, body).await
}

/// The whole page around a drawn tab.
pub(super) async fn draw(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    asked: &Asked,
    view: &ChannelView,
    body: String,
) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    let moves = !matches!(asked.tab.as_str(), "config" | "about");
    page(&ui::ChannelPage {
        frame: console_frame(s, signed, headers, &facts, PATH),
        name: asked.channel.clone(),
        head: head(s, signed, asked, view, &facts),
        tabs: tabs(signed, asked),
        ranges: asked
            .is_health()
            .then(|| asked.plots.stretch(s).ranges(&asked.here().put("table", &asked.plots.table))),
        body,
        live: if moves { asked.place(s).put("channel", &asked.channel).live("channel") } else { String::new() },
        foot: foot(s, &facts),
    })
}

pub(super) fn drawn(part: &impl Template) -> ApiResult<String> {
    let failed = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this tab could not be drawn");
    part.render().map_err(|e| failed().caused_by(e))
}

fn tabs(signed: &Signed, asked: &Asked) -> Tabs {
    let may_read = signed.admin.role.may_read_content();
    let all = [("Health", ""), ("Configuration", "config"), ("Log", "log"), ("About", "about")];
    let known = |tab: &str| all.iter().any(|(_, t)| *t == tab);
    let tab = if known(&asked.tab) { asked.tab.as_str() } else { "" };
    let tabs = all.into_iter().filter(|(_, t)| may_read || *t != "log").map(|(label, t)| Tab {
        label: label.to_owned(),
        href: Here::new(channel_page(&asked.channel)).put("tab", t).url(),
        current: t == tab,
        ..Tab::default()
    });
    Tabs { id: "tabs", label: "Channel", tabs: tabs.collect() }
}

fn chosen(asked: &Asked, view: &ChannelView) -> ApiResult<InstanceView> {
    let mut all = view.instances.iter();
    let found = if asked.instance.is_empty() { all.next() } else { all.find(|i| i.name == asked.instance) };
    found.cloned().ok_or_else(|| ApiError::not_found("instance"))
}

// ------------------------------------------------------------------------------------------------------ live

pub fn live(query: &Query) -> Box<dyn Live> {
    Box::new(Asked::read(query.get("channel"), query))
}

#[async_trait]
impl Live for Asked {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let Ok(view) = self.view(s) else { return out.settled() };
        let facts = s.console.facts.get(s).await;
        out.put("channel-head", &head(s, signed, self, &view, &facts));
        match self.tab.as_str() {
            "log" if signed.admin.role.may_read_content() => out.put("channel-log", &log_tab(s, self, &view)),
            "config" | "about" | "log" => {}
            _ => {
                let tab = well_tab(s, signed, self, &view, &facts);
                out.put("channel-crash", &tab.crashes);
                out.put("rate", &tab.rate);
                out.put("success", &tab.success);
                out.put("latency", &tab.latency);
                out.put("channel-health", &tab.health);
                out.put("pause", &tab.pauses);
            }
        }
        out.put("foot", &foot(s, &facts));
    }
}

// ------------------------------------------------------------------------------------------------------ parts

fn head(s: &Services, signed: &Signed, asked: &Asked, v: &ChannelView, facts: &Facts) -> ui::Head {
    let standing = standing::of(s, facts).into_iter().find(|c| c.name == v.name.as_str() && c.suffers());
    let (health, health_text) = overview::health(v, standing.is_some(), facts);
    let mut said = Rest::default();
    if let Some(c) = &standing {
        let (failed, all) = (format::count(c.failed), format::count(c.attempts));
        said = said.say(format!("{failed} of {all} attempts failed in the last 5 minutes. "));
    }
    let why = v.health_detail.as_ref().or(v.breaker.last_error.as_ref());
    if let Some(why) = why.or_else(|| standing.as_ref()?.cause.as_ref()) {
        said = said.say(sentence(&format::coded_once(why)));
    }
    if v.breaker.state == "open" {
        said = said.say(" The breaker is open");
        if let Some(since) = v.breaker.since {
            said = said.say(" since ").at(since, false);
        }
        said = said.say(": what is due waits, one delivery tries now and then.");
    }
    if let Some(pause) = facts.pauses.iter().find(|p| p.channel == v.name) {
        said = said.say(" Paused since ").on(pause.since);
        if let Some(until) = pause.until {
            said = said.say(", until ").on(until);
        }
        said = said.say(pause.reason.as_ref().map_or_else(|| ".".to_owned(), |r| format!(": {r}.")));
    }
    if said == Rest::default() {
        said = said.say(match (v.enabled, v.in_app) {
            (false, _) => "No instance is switched on; what is sent by it waits.".to_owned(),
            (true, true) => "It writes into the feed with the notification itself.".to_owned(),
            (true, false) => format!("{} of {} deliveries under way here.", v.busy, v.allowed),
        });
    }
    ui::Head {
        name: v.name.to_string(),
        health,
        health_text,
        detail: said,
        paused: v.paused,
        open: v.breaker.state == "open",
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        back: asked.place(s).url(),
    }
}

fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{text}{end}")
}

fn well_tab(s: &Services, signed: &Signed, asked: &Asked, v: &ChannelView, facts: &Facts) -> ui::WellTab {
    let health = health_tab(s, signed, v, facts);
    let bare = asked.here();
    let also: Vec<&str> = v.instances.iter().map(|i| i.name.as_str()).collect();
    let plots = plots::Channel::read(s, facts, &asked.plots, &asked.channel, &bare, &also);
    let bare_table = bare.clone().put("table", &asked.plots.table);
    ui::WellTab {
        pinned: asked.plots.stretch(s).pinned(&bare_table),
        crashes: ui::Crashes {
            instances: health.instances.clone(),
            csrf: signed.csrf.clone(),
            may_act: signed.admin.role.may_act(),
        },
        rate: plots.rates(),
        success: plots.success(),
        latency: plots.latency(),
        health,
        pauses: pause::form(signed, &asked.place(s).url(), v, facts),
    }
}

fn health_tab(s: &Services, signed: &Signed, v: &ChannelView, facts: &Facts) -> ui::HealthTab {
    let role = signed.admin.role;
    let row = overview::channel_rows(s, facts, std::slice::from_ref(v)).into_iter().next();
    let mut figures = Vec::new();
    if let Some(row) = row {
        figures.push(("Delivered", format!("{} /s", row.rate)));
        figures
            .push(("Success, 15 min", row.success.map_or_else(dash, |share| format!("{} %", format::percent(share)))));
        figures.push(("Time to deliver, p95", row.p95));
        figures.push(("Queued", row.queued));
        figures.push(("Oldest", row.oldest));
        let target = format::duration(s.config.queue.target_ms(v.name.as_str()) as f64);
        figures.push(("Target for the oldest", target.text()));
    }
    if !v.in_app {
        figures.push(("Under way here", format!("{} of {}", v.busy, v.allowed)));
        figures.push(("At most", format!("{} at once on each node", v.concurrency)));
    }
    let count = v.instances.len();
    let plugins = s.keeper.plugins();
    let instances = v.instances.iter().enumerate().map(|(at, i)| instance(s, i, &plugins, at == 0, at + 1 == count));
    let names: Vec<&str> = v.instances.iter().map(|i| i.name.as_str()).chain([v.name.as_str()]).collect();
    let marks = facts.marks.iter().rev().filter(|m| names.contains(&m.subject.as_str())).take(MARKS);
    let errors = s.pulse.errors(&v.name).into_iter();
    ui::HealthTab {
        facts: figures,
        instances: instances.collect(),
        errors: errors
            .map(|(code, e)| ui::ErrorRow {
                said: format::said_beside(&code, &e.said).to_owned(),
                count: format::count(e.count),
                at: e.at,
                code,
            })
            .collect(),
        marks: marks.map(|m| (m.at, m.what.clone())).collect(),
        csrf: signed.csrf.clone(),
        may_act: role.may_act(),
        may_manage: role.may_manage(),
    }
}

fn instance(s: &Services, i: &InstanceView, plugins: &[PluginView], first: bool, last: bool) -> ui::Instance {
    let code = plugins.iter().find(|p| p.name == i.plugin);
    let from_file = code.and_then(|p| p.origin.as_ref()).is_some_and(|o| o.file.is_some());
    let life = i.life.as_ref();
    let tone = match i.state.as_str() {
        "running" if i.health == "failing" || i.breaker.state == "open" => "bad",
        "running" if i.health == "degraded" => "warn",
        "running" => "ok",
        "starting" | "degraded" | "backoff" | "draining" => "warn",
        "disabled" | "stopped" => "off",
        _ => "bad",
    };
    let failure = i.failure.as_ref().map(|f| format!("{}: {}", f.step, f.reason));
    let mut detail: Vec<String> = Vec::new();
    detail.extend(failure);
    detail.extend(life.and_then(|l| l.detail.clone()));
    detail.extend(i.health_detail.clone());
    detail.extend(i.breaker.last_error.as_deref().filter(|_| i.breaker.state != "closed").map(format::coded_once));
    if let Some(ms) = i.resting_ms {
        detail.push(format!("asked to slow down, for another {}", format::duration(ms as f64).text()));
    }
    detail.dedup();
    let version = i.plugin_version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
    ui::Instance {
        name: i.name.clone(),
        plugin: format!("{}{version}", i.plugin),
        code: i.plugin.clone(),
        tone,
        state: i.state.replace('_', " "),
        detail: detail.join("; "),
        breaker: breaker(&i.breaker.state).1.to_owned(),
        busy: format!("{} of {}", i.busy, i.allowed),
        rate: i.rate.as_ref().map_or_else(dash, |r| format!("{} /s", format::rate(r.effective_per_second))),
        restarts: life.map_or_else(dash, |l| format::count(l.restarts)),
        memory: life.and_then(|l| l.memory_bytes).map_or_else(dash, format::bytes),
        enabled: i.enabled,
        editable: i.version.is_some(),
        reloadable: from_file,
        open: i.breaker.state == "open",
        first,
        last,
        crash: crash(s, i),
    }
}

/// It ended by itself a moment ago, waits for its next start, or has ended too often.
fn crash(s: &Services, i: &InstanceView) -> Option<ui::Crash> {
    let lately = |at: Timestamp| s.clock.now() - at < TimeDelta::minutes(LATELY_MIN);
    let life = i.life.as_ref()?;
    let down = matches!(life.state, "backoff" | "quarantined" | "wedged");
    if !down && !life.crashed_at.is_some_and(lately) {
        return None;
    }
    let logs = s.keeper.logs(&i.name).unwrap_or_default();
    let lines = logs.iter().skip(logs.len().saturating_sub(LAST_LINES));
    Some(ui::Crash {
        reason: life.crash.clone().or_else(|| life.detail.clone()).unwrap_or_else(|| format!("it is {}", life.state)),
        again: !down,
        next: life.next_start_at.map(|at| (format::machine(at), format::clock(at))),
        lines: lines.map(|l| ui::CrashLine { at: l.at, text: format!("{} {}", l.level, l.message) }).collect(),
    })
}

fn log_tab(s: &Services, asked: &Asked, v: &ChannelView) -> ui::LogTab {
    let level = LEVELS.iter().find(|(name, _)| *name == asked.level).unwrap_or(&LEVELS[0]);
    let mut lines: Vec<_> = v
        .instances
        .iter()
        .flat_map(|i| s.keeper.logs(&i.name).unwrap_or_default().into_iter().map(|l| (i.name.clone(), l)))
        .filter(|(_, l)| level.1.contains(&l.level))
        .map(|(instance, l)| ui::LogLine { at: l.at, level: l.level, source: instance, text: l.message })
        .collect();
    lines.sort_by_key(|l| std::cmp::Reverse(l.at));
    lines.truncate(LINES);
    let levels = LEVELS.iter().enumerate().map(|(at, (name, _))| {
        let said = if at == 0 { "" } else { name };
        (*name, asked.here().put("level", said).url(), *name == level.0)
    });
    ui::LogTab { channel: asked.channel.clone(), levels: levels.collect(), lines }
}

/// After an act on an instance.
pub(super) fn back(s: &Services, instance: &str) -> ApiResult<(InstanceView, String)> {
    let found = s.keeper.instances().into_iter().find(|i| i.name == instance);
    let found = found.ok_or_else(|| ApiError::not_found("instance"))?;
    let page = channel_page(found.channel.as_str());
    Ok((found, page))
}

pub(super) fn config_of(i: &InstanceView) -> String {
    config_page(i.channel.as_str(), &i.name)
}
