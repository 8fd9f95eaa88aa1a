//! Cross-origin rules: `/api/v1/me/*` and `/sse/*` for the listed origins, Authorization allowed, no cookies; nothing else.

use super::{
    auth::{one_header, origin::OriginPolicy},
    problem::ApiError,
};
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

pub async fn cors(State(origins): State<Arc<OriginPolicy>>, request: Request, next: Next) -> Response {
    if !covers(request.uri().path()) {
        return next.run(request).await;
    }
    let origin = allowed(&origins, request.headers());
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

fn allowed(origins: &OriginPolicy, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = one_header(headers, &header::ORIGIN).ok()??;
    origins.cross_origin(origin).then(|| HeaderValue::from_str(origin).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, middleware::from_fn_with_state};
    use tower::ServiceExt;

    /// Status and headers for a call from a page.
    async fn from(method: &str, path: &str, origin: &str) -> (u16, HeaderMap) {
        let listed = ["https://app.example.org".to_owned()];
        let origins = Arc::new(OriginPolicy::new(&listed, None, false, true).unwrap());
        let app = Router::new().fallback(|| async { "ok" }).layer(from_fn_with_state(origins, cors));
        let request = Request::builder().method(method).uri(path).header("origin", origin);
        let request = request.header("access-control-request-method", "GET").body(Body::empty()).unwrap();
        let (parts, _) = app.oneshot(request).await.unwrap().into_parts();
        (parts.status.as_u16(), parts.headers)
    }

    #[tokio::test]
    async fn only_feeds_and_streams_and_only_for_listed_origins() {
        for (path, origin, open) in [
            ("/api/v1/me/unread_count", "https://app.example.org", true),
            ("/sse/notifications", "https://app.example.org", true),
            ("/api/v1/notifications", "https://app.example.org", false),
            ("/api/v1/mentions", "https://app.example.org", false),
            ("/metrics", "https://app.example.org", false),
            ("/api/v1/me/unread_count", "https://app.example.org.evil.example", false),
            ("/api/v1/me/unread_count", "http://localhost:3000", false),
            ("/api/v1/me/unread_count", "null", false),
        ] {
            for method in ["OPTIONS", "GET"] {
                let (_, headers) = from(method, path, origin).await;
                assert_eq!(headers.contains_key("access-control-allow-origin"), open, "{method} {path} {origin}");
                assert!(!headers.contains_key("access-control-allow-credentials"));
            }
        }
        let (status, headers) = from("OPTIONS", "/sse/notifications", "https://app.example.org").await;
        assert_eq!(
            (status, headers["access-control-allow-origin"].to_str().unwrap()),
            (204, "https://app.example.org")
        );
        assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
        let (status, headers) = from("OPTIONS", "/sse/notifications", "https://evil.example").await;
        assert_eq!((status, headers["vary"].to_str().unwrap()), (403, "origin"));
    }
}
