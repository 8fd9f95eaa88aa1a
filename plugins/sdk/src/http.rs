//! HTTP through the host: it makes the requests, under its rules for addresses and with its connections.
//!
//! Owns: the builder, the reply, and what a reply means for a delivery. Absent on purpose: sockets, TLS, redirects (a
//! redirect is an answer like any other), retries.

use crate::{DeliveryError, Reason, Receipt, Secret, StartError, context::Services};
use base64::Engine;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

mod date;

/// What of a body is quoted in a reason.
const QUOTED: usize = 300;

/// Makes requests. From [`Context::http`](crate::Context::http).
#[derive(Clone)]
pub struct Http {
    services: Arc<dyn Services>,
}

/// What goes to the host.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// None: the host's own limit.
    pub timeout: Option<Duration>,
}

impl HttpRequest {
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: BTreeMap::new(), body: Vec::new(), timeout: None }
    }
}

/// Neither headers nor the path: both carry secrets.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.split('/').nth(2).unwrap_or_default();
        write!(f, "HttpRequest({} {host}…, {} bytes)", self.method, self.body.len())
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpReply {
    pub status: u16,
    /// Names in lower case; repeated ones joined by a comma.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// The host's rules forbid the address.
    Refused,
    Connect,
    Timeout,
    TooLarge,
    Cancelled,
    /// The request isn't one.
    Invalid,
    /// This host makes no requests.
    Unsupported,
}

impl HttpErrorKind {
    const ALL: [(Self, &str); 7] = [
        (Self::Refused, "refused"),
        (Self::Connect, "connect"),
        (Self::Timeout, "timeout"),
        (Self::TooLarge, "too_large"),
        (Self::Cancelled, "cancelled"),
        (Self::Invalid, "invalid"),
        (Self::Unsupported, "unsupported"),
    ];

    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("connect", |(_, word)| word)
    }
}

/// No reply came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .kind.word())]
pub struct HttpError {
    pub kind: HttpErrorKind,
    pub message: String,
}

impl HttpError {
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    pub(crate) fn unsupported() -> Self {
        Self::new(HttpErrorKind::Unsupported, "this host makes no HTTP requests for its channels")
    }
    /// From `word: text`, as it goes over the line.
    pub fn parse(text: &str) -> Self {
        let (word, message) = text.split_once(':').unwrap_or(("", text));
        let kind = HttpErrorKind::ALL.iter().find(|(_, w)| *w == word);
        match kind {
            Some((kind, _)) => Self::new(*kind, message.trim_start()),
            None => Self::new(HttpErrorKind::Connect, text),
        }
    }
}

impl From<HttpError> for DeliveryError {
    fn from(error: HttpError) -> Self {
        let reason = Reason::new(error.kind.word(), error.message);
        match error.kind {
            HttpErrorKind::Refused | HttpErrorKind::Invalid => Self::permanent(reason),
            HttpErrorKind::Unsupported => Self::misconfigured(reason),
            // The request may have arrived before its answer was lost.
            HttpErrorKind::Timeout | HttpErrorKind::TooLarge => Self::retry(reason.uncertain()),
            HttpErrorKind::Connect | HttpErrorKind::Cancelled => Self::retry(reason),
        }
    }
}

impl From<HttpError> for StartError {
    fn from(error: HttpError) -> Self {
        Self(error.to_string())
    }
}

/// A request in the making. A mistake in it shows when it is sent.
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    services: Arc<dyn Services>,
    request: Result<HttpRequest, HttpError>,
}

impl Http {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request("GET", url)
    }
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request("POST", url)
    }
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request("PUT", url)
    }
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request("PATCH", url)
    }
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request("DELETE", url)
    }
    pub fn request(&self, method: &str, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder { services: self.services.clone(), request: Ok(HttpRequest::new(method, url.as_ref())) }
    }
}

impl RequestBuilder {
    fn with(mut self, step: impl FnOnce(&mut HttpRequest) -> Result<(), HttpError>) -> Self {
        self.request = self.request.and_then(|mut request| step(&mut request).map(|()| request));
        self
    }

    /// Replaces a header of the same name.
    pub fn header(self, name: &str, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.to_ascii_lowercase(), value.as_ref());
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let good = !name.is_empty() && name.chars().all(token) && value.chars().all(|c| c == '\t' || !c.is_control());
        self.with(|request| {
            if !good {
                return Err(HttpError::new(HttpErrorKind::Invalid, format!("header {name:?} can't be sent")));
            }
            request.headers.insert(name, value.to_owned());
            Ok(())
        })
    }

    /// `Authorization: Bearer …`
    pub fn bearer(self, token: &Secret) -> Self {
        let value = format!("Bearer {}", token.expose());
        self.header("authorization", value)
    }

    /// `Authorization: Basic …`
    pub fn basic(self, user: &str, password: &Secret) -> Self {
        let both = format!("{user}:{}", password.expose());
        self.header("authorization", format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both)))
    }

    pub fn json(self, body: &impl Serialize) -> Self {
        let text = serde_json::to_vec(body);
        self.header("content-type", "application/json").with(|request| {
            request.body = text.map_err(|e| HttpError::new(HttpErrorKind::Invalid, e.to_string()))?;
            Ok(())
        })
    }

    /// `application/x-www-form-urlencoded`
    pub fn form<'a>(self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let body = pairs.into_iter().map(|(k, v)| encoded(k) + "=" + &encoded(v)).collect::<Vec<_>>().join("&");
        self.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.with(|request| {
            request.body = body;
            Ok(())
        })
    }

    /// Not longer than the host allows.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|request| {
            request.timeout = Some(timeout);
            Ok(())
        })
    }

    /// Any status is a reply; see [`Receipt::from_http`].
    pub async fn send(self) -> Result<HttpReply, HttpError> {
        self.services.http(self.request?).await
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                let hex = |n: u8| char::from(b"0123456789ABCDEF"[usize::from(n)]);
                out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out
}

impl HttpReply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: BTreeMap::new(), body: body.into() }
    }
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// A body that isn't what it should be is no reason to send twice in a row: it is `Retry` and uncertain.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DeliveryError> {
        serde_json::from_slice(&self.body).map_err(|e| {
            let reason = Reason::new("bad_answer", format!("the provider's answer can't be read: {e}"));
            DeliveryError::retry(reason.uncertain())
        })
    }
    /// `Retry-After`, in seconds or as a date.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        // By the provider's own clock where it tells; ours may differ.
        let at = date::parse(value)?;
        let now = self.header("date").and_then(date::parse).unwrap_or_else(date::now);
        Some(Duration::from_secs(at.saturating_sub(now)))
    }

    /// The reason that this reply gives, `http_<status>` with the beginning of its body. The body of a success isn't
    /// quoted.
    pub fn reason(&self) -> Reason {
        let code = format!("http_{}", self.status);
        let body: String = self.text().chars().take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let message = match body.trim() {
            _ if self.is_success() => String::new(),
            "" => "the provider said nothing more".to_owned(),
            said => format!("the provider said: {said}"),
        };
        Reason::new(code, message)
    }

    /// What a status usually means. 2xx is `Ok`; 429 is `Throttled`; 410 is `RecipientGone`; 401, 403, 407 and
    /// redirects are `Misconfigured`; 408, 425 and 5xx are `Retry`; every other is `Permanent`.
    pub fn check(self) -> Result<Self, DeliveryError> {
        let after = self.retry_after();
        let reason = self.reason();
        Err(match self.status {
            200..=299 => return Ok(self),
            429 => DeliveryError::Throttled { after, reason },
            410 => DeliveryError::RecipientGone { reason },
            401 | 403 | 407 => DeliveryError::Misconfigured { reason },
            300..=399 => DeliveryError::Misconfigured {
                reason: Reason {
                    message: "the provider redirects, which is never followed: set the new address".into(),
                    ..reason
                },
            },
            408 | 425 | 500..=599 => DeliveryError::Retry { after, reason },
            _ => DeliveryError::Permanent { reason },
        })
    }
}

impl Receipt {
    /// What a status usually means, as [`HttpReply::check`]; a success is a receipt with the status in its detail.
    pub fn from_http(reply: HttpReply) -> Result<Self, DeliveryError> {
        let reply = reply.check()?;
        Ok(Self::new().detail(json!({ "http_status": reply.status })))
    }
}

/// The object of strings that headers are over the line. For hosts.
#[doc(hidden)]
pub fn headers_json(headers: &BTreeMap<String, String>) -> String {
    if headers.is_empty() { String::new() } else { json!(headers).to_string() }
}

/// The other way; what isn't a string is left out. For hosts.
#[doc(hidden)]
pub fn headers(json: &[u8]) -> BTreeMap<String, String> {
    let Ok(Value::Object(map)) = serde_json::from_slice(json) else { return BTreeMap::new() };
    let text = |v| if let Value::String(text) = v { Some(text) } else { None };
    map.into_iter().filter_map(|(name, v)| Some((name.to_ascii_lowercase(), text(v)?))).collect()
}

#[cfg(test)]
mod tests;
