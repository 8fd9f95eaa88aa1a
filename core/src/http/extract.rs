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
    use axum::{Json, extract::rejection::JsonRejection};
    match Json::from_bytes(body) {
        Ok(Json(body)) => Ok(body),
        Err(JsonRejection::JsonDataError(e)) => Err(ApiError::invalid(vec![located("body", &causes(&e))])),
        Err(e) => {
            let detail = format!("the body is not JSON: {}", causes(&e));
            Err(ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", detail))
        }
    }
}

/// The innermost message: the outer ones only say that something went wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        // Where serde knows the field, its path stands in front of the message; below it the path is lost.
        if last.to_string().ends_with(&format!(": {inner}")) && !last.to_string().starts_with("Failed") {
            break;
        }
        last = inner;
    }
    last.to_string()
}

/// `scopes[0]: unknown variant …` as field and message; without a path the fault is the whole's.
fn located(whole: &str, text: &str) -> FieldError {
    match text.split_once(": ") {
        Some((path, message)) if !path.contains(' ') => FieldError::new(path, message),
        _ => FieldError::new(whole, text),
    }
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
            .map_err(|e| ApiError::invalid(vec![located("query", &causes(&e))]))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        One,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        words: Option<Vec<Word>>,
        limit: Option<u32>,
    }

    async fn body(kind: &str, text: &str) -> Result<Asked, ApiError> {
        let request = Request::post("/").header("content-type", kind).body(Body::from(text.to_owned())).unwrap();
        JsonBody::from_request(request, &()).await.map(|JsonBody(b)| b)
    }

    #[tokio::test]
    async fn a_fault_is_told_with_its_place() {
        for (text, status, code, field) in [
            (r#"{"words":["one","two"]}"#, 422, "invalid", "words[1]"),
            (r#"{"limit":"x"}"#, 422, "invalid", "limit"),
            (r#"{"limit":-1}"#, 422, "invalid", "limit"),
            (r#"{"nope":1}"#, 422, "invalid", "nope"),
            ("[]", 422, "invalid", "body"),
            ("{", 400, "malformed_json", ""),
            ("{} {}", 400, "malformed_json", ""),
            ("\u{1}", 400, "malformed_json", ""),
        ] {
            let e = body("application/json; charset=utf-8", text).await.unwrap_err();
            let named = e.errors.first().map(|f| f.field.as_str()).unwrap_or_default();
            assert_eq!((e.status.as_u16(), e.code, named), (status, code, field), "{text}: {e:?}");
            assert!(e.detail.contains("column") || e.status == 422, "{text}: {}", e.detail);
        }
        let none = Asked { words: None, limit: None };
        assert_eq!(body("text/plain", " ").await.unwrap(), none);
        assert_eq!(body("application/problem+json", "{}").await.unwrap(), none);
        assert_eq!(body("text/plain", "{}").await.unwrap_err().status, 415);
    }

    #[tokio::test]
    async fn a_wrong_parameter_is_told_by_name() {
        for (query, field) in [("limit=x", "limit"), ("nope=1", "nope"), ("limit=1&limit=2", "query")] {
            let request = Request::get(format!("/?{query}")).body(Body::empty()).unwrap();
            let (mut parts, _) = request.into_parts();
            let e = Params::<Asked>::from_request_parts(&mut parts, &()).await.map(|p| p.0).unwrap_err();
            assert_eq!((e.status.as_u16(), e.errors[0].field.as_str()), (422, field), "{e:?}");
        }
    }
}
