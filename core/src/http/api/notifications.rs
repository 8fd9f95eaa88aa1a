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

pub use problems::{Problems, ReadProblems};
pub use summary::{Overall, overall};
pub use view::whole_request;

use crate::{
    http::{
        ApiRoutes,
        auth::Application,
        problem::{ApiError, FieldError, Problem},
    },
    ingest::{Caller, IngestError, Invalid},
};
use axum::http::StatusCode;
use campanile_model::{api::ShownState, plan::Source};
use std::time::Duration;
use utoipa::OpenApi;
use utoipa_axum::routes;

/// How long a caller should wait when too much is waiting: workers need some seconds to make a dent.
const BACKLOG_RETRY: Duration = Duration::from_secs(5);

/// What [`Problems`] and query parameters refer to without bringing it along.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(Problem, FieldError, ShownState)))]
struct Shared;

pub fn routes() -> ApiRoutes {
    ApiRoutes::with_openapi(Shared::openapi())
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
        trace: application.trace,
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
            .retry_after(BACKLOG_RETRY),
            IngestError::Accept(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value.as_str() {
                        Some(target) if key == "$ref" => found.push(target),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_complete() {
        let document = super::routes().merge(super::super::users::routes()).into_openapi();
        let document = serde_json::to_value(document).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
        }
        let paths = document["paths"].as_object().unwrap();
        let calls: Vec<_> = paths.values().flat_map(|p| p.as_object().unwrap().values()).collect();
        assert_eq!(calls.len(), 11);
        for call in calls {
            assert!(call["responses"]["422"]["content"]["application/problem+json"].is_object(), "{call}");
        }
    }
}
