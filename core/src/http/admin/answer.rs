//! How the console answers: what an act came to, the ask before a dangerous one, refusals as pages.
//!
//! Owns: the message that survives one redirect, and the shape of an answer with and without scripts. Absent on purpose:
//! who may act ([`gate`](super::gate)), what an act does.

use super::{
    Routes, Signed, by_htmx, console_frame, cookie,
    gate::LOOK,
    session::{self, safe_back},
    theme,
};
use crate::{
    http::{
        page::page,
        problem::{ApiError, ApiResult, Problem},
        request_id,
    },
    ingest::Caller,
    services::Services,
};
use askama::Template;
use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_admin_ui::pieces::{Confirm, Failure, Part, Refused, RefusedInside, Toast};
use campanile_model::{AppId, plan::Source, ports::Role};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use subtle::ConstantTimeEq;

const FLASH: &str = "campanile-flash";
/// From this many on, the word must be typed.
const MANY: u64 = 100;
/// A refusal's body is a problem of ours: short.
const PROBLEM_MAX: usize = 64 * 1024;

/// Whatever else is asked for below the console is nowhere, and said on a page.
pub fn routes() -> Routes {
    Routes::new().get("/admin/{*nowhere}", LOOK, nowhere)
}

async fn nowhere(_: Signed) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no page at this address")
}

// ------------------------------------------------------------------------------------------------------ forms

/// A posted form; names may repeat.
#[derive(Clone, Debug, Default)]
pub struct Posted(Vec<(String, String)>);

impl Posted {
    /// Empty when it is not there.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.trim())
    }
    /// In place of whatever was posted by this name.
    pub fn put(&mut self, key: &str, value: &str) {
        self.0.retain(|(k, _)| k != key);
        self.0.push((key.to_owned(), value.to_owned()));
    }
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }
    /// As they came.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    /// With another value where this name stands.
    #[must_use]
    pub fn with(mut self, key: &str, value: String) -> Self {
        if let Some((_, old)) = self.0.iter_mut().find(|(k, _)| k == key) {
            *old = value;
        }
        self
    }
    #[cfg(test)]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }
    /// What the admin wrote, without the token and the answer to an ask.
    fn asked(&self) -> Vec<(String, String)> {
        self.0.iter().filter(|(k, _)| !["csrf", "sure", "word"].contains(&k.as_str())).cloned().collect()
    }
}

impl FromRequest<Arc<Services>> for Posted {
    type Rejection = ApiError;

    async fn from_request(request: Request, s: &Arc<Services>) -> ApiResult<Self> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "post a form"));
        }
        let body = Bytes::from_request(request, s)
            .await
            .map_err(|_| ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "this form is too long"))?;
        Ok(Self(url::form_urlencoded::parse(&body).into_owned().collect()))
    }
}

impl Signed {
    /// What the guard of the route has asked already, asked where the act is.
    pub fn may(&self, posted: &Posted, role: Role) -> ApiResult<()> {
        self.check(posted.get("csrf"))?;
        self.require(role)
    }

    /// What forms carry for those who may act; nothing for others, who get no form.
    pub fn token_to_act(&self) -> String {
        if self.admin.role.may_act() { self.csrf.clone() } else { String::new() }
    }

    /// Whoever is signed in, as a sender.
    pub fn caller(&self) -> Caller {
        let actor = self.actor.clone();
        Caller { app: AppId::default(), source: Source::Console, request_id: request_id(), actor, trace: None }
    }
}

// ---------------------------------------------------------------------------------------------- dangerous acts

/// What is asked before a dangerous act.
pub struct Ask {
    pub title: String,
    pub consequence: String,
    /// Label of the button.
    pub label: String,
    /// Typed when many things are at stake.
    pub word: &'static str,
    pub count: u64,
    pub action: String,
}

/// `None`: it was confirmed, with the word where one is wanted. Else the page that asks.
pub async fn ask(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    posted: &Posted,
    ask: Ask,
) -> ApiResult<Option<Response>> {
    let word = (ask.count > MANY).then_some(ask.word);
    if posted.get("sure") == "1" && word.is_none_or(|word| posted.get("word") == word) {
        return Ok(None);
    }
    if by_htmx(headers) {
        let why = format!("{} Type {} to confirm.", ask.title, ask.word);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "not_confirmed", why));
    }
    let facts = s.console.facts.get(s).await;
    page(&Confirm {
        frame: console_frame(s, signed, headers, &facts, "/admin"),
        title: ask.title,
        consequence: ask.consequence,
        label: ask.label,
        word,
        action: ask.action,
        fields: posted.asked(),
        back: safe_back(posted.get("back")).to_owned(),
    })
    .map(Some)
}

// ------------------------------------------------------------------------------------------------- what it came to

/// An act was done: back to its page with a message; where scripts run, the message alone, and the stream shows the rest.
pub fn done(s: &Services, signed: &Signed, headers: &HeaderMap, back: &str, toast: Toast) -> Response {
    s.console.acted.notify_waiters();
    if by_htmx(headers) {
        return toasted(StatusCode::OK, Toast { csrf: signed.csrf.clone(), ..toast });
    }
    let mut response = Redirect::to(safe_back(back)).into_response();
    if let Some(value) = seal(&signed.csrf, &toast) {
        set_cookie(&mut response, &format!("{FLASH}={value}; Path=/admin; Max-Age=60; HttpOnly; SameSite=Lax"));
    }
    response
}

/// Like [`done`], for an act after which the page is another one.
pub fn done_elsewhere(s: &Services, signed: &Signed, headers: &HeaderMap, to: &str, toast: Toast) -> Response {
    let plain = HeaderMap::new();
    let mut response = done(s, signed, &plain, to, toast);
    if by_htmx(headers) {
        *response.status_mut() = StatusCode::OK;
        if let Some(to) = response.headers_mut().remove(header::LOCATION) {
            response.headers_mut().insert("hx-redirect", to);
        }
    }
    response
}

fn toasted(status: StatusCode, toast: Toast) -> Response {
    let html = toast.render().unwrap_or_default();
    let body = format!("<hx-partial hx-target=\"#toasts\" hx-swap=\"innerHTML\">{html}</hx-partial>");
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// The message that the act before left, for the frame of the next page.
pub fn flash(headers: &HeaderMap, signed: &Signed) -> Option<Toast> {
    let toast = unseal(&signed.csrf, cookie(headers, FLASH)?)?;
    Some(Toast { csrf: signed.csrf.clone(), ..toast })
}

/// Bound to the session: a cookie that another site managed to set says nothing here.
fn seal(csrf: &str, toast: &Toast) -> Option<String> {
    let text = serde_json::to_vec(toast).ok()?;
    let sealed = format!("{}.{}", URL_SAFE_NO_PAD.encode(tag(csrf, &text)), URL_SAFE_NO_PAD.encode(&text));
    // Browsers drop longer cookies; then the page simply says nothing.
    (sealed.len() < 3_500).then_some(sealed)
}

fn unseal(csrf: &str, sealed: &str) -> Option<Toast> {
    let (mac, text) = sealed.split_once('.')?;
    let (mac, text) = (URL_SAFE_NO_PAD.decode(mac).ok()?, URL_SAFE_NO_PAD.decode(text).ok()?);
    if !bool::from(mac.ct_eq(&tag(csrf, &text)[..])) {
        return None;
    }
    serde_json::from_slice(&text).ok()
}

/// Both halves have a fixed length, so none can be made longer.
fn tag(csrf: &str, text: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"campanile flash\0");
    digest.update(Sha256::digest(csrf.as_bytes()));
    digest.update(Sha256::digest(text));
    digest.finalize().into()
}

/// Something to keep: the browser saves it under this name.
pub fn json_file(name: &str, value: &serde_json::Value) -> ApiResult<Response> {
    let text = serde_json::to_string_pretty(value).map_err(|e| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{name} could not be written"))
            .caused_by(e)
    })?;
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, text).into_response())
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

// ------------------------------------------------------------------------------------------------------ failures

/// A part from what it is drawn from; a failure is logged here and shown in its place.
pub fn part<T, E: Into<ApiError>>(s: &Services, id: &'static str, what: &'static str, drawn: Result<T, E>) -> Part<T> {
    match drawn {
        Ok(part) => Part::Well(part),
        Err(e) => {
            let e: ApiError = e.into();
            let source = e.source.as_deref().map(|e| e as &dyn std::error::Error);
            tracing::warn!(code = e.code, error = source, "{what} could not be drawn: {}", e.detail);
            let why = sentence(&e.detail);
            Part::Failed(Failure { id, what, why, since: s.clock.now(), request_id: request_id() })
        }
    }
}

/// `the database is away` → `The database is away.`
pub fn sentence(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// Around every console route: refusals become pages, or messages where scripts asked; a message that was shown goes.
pub async fn polish(State(s): State<Arc<Services>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let page_asked = parts.method == Method::GET && parts.uri.path() != "/admin/live";
    let mut response = next.run(Request::from_parts(parts.clone(), body)).await;
    if is(&response, "application/problem+json") {
        // Somebody who looks keeps the menu; a form that was refused is answered as it always was.
        let signed = if page_asked && !by_htmx(&headers) { session::find(&s, &parts).await.ok() } else { None };
        response = refusal(&s, &headers, signed, response).await;
    }
    if page_asked && cookie(&headers, FLASH).is_some() && is(&response, "text/html") {
        set_cookie(&mut response, &format!("{FLASH}=; Path=/admin; Max-Age=0; HttpOnly; SameSite=Lax"));
    }
    response
}

fn is(response: &Response, kind: &str) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(kind.as_bytes()))
}

async fn refusal(s: &Services, headers: &HeaderMap, signed: Option<Signed>, response: Response) -> Response {
    let status = response.status();
    let retry = response.headers().get(header::RETRY_AFTER).cloned();
    let body = to_bytes(response.into_body(), PROBLEM_MAX).await.unwrap_or_default();
    let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
        return (status, body).into_response();
    };
    let detail = sentence(&problem.detail);
    let mut answer = if by_htmx(headers) {
        // A text that fits a message; the id leads to the log.
        let id = if status.is_server_error() { format!(" Request {}.", problem.request_id) } else { String::new() };
        toasted(status, Toast::bad(format!("{detail}{id}")))
    } else {
        let title = match (status, problem.code.as_str()) {
            (_, "missing_role") => "Your role may not do this",
            (StatusCode::FORBIDDEN, _) => "Refused",
            (StatusCode::NOT_FOUND, _) => "Not here",
            (StatusCode::CONFLICT, _) => "Somebody was faster",
            (s, _) if s.is_server_error() => "This did not work",
            _ => "This can't be done",
        };
        let (title, request_id, back) = (title.to_owned(), problem.request_id.clone(), came_from(s, headers));
        let shown = match signed {
            Some(signed) => {
                let facts = s.console.facts.get(s).await;
                let frame = console_frame(s, &signed, headers, &facts, "");
                page(&RefusedInside { frame, title, detail, request_id, back })
            }
            None => page(&Refused { theme: theme(headers), title, detail, request_id, back }),
        };
        (status, shown).into_response()
    };
    if let Some(retry) = retry {
        answer.headers_mut().insert(header::RETRY_AFTER, retry);
    }
    answer
}

/// The console page that the browser says it was on.
fn came_from(s: &Services, headers: &HeaderMap) -> String {
    let referer = headers.get(header::REFERER).and_then(|v| v.to_str().ok()).and_then(|r| url::Url::parse(r).ok());
    let Some(referer) = referer else { return "/admin".to_owned() };
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let public = s.config.server.public_url.as_deref().and_then(|u| url::Url::parse(u).ok());
    let own = referer.authority() == host || public.is_some_and(|p| p.origin() == referer.origin());
    let path = referer.query().map_or_else(|| referer.path().to_owned(), |q| format!("{}?{q}", referer.path()));
    if own { safe_back(&path).to_owned() } else { "/admin".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_one_redirect_of_its_own_session() {
        let toast = Toast::ok("Paused é \u{1f514}").undone_by("/admin/channels/email/resume", &[("back", "/admin")]);
        let sealed = seal("mine", &toast).unwrap();
        assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        assert_eq!(unseal("mine", &sealed), Some(toast.clone()));
        assert_eq!(unseal("another", &sealed), None);
        let (mac, _) = sealed.split_once('.').unwrap();
        let forged = serde_json::to_vec(&Toast::ok("click here")).unwrap();
        assert_eq!(unseal("mine", &format!("{mac}.{}", URL_SAFE_NO_PAD.encode(forged))), None);
        assert_eq!(seal("mine", &Toast::ok("x".repeat(5_000))), None);
    }

    #[test]
    fn details_read_as_sentences() {
        assert_eq!(sentence("no such channel"), "No such channel.");
        assert_eq!(sentence("Why?"), "Why?");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn a_form_keeps_every_value_of_a_name() {
        let posted = Posted(vec![
            ("id".into(), "1".into()),
            ("csrf".into(), "t".into()),
            ("id".into(), "2".into()),
            ("sure".into(), "1".into()),
        ]);
        assert_eq!(posted.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(posted.asked().len(), 2);
        assert_eq!((posted.get("id"), posted.get("none")), ("1", ""));
    }
}
