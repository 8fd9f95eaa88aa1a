//! Who is calling: end users by JWT, applications by API key, both as extractors. STUB bodies.

pub mod jwt;

use crate::{host::Services, http::problem::ApiError};
use axum::{extract::FromRequestParts, http::request::Parts};
use campanile_model::{
    AppId, KeyId,
    ports::{Actor, Scope},
};
use jwt::Session;
use std::{net::IpAddr, sync::Arc};

/// An application, by API key (or the operator key).
#[derive(Clone, Debug)]
pub struct Application {
    pub app: AppId,
    /// `None`: the fixed operator key.
    pub key: Option<KeyId>,
    pub scopes: Vec<Scope>,
    pub actor: Actor,
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
    async fn from_request_parts(_parts: &mut Parts, _s: &Arc<Services>) -> Result<Self, ApiError> {
        Err(ApiError::unauthorized("send an API key: Authorization: Bearer cmp_…"))
    }
}

/// An end user, by JWT in the Authorization header.
#[derive(Clone, Debug)]
pub struct EndUser(pub Session);

impl FromRequestParts<Arc<Services>> for EndUser {
    type Rejection = ApiError;
    async fn from_request_parts(_parts: &mut Parts, _s: &Arc<Services>) -> Result<Self, ApiError> {
        Err(ApiError::unauthorized("send a token: Authorization: Bearer <JWT>"))
    }
}

/// The caller's address: the peer's, or what a trusted proxy says.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub address: IpAddr,
    /// The peer itself is a trusted proxy or loopback: no brake by address.
    pub shared: bool,
}

/// Put into every request's extensions by `server.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub std::net::SocketAddr);

/// Whether a browser page of this Origin may connect (sockets, streams, CORS): DESIGN §8. `Err` is why not, for the log.
pub fn origin_allowed(_services: &Services, _headers: &axum::http::HeaderMap) -> Result<(), &'static str> {
    Ok(())
}
