//! One request, and what its answer means.

use crate::{Ntfy, config::is_topic};
use campanile_plugin::{prelude::*, text::shortened};

/// A longer message would arrive as a file.
const MESSAGE_MAX: usize = 4096;
const TITLE_MAX: usize = 250;

impl Ntfy {
    pub(crate) async fn send(&self, d: &Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let topic = d.recipient();
        if !is_topic(topic) {
            let why = "the address must be a topic: 1 to 64 letters, digits, - and _";
            return Err(DeliveryError::permanent(Reason::new("unsupported_address", why)));
        }
        let request = self.http.post(&self.config.server).json(&self.body(topic, d));
        let request = if !self.config.token.is_empty() {
            request.bearer(&self.config.token)
        } else if !self.config.user.is_empty() {
            request.basic(&self.config.user, &self.config.password)
        } else {
            request
        };
        read(request.send().await?)
    }

    fn body(&self, topic: &str, d: &Delivery<'_>) -> Value {
        let message = d.message();
        let priority = match message["priority"].as_str() {
            Some("low") => self.config.priorities.low,
            Some("high") => self.config.priorities.high,
            _ => self.config.priorities.normal,
        };
        let title = d.subject().split_whitespace().collect::<Vec<_>>().join(" ");
        let mut body = json!({
            "topic": topic,
            "title": shortened(&title, TITLE_MAX, char::len_utf8),
            "message": shortened(d.text(), MESSAGE_MAX, char::len_utf8),
            "priority": priority,
        });
        if !self.config.tags.is_empty() {
            body["tags"] = json!(self.config.tags);
        }
        // Whoever sends chooses this text: only an address that a browser opens.
        let click = message["data"][&self.config.click_key].as_str().and_then(|text| Url::parse(text).ok());
        if let Some(click) = click.filter(|_| !self.config.click_key.is_empty()) {
            body["click"] = click.as_str().into();
        }
        body
    }
}

fn read(reply: HttpReply) -> Result<Receipt, DeliveryError> {
    let reason = reply.reason();
    match reply.status {
        // A topic that this account may not write to is one person's; wrong credentials are 401.
        403 => Err(DeliveryError::permanent(reason)),
        404 | 410 => Err(DeliveryError::recipient_gone(reason)),
        _ => {
            #[derive(Deserialize)]
            struct Published {
                id: Option<String>,
            }
            let reply = reply.check()?;
            let published: Published = reply.json()?;
            let receipt = Receipt::new().detail(json!({ "http_status": reply.status }));
            Ok(published.id.map_or(receipt.clone(), |id| receipt.provider_id(id)))
        }
    }
}
