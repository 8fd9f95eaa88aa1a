//! `[ingest]`: Accepting notifications.

use super::check::Check;
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

impl Ingest {
    pub fn validate(&self, c: &mut Check) {
        c.positive([
            ("inline_max", self.inline_max as u128),
            ("max_recipients", self.max_recipients as u128),
            ("batch_max", self.batch_max as u128),
            ("idempotency_ttl", self.idempotency_ttl.as_millis()),
            ("expand_batch", self.expand_batch.into()),
            ("max_backlog", self.max_backlog.into()),
        ]);
        c.require(self.body_max >= 1024, "body_max", "must be at least 1024");
        c.require(self.batch_body_max >= self.body_max, "batch_body_max", "must not be less than ingest.body_max");
        c.require(self.inline_max <= self.max_recipients, "inline_max", "must not be more than ingest.max_recipients");
        // One transaction stays short: every other write waits for it.
        c.require(self.inline_max <= 1000, "inline_max", "must be at most 1000");
        c.require(self.expand_batch <= 2000, "expand_batch", "must be at most 2000");
    }
}
