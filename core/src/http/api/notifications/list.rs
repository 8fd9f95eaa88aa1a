//! `GET /notifications?…`.

use super::{
    ReadProblems,
    input::{self, Query},
    view::NotificationSummary,
};
use crate::{
    http::{auth::Application, problem::ApiResult},
    ingest::{Directory, names},
    services::Services,
};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use campanile_model::{
    AppId, ChannelName, NotificationId, UserId,
    api::ShownState,
    ports::{NotificationFilter, Scope},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

const LIMIT_MAX: u32 = 100;
const PARAMETERS: [&str; 9] =
    ["user_id", "notification_type", "channel", "state", "since", "until", "idempotency_key", "limit", "cursor"];

/// Newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationList {
    pub items: Vec<NotificationSummary>,
    /// Pass as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// List notifications
#[utoipa::path(
    get, path = "/notifications", tag = "notifications",
    params(
        ("user_id" = Option<String>, Query, description = "Only with a delivery to this user."),
        ("notification_type" = Option<String>, Query, description = "Only of this type."),
        ("channel" = Option<String>, Query, description = "Only with a delivery by this channel."),
        ("state" = Option<ShownState>, Query, description = "Only with a delivery shown in this state."),
        ("since" = Option<String>, Query, description = "Accepted at or after, RFC 3339."),
        ("until" = Option<String>, Query, description = "Accepted before, RFC 3339."),
        ("idempotency_key" = Option<String>, Query, description = "Accepted under this key."),
        ("limit" = Option<u32>, Query, description = "From 1 to 100, default 100."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.")
    ),
    responses((status = 200, description = "Newest first.", body = NotificationList), ReadProblems)
)]
pub async fn list_notifications(
    State(s): State<Arc<Services>>,
    application: Application,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<NotificationList>> {
    application.require(Scope::Read)?;
    let mut filter = filter(application.app.clone(), query.as_deref(), s.channels.as_ref())?;
    let limit = filter.limit as usize;
    // One more than asked for tells whether there is a next page.
    filter.limit += 1;
    let mut rows = s.store.notifications(&filter).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more).map(|(row, _)| row.notification.id);
    Ok(Json(NotificationList {
        items: rows.iter().map(|(row, states)| NotificationSummary::new(row, states)).collect(),
        next_cursor: last.map(|id| input::cursor(id.0)),
    }))
}

fn filter(app: AppId, query: Option<&str>, channels: &dyn Directory) -> ApiResult<NotificationFilter> {
    let mut q = Query::parse(query, &PARAMETERS);
    let filter = NotificationFilter {
        app,
        user: q.map("user_id", |s| UserId::parse(s).map_err(ToOwned::to_owned)),
        notification_type: q.text("notification_type"),
        channel: q.map("channel", |s| channel(s, channels)),
        state: q.map("state", |s| {
            let known: Vec<_> = ShownState::all().map(ShownState::as_str).collect();
            s.parse().map_err(|_| names::unknown("state", s, &known))
        }),
        since: q.time("since"),
        until: q.time("until"),
        idempotency_key: q.text("idempotency_key"),
        before: q.cursor(NotificationId),
        limit: q.limit(LIMIT_MAX),
        ..NotificationFilter::default()
    };
    q.done()?;
    Ok(filter)
}

fn channel(name: &str, channels: &dyn Directory) -> Result<ChannelName, String> {
    channels.find(name).map(|c| c.name).ok_or_else(|| crate::ingest::contact::unknown_channel(name, channels))
}
