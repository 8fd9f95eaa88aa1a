//! In front of every console route: who may use it, and that a page of ours asked.
//!
//! A [`Routes`] is the one list that both the router and the guard are built from, so no route is without its entry, and
//! what has none is refused. The guard asks, in this order: does the request come from a page of ours (`Sec-Fetch-Site`,
//! `Origin`), whose session is it, does the form carry that session's token, has the account the role. A handler behind it
//! takes [`Signed`] and need ask nothing. What is refused to somebody who is signed in stands in the audit log.

use super::{
    super::{
        App,
        problem::{ApiError, ApiResult},
    },
    answer, carry,
    session::{self, Refusal, Signed},
    sign_in,
};
use crate::services::Services;
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{MatchedPath, Request, State},
    handler::Handler,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use campanile_admin_ui::CSP;
use campanile_model::ports::Role;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// The largest form.
const FORM_MAX: usize = 1024 * 1024;
/// For requests whose body is no form.
const X_CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
/// A year, as browsers' lists want it.
const HSTS: &str = "max-age=31536000";

/// Who may use a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The way in.
    Anyone,
    /// Whoever is signed in with at least this role.
    #[serde(untagged)]
    Role(Role),
}

/// Whoever is signed in may look.
pub const LOOK: Who = Who::Role(Role::Support);
/// And see what messages say.
pub const READ: Who = Who::Role(Role::Viewer);
/// Retry, pause, disconnect, test.
pub const ACT: Who = Who::Role(Role::Operator);
/// Keys, admins, erasing.
pub const MANAGE: Who = Who::Role(Role::Owner);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Entry {
    pub method: &'static str,
    pub path: &'static str,
    pub who: Who,
}

/// Routes of the console, each with who may use it.
#[derive(Default)]
pub struct Routes {
    app: App,
    entries: Vec<Entry>,
}

impl Routes {
    pub fn new() -> Self {
        Self::default()
    }

    /// A page or a part of one: it changes nothing.
    pub fn get<H, T>(mut self, path: &'static str, who: Who, handler: H) -> Self
    where
        H: Handler<T, Arc<Services>>,
        T: 'static,
    {
        self.entries.push(Entry { method: "GET", path, who });
        Self { app: self.app.route(path, get(handler)), entries: self.entries }
    }

    /// A form's target.
    pub fn post<H, T>(mut self, path: &'static str, who: Who, handler: H) -> Self
    where
        H: Handler<T, Arc<Services>>,
        T: 'static,
    {
        self.entries.push(Entry { method: "POST", path, who });
        Self { app: self.app.route(path, post(handler)), entries: self.entries }
    }

    pub fn merge(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        Self { app: self.app.merge(other.app), entries: self.entries }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether a page is drawn at this path, and not only a form taken.
    pub fn has_page(&self, path: &str) -> bool {
        drawn(&self.entries, path)
    }

    /// The routes behind their guard.
    pub fn guarded(self, s: &Arc<Services>) -> App {
        let watch = Watch { services: s.clone(), entries: self.entries.into() };
        let app = self.app.layer(from_fn_with_state(watch, guard));
        app.layer(from_fn_with_state(s.clone(), answer::polish)).layer(from_fn_with_state(s.clone(), harden))
    }
}

#[derive(Clone)]
struct Watch {
    services: Arc<Services>,
    entries: Arc<[Entry]>,
}

/// Whether a page is drawn at this path.
pub fn drawn(entries: &[Entry], path: &str) -> bool {
    entries.iter().any(|e| e.method == "GET" && fits(e.path, path))
}

/// Whether a form has its target there.
pub fn takes_form(entries: &[Entry], path: &str) -> bool {
    entries.iter().any(|e| e.method == "POST" && fits(e.path, path))
}

/// Whether a path is one of this pattern: a piece in braces stands for any. What takes whatever is left draws no page of its own.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern.iter().zip(path).all(|(p, piece)| (p.starts_with('{') && !p.starts_with("{*")) || *p == piece)
}

impl Watch {
    fn who(&self, method: &Method, path: Option<&MatchedPath>) -> Option<Who> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        let path = path?.as_str();
        self.entries.iter().find(|e| e.method == method && e.path == path).map(|e| e.who)
    }
}

/// The page whose form this is, if it can be asked for again: a form's own target is nothing to come back to.
fn came_from(watch: &Watch, headers: &HeaderMap) -> String {
    let page = headers.get(header::REFERER).and_then(|v| v.to_str().ok()).and_then(|v| url::Url::parse(v).ok());
    let path = page.filter(|p| drawn(&watch.entries, p.path())).map(|p| p[url::Position::BeforePath..].to_owned());
    let path = path.map(|p| p.split('#').next().unwrap_or_default().to_owned());
    path.filter(|p| session::safe_back(p) == p).unwrap_or_else(|| "/admin".to_owned())
}

async fn guard(State(watch): State<Watch>, request: Request, next: Next) -> Response {
    let who = watch.who(request.method(), request.extensions().get());
    match admit(&watch, who, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    }
}

/// The request, with who it is of, or the refusal.
async fn admit(watch: &Watch, who: Option<Who>, request: Request) -> Result<Request, Response> {
    let s = &watch.services;
    let (mut parts, mut body) = request.into_parts();
    let Some(who) = who else {
        // Not reached: the router knows no path or method that the list lacks.
        return Err(ApiError::new(
            axum::http::StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not take this method",
        )
        .into_response());
    };
    let ours = from_ours(&parts.method, &parts.headers, s.config.server.public_url.as_deref());
    let Who::Role(role) = who else {
        ours.map_err(IntoResponse::into_response)?;
        return Ok(Request::from_parts(parts, body));
    };
    if let Some(once) = one_time(&parts) {
        return Err(sign_in::once(s, &parts, &once).await.unwrap_or_else(IntoResponse::into_response));
    }
    let signed = match session::find(s, &parts).await {
        Ok(signed) => signed,
        // Not even told to sign in: that would say who has no session here.
        Err(Refusal::SignIn { .. }) if ours.is_err() => return Err(foreign().into_response()),
        Err(Refusal::SignIn { fragment, .. }) if !parts.method.is_safe() => {
            return Err(sent_to_sign_in(watch, &parts, body, fragment).await);
        }
        Err(refusal) => return Err(refusal.into_response()),
    };
    let mut checked = ours;
    if checked.is_ok() && !parts.method.is_safe() {
        let (token, whole) = token(&parts.headers, body).await.map_err(IntoResponse::into_response)?;
        body = Body::from(whole);
        checked = signed.check(&token);
    }
    if let Err(why) = checked.and_then(|()| signed.require(role)) {
        return Err(refuse(s, &signed, &parts, why).await);
    }
    parts.extensions.insert(signed);
    Ok(Request::from_parts(parts, body))
}

/// A form whose session has ended: back to its page afterwards, or, from a page that only a form draws, with what it said.
async fn sent_to_sign_in(watch: &Watch, parts: &Parts, body: Body, fragment: bool) -> Response {
    if !fragment && let Some(kept) = carry::of(&watch.entries, parts, body).await {
        return sign_in::with(&parts.headers, kept).into_response();
    }
    Refusal::SignIn { back: came_from(watch, &parts.headers), fragment }.into_response()
}

/// `/admin?once=…`: a one-time link, followed by somebody who has no session yet or an old one.
fn one_time(parts: &Parts) -> Option<String> {
    let query = (parts.uri.path() == "/admin" && parts.method == Method::GET).then(|| parts.uri.query()).flatten()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "once").map(|(_, once)| once.into_owned())
}

/// The form's token, and the body for the handler.
async fn token(headers: &HeaderMap, body: Body) -> ApiResult<(String, Bytes)> {
    let whole = to_bytes(body, FORM_MAX).await.map_err(|_| {
        ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the form is larger than 1 MiB")
    })?;
    if let Some(token) = headers.get(X_CSRF).and_then(|v| v.to_str().ok()) {
        return Ok((token.to_owned(), whole));
    }
    let token =
        url::form_urlencoded::parse(&whole).find(|(name, _)| name == "csrf").map(|(_, token)| token.into_owned());
    Ok((token.unwrap_or_default(), whole))
}

async fn refuse(s: &Services, signed: &Signed, parts: &Parts, why: ApiError) -> Response {
    let detail = json!({"method": parts.method.as_str(), "why": why.code, "role": signed.admin.role});
    if let Err(e) = s.store.note(&signed.actor, "console.refused", parts.uri.path(), Some(detail)).await {
        tracing::warn!(error = &e as &dyn std::error::Error, "A refusal could not be written to the audit log");
    }
    why.into_response()
}

fn foreign() -> ApiError {
    ApiError::forbidden("cross_site", "this can be posted only by a page of this server")
}

/// By the request's own origin: what changes something must be posted by a page of ours.
fn from_ours(method: &Method, headers: &HeaderMap, public_url: Option<&str>) -> ApiResult<()> {
    if method.is_safe() {
        return Ok(());
    }
    // Without it, an old browser or none: the Origin decides.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err(foreign());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Every browser sends it with a post; what has no browser has no cookie to abuse.
        return Ok(());
    };
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let public = public_url.and_then(|u| url::Url::parse(u).ok()).map(|u| u.origin().ascii_serialization());
    let own = [format!("http://{host}"), format!("https://{host}")];
    let ours = own.iter().map(String::as_bytes).chain(public.as_deref().map(str::as_bytes));
    if ours.into_iter().any(|o| o == origin.as_bytes()) { Ok(()) } else { Err(foreign()) }
}

/// Around every answer of the console, refusals and redirects too; what a handler set stays.
async fn harden(State(s): State<Arc<Services>>, request: Request, next: Next) -> Response {
    let secure = session::secure(&s, request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::CONTENT_SECURITY_POLICY, CSP);
    default(header::CACHE_CONTROL, "no-store");
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::REFERRER_POLICY, "no-referrer");
    default(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    default(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if secure {
        default(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(pairs: &[(&'static str, &'static str)]) -> bool {
        let headers = pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        from_ours(&Method::POST, &headers, Some("https://notify.example.org/")).is_ok()
    }

    #[test]
    fn only_a_page_of_this_server_may_post() {
        let host = ("host", "localhost:8000");
        assert!(post(&[host, ("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")]));
        assert!(post(&[host, ("origin", "https://notify.example.org")]));
        assert!(!post(&[host, ("origin", "http://localhost:8000"), ("sec-fetch-site", "cross-site")]));
        assert!(!post(&[host, ("sec-fetch-site", "none")]));
        for evil in ["http://localhost:3000", "null", "https://notify.example.org.evil.example", ""] {
            let headers = [(header::HOST, "localhost:8000"), (header::ORIGIN, evil)]
                .into_iter()
                .map(|(k, v)| (k, HeaderValue::from_str(v).unwrap()))
                .collect();
            assert!(from_ours(&Method::POST, &headers, Some("https://notify.example.org")).is_err(), "{evil}");
        }
        assert!(from_ours(&Method::GET, &HeaderMap::new(), None).is_ok());
    }

    #[test]
    fn only_what_is_drawn_is_come_back_to() {
        assert!(fits("/admin", "/admin") && fits("/admin/users/{id}", "/admin/users/u_12"));
        assert!(!fits("/admin/{*nowhere}", "/admin/sign-out"), "a form's target is nowhere to come back to");
        for other in ["/admin/users", "/admin/users/u_12/edit", "/admin/keys/u_12", ""] {
            assert!(!fits("/admin/users/{id}", other), "{other}");
        }
    }

    #[test]
    fn an_entry_reads_as_its_role() {
        let shown = |who| serde_json::to_value(Entry { method: "GET", path: "/admin", who }).unwrap()["who"].clone();
        assert_eq!(
            (shown(Who::Anyone), shown(LOOK), shown(MANAGE)),
            (json!("anyone"), json!("support"), json!("owner"))
        );
    }

    #[test]
    fn no_route_is_listed_twice() {
        let routes = super::super::console();
        let all: Vec<_> = routes.entries().iter().map(|e| (e.path, e.method)).collect();
        let once: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len());
        for e in routes.entries() {
            let way_in = ["/admin/sign-in", "/admin/welcome"].contains(&e.path);
            assert_eq!(e.who == Who::Anyone, way_in, "{} {}: everything but the way in needs a role", e.method, e.path);
        }
    }
}
