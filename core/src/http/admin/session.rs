//! The session behind a cookie: 32 random bytes in the browser, their SHA-256 in the database.
//!
//! The cookie is `__Host-campanile` over https and `campanile` on plain loopback http, where browsers refuse the prefix.

use super::{by_htmx, cookie};
use crate::{
    http::{
        auth::Client,
        problem::{ApiError, ApiResult},
        request_id,
    },
    services::Services,
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_model::ports::{Actor, Admin, AdminSession, Role, StoreError};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;

const PLAIN: &str = "campanile";
const SECURE: &str = "__Host-campanile";
/// A session's use is written down at most this often.
const TOUCH_MS: i64 = 60_000;

/// The database's share in recognising somebody.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a session that was good stands while the database can't be asked.
const KNOWN_FOR: Duration = Duration::from_mins(5);
const KNOWN: usize = 1_000;

/// Sessions that were good a moment ago.
#[derive(Default)]
pub struct Known(Mutex<HashMap<[u8; 32], (AdminSession, Instant)>>);

impl Known {
    fn remember(&self, hash: [u8; 32], session: AdminSession) -> AdminSession {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.retain(|_, (_, at)| at.elapsed() < KNOWN_FOR);
        }
        if known.len() < KNOWN {
            known.insert(hash, (session.clone(), Instant::now()));
        }
        session
    }
    fn forget(&self, hash: [u8; 32]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
    }
    fn recall(&self, hash: [u8; 32]) -> Option<AdminSession> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash).filter(|(_, at)| at.elapsed() < KNOWN_FOR).map(|(session, _)| session.clone())
    }
}

/// Who is signed in.
#[derive(Clone, Debug)]
pub struct Signed {
    pub admin: Admin,
    pub hash: [u8; 32],
    /// The token that goes with every form of this session.
    pub csrf: String,
    pub actor: Actor,
}

impl Signed {
    /// The form came from a page of this session.
    pub fn check(&self, token: &str) -> ApiResult<()> {
        if bool::from(self.csrf.as_bytes().ct_eq(token.as_bytes())) {
            return Ok(());
        }
        Err(ApiError::forbidden("stale_form", "this form is not of your present session; load the page again"))
    }

    /// 403 that names the role.
    pub fn require(&self, role: Role) -> ApiResult<()> {
        if self.admin.role >= role {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "missing_role",
            format!("this needs the role {:?}; you are {:?}", role.as_str(), self.admin.role.as_str()),
        ))
    }
}

/// A fresh secret and its hash.
pub fn fresh() -> (String, [u8; 32]) {
    let secret: [u8; 32] = rand::random();
    let text = URL_SAFE_NO_PAD.encode(secret);
    let hash = hash(&text);
    (text, hash)
}

pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Another function of the secret than its hash, so that a dump of the database forges no form.
pub fn csrf(secret: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(b"campanile form token\0");
    digest.update(secret.as_bytes());
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

/// Whether the browser reached us over https: by the public URL, or by what a trusted proxy says.
pub fn secure(s: &Services, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    s.config.server.public_url.as_deref().and_then(|u| url::Url::parse(u).ok()).is_some_and(|u| {
        let own = match (u.host_str(), u.port()) {
            (Some(name), Some(port)) => format!("{name}:{port}"),
            (Some(name), None) => name.to_owned(),
            _ => String::new(),
        };
        u.scheme() == "https" && own == host
    })
}

pub fn set_cookie(secure: bool, secret: &str) -> String {
    if secure {
        format!("{SECURE}={secret}; Path=/; HttpOnly; SameSite=Lax; Secure")
    } else {
        format!("{PLAIN}={secret}; Path=/; HttpOnly; SameSite=Lax")
    }
}

pub fn clear_cookie(secure: bool) -> String {
    format!("{}; Max-Age=0", set_cookie(secure, ""))
}

fn secret<'a>(s: &Services, headers: &'a HeaderMap) -> Option<&'a str> {
    cookie(headers, if secure(s, headers) { SECURE } else { PLAIN }).filter(|v| v.len() == 43)
}

/// Who an act is written down as.
pub fn actor(s: &Services, parts: &Parts, name: &str) -> Actor {
    Actor {
        who: format!("admin:{name}"),
        address: Client::of(s, parts).map(|c| c.address.to_string()),
        request_id: request_id(),
    }
}

/// Not signed in: a page goes to the sign-in and comes back, a fragment is told to take its page there.
pub enum Refusal {
    SignIn { back: String, fragment: bool },
    Error(ApiError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            // A page with our script stays where it is and says so; one with htmx alone is taken to the sign-in.
            Self::SignIn { back, fragment: true } => {
                (StatusCode::UNAUTHORIZED, [("hx-redirect", sign_in_url(&back))]).into_response()
            }
            Self::SignIn { back, fragment: false } => Redirect::to(&sign_in_url(&back)).into_response(),
            Self::Error(e) => e.into_response(),
        }
    }
}

fn sign_in_url(back: &str) -> String {
    let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("back", back).finish();
    format!("/admin/sign-in?{query}")
}

/// Where a sign-in may lead back to: a console page, nothing else.
pub fn safe_back(back: &str) -> &str {
    let fine = (back == "/admin" || back.starts_with("/admin/") || back.starts_with("/admin?"))
        && !back.contains(['\\', '\r', '\n'])
        && !back.contains("//");
    if fine { back } else { "/admin" }
}

/// Whose request this is.
pub async fn find(s: &Arc<Services>, parts: &Parts) -> Result<Signed, Refusal> {
    let refused = |uri: &Uri, headers: &HeaderMap| {
        let back = uri.path_and_query().map_or("/admin", |p| p.as_str());
        // A stream is nothing to come back to, and a form's target neither.
        let page = parts.method.is_safe() && !back.starts_with("/admin/live");
        let back = if page { safe_back(back) } else { "/admin" };
        let fragment = by_htmx(headers) || uri.path() == "/admin/live";
        Refusal::SignIn { back: back.to_owned(), fragment }
    };
    let Some(secret) = secret(s, &parts.headers) else { return Err(refused(&parts.uri, &parts.headers)) };
    let hash = hash(secret);
    let found = tokio::time::timeout(PATIENCE, s.store.admin_session(hash, *s.config.admin.session_idle)).await;
    let session =
        match found.unwrap_or_else(|_| Err(StoreError::Unavailable("the database gave no answer in time".into()))) {
            Ok(Some(session)) => s.doorman.known.remember(hash, session),
            Ok(None) => {
                s.doorman.known.forget(hash);
                return Err(refused(&parts.uri, &parts.headers));
            }
            // Who looks while the database is away is shown what memory has; nobody acts then.
            Err(e) => match s.doorman.known.recall(hash).filter(|_| parts.method.is_safe()) {
                Some(session) => session,
                None => return Err(Refusal::Error(e.into())),
            },
        };
    if (s.clock.now() - session.seen_at).num_milliseconds() > TOUCH_MS {
        let store = s.store.clone();
        // Beside the request: looking at a page must not wait for a commit.
        tokio::spawn(async move {
            let _ = store.touch_admin_session(hash).await;
        });
    }
    let actor = actor(s, parts, &session.admin.name);
    Ok(Signed { csrf: csrf(secret), hash, actor, admin: session.admin })
}

/// Behind the [guard](super::gate), which found it; elsewhere there is nobody.
impl<S: Send + Sync> FromRequestParts<S> for Signed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::unauthorized("sign in first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_back_to_console_pages_only() {
        for good in ["/admin", "/admin/keys", "/admin?range=1h"] {
            assert_eq!(safe_back(good), good);
        }
        for bad in ["https://evil.example", "//evil.example", "/administrator", "/admin/..\\x", "/admin//evil", ""] {
            assert_eq!(safe_back(bad), "/admin", "{bad}");
        }
    }

    #[test]
    fn cookies_are_closed_to_scripts_and_bound_to_the_host_over_https() {
        let (secret, hash) = fresh();
        assert_eq!((secret.len(), hash), (43, super::hash(&secret)));
        let https = set_cookie(true, &secret);
        assert!(https.starts_with("__Host-campanile=") && https.contains("Secure") && https.contains("Path=/"));
        for c in [https, set_cookie(false, &secret)] {
            assert!(c.contains("HttpOnly") && c.contains("SameSite=Lax") && !c.contains("Domain"));
        }
        assert_ne!(csrf(&secret).as_bytes(), &hash[..]);
    }
}
