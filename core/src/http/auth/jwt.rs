//! End users' tokens: which keys may verify, every claim rule, minting.
//!
//! The algorithm comes from the configured key; a header that names another one is refused, and `jku`, `x5u` and `jwk`
//! are never looked at. Time comes from `Clock`. Absent on purpose: any answer that tells one fault from another, but for
//! a correctly signed token whose only fault is its age.

use super::{configured, jwks::Jwks};
use crate::config::{Config, auth::Auth, secrets};
use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_model::{AppId, Clock, Timestamp, UserId, UserKey};
use campanile_plugin::Secret;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};

/// Longest token looked at.
const TOKEN_MAX: usize = 8 * 1024;
const SECRET_MIN: usize = 32;
/// The end of year 9999: later expiries mean "never" and must still fit a timestamp.
const LATEST: i64 = 253_402_300_799;

/// A verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub user: UserKey,
    pub issuer: Option<String>,
    pub expires_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The same for every fault, so that nothing can be learned from it.
    #[error("invalid_token")]
    Invalid,
    /// Only for a correctly signed token.
    #[error("token_expired")]
    Expired,
    /// The key set can't be had now: 503, never 401.
    #[error("unavailable")]
    Unavailable,
}

pub struct Jwt {
    algorithm: Algorithm,
    keys: Keys,
    /// Present with a shared secret.
    signing: Option<EncodingKey>,
    rules: Rules,
    clock: Arc<dyn Clock>,
}

enum Keys {
    /// One, or the current and the previous secret.
    Fixed(Vec<DecodingKey>),
    Set(Jwks),
}

struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: f64,
    max_lifetime: Option<f64>,
}

/// What we read of a header. Unknown members are ignored, as RFC 7515 asks; `crit` would forbid that.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
}

impl Jwt {
    /// Reads keys; generates a secret in the data folder when none is configured.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<Self>> {
        let auth = &config.auth;
        let rules = Rules {
            issuer: auth.jwt_issuer.clone(),
            audience: auth.jwt_audience.clone(),
            leeway: auth.jwt_leeway.as_secs_f64(),
            max_lifetime: auth.jwt_max_lifetime.map(|d| d.as_secs_f64()),
        };
        let (algorithm, keys, signing) = read_keys(auth, &config.server.data_dir)?;
        Ok(Arc::new(Self { algorithm, keys, signing, rules, clock }))
    }

    pub async fn verify(&self, token: &str) -> Result<Session, TokenError> {
        let parts = Parts::split(token).ok_or(TokenError::Invalid)?;
        let header: Header = read(parts.header).ok_or(TokenError::Invalid)?;
        if header.crit.is_some() || header.alg != name(self.algorithm) {
            return Err(TokenError::Invalid);
        }
        let genuine = match &self.keys {
            Keys::Fixed(keys) => self.any_signed(keys.iter(), &parts),
            Keys::Set(set) => self.any_signed(set.keys(header.kid.as_deref()).await?.iter(), &parts),
        };
        if !genuine {
            return Err(TokenError::Invalid);
        }
        let claims: Claims = read(parts.claims).ok_or(TokenError::Invalid)?;
        self.rules.session(claims, self.clock.now())
    }

    fn any_signed<'a>(&self, mut keys: impl Iterator<Item = &'a DecodingKey>, parts: &Parts) -> bool {
        keys.any(|key| {
            matches!(crypto::verify(parts.signature, parts.signed.as_bytes(), key, self.algorithm), Ok(true))
        })
    }

    /// Signs with the configured or generated secret; an error says that this host only verifies.
    pub fn mint(&self, user: &UserId, ttl: Duration) -> anyhow::Result<String> {
        let Some(key) = &self.signing else {
            bail!(
                "this host only verifies tokens (auth.jwt_public_key_file or auth.jwks_url is set); ask the issuer for one"
            );
        };
        if let Some(max) = self.rules.max_lifetime {
            ensure!(ttl.as_secs_f64() <= max, "auth.jwt_max_lifetime allows no token that lives longer than {max} s");
        }
        let now = self.clock.now().timestamp();
        let until = i64::try_from(ttl.as_secs()).ok().and_then(|ttl| now.checked_add(ttl)).unwrap_or(LATEST);
        let mut claims = json!({ "sub": user, "iat": now, "exp": until.min(LATEST) });
        for (claim, value) in [("iss", &self.rules.issuer), ("aud", &self.rules.audience)] {
            if let Some(value) = value {
                claims[claim] = json!(value);
            }
        }
        Ok(jsonwebtoken::encode(&jsonwebtoken::Header::new(self.algorithm), &claims, key)?)
    }
}

/// The three parts of a compact token.
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Option<Self> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        // An empty signature is the unsigned form.
        (!claims.contains('.') && !signature.is_empty()).then_some(Self { header, claims, signature, signed })
    }
}

/// The JSON in one part.
fn read<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

impl Rules {
    /// Everything but the signature. Expiry is looked at last: it may be told only when nothing else is wrong.
    fn session(&self, claims: Claims, now: Timestamp) -> Result<Session, TokenError> {
        let wrong = TokenError::Invalid;
        let now = now.timestamp_millis() as f64 / 1000.0;
        let Some(Value::String(sub)) = claims.sub else { return Err(wrong) };
        let user = UserId::parse(&sub).map_err(|_| wrong)?;
        let exp = number(claims.exp.as_ref())?.ok_or(wrong)?;
        let iat = number(claims.iat.as_ref())?;
        if number(claims.nbf.as_ref())?.is_some_and(|nbf| nbf - self.leeway > now) {
            return Err(wrong);
        }
        let issuer = match claims.iss {
            None => None,
            Some(Value::String(iss)) => Some(iss),
            Some(_) => return Err(wrong),
        };
        if self.issuer.is_some() && self.issuer != issuer {
            return Err(wrong);
        }
        if let Some(wanted) = &self.audience {
            let is = |v: &Value| v.as_str() == Some(wanted);
            let meant = match &claims.aud {
                Some(Value::Array(many)) => many.iter().any(is),
                Some(one) => is(one),
                None => false,
            };
            if !meant {
                return Err(wrong);
            }
        }
        if let Some(max) = self.max_lifetime {
            let iat = iat.ok_or(wrong)?;
            if exp - iat > max || iat - self.leeway > now {
                return Err(wrong);
            }
        }
        if exp + self.leeway <= now {
            return Err(TokenError::Expired);
        }
        let at = (exp.min(LATEST as f64) * 1000.0) as i64;
        let expires_at = Timestamp::from_timestamp_millis(at).ok_or(wrong)?;
        Ok(Session { user: UserKey { app: AppId::default(), user }, issuer, expires_at })
    }
}

/// A NumericDate; absent is fine, anything but a number is not.
fn number(value: Option<&Value>) -> Result<Option<f64>, TokenError> {
    match value {
        None => Ok(None),
        Some(v) => v.as_f64().filter(|n| n.is_finite()).map(Some).ok_or(TokenError::Invalid),
    }
}

// ------------------------------------------------------------------------------------------- configuration

fn read_keys(auth: &Auth, data_dir: &Path) -> anyhow::Result<(Algorithm, Keys, Option<EncodingKey>)> {
    let secret = configured(&auth.jwt_secret, auth.jwt_secret_file.as_deref(), "auth.jwt_secret_file")?;
    let previous = configured(
        &auth.jwt_previous_secret,
        auth.jwt_previous_secret_file.as_deref(),
        "auth.jwt_previous_secret_file",
    )?;
    let asymmetric: Vec<&str> = [
        auth.jwt_public_key_file.as_ref().map(|_| "auth.jwt_public_key_file"),
        auth.jwks_url.as_ref().map(|_| "auth.jwks_url"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match asymmetric.as_slice() {
        [] => read_secrets(auth, secret, &previous, data_dir),
        [one] => {
            ensure!(
                secret.is_empty() && previous.is_empty(),
                "{one} and auth.jwt_secret (or auth.jwt_previous_secret) can't be used together: keep one of them"
            );
            read_asymmetric(auth, one)
        }
        _ => bail!("auth.jwt_public_key_file and auth.jwks_url can't be used together: keep one of them"),
    }
}

fn read_secrets(
    auth: &Auth,
    secret: Secret,
    previous: &Secret,
    data_dir: &Path,
) -> anyhow::Result<(Algorithm, Keys, Option<EncodingKey>)> {
    let algorithm = match auth.jwt_algorithm.as_deref() {
        None => Algorithm::HS256,
        Some(text) => parse_algorithm(text)
            .filter(|a| is_hmac(*a))
            .with_context(|| format!("auth.jwt_algorithm {text:?} needs auth.jwt_public_key_file or auth.jwks_url; a secret works with HS256, HS384 or HS512"))?,
    };
    ensure!(
        previous.is_empty() || !secret.is_empty(),
        "auth.jwt_previous_secret needs auth.jwt_secret, the one that signs now"
    );
    let secret = if secret.is_empty() { secrets::load_or_create(data_dir, "jwt_secret")? } else { secret };
    let mut keys = Vec::new();
    for (key, secret) in [("auth.jwt_secret", &secret), ("auth.jwt_previous_secret", previous)] {
        if secret.is_empty() {
            continue;
        }
        ensure!(
            secret.expose().len() >= SECRET_MIN,
            "{key} has {} bytes; it needs at least {SECRET_MIN} (openssl rand -base64 32 makes one)",
            secret.expose().len()
        );
        keys.push(DecodingKey::from_secret(secret.expose().as_bytes()));
    }
    Ok((algorithm, Keys::Fixed(keys), Some(EncodingKey::from_secret(secret.expose().as_bytes()))))
}

fn read_asymmetric(auth: &Auth, key: &str) -> anyhow::Result<(Algorithm, Keys, Option<EncodingKey>)> {
    let text = auth
        .jwt_algorithm
        .as_deref()
        .with_context(|| format!("{key} needs auth.jwt_algorithm: RS256, ES256 or EdDSA"))?;
    let algorithm = parse_algorithm(text)
        .filter(|a| !is_hmac(*a))
        .with_context(|| format!("auth.jwt_algorithm {text:?} does not go with {key}; use RS256, ES256 or EdDSA"))?;
    if let Some(url) = &auth.jwks_url {
        return Ok((algorithm, Keys::Set(Jwks::new(url, algorithm, auth.jwks_allow_private)?), None));
    }
    let path = auth.jwt_public_key_file.as_deref().context("auth.jwt_public_key_file is not set")?;
    let pem = std::fs::read(path).with_context(|| format!("auth.jwt_public_key_file: reading {}", path.display()))?;
    ensure!(
        !String::from_utf8_lossy(&pem).contains("PRIVATE KEY"),
        "auth.jwt_public_key_file {} holds a private key; give the public one (openssl pkey -pubout)",
        path.display()
    );
    let decoded = match algorithm {
        Algorithm::RS256 => DecodingKey::from_rsa_pem(&pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(&pem),
        _ => DecodingKey::from_ed_pem(&pem),
    };
    let decoded = decoded.with_context(|| {
        format!("auth.jwt_public_key_file {} is no PEM public key for auth.jwt_algorithm {text}", path.display())
    })?;
    Ok((algorithm, Keys::Fixed(vec![decoded]), None))
}

const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

fn parse_algorithm(text: &str) -> Option<Algorithm> {
    ALGORITHMS.into_iter().find(|(n, _)| *n == text).map(|(_, a)| a)
}

fn name(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.into_iter().find(|(_, a)| *a == algorithm).map_or("none", |(n, _)| n)
}

fn is_hmac(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
