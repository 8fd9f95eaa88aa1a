//! `/admin/channels`, `/admin/channels/{channel}`, `/admin/plugins`: how channels fare, what their instances are configured
//! with, the code they run.
//!
//! Owns: the way from a keeper's picture to these pages, and from a posted form to the keeper. Absent on purpose: what may be
//! changed and whether it is valid (`channel::manage`, the same for the API), markup, files (they come by the command line).

mod about;
mod acts;
mod config;
mod drafts;
mod limits;
mod one;
mod plugins;

pub use drafts::Drafts;
use drafts::Owner;
pub use one::live as live_one;

use super::{
    Routes, Signed, console_frame, foot,
    gate::{ACT, LOOK, MANAGE},
    live::{Drawn, Live, Query},
    overview,
};
use crate::{
    channel::{ChannelView, InstanceView, manage::PluginView},
    console::Facts,
    http::{page::page, problem::ApiResult},
    services::Services,
};
use async_trait::async_trait;
use axum::{extract::State, http::HeaderMap, response::Response};
use campanile_admin_ui::{format, pages::channels as ui};
use std::sync::Arc;

const PATH: &str = "/admin/channels";

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, list)
        .get("/admin/channels/{channel}", LOOK, one::show)
        .post("/admin/instances/{instance}/up", ACT, acts::up)
        .post("/admin/instances/{instance}/down", ACT, acts::down)
        .post("/admin/instances/{instance}/reset", ACT, acts::reset)
        .post("/admin/instances/{instance}/restart", ACT, acts::restart)
        .post("/admin/instances/{instance}/enable", ACT, acts::enable)
        .post("/admin/instances/{instance}/disable", ACT, acts::disable)
        .post("/admin/instances/{instance}/config", MANAGE, config::post)
        .post("/admin/instances/{instance}/limits", MANAGE, limits::post)
        .post("/admin/instances/{instance}/rollback", MANAGE, acts::roll_back)
        .post("/admin/instances/{instance}/delete", MANAGE, acts::delete)
        .get("/admin/plugins", LOOK, plugins::show)
        .get("/admin/plugins/{plugin}/new", MANAGE, plugins::form)
        .post("/admin/plugins/{plugin}/new", MANAGE, plugins::make)
        .post("/admin/plugins/{plugin}/reload", MANAGE, acts::reload)
        .post("/admin/plugins/{plugin}/promote", MANAGE, acts::promote)
        .post("/admin/plugins/{plugin}/rollback", MANAGE, acts::take_back)
}

async fn list(State(s): State<Arc<Services>>, signed: Signed, headers: HeaderMap) -> ApiResult<Response> {
    let facts = s.console.facts.get(&s).await;
    page(&ui::ChannelsPage {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        list: lines(&s, &signed, &facts),
        foot: foot(&s, &facts),
    })
}

pub fn live(_: &Query) -> Box<dyn Live> {
    Box::new(All)
}

struct All;

#[async_trait]
impl Live for All {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let facts = s.console.facts.get(s).await;
        out.put("channel-list", &lines(s, signed, &facts));
        out.put("foot", &foot(s, &facts));
    }
}

fn lines(s: &Services, signed: &Signed, facts: &Facts) -> ui::ChannelList {
    let (views, plugins) = (s.channels.views(), s.keeper.plugins());
    let rows = overview::channel_rows(s, facts, &views);
    ui::ChannelList {
        rows: views.iter().zip(rows).map(|(v, row)| line(v, row, &plugins)).collect(),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
    }
}

fn line(v: &ChannelView, row: campanile_admin_ui::pages::overview::ChannelRow, plugins: &[PluginView]) -> ui::Line {
    let on: Vec<_> = v.instances.iter().filter(|i| i.enabled).collect();
    let lives = || on.iter().filter_map(|i| i.life.as_ref());
    let restarts: u64 = lives().map(|l| l.restarts).sum();
    let memory: u64 = lives().filter_map(|l| l.memory_bytes).sum();
    let mut isolation: Vec<_> = on.iter().filter_map(|i| origin_of(plugins, i)).collect();
    isolation.dedup();
    ui::Line {
        breaker: breaker(&v.breaker.state),
        instances: if on.is_empty() {
            "nobody".to_owned()
        } else {
            on.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", then ")
        },
        version: v.version.clone().unwrap_or_else(dash),
        restarts: if restarts == 0 { dash() } else { format::count(restarts) },
        memory: if memory == 0 { dash() } else { format::bytes(memory) },
        isolation: if isolation.is_empty() { dash() } else { isolation.join(", ") },
        row,
    }
}

fn dash() -> String {
    "–".to_owned()
}

/// Class of its shape, and the word.
fn breaker(state: &str) -> (&'static str, &'static str) {
    match state {
        "open" => ("bad", "open"),
        "half_open" => ("warn", "trying"),
        _ => ("ok", "closed"),
    }
}

/// `built-in`, `in-process` or `process`.
fn origin_of(plugins: &[PluginView], instance: &InstanceView) -> Option<String> {
    let code = plugins.iter().find(|p| p.name == instance.plugin)?;
    code.origin.as_ref().map(|o| o.isolation.clone())
}

/// Where an instance is set up.
fn config_page(channel: &str, instance: &str) -> String {
    campanile_admin_ui::pieces::Here::new(channel_page(channel)).put("tab", "config").put("instance", instance).url()
}

fn channel_page(channel: &str) -> String {
    format!("{PATH}/{}", super::segment(channel))
}
