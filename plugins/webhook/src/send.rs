//! One request, and what its answer means.

use crate::{Webhook, sign};
use campanile_plugin::prelude::*;
use std::time::{SystemTime, UNIX_EPOCH};

impl Webhook {
    pub(crate) async fn send(&self, d: &Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let fixed = self.config.url.is_some();
        let url = match &self.config.url {
            Some(url) => url.clone(),
            None => Url::parse(d.recipient()).map_err(|why| {
                DeliveryError::permanent(Reason::new("unsupported_address", format!("the address {why}")))
            })?,
        };
        let (body, now) = (body(d), now());
        let mut request = self.http.post(url).json(&Value::Null);
        for (name, value) in &self.config.headers {
            request = request.header(name, value);
        }
        if !self.config.authorization.is_empty() {
            request = request.header("authorization", self.config.authorization.expose());
        }
        if !d.traceparent().is_empty() {
            request = request.header("traceparent", d.traceparent());
        }
        let id = d.idempotency_key();
        let reply = request
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", sign::all(&self.keys, id, now, &body))
            .body(body)
            .send()
            .await?;
        let receipt = Receipt::from_http(reply);
        receipt.map_err(|error| if fixed { of_ours(error) } else { of_theirs(error) })
    }
}

/// The endpoint of all messages: one that is gone is our configuration's fault and nobody's address.
fn of_ours(error: DeliveryError) -> DeliveryError {
    match error {
        DeliveryError::RecipientGone { reason } => DeliveryError::misconfigured(Reason {
            message: "the endpoint says that it is gone for good: set the new address or switch the channel off".into(),
            ..reason
        }),
        other => other,
    }
}

/// One user's endpoint. Its troubles are its own: they must neither slow down nor stop the others, and whatever it answers
/// may be different after its next release. Only 410 is for ever.
fn of_theirs(error: DeliveryError) -> DeliveryError {
    match error {
        DeliveryError::RecipientGone { reason } => DeliveryError::recipient_gone(reason),
        DeliveryError::Retry { after, reason } | DeliveryError::Throttled { after, reason } => {
            DeliveryError::Retry { after, reason }
        }
        DeliveryError::Misconfigured { reason } | DeliveryError::Permanent { reason } => DeliveryError::retry(reason),
        other => other,
    }
}

/// `type`, `timestamp` and `data`, as the specification recommends; the same bytes in every attempt.
fn body(d: &Delivery<'_>) -> String {
    let message = d.message();
    let mut data = message.clone();
    if let Value::Object(data) = &mut data {
        data.remove("notification_type");
        data.remove("timestamp");
        data.insert("title".into(), d.subject().into());
        data.insert("message".into(), d.text().into());
        data.insert("recipient".into(), d.recipient().into());
    }
    json!({ "type": message["notification_type"], "timestamp": message["timestamp"], "data": data }).to_string()
}

#[expect(clippy::disallowed_methods, reason = "receivers compare the signed time with their own clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}
