//! The configuration of an instance: a form from its plugin's schema, a review of what would change, a test that saves
//! nothing, versions.
//!
//! Absent on purpose: whether values are valid (the keeper asks the schema and the plugin), plain secrets on any page.

use super::{
    super::{
        Signed,
        answer::{Posted, done_elsewhere, sentence},
    },
    Owner, limits,
    one::{self, Asked, drawn},
};
use crate::{
    channel::{
        ChannelView, InstanceView,
        manage::{ChangedInstance, InstanceDetail, NewInstance, NotDone, VersionView, Wrong as NotValid},
    },
    http::problem::{ApiError, ApiResult},
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    form::{self, Wrong},
    pages::channel as ui,
    pieces::Toast,
};
use serde_json::Value;
use std::sync::Arc;

/// Versions shown, newest first.
const VERSIONS: usize = 20;

/// What the form shows beside, or in place of, what is in force.
#[derive(Default)]
pub(super) struct Shown {
    /// As they were typed; none shows those in force.
    pub values: Option<Value>,
    pub wrong: Vec<Wrong>,
    pub review: bool,
    pub tried: Option<(&'static str, String)>,
    /// The version that the form was made from.
    pub version: Option<u64>,
    /// As they were typed, and what is wrong with them.
    pub limits: Option<ui::Limits>,
}

/// What a plugin says of its configuration; nothing when the plugin is not there.
pub(super) fn schema_of(s: &Services, plugin: &str) -> Value {
    let code = s.keeper.plugins().into_iter().find(|p| p.name == plugin);
    code.and_then(|p| p.config_schema).unwrap_or(Value::Null)
}

pub(super) async fn tab(
    s: &Services,
    signed: &Signed,
    view: &ChannelView,
    instance: &InstanceView,
    shown: Shown,
) -> ApiResult<String> {
    let detail = s.keeper.instance(&instance.name).await?;
    let schema = schema_of(s, &instance.plugin);
    let values = shown.values.as_ref().unwrap_or(&detail.config);
    let (fields, mut problems) = form::fields(&schema, values, &shown.wrong);
    let failure = detail.view.failure.as_ref().filter(|_| shown.values.is_none());
    problems.extend(failure.map(|f| format!("What is saved does not run, at the step {}: {}", f.step, f.reason)));
    let fixed = match instance.version {
        Some(_) if schema.is_null() => "Its plugin is not here, so nobody knows which values it takes.",
        Some(_) => "",
        None => "It is made by the configuration file or by the host: change it there and restart the host.",
    };
    let versions = if instance.version.is_some() { s.keeper.versions(&instance.name).await? } else { Vec::new() };
    let choices = view.instances.iter().map(|i| (i.name.clone(), one::config_of(i), i.name == instance.name));
    let draft = match &shown.values {
        Some(values) => keep(s, signed, &instance.name, values.clone()),
        None => String::new(),
    };
    let review = shown.review.then(|| form::differences(&schema, &detail.config, values));
    drawn(&ui::ConfigTab {
        channel: view.name.to_string(),
        instance: instance.name.clone(),
        choices: choices.collect(),
        fixed: fixed.to_owned(),
        fields,
        problems,
        review,
        tried: shown.tried,
        draft,
        version: shown.version.or(instance.version).unwrap_or(0),
        versions: lines(&schema, &versions),
        limits: shown.limits.unwrap_or_else(|| limits::form(&detail)),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_manage(),
    })
}

/// Each with what it changed of the one before.
fn lines(schema: &Value, versions: &[VersionView]) -> Vec<ui::Version> {
    let one = |(at, v): (usize, &VersionView)| {
        let older = versions.get(at + 1);
        let mut changes: Vec<String> = match older {
            None if v.version == 1 => vec!["made".to_owned()],
            None => Vec::new(),
            Some(older) => form::differences(schema, &older.config, &v.config).into_iter().map(|d| d.label).collect(),
        };
        if let Some(older) = older {
            if older.enabled != v.enabled {
                changes.push(if v.enabled { "switched on".to_owned() } else { "switched off".to_owned() });
            }
            if older.limits != v.limits {
                changes.push("limits".to_owned());
            }
            if changes.is_empty() {
                // A secret that was typed anew is masked on both sides.
                changes.push("a secret, or nothing".to_owned());
            }
        }
        ui::Version {
            number: v.version,
            at: v.at,
            by: v.by.trim_start_matches("admin:").to_owned(),
            current: at == 0,
            changes: changes.join(", "),
        }
    };
    versions.iter().enumerate().take(VERSIONS).map(one).collect()
}

/// By place in the form; what is not of the configuration has none.
pub(super) fn places(wrong: Vec<NotValid>) -> Vec<Wrong> {
    let place = |w: NotValid| match w.field.strip_prefix("/config") {
        Some(pointer) => Wrong { pointer: pointer.to_owned(), message: w.message },
        None => Wrong { pointer: String::new(), message: format!("{}: {}", w.field, w.message) },
    };
    wrong.into_iter().map(place).collect()
}

/// The typed values, for the form's next step at whichever node.
pub(super) fn keep(s: &Services, signed: &Signed, of: &str, values: Value) -> String {
    let owner = Owner { session: &signed.hash, of };
    s.doorman.drafts.keep(&s.keeper.parts().vault, s.clock.now(), owner, values)
}

fn kept(s: &Services, signed: &Signed, of: &str, carried: &str) -> Option<Value> {
    s.doorman.drafts.get(&s.keeper.parts().vault, s.clock.now(), Owner { session: &signed.hash, of }, carried)
}

/// What was typed, on top of what was typed before it and is still kept here.
pub(super) fn typed(
    s: &Services,
    signed: &Signed,
    of: &str,
    schema: &Value,
    posted: &Posted,
    in_force: &Value,
) -> Result<Value, (Value, Vec<Wrong>)> {
    let draft = posted.get("draft");
    let kept = kept(s, signed, of, draft);
    form::read(schema, posted.pairs(), kept.as_ref().unwrap_or(in_force))
}

pub(super) async fn post(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (instance, _) = one::back(&s, &name)?;
    let detail = s.keeper.instance(&name).await?;
    if detail.view.version.is_none() {
        return Err(NotDone::ReadOnly(name).into());
    }
    let version = posted.get("version").parse().ok().or(detail.view.version);
    if posted.get("do") == "apply" {
        return apply(&s, &signed, &headers, &posted, &instance, detail, version).await;
    }
    let schema = schema_of(&s, &instance.plugin);
    let shown = match typed(&s, &signed, &name, &schema, &posted, &detail.config) {
        Err((values, wrong)) => Shown { values: Some(values), wrong, version, ..Shown::default() },
        Ok(values) => {
            let new = as_new(&detail, values.clone());
            let tries = posted.get("do") == "try";
            let judged = if tries { s.keeper.try_values(&new).await } else { s.keeper.validate(&new).await };
            if tries {
                s.store.note(&signed.actor, "instance.try", &name, None).await?;
            }
            judge(judged, values, tries, version)?
        }
    };
    redraw(&s, &signed, &headers, &instance, shown).await
}

/// What a look at the values came to.
fn judge(judged: Result<(), NotDone>, values: Value, tries: bool, version: Option<u64>) -> ApiResult<Shown> {
    let shown = Shown { values: Some(values), version, ..Shown::default() };
    Ok(match judged {
        Ok(()) if tries => Shown { tried: Some(well()), ..shown },
        Ok(()) => Shown { review: true, ..shown },
        Err(NotDone::Invalid(wrong)) => Shown { wrong: places(wrong), ..shown },
        Err(NotDone::NotNow(why)) => Shown { tried: Some(("bad", unsaved(&why))), ..shown },
        Err(e) => return Err(e.into()),
    })
}

pub(super) fn well() -> (&'static str, String) {
    ("ok", "With these values it starts and says that it is well. Nothing was saved.".to_owned())
}

pub(super) fn unsaved(why: &str) -> String {
    format!("{} Nothing was saved.", sentence(why))
}

fn as_new(detail: &InstanceDetail, config: Value) -> NewInstance {
    NewInstance {
        name: detail.view.name.clone(),
        plugin: detail.view.plugin.clone(),
        channel: Some(detail.view.channel.clone()),
        enabled: detail.view.enabled,
        config,
        limits: detail.limits,
    }
}

pub(super) async fn redraw(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    instance: &InstanceView,
    shown: Shown,
) -> ApiResult<Response> {
    let asked = Asked::config_of(instance);
    let view = asked.view(s)?;
    let body = tab(s, signed, &view, instance, shown).await?;
    one::draw(s, signed, headers, &asked, &view, body).await
}

/// What was reviewed becomes the newest version.
async fn apply(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    posted: &Posted,
    instance: &InstanceView,
    detail: InstanceDetail,
    version: Option<u64>,
) -> ApiResult<Response> {
    let name = &instance.name;
    let draft = posted.get("draft");
    let Some(config) = kept(s, signed, name, draft) else {
        let wrong = vec![Wrong {
            pointer: String::new(),
            message: "What you reviewed can't be read any more: it is kept for half an hour. Type it again.".to_owned(),
        }];
        return redraw(s, signed, headers, instance, Shown { wrong, ..Shown::default() }).await;
    };
    let to = ChangedInstance { version, enabled: detail.view.enabled, config: config.clone(), limits: detail.limits };
    match s.keeper.change(name, to, &signed.actor).await {
        Ok(now) => {
            let number = now.view.version.unwrap_or_default();
            let toast = match &now.view.failure {
                None => Toast::ok(format!("Version {number} of {name} is in force.")),
                Some(f) => Toast::bad(format!(
                    "Version {number} of {name} is saved and does not run: {}. What ran before goes on.",
                    f.reason
                )),
            };
            Ok(done_elsewhere(s, signed, headers, &one::config_of(instance), toast))
        }
        Err(NotDone::Invalid(wrong)) => {
            let shown = Shown { values: Some(config), wrong: places(wrong), version, ..Shown::default() };
            redraw(s, signed, headers, instance, shown).await
        }
        Err(NotDone::Stale(now)) => {
            let message =
                format!("Somebody else has changed it: version {now} is in force. Look at the changes again.");
            let wrong = vec![Wrong { pointer: String::new(), message }];
            let shown = Shown { values: Some(config), wrong, version: Some(now), ..Shown::default() };
            redraw(s, signed, headers, instance, shown).await
        }
        Err(e) => Err(ApiError::from(e)),
    }
}
