//! One request, and what its answer means.

use crate::{Service, Slack, body::body};
use campanile_plugin::prelude::*;

impl Slack {
    pub(crate) async fn send(&self, d: &Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let config = &self.config;
        let fixed = !config.url.is_empty();
        let address = if fixed { config.url.expose() } else { d.recipient() };
        let url = Url::parse(address).map_err(|why| {
            DeliveryError::permanent(Reason::new("unsupported_address", format!("the address {why}")))
        })?;
        // Only Mattermost lets a webhook choose its channel.
        let channel = (fixed && config.service == Service::Mattermost && d.recipient().starts_with(['@', '#']))
            .then(|| d.recipient().strip_prefix('#').unwrap_or(d.recipient()));
        let body = body(config, d.subject(), d.text(), channel);
        // With `wait` Discord answers when the message exists, with its id.
        let url = match config.service {
            Service::Discord => format!("{url}{}wait=true", if url.as_str().contains('?') { '&' } else { '?' }),
            _ => url.to_string(),
        };
        let reply = self.http.post(url).json(&body).send().await?;
        self.read(reply, fixed, channel.is_some())
    }

    fn read(&self, reply: HttpReply, fixed: bool, chosen: bool) -> Result<Receipt, DeliveryError> {
        let service = self.config.service;
        let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if reply.is_success() {
            return accepted(service, &reply, &said);
        }
        // Discord tells fractions of a second only in the body.
        let seconds = said["retry_after"].as_f64().filter(|s| service == Service::Discord && *s >= 0.0);
        let after = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).or_else(|| reply.retry_after());
        let reason = reply.reason();
        Err(match reply.status {
            429 if fixed => DeliveryError::throttled(after, reason),
            429 => DeliveryError::Retry { after, reason },
            // The webhook was removed, its channel archived, or somebody forbade it to post.
            401 | 403 | 404 | 410 if fixed && !chosen => DeliveryError::misconfigured(Reason {
                message: format!("the webhook is refused; make a new one and set its URL ({})", reason.message),
                ..reason
            }),
            404 | 410 => DeliveryError::recipient_gone(reason),
            // Mattermost answers 400 when the chosen channel doesn't exist.
            300..=399 if fixed => return Receipt::from_http(reply),
            300..=399 | 401 | 403 => DeliveryError::permanent(reason),
            _ => return Receipt::from_http(reply),
        })
    }
}

/// Who answers 200 with something else than the service would is not the service: a login page, a proxy.
fn accepted(service: Service, reply: &HttpReply, said: &Value) -> Result<Receipt, DeliveryError> {
    let receipt = Receipt::new().detail(json!({ "http_status": reply.status }));
    let known = match service {
        Service::Slack | Service::Mattermost => {
            reply.text().trim() == "ok" || reply.body.is_empty() || said.is_object()
        }
        Service::Discord => reply.status == 204 || said.is_object(),
        // Workflows answer 202 and nothing, or what their author put there.
        Service::Teams => true,
    };
    if !known {
        let reason = Reason::new("bad_answer", "the answer is not the service's; check the webhook's URL");
        return Err(DeliveryError::retry(reason.uncertain()));
    }
    Ok(match said["id"].as_str() {
        Some(id) => receipt.provider_id(id),
        None => receipt,
    })
}
