//! A delivery on its way: claim, attempt, outcome.

use crate::{ChannelName, DeliveryId, DeliveryState, Notification, Timestamp, UserKey};
use std::sync::Arc;

/// A delivery under our lease. `attempt` is the fence: finishing with another number changes nothing.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub delivery_id: DeliveryId,
    pub notification: Arc<Notification>,
    pub user: UserKey,
    pub channel: ChannelName,
    pub recipient: Option<String>,
    pub locale: Option<String>,
    /// This attempt's number, from 1; it only grows, over replays too.
    pub attempt: u32,
    /// Attempts that counted against the schedule before this one.
    pub spent: u32,
    /// Leases lost so far; from 3 on the delivery is tried alone.
    pub losses: u32,
    /// now − due time − overlap with pauses, in ms: what `retry.max_age` is compared with.
    pub age_ms: i64,
}

/// What a claim of one id came to.
#[derive(Clone, Debug)]
pub enum ClaimOutcome {
    Claimed(Box<Claimed>),
    /// Someone has it, it is settled, not due, paused or cancelled: forget it.
    NotOurs(DeliveryId),
    /// A rule said no in the claiming transaction; the row is settled, the effects say how.
    Settled(DeliveryId),
}

/// How an attempt ended, in the words of `attempts.outcome`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AttemptOutcome {
    Ok,
    Retry,
    Throttled,
    Permanent,
    RecipientGone,
    Misconfigured,
    Timeout,
    /// The lease lapsed under it.
    Lost,
}

impl AttemptOutcome {
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Retry,
        Self::Throttled,
        Self::Permanent,
        Self::RecipientGone,
        Self::Misconfigured,
        Self::Timeout,
        Self::Lost,
    ];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::Throttled => "throttled",
            Self::Permanent => "permanent",
            Self::RecipientGone => "recipient_gone",
            Self::Misconfigured => "misconfigured",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
        }
    }
}

/// The record of one attempt and where the row goes from it. Written in one transaction, conditional on the attempt.
#[derive(Clone, Debug)]
pub struct Finish {
    pub delivery_id: DeliveryId,
    pub attempt: u32,
    pub started_at: Timestamp,
    pub duration_ms: i64,
    pub outcome: AttemptOutcome,
    /// A short machine word: a provider's or SMTP's code.
    pub code: Option<String>,
    /// What the far side said, cleaned, ≤ 4 KiB; no address, no secret.
    pub message: Option<String>,
    /// The effect may have happened although we can't know.
    pub uncertain: bool,
    pub provider_id: Option<String>,
    /// Of the channel's instances, the one that made the attempt.
    pub instance: Option<String>,
    /// The template that rendered it and the version of it: `email/default 1f8a02c4`; none where nothing is rendered.
    pub template: Option<String>,
    /// The plugin that made it and the version of it: `webhook 1.2.0`.
    pub code_version: Option<String>,
    pub next: NextStep,
    /// Whether the attempt counts against the schedule.
    pub spend: bool,
    /// Evidence against the address, kept in the same transaction.
    pub address_fault: Option<AddressFault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    Sent,
    /// Becomes `cancelled` when a stop was wished meanwhile.
    RetryIn {
        delay_ms: i64,
    },
    Dead {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFault {
    /// The address does not exist: suppress at once.
    Gone,
    /// Suppress when it happens `limit` times within `days`.
    Suspect { kind: &'static str, limit: u32, days: u32 },
}

#[derive(Clone, Debug)]
pub struct Finished {
    /// False: another attempt owns the row (or it is settled); only the attempt was recorded.
    pub ours: bool,
    pub state: DeliveryState,
}

/// What the relay moved on and must publish now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRow {
    pub channel: ChannelName,
    pub delivery_id: DeliveryId,
}

/// A slice of a deferred audience, under our lease.
#[derive(Clone, Debug)]
pub struct AudienceSlice {
    pub notification: Arc<Notification>,
    pub channels: Option<Vec<ChannelName>>,
    pub recipients: Vec<crate::plan::RecipientSpec>,
    /// Position of the first recipient of the slice; expansion is conditional on it.
    pub cursor: u32,
    pub total: u32,
}
