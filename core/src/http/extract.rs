//! Bodies, queries and path parts, with refusals as problems: 400 malformed, 413 too large, 415 wrong type, 422 invalid.

use super::problem::{ApiError, FieldError};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::IntoResponse,
};
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// A JSON body. An empty one reads as `{}`, so that calls whose fields are all optional need none.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let typed = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(body_error)?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return read(b"{}").map(Self);
        }
        if !typed {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send JSON with Content-Type: application/json",
            ));
        }
        read(&body).map(Self)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => ApiError::invalid(vec![FieldError::new("body", e.to_string())]),
        _ => ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", format!("the body is not JSON: {e}")),
    })
}

/// `application/json` or `application/*+json`, whatever its parameters.
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Why a body could not be read at all.
pub fn body_error(rejection: BytesRejection) -> ApiError {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than this call takes")
        }
        _ => ApiError::new(StatusCode::BAD_REQUEST, "unreadable_body", "the body could not be read to its end"),
    }
}

/// Query parameters. An unknown one is refused when `T` denies unknown fields.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Query(query) = axum::extract::Query::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::invalid(vec![FieldError::new("query", e.body_text())]))?;
        Ok(Self(query))
    }
}

/// The one path parameter, parsed; what does not parse can't exist, so it is 404.
pub struct PathId<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let none = || ApiError::not_found("resource");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| none())?;
        text.parse().map(Self).map_err(|_| none())
    }
}
