//! An identity provider's key set: one fixed address, kept for ten minutes, used stale for a day when the provider is down.
//!
//! An unknown `kid` causes one fetch per 30 s at most, however many tokens carry one. No part of a token ever reaches the
//! address. Absent on purpose: symmetric keys; a set that holds one holds it in vain.

use super::jwt::TokenError;
use crate::outbound;
use anyhow::{Context, bail};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use url::Url;

const FRESH: Duration = Duration::from_mins(10);
const STALE: Duration = Duration::from_hours(24);
/// Between two fetches, whatever their cause and outcome.
const REFETCH: Duration = Duration::from_secs(30);
/// Between two tries while there is no set at all.
const FIRST_FETCH: Duration = Duration::from_secs(3);
const BODY_MAX: usize = 64 * 1024;
const KEYS_MAX: usize = 64;

pub struct Jwks(Arc<Inner>);

struct Inner {
    url: Url,
    algorithm: Algorithm,
    client: reqwest::Client,
    state: Mutex<State>,
    /// Held while a fetch runs, so that there is one.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    set: Option<(Arc<KeySet>, Instant)>,
    /// The last fetch, and whether it brought a set.
    tried: Option<(Instant, bool)>,
}

#[derive(Default)]
struct KeySet(Vec<(Option<String>, DecodingKey)>);

impl KeySet {
    /// All keys that may have signed; `None` when the set does not know the `kid`.
    fn find(&self, kid: Option<&str>) -> Option<Vec<DecodingKey>> {
        let found: Vec<_> = match kid {
            Some(kid) => self.0.iter().filter(|(k, _)| k.as_deref() == Some(kid)).map(|(_, k)| k.clone()).collect(),
            None => self.0.iter().map(|(_, k)| k.clone()).collect(),
        };
        (!found.is_empty()).then_some(found)
    }
}

impl Jwks {
    pub fn new(url: &str, algorithm: Algorithm, private: bool) -> anyhow::Result<Self> {
        let url = outbound::check_url(url, private).context("auth.jwks_url")?;
        Ok(Self(Arc::new(Inner {
            url,
            algorithm,
            client: outbound::client(private)?,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })))
    }

    /// The keys to try for a token. `Invalid`: the set is current and knows no such key.
    pub async fn keys(&self, kid: Option<&str>) -> Result<Vec<DecodingKey>, TokenError> {
        if let Some((set, age)) = self.0.current()
            && let Some(keys) = set.find(kid)
        {
            if age > FRESH && self.0.may_fetch() {
                // Nobody waits for a provider while the old set still serves.
                let inner = self.0.clone();
                tokio::spawn(async move { inner.fetch_once().await });
            }
            return Ok(keys);
        }
        self.0.fetch_once().await;
        let current = self.0.current().and_then(|(set, _)| set.find(kid));
        match current {
            Some(keys) => Ok(keys),
            // A provider that can't be asked must not turn into "your token is wrong".
            None if self.0.last_fetch_worked() => Err(TokenError::Invalid),
            None => Err(TokenError::Unavailable),
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The set and its age, unless too old to be trusted.
    fn current(&self) -> Option<(Arc<KeySet>, Duration)> {
        let state = self.state();
        let (set, at) = state.set.as_ref()?;
        let age = at.elapsed();
        (age <= STALE).then(|| (set.clone(), age))
    }

    fn may_fetch(&self) -> bool {
        let state = self.state();
        let pause = if state.set.is_some() { REFETCH } else { FIRST_FETCH };
        state.tried.is_none_or(|(at, _)| at.elapsed() >= pause)
    }

    fn last_fetch_worked(&self) -> bool {
        self.state().tried.is_some_and(|(_, worked)| worked)
    }

    /// Fetches unless it was done lately; whoever comes meanwhile waits for the same fetch.
    async fn fetch_once(&self) {
        let _one = self.fetching.lock().await;
        if !self.may_fetch() {
            return;
        }
        let fetched = self.fetch().await;
        let mut state = self.state();
        state.tried = Some((Instant::now(), fetched.is_ok()));
        match fetched {
            Ok(set) => state.set = Some((Arc::new(set), Instant::now())),
            Err(error) => tracing::warn!("Can't read the key set of auth.jwks_url: {error:#}"),
        }
    }

    async fn fetch(&self) -> anyhow::Result<KeySet> {
        let mut response = self.client.get(self.url.clone()).send().await?.error_for_status()?;
        if !response.status().is_success() {
            bail!("it answered {}", response.status());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > BODY_MAX {
                bail!("it is larger than 64 KiB");
            }
            body.extend_from_slice(&chunk);
        }
        read_set(&body, self.algorithm)
    }
}

/// Takes the keys of our algorithm; one that can't be read is left out, not an end of the rest.
fn read_set(body: &[u8], algorithm: Algorithm) -> anyhow::Result<KeySet> {
    #[derive(Deserialize)]
    struct Raw {
        keys: Vec<serde_json::Value>,
    }
    let raw: Raw = serde_json::from_slice(body).context("it is no key set")?;
    let keys = raw.keys.into_iter().filter_map(|value| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let kid = jwk.common.key_id.clone();
        fits(&jwk, algorithm).then(|| DecodingKey::from_jwk(&jwk).ok()).flatten().map(|key| (kid, key))
    });
    Ok(KeySet(keys.take(KEYS_MAX).collect()))
}

fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    if matches!(&jwk.common.public_key_use, Some(u) if *u != PublicKeyUse::Signature) {
        return false;
    }
    let named = jwk.common.key_algorithm.map(|a| a.to_string());
    if named.is_some_and(|named| named.parse::<Algorithm>().ok() != Some(algorithm)) {
        return false;
    }
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => algorithm == Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(p) => algorithm == Algorithm::ES256 && p.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(p) => algorithm == Algorithm::EdDSA && p.curve == EllipticCurve::Ed25519,
        _ => false,
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
