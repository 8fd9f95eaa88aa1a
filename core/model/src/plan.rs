//! What ingest hands to the store: one notification with everything decided but what only the transaction can know
//! (pauses, suppressions, collapse, sequence numbers).

use crate::{ChannelName, DeliveryId, Notification, Reason, UserId};
use serde::{Deserialize, Serialize};

/// One accept: becomes one atomic part of a commit.
#[derive(Clone, Debug)]
pub struct AcceptItem {
    pub notification: Notification,
    pub audience: AudiencePlan,
    pub idempotency: Option<Idempotency>,
    /// The request as parsed and re-serialised (users' inline addresses included: erase edits it), for `GET` and replay.
    pub request: serde_json::Value,
    pub source: Source,
    /// Whose key or hand: the caller as the audit log names it.
    pub sent_by: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Source {
    Api,
    Amqp,
    Console,
}

impl Source {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Amqp => "amqp",
            Self::Console => "console",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Idempotency {
    pub key: String,
    /// SHA-256 of the parsed, re-serialised request.
    pub body_hash: [u8; 32],
}

#[derive(Clone, Debug)]
pub enum AudiencePlan {
    /// At most `ingest.inline_max` users: their deliveries are inserted in the accepting commit. No user appears twice.
    Inline(Vec<RecipientPlan>),
    /// More: the accepting commit stores the spec; expansion follows at once, 500 users a transaction.
    Deferred(AudienceSpec),
}

/// A deferred audience, sorted by user id, no user twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AudienceSpec {
    pub recipients: Vec<RecipientSpec>,
    /// `None`: every enabled channel for which the user has an address.
    pub channels: Option<Vec<ChannelName>>,
}

/// One recipient as the caller named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientSpec {
    pub user_id: UserId,
    /// Contact points given inline, for this notification only: channel → address.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub addresses: std::collections::BTreeMap<ChannelName, String>,
}

#[derive(Clone, Debug)]
pub struct RecipientPlan {
    pub user_id: UserId,
    /// As resolved; another one in the transaction means the user was erased or merged meanwhile.
    pub generation: i64,
    pub deliveries: Vec<DeliveryPlan>,
}

#[derive(Clone, Debug)]
pub struct DeliveryPlan {
    pub id: DeliveryId,
    pub channel: ChannelName,
    pub recipient: Option<String>,
    /// The address came with the request, so replay must not resolve it again.
    pub recipient_inline: bool,
    /// Completed by the store itself (feed row, seq, counts) when due, not by a worker.
    pub in_app: bool,
    /// Policy or resolution has already said no (`no_address`, `user_disabled`).
    pub suppressed: Option<Reason>,
    /// The fast path is open: `relay_at` starts at now + 10 s instead of now. Meaningless for a delivery not due yet.
    pub fast: bool,
}
