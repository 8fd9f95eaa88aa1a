//! Channels: how each fares on this node, pausing and resuming, trying again behind an open breaker.

use crate::{
    channel::ChannelView,
    http::{
        ApiRoutes,
        auth::Application,
        extract::JsonBody,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
};
use campanile_model::{
    ChannelName, Timestamp,
    ports::{Pause, Scope},
    signal::Signal,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

const REASON_MAX: usize = 200;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_channels))
        .routes(routes!(pause_channel))
        .routes(routes!(resume_channel))
        .routes(routes!(reset_channel))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Channel {
    #[serde(flatten)]
    view: ChannelView,
    /// The pause in force, on all nodes.
    pause: Option<Pause>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct ChannelsBody {
    items: Vec<Channel>,
}

/// Every channel, disabled ones too.
#[utoipa::path(get, path = "/channels", tag = "operate", responses((status = 200, body = ChannelsBody)))]
async fn list_channels(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<ChannelsBody>> {
    caller.require(Scope::Read)?;
    let mut pauses = s.store.pauses().await?;
    let items = s
        .channels
        .views()
        .into_iter()
        .map(|mut view| {
            let pause = pauses.iter().position(|p| p.channel == view.name).map(|at| pauses.swap_remove(at));
            // The row is the truth; the node's own cache may be a moment behind.
            view.paused = pause.is_some();
            Channel { view, pause }
        })
        .collect();
    Ok(Json(ChannelsBody { items }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPause {
    /// Resume by itself at this moment.
    #[schema(value_type = Option<String>, format = "date-time")]
    until: Option<Timestamp>,
    /// For whoever looks, at most 200 characters.
    reason: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct ChannelState {
    channel: ChannelName,
    paused: bool,
    /// False when it was so already; a second pause sets `until` and `reason` anew.
    changed: bool,
}

/// Sends nothing by this channel, on all nodes, until it is resumed; what comes in waits.
#[utoipa::path(post, path = "/channels/{name}/pause", tag = "operate", params(("name" = String, Path)),
    request_body = NewPause, responses((status = 200, body = ChannelState), (status = 404, description = "No such channel.")))]
async fn pause_channel(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<NewPause>,
) -> ApiResult<Json<ChannelState>> {
    caller.require(Scope::Manage)?;
    let channel = known(&s, &name)?;
    let mut errors = Vec::new();
    if body.until.is_some_and(|until| until <= s.clock.now()) {
        errors.push(FieldError::new("until", "must be in the future"));
    }
    let reason = body.reason.as_deref().map(str::trim).filter(|r| !r.is_empty());
    if reason.is_some_and(|r| r.chars().count() > REASON_MAX || r.chars().any(char::is_control)) {
        errors.push(FieldError::new("reason", "must be at most 200 characters without control characters"));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let changed = s.status.pause(&channel, body.until, reason, &caller.actor).await?;
    Ok(Json(ChannelState { channel, paused: true, changed }))
}

/// Ends a pause; what waited is sent.
#[utoipa::path(post, path = "/channels/{name}/resume", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = ChannelState), (status = 404, description = "No such channel.")))]
async fn resume_channel(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<ChannelState>> {
    caller.require(Scope::Manage)?;
    let channel = known(&s, &name)?;
    let changed = s.status.resume(&channel, &caller.actor).await?;
    Ok(Json(ChannelState { channel, paused: false, changed }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct BreakerReset {
    channel: ChannelName,
    /// Always `trying`.
    #[schema(example = "trying")]
    breaker: &'static str,
}

/// Lets a channel whose breaker is open try one delivery at once, on every node; its success closes the breaker there.
#[utoipa::path(post, path = "/channels/{name}/reset", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = BreakerReset), (status = 404, description = "No such channel.")))]
async fn reset_channel(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<BreakerReset>> {
    caller.require(Scope::Manage)?;
    let channel = known(&s, &name)?;
    s.store.note(&caller.actor, "channel.reset", channel.as_str(), None).await?;
    s.bus.publish(Signal::BreakerReset(channel.clone()));
    tracing::info!(channel = %channel, actor = caller.actor.who, "Reset the breaker of {channel} on request");
    Ok(Json(BreakerReset { channel, breaker: "trying" }))
}

fn known(s: &Services, name: &str) -> Result<ChannelName, ApiError> {
    let name = ChannelName::from(name);
    s.channels.get(&name).map(|_| name).ok_or_else(|| ApiError::not_found("channel"))
}
