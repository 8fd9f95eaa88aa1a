//! Sends text messages through Twilio or any other HTTP provider.
//!
//! `config.rs`: keys and what is wrong with them. `template.rs`: words of other providers' requests. `segments.rs`: what a
//! text costs. `send.rs`: the request and what its answer means; `codes.rs`: Twilio's error codes. Absent on purpose:
//! receiving messages and delivery reports.

mod codes;
mod config;
mod segments;
mod send;
mod template;

pub use config::Config;
pub use segments::segments;

use campanile_plugin::prelude::*;

pub struct Sms {
    http: Http,
    config: Config,
}

impl Channel for Sms {
    type Config = Config;
    const INFO: Info =
        info!("sms").display_name("SMS").recipient("phone").max_concurrency(8).content(&["subject", "text"]);

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

campanile_plugin::export!(Sms);
