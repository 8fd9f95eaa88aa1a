use serde_json::Value;
use std::{borrow::Cow, time::Duration};

/// The far side took it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// The provider's own id, kept with the delivery.
    pub provider_id: Option<String>,
    pub detail: Option<Value>,
}

/// Why not, and whether trying again can help. The host alone decides when.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// Transient: spends an attempt.
    #[error("{reason}")]
    Retry { after: Option<Duration>, reason: Reason },
    /// The provider says slow down: spends none, slows the channel.
    #[error("{reason}")]
    Throttled { after: Option<Duration>, reason: Reason },
    /// This message can never go.
    #[error("{reason}")]
    Permanent { reason: Reason },
    /// The address is dead: suppress it.
    #[error("{reason}")]
    RecipientGone { reason: Reason },
    /// Our credentials or account: open the circuit, spend none, alarm.
    #[error("{reason}")]
    Misconfigured { reason: Reason },
}

impl DeliveryError {
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Retry { reason, .. }
            | Self::Throttled { reason, .. }
            | Self::Permanent { reason }
            | Self::RecipientGone { reason }
            | Self::Misconfigured { reason } => reason,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// `[a-z0-9_.-]`, ≤ 64 bytes: a metric-safe word or the provider's code.
    pub code: Cow<'static, str>,
    /// What the far side said, for people; no secret, no address.
    pub message: String,
    /// The effect may have happened all the same (lost after the point of no return).
    pub uncertain: bool,
    /// Evidence against the address short of proof: (kind, suppress after this many, within days).
    pub suspect: Option<(&'static str, u32, u32)>,
    pub detail: Option<Value>,
}

impl Reason {
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), uncertain: false, suspect: None, detail: None }
    }
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self
    }
    pub fn suspect(mut self, kind: &'static str, limit: u32, days: u32) -> Self {
        self.suspect = Some((kind, limit, days));
        self
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Ok,
    /// Works, but worth a look.
    Degraded(String),
    /// Does not work: opens the circuit.
    Failing(String),
}

/// A configuration that can't work, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub message: String,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);
