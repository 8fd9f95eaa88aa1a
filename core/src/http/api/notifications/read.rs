//! `GET /notifications/{id}`.

use super::{
    ReadProblems,
    input::{self, Query},
    view::NotificationView,
};
use crate::{
    http::{
        auth::Application,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use axum::{
    Json,
    extract::{Path, RawQuery, State},
};
use campanile_model::{DeliveryId, ports::Scope};
use std::sync::Arc;

/// Where a notification went
///
/// The request, deliveries by state, the first 100 deliveries with their attempts, and what happened in time order.
#[utoipa::path(
    get, path = "/notifications/{id}", tag = "notifications",
    params(
        ("id" = String, Path, description = "notification_id"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before: the next 100 deliveries.")
    ),
    responses((status = 200, description = "All that is known of it.", body = NotificationView), ReadProblems)
)]
pub async fn get_notification(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<NotificationView>> {
    application.require(Scope::Read)?;
    let id = input::id(&id, "notification")?;
    let mut query = Query::parse(query.as_deref(), &["cursor"]);
    let after = query.cursor(DeliveryId);
    query.done()?;
    let detail = s.store.notification(&application.app, id, after).await?;
    detail.map(|d| Json(NotificationView::new(d))).ok_or_else(|| ApiError::not_found("notification"))
}
