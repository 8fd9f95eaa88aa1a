//! `/admin/plugins`: the code that this host has, what was refused, and the form that makes an instance of it.

use super::{
    super::{
        Signed,
        answer::{Posted, done_elsewhere},
        console_frame, foot,
    },
    PATH, about, channel_page,
    config::{keep, places, schema_of, typed, unsaved, well},
};
use crate::{
    channel::manage::{NewInstance, NotDone, PluginView, Wrong as NotValid},
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    form::{self, Wrong},
    pages::channels as ui,
    pieces::Toast,
};
use campanile_model::{ChannelName, ports::InstanceLimits};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn show(State(s): State<Arc<Services>>, signed: Signed, headers: HeaderMap) -> ApiResult<Response> {
    let facts = s.console.facts.get(&s).await;
    let all = s.keeper.plugins();
    let refused = all.iter().filter_map(|p| p.refusal.clone()).map(|r| ui::RefusedRow {
        plugin: r.plugin,
        file: r.file.unwrap_or_default(),
        step: r.step,
        reason: r.reason,
        at: r.at,
    });
    let places: Vec<_> = s.keeper.instances().into_iter().map(|i| (i.name, i.channel.to_string())).collect();
    page(&ui::PluginsPage {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        refused: refused.collect(),
        plugins: all.iter().map(|p| row(p, &places)).collect(),
        dir: s.config.plugins.dir.as_ref().map(|d| d.display().to_string()).unwrap_or_default(),
        foot: foot(&s, &facts),
    })
}

fn row(p: &PluginView, places: &[(String, String)]) -> ui::PluginRow {
    let origin = p.origin.clone().unwrap_or_default();
    let calls = if p.version.is_some() { about::calls(p, &origin) } else { super::dash() };
    let from_file = origin.file.is_some() || p.refusal.is_some();
    ui::PluginRow {
        name: p.name.clone(),
        version: p.version.clone().unwrap_or_else(|| "not loaded".to_owned()),
        abi: origin.abi.unwrap_or_else(super::dash),
        isolation: if origin.isolation.is_empty() { super::dash() } else { origin.isolation },
        file: origin.file.unwrap_or_default(),
        sha256: origin.sha256.unwrap_or_default(),
        authors: p.authors.clone().unwrap_or_default(),
        calls,
        recipient: p.recipient.clone().unwrap_or_else(super::dash),
        instances: places.iter().filter(|(name, _)| p.instances.contains(name)).cloned().collect(),
        reloadable: from_file,
        trial: p.trial.as_ref().map(|t| ui::TrialLine {
            version: t.version.clone(),
            share: t.share,
            since: t.since,
            worked: t.worked,
            failed: t.failed,
        }),
        makeable: is_makeable(p),
    }
}

/// More of it can be made: its code is here and not the host's own.
fn is_makeable(p: &PluginView) -> bool {
    p.version.is_some() && p.name != "websocket"
}

#[derive(Default)]
struct Filled {
    name: String,
    channel: String,
    values: Value,
    wrong: Vec<Wrong>,
    name_problem: String,
    channel_problem: String,
    tried: Option<(&'static str, String)>,
}

pub(super) async fn form(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(plugin): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let filled = Filled { name: free_name(&s, &plugin), channel: plugin.clone(), ..Filled::default() };
    draw(&s, &signed, &headers, &plugin, filled).await
}

/// `webhook`, `webhook-2`: the first that nobody has.
fn free_name(s: &Services, plugin: &str) -> String {
    let taken: Vec<_> = s.keeper.instances().into_iter().map(|i| i.name).collect();
    let mut name = plugin.to_owned();
    let mut n = 2;
    while taken.contains(&name) {
        name = format!("{plugin}-{n}");
        n += 1;
    }
    name
}

async fn draw(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    plugin: &str,
    filled: Filled,
) -> ApiResult<Response> {
    let known = s.keeper.plugins().into_iter().find(|p| p.name == plugin && is_makeable(p));
    known.ok_or_else(|| ApiError::not_found("plugin"))?;
    let (fields, problems) = form::fields(&schema_of(s, plugin), &filled.values, &filled.wrong);
    let draft = if filled.values.is_null() { String::new() } else { keep(s, signed, &draft_of(plugin), filled.values) };
    let facts = s.console.facts.get(s).await;
    page(&ui::NewInstance {
        frame: console_frame(s, signed, headers, &facts, PATH),
        plugin: plugin.to_owned(),
        name: filled.name,
        channel: filled.channel,
        fields,
        problems,
        name_problem: filled.name_problem,
        channel_problem: filled.channel_problem,
        tried: filled.tried,
        draft,
    })
}

/// No instance has such a name.
fn draft_of(plugin: &str) -> String {
    format!("new {plugin}")
}

pub(super) async fn make(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (name, channel) = (posted.get("name").to_owned(), posted.get("channel").to_owned());
    let filled = Filled { name: name.clone(), channel: channel.clone(), ..Filled::default() };
    let schema = schema_of(&s, &plugin);
    let values = match typed(&s, &signed, &draft_of(&plugin), &schema, &posted, &json!({})) {
        Ok(values) => values,
        Err((values, wrong)) => {
            return draw(&s, &signed, &headers, &plugin, Filled { values, wrong, ..filled }).await;
        }
    };
    let new = NewInstance {
        name: name.clone(),
        plugin: plugin.clone(),
        channel: (!channel.is_empty()).then(|| ChannelName::from(channel.as_str())),
        enabled: true,
        config: values.clone(),
        limits: InstanceLimits::default(),
    };
    let filled = Filled { values, ..filled };
    if posted.get("do") == "try" {
        s.store.note(&signed.actor, "instance.try", &name, None).await?;
        let filled = match s.keeper.try_values(&new).await {
            Ok(()) => Filled { tried: Some(well()), ..filled },
            Err(e) => refused(e, filled)?,
        };
        return draw(&s, &signed, &headers, &plugin, filled).await;
    }
    match s.keeper.create(new, &signed.actor).await {
        Ok(made) => {
            let toast = match &made.view.failure {
                None => Toast::ok(format!("{name} is made and runs.")),
                Some(f) => Toast::bad(format!("{name} is made and does not run: {}. It is tried again.", f.reason)),
            };
            Ok(done_elsewhere(&s, &signed, &headers, &channel_page(made.view.channel.as_str()), toast))
        }
        Err(e) => {
            let filled = refused(e, filled)?;
            draw(&s, &signed, &headers, &plugin, filled).await
        }
    }
}

/// Every complaint at its field.
fn refused(e: NotDone, filled: Filled) -> ApiResult<Filled> {
    Ok(match e {
        NotDone::Invalid(wrong) => {
            let of = |field: &str| -> String {
                let said = wrong.iter().filter(|w| w.field == field).map(|w| w.message.clone());
                said.collect::<Vec<_>>().join("; ")
            };
            let (name_problem, channel_problem) = (of("name"), of("channel"));
            let rest = wrong.iter().filter(|w| w.field != "name" && w.field != "channel").cloned();
            let rest: Vec<NotValid> = rest.collect();
            Filled { wrong: places(rest), name_problem, channel_problem, ..filled }
        }
        NotDone::Taken(_) => Filled { name_problem: "is taken by another instance".to_owned(), ..filled },
        NotDone::NotNow(why) => Filled { tried: Some(("bad", unsaved(&why))), ..filled },
        e => return Err(e.into()),
    })
}
