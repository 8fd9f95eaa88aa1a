//! `[ingest]`: Accepting notifications.

use super::duration::Dur;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Recipients handled in the accepting commit; larger audiences are expanded right after.
    pub inline_max: usize,
    /// Most recipients of one notification.
    pub max_recipients: usize,
    /// Most notifications of one batch.
    pub batch_max: usize,
    /// Largest request body in bytes.
    pub body_max: usize,
    /// Largest batch body in bytes.
    pub batch_body_max: usize,
    /// How long an idempotency key is remembered.
    pub idempotency_ttl: Dur,
    /// Users of one expansion transaction.
    pub expand_batch: u32,
    /// Unsettled deliveries over which new ones are refused with 503.
    pub max_backlog: u64,
}
