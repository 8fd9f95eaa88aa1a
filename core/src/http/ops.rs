//! What machines ask: liveness, readiness, metrics.

use super::App;
use axum::routing::get;

pub fn routes(with_metrics: bool) -> App {
    let app = App::new().route("/healthz", get(|| async { "ok" }));
    if with_metrics { app.merge(metrics_routes()) } else { app }
}

pub fn metrics_routes() -> App {
    App::new()
}
