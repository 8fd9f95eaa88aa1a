//! The wire forms of sending, as the OpenAPI document shows them. What they may hold is `ingest::validate`'s business;
//! a test keeps the two lists of fields equal.

use crate::http::problem::FieldError;
use campanile_model::{
    ChannelName, NotificationId, Priority, UserId,
    api::{AcceptedAudience, AcceptedDelivery},
};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One notification. `user_id` or `to` is required, and `title`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "user_id": "u_ada", "title": "New message from John", "message": "John: Hello there...",
    "notification_type": "new_message", "data": {"room_id": "r_7"}
}))]
pub struct NotificationBody {
    /// The one recipient; your own id of the user.
    #[schema(max_length = 255)]
    pub user_id: Option<UserId>,
    /// Several recipients, at most 10,000; a user named twice counts once.
    pub to: Option<Vec<RecipientBody>>,
    #[schema(min_length = 1, max_length = 200)]
    pub title: String,
    /// Empty by default.
    #[schema(max_length = 4000)]
    pub message: Option<String>,
    /// The category; `general` by default.
    #[schema(max_length = 128)]
    pub notification_type: Option<String>,
    /// By default every enabled channel for which the user has an address. A named one without an address is shown as
    /// `suppressed` (`no_address`).
    pub channels: Option<Vec<ChannelName>>,
    /// A free object of at most 16 KiB, handed to clients with the notification.
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    /// Order of relay and claim.
    pub priority: Option<Priority>,
    /// When to send; now by default, and when it lies in the past.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub send_at: Option<String>,
    /// What is not sent by then is not sent at all, and leaves the feed.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<String>,
    /// A newer notification with the same key and type takes the place of an older one.
    #[schema(max_length = 255)]
    pub collapse_key: Option<String>,
    /// False: pushed to open sockets only, never stored.
    pub persist: Option<bool>,
}

/// A user id, or an object with contact points for this notification only.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RecipientBody {
    Id(String),
    Contact {
        user_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        email: Option<String>,
        /// Channel → address.
        #[serde(skip_serializing_if = "Option::is_none")]
        addresses: Option<BTreeMap<String, String>>,
    },
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BatchBody {
    /// Each stands alone: its own validation, key and result.
    #[schema(min_items = 1, max_items = 1000)]
    pub notifications: Vec<BatchItem>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BatchItem {
    #[serde(flatten)]
    pub notification: NotificationBody,
    /// As the `Idempotency-Key` header of a single call.
    #[schema(max_length = 255)]
    pub idempotency_key: Option<String>,
}

/// The answer to `persist: false`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pushed {
    pub notification_id: NotificationId,
    /// `pushed`, or `dropped` while the websocket channel is paused.
    #[schema(example = "pushed")]
    pub status: &'static str,
}

impl Pushed {
    pub fn new(notification_id: NotificationId, pushed: bool) -> Self {
        Self { notification_id, status: if pushed { "pushed" } else { "dropped" } }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResults {
    /// In the order of `notifications`.
    pub results: Vec<BatchResult>,
}

/// `error`, or all the rest.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchResult {
    pub index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_id: Option<NotificationId>,
    /// `accepted`, `pushed` or `dropped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<AcceptedDelivery>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<AcceptedAudience>,
    /// The stored answer of an earlier request with the same key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ItemError {
    pub code: String,
    pub detail: String,
    pub errors: Vec<FieldError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{FIELDS, RECIPIENT_FIELDS};

    #[test]
    fn the_document_shows_the_fields_that_are_read() {
        let body = NotificationBody {
            user_id: None,
            to: None,
            title: String::new(),
            message: None,
            notification_type: None,
            channels: None,
            data: None,
            priority: None,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            persist: None,
        };
        let shown = serde_json::to_value(body).unwrap();
        let mut known = FIELDS.to_vec();
        known.sort_unstable();
        let mut names: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, known);

        let contact =
            RecipientBody::Contact { user_id: "u".into(), email: Some("e".into()), addresses: Some(BTreeMap::new()) };
        let shown = serde_json::to_value(contact).unwrap();
        assert!(shown.as_object().unwrap().keys().all(|k| RECIPIENT_FIELDS.contains(&k.as_str())));
        assert_eq!(shown.as_object().unwrap().len(), RECIPIENT_FIELDS.len());
    }
}
