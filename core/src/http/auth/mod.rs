//! Who is calling: end users by JWT, applications by API key, both as extractors; where from; from which page.

pub mod bucket;
pub mod jwks;
pub mod jwt;
pub mod keys;
pub mod origin;
pub mod proxies;
mod used;

use crate::{config::Config, http::problem::ApiError, services::Services};
use anyhow::Context;
use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
};
use campanile_model::{
    AppId, Clock, KeyId, TraceContext,
    ports::{Actor, Scope, Store},
};
use campanile_plugin::Secret;
use jwt::{Session, TokenError};
use keys::{Holder, KeyCache};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// What the door knows from the configuration, parsed once, and the keys it has seen.
pub struct Gate {
    pub keys: Arc<KeyCache>,
    pub proxies: proxies::Proxies,
    pub origins: Arc<origin::OriginPolicy>,
}

impl Gate {
    pub fn new(
        config: &Config,
        dev: bool,
        address: SocketAddr,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Arc<Self>> {
        let public_url = config.server.public_url.as_deref();
        Ok(Arc::new(Self {
            keys: KeyCache::new(&config.auth, store, clock)?,
            proxies: proxies::Proxies::new(&config.server.trusted_proxies)?,
            origins: Arc::new(origin::OriginPolicy::new(
                &config.websocket.origins,
                public_url,
                dev,
                address.ip().is_loopback(),
            )?),
        }))
    }
}

/// A secret, or what its `_file` twin holds.
pub(super) fn configured(secret: &Secret, file: Option<&Path>, key: &'static str) -> anyhow::Result<Secret> {
    match file {
        Some(path) if secret.is_empty() => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{key}: reading {}", path.display()))?;
            Ok(Secret::new(text.trim()))
        }
        _ => Ok(secret.clone()),
    }
}

/// An application, by API key (or the operator key).
#[derive(Clone, Debug)]
pub struct Application {
    pub app: AppId,
    /// `None`: the fixed operator key.
    pub key: Option<KeyId>,
    pub scopes: Vec<Scope>,
    pub actor: Actor,
    /// W3C trace context of the call.
    pub trace: Option<TraceContext>,
}

impl Application {
    /// 403 `missing_scope` that names the scope.
    pub fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(ApiError::forbidden("missing_scope", format!("this API key lacks the scope {:?}", scope.as_str())))
    }
}

impl FromRequestParts<Arc<Services>> for Application {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, s: &Arc<Services>) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| ApiError::unauthorized("send an API key: Authorization: Bearer cmp_…"))?;
        let Some(holder) = s.gate.keys.holder(token).await? else {
            return Err(match s.jwt.verify(token).await {
                Ok(_) => ApiError::forbidden(
                    "wrong_credential",
                    "this is an end user's token; applications call with an API key",
                ),
                Err(TokenError::Unavailable) => TokenError::Unavailable.into(),
                Err(_) => ApiError::unauthorized("this API key is unknown, expired or revoked"),
            });
        };
        let address = Client::of(s, parts).map(|c| c.address);
        if let Holder::Key(key) = &holder {
            // Outside of a request, in a test, nobody counts.
            let _ = super::CALLER.try_with(|caller| caller.set(Some(key.id)));
        }
        let path = parts.extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        s.gate.keys.admit(&holder, address, super::layers::method_label(&parts.method), path)?;
        let (app, key, scopes, who) = match holder {
            Holder::Operator => (AppId::default(), None, Scope::ALL.to_vec(), "operator".to_owned()),
            Holder::Key(key) => (key.app.clone(), Some(key.id), key.scopes.clone(), format!("key:{}", key.id)),
        };
        let address = address.map(|a| a.to_string());
        let trace = parts.headers.get("traceparent").and_then(|v| v.to_str().ok()).and_then(TraceContext::parse);
        Ok(Self { app, key, scopes, actor: Actor { who, address, request_id: super::request_id() }, trace })
    }
}

/// An end user, by JWT in the Authorization header.
#[derive(Clone, Debug)]
pub struct EndUser(pub Session);

impl FromRequestParts<Arc<Services>> for EndUser {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, s: &Arc<Services>) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| ApiError::unauthorized("send a token: Authorization: Bearer <JWT>"))?;
        let session = match s.jwt.verify(token).await {
            Ok(session) => session,
            Err(TokenError::Invalid) if s.gate.keys.holder(token).await?.is_some() => {
                return Err(ApiError::forbidden(
                    "wrong_credential",
                    "this is an application's API key; end users call with their token",
                ));
            }
            Err(e) => return Err(e.into()),
        };
        if !s.store.disabled_among(std::slice::from_ref(&session.user)).await?.is_empty() {
            return Err(ApiError::forbidden("user_disabled", "this user is disabled"));
        }
        Ok(Self(session))
    }
}

impl From<TokenError> for ApiError {
    fn from(e: TokenError) -> Self {
        match e {
            TokenError::Invalid => Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "this token is not valid here"),
            TokenError::Expired => Self::new(StatusCode::UNAUTHORIZED, "token_expired", "this token has expired"),
            TokenError::Unavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "tokens can't be checked now; try again")
                    .retry_after(Duration::from_secs(5))
            }
        }
    }
}

/// The caller's address: the peer's, or what a trusted proxy says.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub address: IpAddr,
    /// The address is a trusted proxy's or loopback, so it may stand for many people: no brake by address.
    pub shared: bool,
}

impl Client {
    /// `None` only when the request did not come through our server.
    pub fn of(s: &Services, parts: &Parts) -> Option<Self> {
        let Peer(peer) = *parts.extensions.get::<Peer>()?;
        let address = s.gate.proxies.client(peer, &parts.headers);
        Some(Self { address, shared: address.is_loopback() || s.gate.proxies.trusts(address) })
    }
}

impl FromRequestParts<Arc<Services>> for Client {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, s: &Arc<Services>) -> Result<Self, ApiError> {
        Self::of(s, parts).ok_or_else(|| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
                .caused_by("the request carries no peer address")
        })
    }
}

/// Put into every request's extensions by `server.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Whether a browser page of this Origin may connect (sockets, streams). `Err` is why not, for the log.
pub fn origin_allowed(services: &Services, headers: &HeaderMap) -> Result<(), &'static str> {
    services.gate.origins.check(headers)
}

/// The credential of `Authorization: Bearer …`; a doubled header counts as none.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = one_header(headers, &header::AUTHORIZATION).ok()??;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A header that must stand alone.
pub fn one_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(one), None) => one.to_str().map(Some).map_err(|_| "a header holds bytes that are no text"),
        (Some(_), Some(_)) => Err("a header stands twice"),
    }
}
