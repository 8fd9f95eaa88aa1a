//! Pausing and resuming a channel, from whichever page: each takes the other back.
//!
//! Owns: the form, and what each way back restores. Absent on purpose: what a pause does (the store's and the workers').

use super::{
    Signed,
    answer::{Posted, done},
};
use crate::{
    channel::ChannelView,
    console::Facts,
    http::problem::{ApiError, ApiResult, FieldError},
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{format, pages::queues::PauseForm, pieces::Toast, sentence::Rest};
use campanile_model::{ChannelName, Timestamp, ports};
use chrono::TimeDelta;
use std::sync::Arc;

/// A pause for longer is a decision to switch the channel off.
const PAUSE_MAX_MIN: i64 = 30 * 24 * 60;
const REASON_MAX: usize = 200;
/// An end that is further away is said with its day.
const SOON: TimeDelta = TimeDelta::hours(12);

pub fn known(s: &Services, channel: &str) -> ApiResult<ChannelName> {
    let name = ChannelName::from(channel);
    if s.channels.get(&name).is_none() {
        return Err(ApiError::not_found("channel"));
    }
    Ok(name)
}

/// `minutes` from now, when the form says so; or the moment that a way back names.
fn until(s: &Services, posted: &Posted) -> ApiResult<Option<Timestamp>> {
    let now = s.clock.now();
    let wrong = |field, why: String| ApiError::invalid(vec![FieldError::new(field, why)]);
    match (posted.get("minutes"), posted.get("until")) {
        ("", "") => Ok(None),
        ("", moment) => {
            let at: Option<Timestamp> = moment.parse().ok();
            let at = at.filter(|at| *at > now && *at - now <= TimeDelta::minutes(PAUSE_MAX_MIN));
            at.map(Some).ok_or_else(|| wrong("until", "must be a moment in the next 30 days".to_owned()))
        }
        (minutes, _) => match minutes.parse() {
            Ok(m @ 1..=PAUSE_MAX_MIN) => Ok(Some(now + TimeDelta::minutes(m))),
            _ => Err(wrong("minutes", format!("must be 1 to {PAUSE_MAX_MIN}"))),
        },
    }
}

async fn in_force(s: &Services, name: &ChannelName) -> ApiResult<Option<ports::Pause>> {
    Ok(s.store.pauses().await?.into_iter().find(|p| p.channel == *name))
}

/// The way back to a pause as it was.
fn paused_again(toast: Toast, name: &ChannelName, was: &ports::Pause, back: &str) -> Toast {
    let until = was.until.map(format::machine).unwrap_or_default();
    let reason = was.reason.as_deref().unwrap_or_default();
    let action = format!("/admin/channels/{}/pause", super::segment(name.as_str()));
    toast.undone_by(action, &[("back", back), ("reason", reason), ("until", &until)])
}

pub async fn pause(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let name = known(&s, &channel)?;
    let reason = Some(posted.get("reason")).filter(|r| !r.is_empty());
    if reason.is_some_and(|r| r.len() > REASON_MAX) {
        let why = format!("must be at most {REASON_MAX} bytes");
        return Err(ApiError::invalid(vec![FieldError::new("reason", why)]));
    }
    let until = until(&s, &posted)?;
    let before = in_force(&s, &name).await?;
    s.status.pause(&name, until, reason, &signed.actor).await?;
    s.console.facts.forget().await;
    let said = Rest::of(format!("{channel} is paused"));
    let said = match until {
        Some(at) if at - s.clock.now() <= SOON => said.say(" until ").at(at, false),
        Some(at) => said.say(" until ").on(at),
        None => said,
    };
    let toast = Toast::ok(said.say(". New deliveries are held, none is lost."));
    let back = posted.get("back");
    // It was paused already, otherwise.
    let toast = if let Some(was) = before {
        paused_again(toast, &name, &was, back)
    } else {
        let action = format!("/admin/channels/{}/resume", super::segment(&channel));
        toast.undone_by(action, &[("back", back)])
    };
    Ok(done(&s, &signed, &headers, back, toast))
}

pub async fn resume(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let name = known(&s, &channel)?;
    let before = in_force(&s, &name).await?;
    s.status.resume(&name, &signed.actor).await?;
    s.console.facts.forget().await;
    let back = posted.get("back");
    let toast = match before {
        None => Toast::ok(format!("{channel} was not paused.")),
        Some(was) => {
            let toast = Toast::ok(format!("{channel} is resumed. What was held goes out now."));
            paused_again(toast, &name, &was, back)
        }
    };
    Ok(done(&s, &signed, &headers, back, toast))
}

/// Pause with a reason and an end, or resume. `back`: the page that it stands on.
pub fn form(signed: &Signed, back: &str, v: &ChannelView, facts: &Facts) -> PauseForm {
    let pause = facts.pauses.iter().find(|p| p.channel == v.name);
    PauseForm {
        name: v.name.to_string(),
        paused: v.paused,
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        back: back.to_owned(),
        why: pause.map(|p| {
            let reason = p.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            let text = Rest::of("Since ").on(p.since).say(format!(" by {}", p.actor.trim_start_matches("admin:")));
            match p.until {
                Some(until) => text.say(", until ").on(until).say(format!("{reason}.")),
                None => text.say(format!("{reason}.")),
            }
        }),
    }
}
