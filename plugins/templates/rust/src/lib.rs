//! Posts each message to a URL.

use campanile_plugin::prelude::*;

/// Doc comments become the help texts of the form in the console.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where messages go.
    url: Url,
    /// Sent as a bearer token, when there is one.
    #[serde(default)]
    token: Secret,
}

pub struct MyChannel {
    http: Http,
    config: Config,
}

impl Channel for MyChannel {
    type Config = Config;
    const INFO: Info = info!("my_channel").recipient("my_channel").max_concurrency(16).content(&["subject", "text"]);

    async fn start(config: Config, context: Context) -> Result<Self, StartError> {
        Ok(Self { http: context.http(), config })
    }

    async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let body = json!({ "to": d.recipient(), "title": d.subject(), "text": d.text() });
        let mut request = self.http.post(&self.config.url).header("idempotency-key", d.idempotency_key()).json(&body);
        if !self.config.token.is_empty() {
            request = request.bearer(&self.config.token);
        }
        // 429 slows the channel, 410 suppresses the address, 401 stops the channel, 5xx is tried again.
        Receipt::from_http(request.send().await?)
    }
}

campanile_plugin::export!(MyChannel);
