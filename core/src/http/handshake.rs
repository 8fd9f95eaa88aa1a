//! Who may open a live connection: rates, Origin, the four credentials. Shared by sockets and event streams.
//!
//! Nothing is kept of a caller before its credential was accepted, but a count of its failures. A token never reaches
//! a log, a span, a metric or an error page: nothing here prints a credential or a query.

use super::{
    auth::{
        Client,
        jwt::{Session as Token, TokenError},
        origin_allowed,
    },
    problem::ApiError,
};
use crate::{
    connection::{
        TransportKind,
        close::{self, Close},
        conn::Visitor,
        protocol::Protocol,
        session::{Credential, Cursor, Issuer},
    },
    observe::metrics as m,
    services::Services,
};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use campanile_model::{UserKey, ports::StoreError};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// The longest user agent kept for the list of connections.
const USER_AGENT_MAX: usize = 160;

/// A caller that may connect.
pub struct Admitted {
    pub visitor: Visitor,
    pub credential: Credential,
}

/// Why a handshake is refused.
#[derive(Debug)]
pub enum Refusal {
    Draining,
    /// The node takes no more handshakes in this second.
    Rate(Duration),
    /// This address has failed too often.
    Brake(Duration),
    Origin(&'static str),
    NoCredential,
    InvalidToken,
    TokenExpired,
    Disabled,
    /// The database or the key set can't be used now.
    Unavailable(Option<StoreError>),
}

impl Refusal {
    /// The metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Rate(_) => "rate",
            Self::Brake(_) => "brake",
            Self::Origin(_) => "origin",
            Self::NoCredential => "no_credential",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::Disabled => "disabled",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// What a v1 socket is told after an upgrade, since browsers hide the status of a refused one.
    pub const fn close(&self) -> Option<Close> {
        match self {
            Self::InvalidToken => Some(close::INVALID_TOKEN),
            Self::TokenExpired => Some(close::TOKEN_EXPIRED),
            Self::Disabled => Some(close::NOT_ALLOWED),
            _ => None,
        }
    }

    /// Whether it counts against the caller's address.
    const fn is_failure(&self) -> bool {
        matches!(self, Self::Origin(_) | Self::NoCredential | Self::InvalidToken | Self::TokenExpired)
    }
}

impl From<Refusal> for ApiError {
    fn from(r: Refusal) -> Self {
        let unavailable = |detail: &'static str| Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        match r {
            Refusal::Draining => unavailable("this node is stopping").retry_after(Duration::from_secs(1)),
            Refusal::Rate(after) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many connections at once")
                    .retry_after(after)
            }
            Refusal::Brake(after) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many refused connections from this address",
            )
            .retry_after(after),
            Refusal::Origin(why) => Self::forbidden("origin_not_allowed", why),
            Refusal::NoCredential => Self::unauthorized(
                "give a credential: ?token=, ?ticket=, Authorization: Bearer, or the subprotocols campanile.v1, bearer.<jwt>",
            ),
            Refusal::InvalidToken => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "the credential is not valid")
            }
            Refusal::TokenExpired => Self::new(StatusCode::UNAUTHORIZED, "token_expired", "the token has expired"),
            Refusal::Disabled => Self::forbidden("user_disabled", "this user is disabled"),
            Refusal::Unavailable(Some(e)) => e.into(),
            Refusal::Unavailable(None) => {
                unavailable("tokens can't be checked now").retry_after(Duration::from_secs(2))
            }
        }
    }
}

/// What the address line says besides credentials.
#[derive(Debug, Default)]
pub struct Query {
    token: Option<String>,
    ticket: Option<String>,
    pub v1: bool,
    pub cursor: Option<Cursor>,
}

impl Query {
    pub fn of(parts: &Parts) -> Self {
        let mut q = Self::default();
        let (mut epoch, mut since) = (None, None);
        for (key, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match &*key {
                "token" => q.token = Some(value.into_owned()),
                "ticket" => q.ticket = Some(value.into_owned()),
                "v" => q.v1 = value == "1",
                "epoch" => epoch = Some(value.into_owned()),
                // A number that is none lies below every feed, so the client gets a `reset`, not a silent start.
                "since" => since = Some(value.parse().unwrap_or(-1)),
                _ => {}
            }
        }
        q.cursor = epoch.zip(since).map(|(epoch, since)| Cursor { epoch, since });
        q
    }
}

/// The offered subprotocols, in order.
pub fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

enum Shown<'a> {
    Jwt(&'a str),
    Ticket(&'a str),
}

/// In the order of preference, when there are several.
fn shown<'a>(s: &Services, headers: &'a HeaderMap, q: &'a Query) -> Option<Shown<'a>> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer
        .map(Shown::Jwt)
        .or_else(|| q.ticket.as_deref().map(Shown::Ticket))
        .or_else(|| subprotocols(headers).find_map(|p| p.strip_prefix("bearer.")).map(Shown::Jwt))
        .or_else(|| q.token.as_deref().filter(|_| s.config.websocket.query_token).map(Shown::Jwt))
}

/// Decides on a handshake; counts and brakes the refused ones.
pub async fn admit(
    s: &Services,
    parts: &Parts,
    query: &Query,
    transport: TransportKind,
    protocol: Protocol,
) -> Result<Admitted, Refusal> {
    let client = Client::of(s, parts);
    // Only an address that stands for one client: never a proxy's, never loopback.
    let known = client.filter(|c| !c.shared).map(|c| c.address);
    let now = Instant::now();
    let decided = async {
        if s.draining.is_cancelled() {
            return Err(Refusal::Draining);
        }
        s.hub.handshakes.take(now).map_err(Refusal::Rate)?;
        if let Some(address) = known {
            s.hub.brake.check(address, now).map_err(Refusal::Brake)?;
        }
        origin_allowed(s, &parts.headers).map_err(Refusal::Origin)?;
        let token = match shown(s, &parts.headers, query).ok_or(Refusal::NoCredential)? {
            Shown::Jwt(token) => s.jwt.verify(token).await.map_err(|e| match e {
                TokenError::Invalid => Refusal::InvalidToken,
                TokenError::Expired => Refusal::TokenExpired,
                TokenError::Unavailable => Refusal::Unavailable(None),
            })?,
            Shown::Ticket(ticket) => return ticket_holder(s, parts, ticket).await,
        };
        let Token { user, issuer, expires_at } = token;
        Ok((user, Credential { issuer: Issuer::Known(issuer), expires_at }))
    };
    let decided = match decided.await {
        Ok((user, credential)) => not_disabled(s, &user).await.map(|()| (user, credential)),
        Err(refused) => Err(refused),
    };
    match decided {
        Ok((user, credential)) => {
            let user_agent = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
            let visitor = Visitor {
                user,
                transport,
                protocol,
                address: client.map(|c| c.address),
                user_agent: user_agent.map(|a| a.chars().take(USER_AGENT_MAX).collect::<String>().into_boxed_str()),
                expires_at: credential.expires_at,
            };
            Ok(Admitted { visitor, credential })
        }
        Err(refused) => {
            s.metrics.handshakes_refused.get_or_create(&m::ByReason::new(refused.reason())).inc();
            if let Some(address) = known
                && refused.is_failure()
            {
                s.hub.brake.failed(address, now);
            }
            Err(refused)
        }
    }
}

async fn ticket_holder(s: &Services, parts: &Parts, ticket: &str) -> Result<(UserKey, Credential), Refusal> {
    let hash = Sha256::digest(ticket.as_bytes()).into();
    let held = s.store.take_ticket(hash).await.map_err(|e| Refusal::Unavailable(Some(e)))?;
    // One answer for unknown, used, too old and another page's.
    let held = held.ok_or(Refusal::InvalidToken)?;
    if let Some(origin) = &held.origin
        && parts.headers.get(header::ORIGIN).and_then(|v| v.to_str().ok()) != Some(origin)
    {
        return Err(Refusal::InvalidToken);
    }
    Ok((held.user, Credential { issuer: Issuer::Unknown, expires_at: held.token_expires_at }))
}

async fn not_disabled(s: &Services, user: &UserKey) -> Result<(), Refusal> {
    match s.store.disabled_among(std::slice::from_ref(user)).await {
        Ok(disabled) if disabled.is_empty() => Ok(()),
        Ok(_) => Err(Refusal::Disabled),
        Err(e) => Err(Refusal::Unavailable(Some(e))),
    }
}
