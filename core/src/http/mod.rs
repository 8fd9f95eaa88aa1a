//! The door: routes, credentials, errors. Each resource is a file with its own `routes()`; this one puts them together.

pub mod admin;
pub mod api;
pub mod auth;
mod cors;
pub mod dev;
pub mod extract;
pub mod handshake;
mod layers;
pub mod openapi;
pub mod ops;
mod page;
pub mod problem;
pub mod server;
pub mod sse;
pub mod unsubscribe;
pub mod ws;

pub use openapi::openapi_document;

use crate::services::Services;
use anyhow::Context;
use axum::{
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
};
use campanile_model::KeyId;
use problem::ApiError;
use std::{cell::Cell, sync::Arc};
use tokio::net::TcpListener;

pub type App = axum::Router<Arc<Services>>;
/// Routes that appear in the OpenAPI document.
pub type ApiRoutes = utoipa_axum::router::OpenApiRouter<Arc<Services>>;

tokio::task_local! {
    /// Names the request in logs, errors and stored rows; set by the outermost layer.
    pub static REQUEST_ID: String;
    /// Whose API key it came with; set where the key is checked.
    static CALLER: Cell<Option<KeyId>>;
}

/// The current request's id; empty outside a request.
pub fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// Everything under one roof. The API's document comes from the same routes.
pub fn router(services: Arc<Services>, metrics: Option<App>) -> axum::Router {
    let (api, document) = api::routes().split_for_parts();
    let mut app: App = App::new()
        .merge(api)
        .merge(openapi::routes(document))
        .merge(ops::routes(metrics))
        .merge(ws::routes())
        .merge(sse::routes())
        .merge(unsubscribe::routes())
        .merge(admin::routes(&services));
    if services.dev {
        app = app.merge(dev::routes());
    }
    layered(app, services)
}

/// What every listener has around its routes.
fn layered(app: App, services: Arc<Services>) -> axum::Router {
    let shell = layers::Shell {
        metrics: services.metrics.clone(),
        request_timeout: *services.config.server.request_timeout,
        keys: Some(services.gate.keys.clone()),
    };
    app.fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
        })
        .layer(axum::extract::DefaultBodyLimit::max(services.config.ingest.body_max))
        .layer(from_fn(problem::uniform))
        .layer(from_fn_with_state(services.gate.origins.clone(), cors::cors))
        .layer(from_fn_with_state(shell, layers::observe))
        .with_state(services)
}

/// Starts every listener and the door's own chores. They end when `services.draining` fires.
pub async fn start(listener: TcpListener, services: Arc<Services>) -> anyhow::Result<()> {
    server::raise_file_limit();
    let limits = server::Limits::of(&services.config.server);
    let stop = server::Stop { leaving: services.leaving.clone(), draining: services.draining.clone() };
    let mut metrics = Some(ops::metrics_routes(&services.config.metrics)?);
    if let Some(listen) = &services.config.metrics.listen
        && let Some(metrics) = metrics.take()
    {
        let own = TcpListener::bind(listen).await.with_context(|| format!("metrics.listen: binding {listen}"))?;
        let app = layered(metrics, services.clone());
        services.tasks.spawn(server::serve(own, app, limits, stop.clone()));
    }
    let (keys, draining) = (services.gate.keys.clone(), services.draining.clone());
    services.tasks.spawn(async move { keys.flush_used(draining).await });
    let router = router(services.clone(), metrics);
    services.tasks.spawn(server::serve(listener, router, limits, stop));
    Ok(())
}
