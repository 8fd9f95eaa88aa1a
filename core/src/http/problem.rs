//! Errors as callers see them: `application/problem+json` (RFC 9457), logged once, here.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use campanile_model::ports::{AcceptError, StoreError};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, time::Duration};

/// The body of every error.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One wrong field and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// A path such as `to[3].email`.
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What a handler fails with. The request id is filled in by the outermost layer.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: Cow<'static, str>,
    pub errors: Vec<FieldError>,
    pub retry_after: Option<Duration>,
    /// Never shown; logged with the request id.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), retry_after: None, source: None }
    }
    /// 422 with the fields at fault.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            many => format!("{} fields are not valid", many.len()),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }
    pub fn not_found(what: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }
    pub fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        let (code, detail, after): (_, &'static str, _) = match &e {
            StoreError::Overloaded => ("overloaded", "too much is waiting to be written; try again", 1),
            StoreError::Unavailable(_) | StoreError::CommitUnknown(_) => {
                ("unavailable", "the database can't be used now; try again with the same idempotency key", 2)
            }
            StoreError::Row { .. } | StoreError::Statement { .. } => {
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
                    .caused_by(e);
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(Duration::from_secs(after)).caused_by(e)
    }
}

impl From<AcceptError> for ApiError {
    fn from(e: AcceptError) -> Self {
        match e {
            AcceptError::KeyMismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this idempotency key was used with another body; use a new key for a new notification",
            ),
            AcceptError::KeyBusy => Self::new(
                StatusCode::CONFLICT,
                "idempotency_key_busy",
                "a request with this idempotency key is still running; try again",
            )
            .retry_after(Duration::from_secs(1)),
            AcceptError::Stale => {
                Self::new(StatusCode::CONFLICT, "recipient_changed", "a recipient is being erased; try again")
                    .retry_after(Duration::from_secs(1))
            }
            AcceptError::Store(e) => e.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(
                code = self.code,
                error = self.source.as_deref().map(|e| e as &dyn std::error::Error),
                "Request failed: {}",
                self.detail
            );
        }
        let body = Problem {
            kind: format!("urn:campanile:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.into_owned(),
            code: self.code.to_owned(),
            request_id: super::request_id(),
            errors: self.errors,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub type ApiResult<T> = Result<T, ApiError>;

/// Refusals that axum itself makes (a body over the limit, a missing extension) come as plain text; callers get problems.
pub async fn uniform(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let api = request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    let status = response.status();
    let plain =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !api || !plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (code, detail) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is larger than this call takes"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("unsupported_media_type", "send JSON with Content-Type: application/json")
        }
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid", "the request is not valid"),
        s if s.is_server_error() => ("internal", "something went wrong here"),
        _ => ("bad_request", "the request can't be read"),
    };
    let mut problem = ApiError::new(status, code, detail).into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            problem.headers_mut().append(name, value.clone());
        }
    }
    problem
}
