//! `POST /notifications/{id}/cancel`.

use super::{ReadProblems, input};
use crate::{
    http::{
        auth::Application,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
};
use campanile_model::ports::{CancelOutcome, Scope};
use std::sync::Arc;

/// Take a notification back
///
/// Deliveries that have not gone yet become `cancelled`; one under way becomes so when its attempt fails. What people
/// already have stays in their feed. Cancelling twice is harmless.
#[utoipa::path(
    post, path = "/notifications/{id}/cancel", tag = "notifications",
    params(("id" = String, Path, description = "notification_id")),
    responses((status = 200, description = "What could still be stopped.", body = CancelOutcome), ReadProblems)
)]
pub async fn cancel_notification(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(id): Path<String>,
) -> ApiResult<Json<CancelOutcome>> {
    application.require(Scope::Send)?;
    let id = input::id(&id, "notification")?;
    let outcome = s.status.cancel(&application.app, id, &application.actor).await?;
    outcome.map(Json).ok_or_else(|| ApiError::not_found("notification"))
}
