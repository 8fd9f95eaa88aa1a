//! The channel itself: compose, then hand to the relay or to the catcher.

use crate::{
    config::{Config, Settings},
    message::{Composer, Letter, Mail},
    pool::Pool,
    reply,
};
use campanile_plugin::{
    Channel, Context, Delivery, DeliveryError, Health, Info, Problem, Reason, Receipt, StartError, info,
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A mail that was caught instead of sent.
#[derive(Clone, Debug)]
pub struct CaughtMail {
    pub from: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message_id: String,
    /// As it would have gone over the wire.
    pub source: Vec<u8>,
}

/// Takes mail in the relay's place when no relay is configured: an `Arc` of it is the context's native part. Only a host
/// in development has one: production never pretends.
pub trait Outbox: Send + Sync + 'static {
    fn catch(&self, mail: CaughtMail);
}

enum Transport {
    Relay(Pool),
    Capture(Arc<dyn Outbox>),
}

pub struct Email {
    composer: Composer,
    transport: Transport,
    /// Why the last mail did not reach the relay at all.
    trouble: Mutex<Option<String>>,
}

impl Channel for Email {
    type Config = Settings;

    const INFO: Info = info!("email")
        .display_name("E-mail")
        .recipient("email")
        .max_concurrency(5)
        .timeout(Duration::from_mins(5))
        .asks_permission(true);

    fn validate(settings: &Settings) -> Result<(), Vec<Problem>> {
        Config::new(settings.clone()).map(drop)
    }

    async fn start(settings: Settings, context: Context) -> Result<Self, StartError> {
        let config = Config::new(settings)?;
        let outbox = context.native::<Arc<dyn Outbox>>().cloned();
        let transport = match (config.dialler, outbox) {
            (Some(dialler), _) => Transport::Relay(Pool::new(dialler, config.phases, config.max_connections)),
            (None, Some(outbox)) => Transport::Capture(outbox),
            (None, None) => return Err(StartError("email.url: names no relay, and nothing catches mail here".into())),
        };
        Ok(Self { composer: config.composer, transport, trouble: Mutex::default() })
    }

    async fn deliver(&self, delivery: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let mail = self.compose(Letter::new(&delivery)).await?;
        let provider_id = Some(mail.message_id.clone());
        match &self.transport {
            Transport::Capture(outbox) => {
                if !delivery.may_proceed() {
                    return Err(reply::lease_lost());
                }
                outbox.catch(mail.into());
                Ok(Receipt { provider_id, detail: Some(json!({"caught": true})) })
            }
            Transport::Relay(pool) => {
                let sent = pool.send(mail, own_time(delivery.timeout()), delivery.permission()).await;
                self.note(sent.as_ref().err());
                let reply = sent?;
                Ok(Receipt { provider_id, detail: Some(json!({"reply": format!("{} {}", reply.word(), reply.text)})) })
            }
        }
    }

    async fn health(&self) -> Health {
        match self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            None => Health::Ok,
            Some(why) => Health::Degraded(why),
        }
    }

    async fn stop(&self) {
        if let Transport::Relay(pool) = &self.transport {
            pool.stop().await;
        }
    }
}

impl Email {
    async fn compose(&self, letter: Letter) -> Result<Mail, DeliveryError> {
        if self.composer.dkim.is_none() {
            return self.composer.compose(letter);
        }
        // An RSA signature takes milliseconds: too long for a thread that others share.
        let composer = self.composer.clone();
        tokio::task::spawn_blocking(move || composer.compose(letter)).await.unwrap_or_else(|e| {
            let reason = Reason::new("panic", format!("composing the mail broke off: {e}"));
            Err(DeliveryError::Retry { after: None, reason })
        })
    }

    fn note(&self, error: Option<&DeliveryError>) {
        let trouble = error.map(DeliveryError::reason).filter(|r| {
            matches!(r.code.as_ref(), "connect_failed" | "tls_failed" | "tls_unsupported" | "auth_unsupported")
                || matches!(error, Some(DeliveryError::Misconfigured { .. }))
        });
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(|r| r.message.clone());
    }
}

/// A little less than the host gives, so that our own answer, which knows the phase, comes first.
fn own_time(host: Duration) -> Duration {
    host.saturating_sub((host / 20).min(Duration::from_secs(2)))
}

impl From<Mail> for CaughtMail {
    fn from(m: Mail) -> Self {
        Self {
            from: m.sender,
            to: m.recipient,
            subject: m.subject,
            text: m.text,
            html: m.html,
            message_id: m.message_id,
            source: m.source,
        }
    }
}
