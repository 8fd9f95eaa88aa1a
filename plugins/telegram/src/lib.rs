//! Sends through a Telegram bot.
//!
//! `config.rs`: keys and what is wrong with them. `send.rs`: the request and what its answer means. Absent on purpose:
//! reading what people write to the bot.

mod config;
mod send;

pub use config::{Config, Format};

use campanile_plugin::prelude::*;

pub struct Telegram {
    http: Http,
    config: Config,
}

impl Channel for Telegram {
    type Config = Config;
    const INFO: Info = info!("telegram")
        .display_name("Telegram")
        .recipient("telegram_chat")
        .max_concurrency(16)
        .hosts(&["api.telegram.org"])
        .content(&["subject", "text"]);

    fn validate(config: &Config) -> Result<(), Vec<Problem>> {
        config.problems()
    }

    async fn start(config: Config, context: Context) -> Result<Self, StartError> {
        Ok(Self { http: context.http(), config })
    }

    async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        self.send(&d).await
    }
}

campanile_plugin::export!(Telegram);
