//! The door: routes, credentials, errors. Each resource is a file with its own `routes()`; this one puts them together.

pub mod admin;
pub mod api;
pub mod auth;
pub mod dev;
pub mod ops;
pub mod problem;
pub mod server;
pub mod sse;
pub mod unsubscribe;
pub mod ws;

use crate::host::Services;
use std::sync::Arc;

pub type App = axum::Router<Arc<Services>>;
/// Routes that appear in the OpenAPI document.
pub type ApiRoutes = utoipa_axum::router::OpenApiRouter<Arc<Services>>;

tokio::task_local! {
    /// Names the request in logs, errors and stored rows; set by the outermost layer.
    pub static REQUEST_ID: String;
}

/// The current request's id; empty outside a request.
pub fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// Everything under one roof. The API's document comes from the same routes.
pub fn router(services: Arc<Services>) -> axum::Router {
    let (api, _document) = api::routes().split_for_parts();
    let mut app: App = App::new()
        .merge(api)
        .merge(ops::routes())
        .merge(ws::routes())
        .merge(sse::routes())
        .merge(unsubscribe::routes())
        .merge(admin::routes());
    if services.dev {
        app = app.merge(dev::routes());
    }
    app.with_state(services)
}
