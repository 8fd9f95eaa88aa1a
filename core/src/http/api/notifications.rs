//! `/api/v1/notifications`: say what happened, look at where it went, take it back.
//!
//! Owns: the HTTP side of accepting (limits, media type, headers, answers) and how a notification is shown. Absent on
//! purpose: what makes a request valid (`ingest`), how states move (`status`).

mod batch;
pub mod body;
mod cancel;
pub mod input;
mod list;
mod problems;
mod read;
mod send;
mod summary;
mod view;

pub use problems::Problems;

use crate::{
    http::{
        ApiRoutes,
        auth::Application,
        problem::{ApiError, FieldError},
    },
    ingest::{Caller, IngestError, Invalid},
};
use axum::http::StatusCode;
use campanile_model::{plan::Source, ports::StoreError};
use std::time::Duration;
use utoipa_axum::routes;

/// How long a caller should wait when too much is waiting: workers need some seconds to make a dent.
const BACKLOG_RETRY: Duration = Duration::from_secs(5);

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(send::send_notification, list::list_notifications))
        .routes(routes!(batch::send_batch))
        .routes(routes!(read::get_notification))
        .routes(routes!(cancel::cancel_notification))
}

fn caller(application: &Application) -> Caller {
    Caller {
        app: application.app.clone(),
        source: Source::Api,
        request_id: crate::http::request_id(),
        actor: application.actor.clone(),
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let errors = invalid.faults.into_iter().map(|f| FieldError::new(f.field, f.message)).collect();
        Self { code: invalid.code, ..Self::invalid(errors) }
    }
}

impl From<IngestError> for ApiError {
    fn from(e: IngestError) -> Self {
        match e {
            IngestError::Invalid(invalid) => invalid.into(),
            IngestError::Backlog => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "backlog",
                "too many deliveries are waiting; nothing was written, try again later",
            )
            .retry_after(BACKLOG_RETRY)
            .caused_by(StoreError::Overloaded),
            IngestError::Accept(e) => e.into(),
        }
    }
}
