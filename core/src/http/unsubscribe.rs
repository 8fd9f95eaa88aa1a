//! `/unsubscribe/{token}`: one click from a mail client (RFC 8058), or a person with a browser.
//!
//! A POST with our token unsubscribes at once, without cookies or sign-in, whatever its body says. A GET never does:
//! scanners follow links. Everything that is not a token of ours gets the same 404.

use super::{App, problem::ApiError};
use crate::services::Services;
use axum::{
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use campanile_model::{ChannelName, UserKey};
use sha2::{Digest, Sha256};
use std::sync::Arc;

pub fn routes() -> App {
    App::new().route("/unsubscribe/{token}", get(ask).post(unsubscribe))
}

type Target = (UserKey, ChannelName, String);

async fn ask(State(s): State<Arc<Services>>, Path(token): Path<String>) -> Result<Response, ApiError> {
    match target(&s, &token).await? {
        Some((_, _, kind)) => page(&s, StatusCode::OK, "ask", &kind),
        None => page(&s, StatusCode::NOT_FOUND, "unknown", ""),
    }
}

async fn unsubscribe(State(s): State<Arc<Services>>, Path(token): Path<String>) -> Result<Response, ApiError> {
    let Some((user, channel, kind)) = target(&s, &token).await? else {
        return page(&s, StatusCode::NOT_FOUND, "unknown", "");
    };
    s.store.unsubscribe(&user, &channel, &kind).await?;
    tracing::info!(channel = %channel, notification.kind = %kind, "A person unsubscribed from mails of one type");
    page(&s, StatusCode::OK, "done", &kind)
}

async fn target(s: &Services, token: &str) -> Result<Option<Target>, ApiError> {
    match s.renderer.unsubscribe_links().read(token) {
        Some(delivery) => Ok(s.store.unsubscribe_target(delivery).await?),
        None => Ok(None),
    }
}

fn page(s: &Services, status: StatusCode, step: &str, kind: &str) -> Result<Response, ApiError> {
    let html = s.renderer.unsubscribe_page(step, kind).map_err(|e| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here").caused_by(e)
    })?;
    let policy = policy(&html);
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The token must not travel on.
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Nothing but the page's own style sheet, named by its hash, and its own form.
fn policy(html: &str) -> String {
    let style = html.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).map_or("", |(s, _)| s);
    let hash = STANDARD.encode(Sha256::digest(style));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}
