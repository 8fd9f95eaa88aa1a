//! Publishes to ntfy.sh or any server that speaks its protocol.
//!
//! `config.rs`: keys and what is wrong with them. `send.rs`: the request and what its answer means.

mod config;
mod send;

pub use config::Config;

use campanile_plugin::prelude::*;

pub struct Ntfy {
    http: Http,
    config: Config,
}

impl Channel for Ntfy {
    type Config = Config;
    const INFO: Info = info!("ntfy")
        .display_name("ntfy")
        .recipient("ntfy_topic")
        .max_concurrency(8)
        .hosts(&["ntfy.sh"])
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

campanile_plugin::export!(Ntfy);
