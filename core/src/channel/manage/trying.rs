//! Trying without saving: values that are not saved yet, and one message past the breaker.
//!
//! Absent on purpose: a row of any of it; what an attempt of a real delivery leaves (`worker`).

use super::{Done, NewInstance, NotDone, Wrong, in_config};
use crate::channel::{
    Called, Keeper, Renderer,
    keeper::{bring_up, end},
    setup::secrets::Trust,
};
use campanile_model::{
    AppId, ChannelName, Content, DeliveryId, Notification, NotificationId, Priority, UserKey, work::Claimed,
};
use campanile_plugin::DeliveryError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Instant};

/// A delivery by which an operator tries an instance.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestMessage {
    /// Where to, in the form of the instance's channel.
    pub address: String,
    pub title: Option<String>,
    pub message: Option<String>,
}

/// What the provider really said.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct TestResult {
    pub ok: bool,
    /// `ok`, `retry`, `throttled`, `permanent`, `recipient_gone`, `misconfigured`, `timeout` or `panic`.
    pub outcome: String,
    pub code: Option<String>,
    pub message: Option<String>,
    /// It may have been sent all the same.
    pub uncertain: bool,
    pub provider_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub detail: Option<Value>,
    pub duration_ms: u64,
}

impl Keeper {
    /// Starts an instance with these values beside whatever runs, asks it how it is, and ends it. Err with a sentence when it
    /// does not start, and by field when the values are not valid. Nothing is saved, no delivery meets it.
    pub async fn try_values(&self, new: &NewInstance) -> Done<()> {
        let parts = self.parts();
        let before = parts.store.instance(&new.name).await?;
        let setup = self.check(new, before.as_ref()).await?;
        let code = parts.catalogue.find(&new.plugin).ok_or(NotDone::NotFound("plugin"))?;
        let tried = bring_up(code.as_ref(), &parts.vault, Trust::Managed, &new.name, &setup.config).await;
        match tried {
            Ok((instance, _)) => {
                end(instance.as_ref()).await;
                Ok(())
            }
            Err((step, reason, problems)) if problems.is_empty() => {
                Err(NotDone::NotNow(format!("with these values it does not get past the step {step:?}: {reason}")))
            }
            Err((_, _, problems)) => Err(NotDone::Invalid(in_config(&problems))),
        }
    }

    /// One delivery by this instance, past its breaker and beside the queue. Nothing of it is stored.
    pub async fn test(&self, renderer: &Renderer, name: &str, what: TestMessage) -> Done<TestResult> {
        let entry = self.parts().registry.entry(name).ok_or(NotDone::NotFound("instance"))?;
        if entry.spec.in_app {
            return Err(NotDone::NotNow("this channel delivers into the feed; send a notification to try it".into()));
        }
        let Some(runner) = entry.runner else {
            let why = entry.failure.map_or_else(|| "it is switched off".to_owned(), |f| f.reason);
            return Err(NotDone::NotNow(format!("{name} does not run: {why}")));
        };
        let guard = self.parts().registry.get(&entry.spec.channel).ok_or(NotDone::NotFound("channel"))?;
        guard.check_address(&what.address).map_err(|why| NotDone::Invalid(vec![Wrong::new("address", why)]))?;
        let claimed = self.claimed(&entry.spec.channel, &what);
        let rendered = renderer.render(&claimed).map_err(|e| NotDone::NotNow(e.to_string()))?;
        let id = claimed.delivery_id.to_string();
        let delivery = campanile_plugin::Delivery::new(&id, &what.address)
            .with_content(&rendered.subject, &rendered.text, &rendered.html)
            .with_message(&rendered.message)
            .with_timeout(runner.timeout());
        let began = Instant::now();
        // A permit of its own, so that a change waits for it like for any other delivery.
        let seat = runner.seat();
        let called = runner.call(delivery).await;
        drop(seat);
        Ok(TestResult::of(called, &what.address, began))
    }

    fn claimed(&self, channel: &ChannelName, what: &TestMessage) -> Claimed {
        let content = Content {
            title: what.title.clone().unwrap_or_else(|| "A test message".to_owned()),
            message: what.message.clone().unwrap_or_else(|| "An operator tries whether this channel works.".to_owned()),
            notification_type: "test".to_owned(),
            data: Map::new(),
        };
        let notification = Notification {
            id: NotificationId::new(),
            app: AppId::default(),
            content: Arc::new(content),
            priority: Priority::Normal,
            created_at: self.parts().clock.now(),
            send_at: None,
            expires_at: None,
            collapse_key: None,
            request_id: String::new(),
            trace: None,
        };
        Claimed {
            delivery_id: DeliveryId::new(),
            notification: Arc::new(notification),
            user: UserKey::new(AppId::default().as_str(), "test"),
            channel: channel.clone(),
            recipient: Some(what.address.clone()),
            locale: None,
            attempt: 1,
            spent: 0,
            losses: 0,
            age_ms: 0,
        }
    }
}

impl TestResult {
    fn of(called: Called, address: &str, began: Instant) -> Self {
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let blank = Self {
            ok: false,
            outcome: String::new(),
            code: None,
            message: None,
            uncertain: false,
            provider_id: None,
            detail: None,
            duration_ms,
        };
        match called {
            Called::Answered(Ok(receipt)) => Self {
                ok: true,
                outcome: "ok".to_owned(),
                provider_id: receipt.provider_id,
                detail: receipt.detail,
                ..blank
            },
            Called::Answered(Err(error)) => {
                let outcome = match &error {
                    DeliveryError::Throttled { .. } => "throttled",
                    DeliveryError::Permanent { .. } => "permanent",
                    DeliveryError::RecipientGone { .. } => "recipient_gone",
                    DeliveryError::Misconfigured { .. } => "misconfigured",
                    _ => "retry",
                };
                let reason = error.reason();
                Self {
                    outcome: outcome.to_owned(),
                    code: Some(reason.code.clone().into_owned()),
                    // The operator typed the address; what is shown and logged elsewhere has none, so neither has this.
                    message: Some(reason.message.replace(address, "(recipient)")),
                    uncertain: reason.uncertain,
                    detail: reason.detail.clone(),
                    ..blank
                }
            }
            Called::TimedOut => Self { outcome: "timeout".to_owned(), uncertain: true, ..blank },
            Called::Panicked(said) => {
                Self { outcome: "panic".to_owned(), message: Some(said), uncertain: true, ..blank }
            }
        }
    }
}
