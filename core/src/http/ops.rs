//! What machines ask: liveness, readiness, metrics. No credential, but an optional token on the metrics.

mod gauges;

use super::{
    App,
    auth::{bearer, configured},
    problem::ApiError,
};
use crate::{observe::process, services::Services};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use campanile_plugin::Secret;
use gauges::Gauges;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `metrics` is `None` when they have a listener of their own.
pub fn routes(metrics: Option<App>) -> App {
    let app = App::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    match metrics {
        Some(metrics) => app.merge(metrics),
        None => app,
    }
}

pub fn metrics_routes(config: &crate::config::metrics::Metrics) -> anyhow::Result<App> {
    let token = configured(&config.token, config.token_file.as_deref(), "metrics.token_file")?;
    let page = Arc::new(Page { token, gauges: Gauges::default() });
    Ok(App::new().route("/metrics", get(move |State(s), headers| metrics(page.clone(), s, headers))))
}

/// The process runs and answers.
async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// 503 only when the database is down, or the node drains or gives its connections away. Without its broker a node still accepts, so that is "degraded".
async fn readyz(State(s): State<Arc<Services>>) -> Response {
    let not = |why: &str| {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unavailable", "reason": why }))).into_response()
    };
    if s.leaving.is_cancelled() {
        return not("draining");
    }
    if s.rest.is_on() {
        return not("giving its connections away");
    }
    if let Err(error) = s.store.ping().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "Not ready: the database does not answer");
        return not("database");
    }
    let degraded = s.degraded();
    let status = if degraded.is_empty() { "ready" } else { "degraded" };
    Json(json!({ "status": status, "degraded": degraded })).into_response()
}

struct Page {
    token: Secret,
    gauges: Gauges,
}

async fn metrics(page: Arc<Page>, s: Arc<Services>, headers: HeaderMap) -> Response {
    if !page.token.is_empty() {
        let hash = |text: &str| Sha256::digest(text.as_bytes());
        let given = hash(bearer(&headers).unwrap_or_default());
        if !bool::from(given.as_slice().ct_eq(hash(page.token.expose()).as_slice())) {
            return ApiError::unauthorized("send the token of metrics.token: Authorization: Bearer …").into_response();
        }
    }
    page.gauges.refresh(&s).await;
    let mut text = s.metrics.render();
    process::append(&mut text, s.started_at);
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}
