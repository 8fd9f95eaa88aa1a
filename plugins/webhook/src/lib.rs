//! Posts each message to an HTTP endpoint, signed as Standard Webhooks asks.
//!
//! `config.rs`: keys and what is wrong with them. `sign.rs`: signatures. `send.rs`: the request and what its answer means.
//! `streak.rs`: since when nothing works. Requests go through the host, which refuses private addresses and follows no
//! redirects.

mod config;
mod send;
mod sign;
mod streak;

pub use config::Config;
pub use sign::signature;

use campanile_plugin::prelude::*;
use sign::Key;
use streak::Streak;

pub struct Webhook {
    http: Http,
    config: Config,
    /// Every current one signs.
    keys: Vec<Key>,
    streak: Streak,
}

impl Channel for Webhook {
    type Config = Config;
    const INFO: Info = info!("webhook")
        .display_name("Webhook")
        .recipient("webhook")
        .max_concurrency(32)
        // `webhook-id` stays the same over attempts; Standard Webhooks has receivers drop the second.
        .idempotent(true)
        .content(&["subject", "text"]);

    fn validate(config: &Config) -> Result<(), Vec<Problem>> {
        config.problems()
    }

    async fn start(config: Config, context: Context) -> Result<Self, StartError> {
        let keys = config.keys().map_err(StartError::from)?;
        let streak = Streak::new(*config.fail_after);
        Ok(Self { http: context.http(), config, keys, streak })
    }

    async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let sent = self.send(&d).await;
        self.streak.note(&sent);
        sent
    }

    async fn health(&self) -> Health {
        self.streak.health()
    }
}

campanile_plugin::export!(Webhook);
