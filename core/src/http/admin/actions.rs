//! What an operator does from any page: pause and resume a channel, let its breaker try.

use super::{
    Routes, Signed,
    answer::{Posted, done},
    gate::ACT,
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
use campanile_admin_ui::{format, pieces::Toast};
use campanile_model::{ChannelName, Timestamp, ports::Role, signal::Signal};
use chrono::TimeDelta;
use std::sync::Arc;

/// A pause for longer is a decision to switch the channel off.
const PAUSE_MAX_MIN: i64 = 30 * 24 * 60;
const REASON_MAX: usize = 200;

pub fn routes() -> Routes {
    Routes::new()
        .post("/admin/channels/{channel}/pause", ACT, pause)
        .post("/admin/channels/{channel}/resume", ACT, resume)
        .post("/admin/channels/{channel}/reset", ACT, reset)
}

fn known(s: &Services, channel: &str) -> ApiResult<ChannelName> {
    let name = ChannelName::from(channel);
    if s.channels.get(&name).is_none() {
        return Err(ApiError::not_found("channel"));
    }
    Ok(name)
}

/// `minutes` from now, when the form says so.
fn until(s: &Services, minutes: &str) -> ApiResult<Option<Timestamp>> {
    if minutes.is_empty() {
        return Ok(None);
    }
    match minutes.parse() {
        Ok(m @ 1..=PAUSE_MAX_MIN) => Ok(Some(s.clock.now() + TimeDelta::minutes(m))),
        _ => Err(ApiError::invalid(vec![FieldError::new("minutes", format!("must be 1 to {PAUSE_MAX_MIN}"))])),
    }
}

async fn pause(
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
    let until = until(&s, posted.get("minutes"))?;
    s.status.pause(&name, until, reason, &signed.actor).await?;
    s.console.facts.forget().await;
    let ends = until.map_or_else(String::new, |t| format!(" until {} UTC", format::minute(t)));
    let toast = Toast::ok(format!("{channel} is paused{ends}. New deliveries are held, none is lost."));
    let back = posted.get("back");
    let toast = toast.undone_by(format!("/admin/channels/{channel}/resume"), &[("back", back)]);
    Ok(done(&s, &signed, &headers, back, toast))
}

async fn resume(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let name = known(&s, &channel)?;
    let before = s.store.pauses().await?.into_iter().find(|p| p.channel == name);
    s.status.resume(&name, &signed.actor).await?;
    s.console.facts.forget().await;
    let back = posted.get("back");
    let toast = match before {
        None => Toast::ok(format!("{channel} was not paused.")),
        Some(before) => Toast::ok(format!("{channel} is resumed. What was held goes out now.")).undone_by(
            format!("/admin/channels/{channel}/pause"),
            &[("back", back), ("reason", before.reason.as_deref().unwrap_or_default())],
        ),
    };
    Ok(done(&s, &signed, &headers, back, toast))
}

/// Lets an open breaker try one delivery at once, on every node.
async fn reset(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let name = known(&s, &channel)?;
    s.store.note(&signed.actor, "channel.reset", &channel, None).await?;
    s.bus.publish(Signal::BreakerReset(name));
    let toast = Toast::ok(format!("{channel} tries one delivery now; if it arrives, the rest follows."));
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}
