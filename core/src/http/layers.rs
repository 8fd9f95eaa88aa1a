//! What every request passes: its id, one log line, metrics, a time limit, the panic net, and headers that belong to all.
//!
//! Absent on purpose: the query. It can hold a token, so neither log, span nor metric ever sees it.

use super::{CALLER, REQUEST_ID, auth::keys::KeyCache, problem::ApiError};
use crate::observe::{Metrics, metrics as m};
use axum::{
    body::{Body, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Frame, SizeHint};
use std::{
    cell::Cell,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tracing::Instrument;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the outermost layer works with.
#[derive(Clone)]
pub struct Shell {
    pub metrics: Arc<Metrics>,
    pub request_timeout: Duration,
    /// Told how the calls of API keys were answered.
    pub keys: Option<Arc<KeyCache>>,
}

/// The outermost layer.
pub async fn observe(State(s): State<Shell>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = inbound_id(request.headers()).unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let method = method_label(request.method());
    let path = request.uri().path().to_owned();
    let matched = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let route = matched.as_deref().unwrap_or("unmatched");
    // A route with a secret in its path is logged by its name alone.
    let shown = if route.contains("{token}") { route } else { &path };

    let span = tracing::info_span!("request", request.id = %id, http.method = method, http.path = shown);
    let handled = AssertUnwindSafe(within(s.request_timeout, request, next)).catch_unwind();
    let answered = async {
        let response = handled.await.unwrap_or_else(|_| {
            s.metrics.panics.get_or_create(&m::ByReason::new("http")).inc();
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
                .caused_by("the handler panicked")
                .into_response()
        });
        (response, CALLER.with(Cell::get))
    };
    let answered = CALLER.scope(Cell::new(None), answered);
    let (mut response, caller) = REQUEST_ID.scope(id.clone(), answered).instrument(span.clone()).await;

    let status = response.status();
    if let (Some(keys), Some(key)) = (&s.keys, caller) {
        keys.answered(key, status);
    }
    let elapsed = started.elapsed();
    span.in_scope(|| {
        let (code, duration_ms) = (status.as_u16(), elapsed.as_millis() as u64);
        if status.is_server_error() {
            tracing::info!(http.status = code, duration_ms, "Answered {code}");
        } else {
            tracing::debug!(http.status = code, duration_ms, "Answered {code}");
        }
    });
    s.metrics.http_requests.get_or_create(&m::RouteLabels::new(method, route, status_class(status))).inc();
    s.metrics.http_duration.get_or_create(&m::MethodRoute::new(method, route)).observe(elapsed.as_secs_f64());
    if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // The rest of the body is not read, so this connection ends: a client that keeps connections must not use it again.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    finish_headers(response.headers_mut(), &id, &path);
    response
}

/// Bounds the time until an answer begins; bodies of answers (streams) and upgraded sockets live as long as they like.
async fn within(limit: Duration, request: Request, next: Next) -> Response {
    let whole = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let request = request.map(|body| Body::new(Watched { body, whole: whole.clone() }));
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) if whole.load(Ordering::Relaxed) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "the request took too long; try again")
                .retry_after(Duration::from_secs(2))
                .into_response()
        }
        Err(_) => ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the request body did not arrive in time")
            .into_response(),
    }
}

/// Tells a client that is slow to send from a host that is slow to answer.
struct Watched {
    body: Body,
    whole: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.whole.store(true, Ordering::Relaxed);
        }
        frame
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A caller's own id is kept when it can do no harm in logs and headers.
fn inbound_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sane = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    sane.then(|| id.to_owned())
}

fn finish_headers(headers: &mut HeaderMap, id: &str, path: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::REFERRER_POLICY, "no-referrer");
    if path.starts_with("/api/") {
        default(header::CACHE_CONTROL, "no-store");
    }
}

/// A closed set, so that a caller can't make series.
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
