//! End users' tokens. STUB.

use crate::config::Config;
use campanile_model::{Timestamp, UserId, UserKey};
use std::{sync::Arc, time::Duration};

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

pub struct Jwt {}

impl Jwt {
    /// Reads keys; generates a secret in the data folder when none is configured.
    pub fn new(_config: &Config) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {}))
    }
    pub async fn verify(&self, _token: &str) -> Result<Session, TokenError> {
        Err(TokenError::Invalid)
    }
    /// Signs with the configured or generated secret; an error says that this host only verifies.
    pub fn mint(&self, _user: &UserId, _ttl: Duration) -> anyhow::Result<String> {
        anyhow::bail!("stub")
    }
}
