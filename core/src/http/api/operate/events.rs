//! A live tail of deliveries: one server-sent event per arrival at a state. Nothing is kept for those who come later.

use crate::{
    http::{
        ApiRoutes,
        api::parsed,
        auth::Application,
        extract::Params,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState, NotificationId, Priority, Timestamp, UserId, clock,
    effects::Transition, ports::Scope,
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::routes;

/// Between comments that keep proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(tail_events))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    channel: Option<String>,
    /// A state, such as `sent` or `dead`.
    state: Option<String>,
    user_id: Option<String>,
    notification_id: Option<String>,
}

struct Filter {
    app: AppId,
    channel: Option<ChannelName>,
    state: Option<DeliveryState>,
    user: Option<UserId>,
    notification: Option<NotificationId>,
}

impl Filter {
    fn takes(&self, t: &Transition) -> bool {
        t.user.app == self.app
            && self.channel.as_ref().is_none_or(|c| *c == t.channel)
            && self.state.is_none_or(|s| s == t.state)
            && self.user.as_ref().is_none_or(|u| *u == t.user.user)
            && self.notification.is_none_or(|n| n == t.notification_id)
    }
}

/// One arrival at a state.
#[derive(Serialize, utoipa::ToSchema)]
struct TransitionView {
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    at: Timestamp,
    delivery_id: DeliveryId,
    notification_id: NotificationId,
    user_id: UserId,
    channel: ChannelName,
    priority: Priority,
    state: DeliveryState,
    reason: Option<String>,
    /// From acceptance to the first arrival at `sent`; only on that arrival.
    latency_ms: Option<i64>,
    attempt: u32,
}

impl TransitionView {
    fn new(t: Transition, at: Timestamp) -> Self {
        Self {
            at,
            delivery_id: t.delivery_id,
            notification_id: t.notification_id,
            user_id: t.user.user,
            channel: t.channel,
            priority: t.priority,
            state: t.state,
            reason: t.reason,
            latency_ms: t.latency_ms,
            attempt: t.attempt,
        }
    }
}

/// Deliveries as they move: events `delivery`, and `lagged` with `{"missed":n}` for a reader that is too slow.
#[utoipa::path(get, path = "/events", tag = "operate", params(EventsQuery),
    responses((status = 200, content_type = "text/event-stream", body = TransitionView)))]
async fn tail_events(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<EventsQuery>,
) -> ApiResult<Response> {
    caller.require(Scope::Read)?;
    let text = |t: Option<String>| t.filter(|t| !t.is_empty());
    let state = match text(q.state) {
        None => None,
        Some(state) => Some(state.parse().map_err(|_| {
            let known: Vec<_> = DeliveryState::ALL.iter().map(|s| s.as_str()).collect();
            ApiError::invalid(vec![FieldError::new("state", format!("unknown; the states are {}", known.join(", ")))])
        })?),
    };
    let filter = Filter {
        app: caller.app,
        channel: text(q.channel).map(ChannelName::from),
        state,
        user: text(q.user_id).map(UserId::from),
        notification: parsed(q.notification_id.as_deref(), "notification_id", "must be an id")?,
    };
    let (source, clock, draining) = (s.status.watch(), s.clock.clone(), s.draining.clone());
    let events = stream::unfold((source, filter, clock), |(mut source, filter, clock)| async move {
        loop {
            let event = match source.recv().await {
                Ok(t) if filter.takes(&t) => named("delivery", &TransitionView::new(t, clock.now())),
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => named("lagged", &json!({ "missed": missed })),
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok::<_, Infallible>(event), (source, filter, clock)));
        }
    });
    let events = events.take_until(async move { draining.cancelled().await });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn named(name: &str, data: &impl Serialize) -> Event {
    // These types always serialise; were one not to, an empty event still keeps the stream whole.
    Event::default().event(name).json_data(data).unwrap_or_default()
}
