//! One message to one recipient.

use serde_json::Value;
use std::{any::Any, borrow::Cow, sync::OnceLock, time::Duration};

static NOTHING: Value = Value::Null;
/// Enough for a call that nobody limits.
const LONG: Duration = Duration::from_secs(30);

/// One message to one recipient. Text is borrowed for the call.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    delivery_id: &'a str,
    idempotency_key: &'a str,
    attempt: u32,
    recipient: &'a str,
    subject: &'a str,
    text: &'a str,
    html: &'a str,
    message: Message<'a>,
    timeout: Duration,
    traceparent: &'a str,
    native: Option<&'a (dyn Any + Send + Sync)>,
    permission: &'a dyn Permission,
}

#[derive(Clone, Copy)]
enum Message<'a> {
    Value(&'a Value),
    Json(&'a Json),
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

/// What channels read.
impl<'a> Delivery<'a> {
    /// Stable over attempts.
    pub fn delivery_id(&self) -> &'a str {
        self.delivery_id
    }
    /// What to hand to the provider so that it drops a second sending of the same; stable over attempts.
    pub fn idempotency_key(&self) -> &'a str {
        self.idempotency_key
    }
    /// From 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
    /// Where to: the address as resolved; empty for channels without one.
    pub fn recipient(&self) -> &'a str {
        self.recipient
    }
    /// Rendered by the host, when the channel asks for it. One line.
    pub fn subject(&self) -> &'a str {
        self.subject
    }
    /// Rendered by the host, when the channel asks for it.
    pub fn text(&self) -> &'a str {
        self.text
    }
    /// Rendered by the host, when the channel asks for it.
    pub fn html(&self) -> &'a str {
        self.html
    }
    /// The whole notification: `notification_id, app, user_id, title, message, notification_type, timestamp, data,
    /// priority, locale`, and for mail `unsubscribe_url` when the type carries one.
    pub fn message(&self) -> &'a Value {
        match self.message {
            Message::Value(value) => value,
            Message::Json(json) => json.value(),
        }
    }
    /// [`Self::message`] as text.
    pub fn message_json(&self) -> Cow<'a, str> {
        match self.message {
            Message::Value(value) => Cow::Owned(value.to_string()),
            Message::Json(json) => Cow::Borrowed(&json.text),
        }
    }
    /// What is left of the host's time for this attempt.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
    /// W3C trace context of the attempt; may be empty.
    pub fn traceparent(&self) -> &'a str {
        self.traceparent
    }
    /// Ask just before the point of no return. False: the delivery isn't ours any more, so send nothing and answer
    /// `Retry`.
    pub fn may_proceed(&self) -> bool {
        self.permission.may_proceed()
    }
    /// [`Self::may_proceed`] as something to hand on.
    pub fn permission(&self) -> &'a dyn Permission {
        self.permission
    }
    /// A host-only payload for channels that are linked in; `None` everywhere else.
    pub fn native(&self) -> Option<&'a (dyn Any + Send + Sync)> {
        self.native
    }
}

/// What hosts and tests write.
impl<'a> Delivery<'a> {
    /// The first attempt, without content.
    pub fn new(delivery_id: &'a str, recipient: &'a str) -> Self {
        Self {
            delivery_id,
            idempotency_key: delivery_id,
            attempt: 1,
            recipient,
            subject: "",
            text: "",
            html: "",
            message: Message::Value(&NOTHING),
            timeout: LONG,
            traceparent: "",
            native: None,
            permission: &true,
        }
    }
    #[must_use]
    pub fn with_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }
    #[must_use]
    pub fn with_idempotency_key(self, idempotency_key: &'a str) -> Self {
        Self { idempotency_key, ..self }
    }
    #[must_use]
    pub fn with_content(self, subject: &'a str, text: &'a str, html: &'a str) -> Self {
        Self { subject, text, html, ..self }
    }
    #[must_use]
    pub fn with_message(self, message: &'a Value) -> Self {
        Self { message: Message::Value(message), ..self }
    }
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
    #[must_use]
    pub fn with_traceparent(self, traceparent: &'a str) -> Self {
        Self { traceparent, ..self }
    }
    #[must_use]
    pub fn with_permission(self, permission: &'a dyn Permission) -> Self {
        Self { permission, ..self }
    }
    #[must_use]
    pub fn with_native(self, native: &'a (dyn Any + Send + Sync)) -> Self {
        Self { native: Some(native), ..self }
    }
}

/// Text that becomes JSON when somebody looks.
#[derive(Clone, Debug, Default)]
pub struct Json {
    text: String,
    value: OnceLock<Value>,
}

impl Json {
    fn value(&self) -> &Value {
        self.value.get_or_init(|| serde_json::from_str(&self.text).unwrap_or(Value::Null))
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self { text, value: OnceLock::new() }
    }
}

/// A [`Delivery`] that borrows from nobody, for those who keep one: the other side of a line, a test.
#[derive(Clone, Debug, Default)]
pub struct OwnedDelivery {
    pub delivery_id: String,
    pub idempotency_key: String,
    pub attempt: u32,
    pub recipient: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message: Json,
    pub timeout: Duration,
    pub traceparent: String,
}

impl OwnedDelivery {
    pub fn borrow<'a>(&'a self, permission: &'a dyn Permission) -> Delivery<'a> {
        Delivery {
            delivery_id: &self.delivery_id,
            idempotency_key: &self.idempotency_key,
            attempt: self.attempt,
            recipient: &self.recipient,
            subject: &self.subject,
            text: &self.text,
            html: &self.html,
            message: Message::Json(&self.message),
            timeout: self.timeout,
            traceparent: &self.traceparent,
            native: None,
            permission,
        }
    }
}

impl From<Delivery<'_>> for OwnedDelivery {
    fn from(d: Delivery<'_>) -> Self {
        Self {
            delivery_id: d.delivery_id.to_owned(),
            idempotency_key: d.idempotency_key.to_owned(),
            attempt: d.attempt,
            recipient: d.recipient.to_owned(),
            subject: d.subject.to_owned(),
            text: d.text.to_owned(),
            html: d.html.to_owned(),
            message: d.message_json().into_owned().into(),
            timeout: d.timeout,
            traceparent: d.traceparent.to_owned(),
        }
    }
}
