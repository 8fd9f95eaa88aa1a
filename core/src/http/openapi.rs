//! The OpenAPI 3.1 document, made from the same routes that serve.

use super::{App, api};
use axum::{Json, response::IntoResponse, routing::get};
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// The document, without a running server.
pub fn openapi_document() -> OpenApi {
    api::routes().into_openapi()
}

pub(super) fn routes(document: OpenApi) -> App {
    let document = Arc::new(document);
    App::new().route("/api/openapi.json", get(move || async move { Json((*document).clone()).into_response() }))
}
