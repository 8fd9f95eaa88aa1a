//! Posts notifications as an application does that never gives up: the same key again until it hears an answer.

use crate::{
    api::Api,
    db::Delivery,
    history::{History, Mail, Outcome, Post, StateSeen},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A history that several tasks write to.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    pub fn with<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
    pub fn take(&self) -> History {
        self.0.lock().unwrap().clone()
    }

    /// Posts once and records how it went. `None`: no clear answer.
    pub async fn post(&self, api: &Api, key: &str, user: &str, channels: &[&str], extra: &Value) -> Option<Uuid> {
        let mut body = json!({"user_id": user, "title": key, "channels": channels});
        for (name, value) in extra.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let invoked = self.with(History::moment);
        let request = api.request("POST", "/api/v1/notifications").header("Idempotency-Key", key).json(&body);
        let (outcome, id) = match api.try_run(request).await {
            Ok(reply) if reply.status == 202 => {
                (Outcome::Ok, reply.json["notification_id"].as_str().and_then(|id| id.parse().ok()))
            }
            Ok(reply) if reply.status >= 500 || reply.status == 429 || reply.status == 409 => (Outcome::Info, None),
            Ok(_) => (Outcome::Fail, None),
            Err(_) => (Outcome::Info, None),
        };
        self.with(|h| {
            let returned = h.moment();
            h.posts.push(Post {
                invoked,
                returned,
                key: key.into(),
                user: user.into(),
                channels: channels.iter().map(|c| (*c).to_owned()).collect(),
                outcome,
                id,
            });
        });
        id
    }

    /// Posts until a 202 came; `api` says where the host is now.
    pub async fn post_until_accepted(
        &self,
        api: impl Fn() -> Option<Api>,
        key: &str,
        user: &str,
        channels: &[&str],
        extra: &Value,
    ) -> Uuid {
        crate::wait::until(&format!("{key} is accepted"), || async {
            self.post(&api()?, key, user, channels, extra).await
        })
        .await
    }

    /// What the far side of the mail took.
    pub fn mailed(&self, message_ids: impl IntoIterator<Item = String>) {
        self.with(|h| {
            for message_id in message_ids {
                let at = h.moment();
                h.mails.push(Mail { at, message_id });
            }
        });
    }

    /// The states of all deliveries now, for the rule that settled ones stay.
    pub fn saw(&self, deliveries: &[Delivery]) {
        self.with(|h| {
            let at = h.moment();
            h.states.extend(deliveries.iter().map(|d| StateSeen { at, delivery: d.id, state: d.state.clone() }));
        });
    }
}
