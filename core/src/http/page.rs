//! How a page of ours leaves the house: its headers, and the embedded styles and scripts beside it.

use super::{App, problem::ApiError};
use axum::{
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use campanile_admin_ui::{CSP, assets};

pub fn routes() -> App {
    App::new().route("/assets/{name}", get(asset))
}

/// A rendered page under the strict policy: nothing inline, nothing from elsewhere, no framing, never cached.
pub fn page(template: &impl askama::Template) -> Result<Response, ApiError> {
    let html = template.render().map_err(|e| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this page could not be drawn").caused_by(e)
    })?;
    Ok(document(html, CSP))
}

/// HTML under a policy of its own.
pub fn document(html: String, policy: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: with that, a browser posts a form with the origin `null`, as a stranger would.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, html).into_response()
}

/// The name holds a hash of the content, so it may be kept for ever. As small as the browser takes it.
async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let asset = assets::find(&name).ok_or_else(|| ApiError::not_found("file"))?;
    let accepted: Vec<_> = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).collect();
    let form = asset.form(&accepted.join(","));
    // A form of its own is a representation of its own.
    let tag = match form {
        Some((word, _)) => format!("\"{:016x}-{word}\"", asset.hash),
        None => format!("\"{:016x}\"", asset.hash),
    };
    let known = |v: &HeaderValue| {
        let tags = v.to_str().unwrap_or_default();
        tags == "*" || tags.split(',').any(|t| t.trim().trim_start_matches("W/") == tag)
    };
    let mut response = if headers.get_all(header::IF_NONE_MATCH).iter().any(known) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        form.map_or(asset.body, |(_, bytes)| bytes).into_response()
    };
    let set = response.headers_mut();
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.mime));
    set.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    set.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some((word, _)) = form {
        set.insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        set.insert(header::ETAG, tag);
    }
    Ok(response)
}
