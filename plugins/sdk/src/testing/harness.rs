//! One instance and its scripted host.

use super::{Instance, Plugin, Script};
use crate::{Channel, DeliveryError, Health, OwnedDelivery, Reason, Receipt, StartError, wire::Outcome};
use serde_json::{Value, json};
use std::{marker::PhantomData, sync::Arc, time::Duration};

/// A delivery for tests.
#[derive(Clone, Debug)]
pub struct Sample(pub OwnedDelivery);

impl Sample {
    pub fn to(recipient: impl Into<String>) -> Self {
        let id = "0190c0de-0000-7000-8000-000000000001".to_owned();
        let message = json!({
            "notification_id": id, "app": "default", "user_id": "ada", "title": "Hello", "message": "Hello Ada.",
            "notification_type": "general", "timestamp": "2026-01-01T00:00:00Z", "data": {}, "priority": "normal",
            "locale": "en",
        });
        Self(OwnedDelivery {
            idempotency_key: id.clone(),
            delivery_id: id,
            attempt: 1,
            recipient: recipient.into(),
            subject: "Hello".into(),
            text: "Hello Ada.".into(),
            html: "<p>Hello Ada.</p>".into(),
            message: message.to_string().into(),
            timeout: Duration::from_secs(30),
            traceparent: String::new(),
        })
    }
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.delivery_id = id.into();
        self.0.idempotency_key = self.0.delivery_id.clone();
        self
    }
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = attempt;
        self
    }
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = subject.into();
        self
    }
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.text = text.into();
        self
    }
    #[must_use]
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.0.html = html.into();
        self
    }
    #[must_use]
    pub fn message(mut self, message: &Value) -> Self {
        self.0.message = message.to_string().into();
        self
    }
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = timeout;
        self
    }
}

/// A started channel behind its table, on a scripted host.
pub struct Harness<C> {
    instance: Instance,
    script: Arc<Script>,
    channel: PhantomData<fn() -> C>,
}

impl<C: Channel> Harness<C> {
    pub async fn start(config: Value) -> Result<Self, StartError> {
        Self::start_on(config, Script::new()).await
    }

    /// With a script that has answers for what the channel asks while it starts.
    pub async fn start_on(config: Value, script: Arc<Script>) -> Result<Self, StartError> {
        match Plugin::of::<C>().start(&config.to_string(), script.clone()).await {
            Ok(instance) => Ok(Self { instance, script, channel: PhantomData }),
            Err(outcome) => Err(StartError::new(outcome.message)),
        }
    }

    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The instance itself: tokens, cancelling, batches.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    pub async fn deliver(&self, sample: &Sample) -> Result<Receipt, DeliveryError> {
        self.instance.deliver(&sample.0).await.into_delivery()
    }

    pub async fn deliver_ok(&self, sample: &Sample) -> Receipt {
        match self.deliver(sample).await {
            Ok(receipt) => receipt,
            Err(error) => panic!("expected a receipt, got {error:?}"),
        }
    }

    pub async fn expect_retry(&self, sample: &Sample) -> Reason {
        match self.deliver(sample).await {
            Err(DeliveryError::Retry { reason, .. }) => reason,
            other => panic!("expected Retry, got {other:?}"),
        }
    }

    pub async fn expect_throttled(&self, sample: &Sample) -> (Option<Duration>, Reason) {
        match self.deliver(sample).await {
            Err(DeliveryError::Throttled { after, reason }) => (after, reason),
            other => panic!("expected Throttled, got {other:?}"),
        }
    }

    pub async fn expect_permanent(&self, sample: &Sample) -> Reason {
        match self.deliver(sample).await {
            Err(DeliveryError::Permanent { reason }) => reason,
            other => panic!("expected Permanent, got {other:?}"),
        }
    }

    pub async fn expect_gone(&self, sample: &Sample) -> Reason {
        match self.deliver(sample).await {
            Err(DeliveryError::RecipientGone { reason }) => reason,
            other => panic!("expected RecipientGone, got {other:?}"),
        }
    }

    pub async fn expect_misconfigured(&self, sample: &Sample) -> Reason {
        match self.deliver(sample).await {
            Err(DeliveryError::Misconfigured { reason }) => reason,
            other => panic!("expected Misconfigured, got {other:?}"),
        }
    }

    pub async fn health(&self) -> Health {
        self.instance.health().await.map_or(Health::Ok, Outcome::into_health)
    }

    /// Stops and destroys it.
    pub async fn stop(self) {
        self.instance.stop().await;
        self.instance.destroy();
    }
}
