//! API keys: `cmp_<id>_<secret>`, kept as SHA-256, compared in constant time.
//!
//! Looked-up keys are remembered for ten seconds, unknown ids too; a change is heard on the node bus at once. When a key
//! was last used, from where and how often (`used.rs`), is written once a minute. The fixed operator key of the
//! configuration has every scope.

use super::{bucket::Bucket, proxies, used::Used};
use crate::{config::auth::Auth, http::problem::ApiError};
use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_model::{
    AppId, Clock, KeyId, Timestamp,
    ports::{AccessStore, ApiKey, KeyUse, Scope, SignalSink},
    signal::Signal,
};
use campanile_plugin::Secret;
use rand::Rng;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use subtle::ConstantTimeEq;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

const PREFIX: &str = "cmp_";
const REMEMBERED: Duration = Duration::from_secs(10);
/// Unknown ids can be invented at will; past this many the memory is emptied.
const ENTRIES_MAX: usize = 10_000;
const FLUSH_EVERY: Duration = Duration::from_mins(1);

pub struct KeyCache {
    store: Arc<dyn AccessStore>,
    clock: Arc<dyn Clock>,
    operator: Option<[u8; 32]>,
    rate: u32,
    burst: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<KeyId, Entry>,
    /// `None`: the operator key. Only keys that exist get one.
    buckets: HashMap<Option<KeyId>, Bucket>,
    /// Of keys that exist.
    used: HashMap<KeyId, Used>,
    /// Rises with every change, so that a look-up begun before it leaves nothing behind.
    changes: u64,
}

struct Entry {
    key: Option<Arc<ApiKey>>,
    at: Instant,
}

/// Whose key it was.
#[derive(Debug)]
pub enum Holder {
    Operator,
    Key(Arc<ApiKey>),
}

impl KeyCache {
    pub fn new(config: &Auth, store: Arc<dyn AccessStore>, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<Self>> {
        let operator = super::configured(&config.api_key, config.api_key_file.as_deref(), "auth.api_key_file")?;
        Ok(Arc::new(Self {
            store,
            clock,
            operator: (!operator.is_empty()).then(|| sha256(operator.expose())),
            rate: config.key_rate,
            burst: config.key_burst,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose key this is, without spending anything; `None`: nobody's.
    pub async fn holder(&self, token: &str) -> Result<Option<Holder>, ApiError> {
        let hash = sha256(token);
        if self.operator.is_some_and(|operator| bool::from(operator.ct_eq(&hash))) {
            return Ok(Some(Holder::Operator));
        }
        let Some((id, secret)) = parse(token) else { return Ok(None) };
        let Some(key) = self.find(id).await? else { return Ok(None) };
        let genuine = bool::from(key.secret_hash.ct_eq(&sha256(secret)));
        let now = self.clock.now();
        let live = key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now);
        if !(genuine && live) {
            self.state().used(id, now).denied();
            return Ok(None);
        }
        Ok(Some(Holder::Key(key)))
    }

    /// Notes the use, checks from where it comes, and spends one token of the holder's rate.
    pub fn admit(
        &self,
        holder: &Holder,
        from: Option<IpAddr>,
        method: &'static str,
        path: &str,
    ) -> Result<(), ApiError> {
        let id = match holder {
            Holder::Operator => None,
            Holder::Key(key) => Some(key.id),
        };
        let now = Instant::now();
        let mut state = self.state();
        if let Some(id) = id {
            state.used(id, self.clock.now()).called(from, method, path);
        }
        if let Holder::Key(key) = holder
            && !key.networks.is_empty()
            && !from.is_some_and(|address| proxies::among(&key.networks, address))
        {
            let from = from.map_or_else(|| "an unknown address".to_owned(), |a| a.to_string());
            let why = format!("this API key may not be used from {from}");
            return Err(ApiError::forbidden("address_not_allowed", why));
        }
        let bucket = state.buckets.entry(id).or_insert_with(|| Bucket::full(self.burst, now));
        bucket.take(self.rate, self.burst, now).map_err(|wait| {
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "this API key sends too much at once")
                .retry_after(Duration::from_secs(wait.as_secs() + 1))
        })
    }

    /// How a call that [`admit`](Self::admit) noted was answered.
    pub fn answered(&self, id: KeyId, status: StatusCode) {
        if status.is_client_error()
            && let Some(used) = self.state().used.get_mut(&id)
        {
            used.refused(status);
        }
    }

    async fn find(&self, id: KeyId) -> Result<Option<Arc<ApiKey>>, ApiError> {
        let before = {
            let state = self.state();
            if let Some(entry) = state.entries.get(&id).filter(|e| e.at.elapsed() < REMEMBERED) {
                return Ok(entry.key.clone());
            }
            state.changes
        };
        let key = self.store.find_key(id).await?.map(Arc::new);
        let mut state = self.state();
        if state.changes == before {
            if state.entries.len() >= ENTRIES_MAX {
                state.entries.clear();
            }
            state.entries.insert(id, Entry { key: key.clone(), at: Instant::now() });
        }
        Ok(key)
    }

    /// Writes `last_used` once a minute, and a last time when the host stops.
    pub async fn flush_used(&self, draining: CancellationToken) {
        let mut tick = interval_at(Instant::now() + FLUSH_EVERY, FLUSH_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = tick.tick() => false,
                () = draining.cancelled() => true,
            };
            let used = self.state().told(self.clock.now());
            if !used.is_empty()
                && let Err(error) = self.store.touch_keys(&used).await
            {
                // Only a display: the next use writes it again.
                tracing::warn!(error = &error as &dyn std::error::Error, "Can't note when API keys were used");
            }
            if last {
                return;
            }
        }
    }
}

impl State {
    fn used(&mut self, id: KeyId, at: Timestamp) -> &mut Used {
        let used = self.used.entry(id).or_default();
        used.is_now(at);
        used
    }

    /// What was counted since the last time; who did nothing for an hour is forgotten.
    fn told(&mut self, now: Timestamp) -> Vec<KeyUse> {
        let mut told = Vec::new();
        self.used.retain(|key, used| {
            told.extend(used.told(*key));
            !used.is_over(now)
        });
        told
    }
}

impl SignalSink for KeyCache {
    fn signal(&self, signal: &Signal) {
        if matches!(signal, Signal::KeysChanged(_) | Signal::Missed) {
            let mut state = self.state();
            state.changes += 1;
            state.entries.clear();
        }
    }
}

/// A new key: the row to store and the text that is shown once.
pub fn generate(app: AppId, name: String, scopes: Vec<Scope>, now: Timestamp) -> (ApiKey, Secret) {
    let id = KeyId::new();
    let mut random = [0u8; 32];
    rand::rng().fill_bytes(&mut random);
    let secret = URL_SAFE_NO_PAD.encode(random);
    let text = format!("{PREFIX}{}_{secret}", id.0.simple());
    let key = ApiKey {
        id,
        app,
        name,
        secret_hash: sha256(&secret),
        scopes,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
        last_used_for: None,
        networks: Vec::new(),
        created_by: None,
    };
    (key, Secret::new(text))
}

fn parse(token: &str) -> Option<(KeyId, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    Some((id.parse().ok()?, secret))
}

/// What the store keeps of a secret.
pub fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
