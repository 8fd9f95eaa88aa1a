//! Posts to a chat through an incoming webhook: Slack, Discord, Mattermost, or a Teams workflow.
//!
//! `config.rs`: keys and what is wrong with them. `body.rs`: what each service takes, with its escaping and limits.
//! `send.rs`: the request and what its answer means. Absent on purpose: bots with tokens, threads, files.

mod body;
mod config;
mod send;

pub use config::{Config, Service};

use campanile_plugin::prelude::*;

pub struct Slack {
    http: Http,
    config: Config,
}

impl Channel for Slack {
    type Config = Config;
    const INFO: Info = info!("slack")
        .display_name("Slack, Discord, Mattermost, Teams")
        .recipient("slack")
        .max_concurrency(4)
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

campanile_plugin::export!(Slack);
