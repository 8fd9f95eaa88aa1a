//! What is done to an instance or to a plugin's file.

use super::{
    super::{
        Signed,
        answer::{Ask, Posted, ask, done, done_elsewhere},
        session::safe_back,
    },
    PATH, one,
};
use crate::{
    http::problem::{ApiError, ApiResult, FieldError},
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::pieces::Toast;
use std::sync::Arc;

type Host = State<Arc<Services>>;

pub(super) async fn up(s: Host, signed: Signed, name: Path<String>, h: HeaderMap, p: Posted) -> ApiResult<Response> {
    moved(s, signed, name, h, p, -1).await
}

pub(super) async fn down(s: Host, signed: Signed, name: Path<String>, h: HeaderMap, p: Posted) -> ApiResult<Response> {
    moved(s, signed, name, h, p, 1).await
}

/// One place earlier or later in the order in which the channel tries its instances.
async fn moved(
    State(s): Host,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    _: Posted,
    by: isize,
) -> ApiResult<Response> {
    let (instance, back) = one::back(&s, &name)?;
    let of_channel = s.keeper.instances().into_iter().filter(|i| i.channel == instance.channel);
    let mut names: Vec<_> = of_channel.map(|i| i.name).collect();
    let at = names.iter().position(|n| *n == name).ok_or_else(|| ApiError::not_found("instance"))?;
    let toast = match at.checked_add_signed(by).filter(|to| *to < names.len()) {
        None => Toast::ok(format!("{name} stays where it is.")),
        Some(to) => {
            names.swap(at, to);
            let order = names.join(", then ");
            s.keeper.order(&instance.channel, names, &signed.actor).await?;
            Toast::ok(format!("{} is sent by {order}.", instance.channel))
        }
    };
    Ok(done(&s, &signed, &headers, &back, toast))
}

/// Lets one delivery try it at once, on every node.
pub(super) async fn reset(
    State(s): Host,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    _: Posted,
) -> ApiResult<Response> {
    let (_, back) = one::back(&s, &name)?;
    s.keeper.reset(&name, &signed.actor).await?;
    let toast = Toast::ok(format!("{name} tries one delivery now; if it arrives, the rest follows."));
    Ok(done(&s, &signed, &headers, &back, toast))
}

pub(super) async fn restart(
    State(s): Host,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    _: Posted,
) -> ApiResult<Response> {
    let (_, back) = one::back(&s, &name)?;
    let now = s.keeper.restart(&name, &signed.actor).await?;
    let toast = match now.failure {
        None => Toast::ok(format!("{name} was started anew; what it had under way is finished by the old one.")),
        Some(f) => Toast::bad(format!("{name} does not start: {}. The old one goes on.", f.reason)),
    };
    Ok(done(&s, &signed, &headers, &back, toast))
}

pub(super) async fn enable(
    s: Host,
    signed: Signed,
    name: Path<String>,
    h: HeaderMap,
    p: Posted,
) -> ApiResult<Response> {
    switched(s, signed, name, h, p, true).await
}

pub(super) async fn disable(
    s: Host,
    signed: Signed,
    name: Path<String>,
    h: HeaderMap,
    p: Posted,
) -> ApiResult<Response> {
    switched(s, signed, name, h, p, false).await
}

async fn switched(
    State(s): Host,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    _: Posted,
    on: bool,
) -> ApiResult<Response> {
    let (_, back) = one::back(&s, &name)?;
    let now = s.keeper.enable(&name, on, &signed.actor).await?;
    let toast = match (on, now.view.failure) {
        (true, Some(f)) => Toast::bad(format!("{name} is switched on and does not run: {}.", f.reason)),
        (true, None) => Toast::ok(format!("{name} is switched on.")),
        (false, _) => Toast::ok(format!("{name} is switched off; it finishes what it has.")),
    };
    let other = if on { "disable" } else { "enable" };
    let toast = toast.undone_by(format!("/admin/instances/{}/{other}", super::super::segment(&name)), &[]);
    Ok(done(&s, &signed, &headers, &back, toast))
}

/// An older version's values as the newest version.
pub(super) async fn roll_back(
    State(s): Host,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (instance, _) = one::back(&s, &name)?;
    let version: u64 = posted
        .get("version")
        .parse()
        .map_err(|_| ApiError::invalid(vec![FieldError::new("version", "must be a version's number")]))?;
    let now = s.keeper.roll_back(&name, version, &signed.actor).await?;
    let number = now.view.version.unwrap_or_default();
    let toast = match now.view.failure {
        None => Toast::ok(format!("Version {number} of {name}, as {version} was, is in force.")),
        Some(f) => {
            Toast::bad(format!("Version {number} of {name} does not run: {}. What ran before goes on.", f.reason))
        }
    };
    Ok(done_elsewhere(&s, &signed, &headers, &one::config_of(&instance), toast))
}

pub(super) async fn delete(
    State(s): Host,
    signed: Signed,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (instance, back) = one::back(&s, &name)?;
    let asked = Ask {
        title: format!("Delete {name}?"),
        consequence: "Its configuration and its versions go with it. What waits is sent by the others, or waits on."
            .to_owned(),
        label: "Delete".to_owned(),
        word: "delete",
        count: 1,
        action: format!("/admin/instances/{}/delete", super::super::segment(&name)),
    };
    if let Some(page) = ask(&s, &signed, &headers, &posted, asked).await? {
        return Ok(page);
    }
    s.keeper.delete(&name, &signed.actor).await?;
    let left = s.channels.get(&instance.channel).is_some();
    let to = if left { back } else { PATH.to_owned() };
    Ok(done_elsewhere(&s, &signed, &headers, &to, Toast::ok(format!("{name} is deleted."))))
}

/// The plugin's file as `plugins.lock` names it now, on all nodes.
pub(super) async fn reload(
    State(s): Host,
    signed: Signed,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let share = match posted.get("share").trim() {
        "" | "100" => None,
        share => Some(share.parse().map_err(|_| {
            let message = "must be a whole number of percent, from 1 to 100";
            ApiError::invalid(vec![FieldError::new("share", message)])
        })?),
    };
    let now = s.keeper.reload_plugin(&plugin, share, &signed.actor).await?;
    let toast = match (now.trial, now.version) {
        (Some(trial), _) => Toast::ok(format!("{plugin} {} takes {} % of the deliveries.", trial.version, trial.share)),
        (None, Some(version)) => {
            Toast::ok(format!("{plugin} {version} is loaded; what ran before finishes what it has."))
        }
        (None, None) => Toast::ok(format!("{plugin} is listed no more; its instances have ended.")),
    };
    let back = if posted.has("back") { safe_back(posted.get("back")) } else { "/admin/plugins" };
    Ok(done(&s, &signed, &headers, back, toast))
}

/// The new version on trial takes everything.
pub(super) async fn promote(
    State(s): Host,
    signed: Signed,
    Path(plugin): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let now = s.keeper.settle_trial(&plugin, true, &signed.actor).await?;
    let version = now.version.unwrap_or_default();
    let toast = Toast::ok(format!("{plugin} {version} takes everything; what ran before finishes what it has."));
    Ok(done(&s, &signed, &headers, "/admin/plugins", toast))
}

/// Or nothing.
pub(super) async fn take_back(
    State(s): Host,
    signed: Signed,
    Path(plugin): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let now = s.keeper.settle_trial(&plugin, false, &signed.actor).await?;
    let toast = Toast::ok(format!("{plugin} {} has everything again.", now.version.unwrap_or_default()));
    Ok(done(&s, &signed, &headers, "/admin/plugins", toast))
}
