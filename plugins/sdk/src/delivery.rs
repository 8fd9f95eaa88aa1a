use std::time::Duration;

/// One message to one recipient. Text is borrowed for the call.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// Stable over attempts; the provider's idempotency key and the stem of the Message-ID.
    pub delivery_id: &'a str,
    /// From 1.
    pub attempt: u32,
    /// Where to: the address as resolved; empty for channels without one.
    pub recipient: &'a str,
    /// Rendered by the host, when the channel asks for it.
    pub subject: &'a str,
    pub text: &'a str,
    pub html: &'a str,
    /// The whole notification: `notification_id, app, user_id, title, message, notification_type, timestamp, data,
    /// priority, locale`, and for mail `unsubscribe_url` when the type carries one.
    pub message: &'a serde_json::Value,
    /// What is left of the host's time for this attempt.
    pub timeout: Duration,
    /// A host-only payload for channels that are linked in; `None` everywhere else.
    pub native: Option<&'a (dyn std::any::Any + Send + Sync)>,
    /// Asked just before the point of no return.
    pub permission: &'a dyn Permission,
}

/// Whether the delivery is still ours to make: the lease holds and nobody took it back.
pub trait Permission: Send + Sync {
    fn may_proceed(&self) -> bool;
}

/// For tests and hosts without leases.
impl Permission for bool {
    fn may_proceed(&self) -> bool {
        *self
    }
}
