//! How a call ends: receipts, errors, health, problems of a configuration.

use serde_json::Value;
use std::{borrow::Cow, io, time::Duration};

/// The far side took it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// The provider's own id, kept with the delivery.
    pub provider_id: Option<String>,
    pub detail: Option<Value>,
}

impl Receipt {
    pub fn new() -> Self {
        Self::default()
    }
    #[must_use]
    pub fn provider_id(mut self, id: impl Into<String>) -> Self {
        self.provider_id = Some(id.into());
        self
    }
    /// An object, shown to operators with the attempt.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }
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
    pub fn retry(reason: Reason) -> Self {
        Self::Retry { after: None, reason }
    }
    pub fn throttled(after: Option<Duration>, reason: Reason) -> Self {
        Self::Throttled { after, reason }
    }
    pub fn permanent(reason: Reason) -> Self {
        Self::Permanent { reason }
    }
    pub fn recipient_gone(reason: Reason) -> Self {
        Self::RecipientGone { reason }
    }
    pub fn misconfigured(reason: Reason) -> Self {
        Self::Misconfigured { reason }
    }

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

/// `?` on I/O: trying again may help.
impl From<io::Error> for DeliveryError {
    fn from(error: io::Error) -> Self {
        Self::retry(Reason::new("io", error.to_string()))
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
    #[must_use]
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self
    }
    #[must_use]
    pub fn suspect(mut self, kind: &'static str, limit: u32, days: u32) -> Self {
        self.suspect = Some((kind, limit, days));
        self
    }
    /// An object, shown to operators with the attempt.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
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
    /// Dots between the parts: `server.url`; empty: the whole.
    pub key: String,
    pub message: String,
}

impl Problem {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }

    /// The key as a JSON pointer: `/server/url`.
    pub fn pointer(&self) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        self.key.split('.').fold(String::new(), |all, part| all + "/" + &part.replace('~', "~0").replace('/', "~1"))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.key, self.message) }
    }
}

/// Why an instance can't run.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl StartError {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<Vec<Problem>> for StartError {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
