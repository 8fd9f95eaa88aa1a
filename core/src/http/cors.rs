//! Cross-origin rules: `/api/v1/me/*` and `/sse/*` for the listed origins, Authorization allowed, no cookies; nothing else.

use super::{
    auth::{Gate, one_header},
    problem::ApiError,
};
use crate::host::Services;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, last-event-id, x-request-id");
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, retry-after");
/// Ten minutes, the longest that every browser honours.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

pub async fn cors(State(s): State<Arc<Services>>, request: Request, next: Next) -> Response {
    if !covers(request.uri().path()) {
        return next.run(request).await;
    }
    let origin = allowed(&s.gate, request.headers());
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (&origin, preflight) {
        (Some(_), true) => StatusCode::NO_CONTENT.into_response(),
        (None, true) => {
            ApiError::forbidden("origin_not_allowed", "this origin is not in websocket.origins").into_response()
        }
        (_, false) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
    response
}

fn covers(path: &str) -> bool {
    path.starts_with("/api/v1/me/") || path.starts_with("/sse/")
}

fn allowed(gate: &Gate, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = one_header(headers, &header::ORIGIN).ok()??;
    gate.origins.cross_origin(origin).then(|| HeaderValue::from_str(origin).ok()).flatten()
}
