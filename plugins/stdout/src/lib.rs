//! The smallest channel: one line on standard output for each message.

use campanile_plugin::prelude::*;
use std::io::Write;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Stands before every line, to tell instances apart.
    #[serde(default)]
    prefix: String,
}

pub struct Stdout(Config);

impl Channel for Stdout {
    type Config = Config;
    const INFO: Info = info!("stdout").display_name("Standard output").content(&["subject"]);

    async fn start(config: Config, _: Context) -> Result<Self, StartError> {
        Ok(Self(config))
    }

    async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let line = format!("{}{}: {}", self.0.prefix, d.recipient(), d.subject()).replace(char::is_control, " ");
        // A pipe that nobody reads any more is an I/O error, and `?` makes that a retry.
        writeln!(std::io::stdout().lock(), "{line}")?;
        Ok(Receipt::new())
    }
}

campanile_plugin::export!(Stdout);
