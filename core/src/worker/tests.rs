//! The worker over the real embedded store.

use campanile_model::{
    AppId, DeliveryId, Notification, NotificationId, Priority, UserKey,
    clock::{Clock, SystemClock},
    notification::Content,
    work::Claimed,
};
use std::sync::Arc;

pub fn claimed(attempt: u32) -> Claimed {
    let content = Content {
        title: "t".to_owned(),
        message: "m".to_owned(),
        notification_type: "test".to_owned(),
        data: serde_json::Map::new(),
    };
    Claimed {
        delivery_id: DeliveryId::new(),
        notification: Arc::new(Notification {
            id: NotificationId::new(),
            app: AppId::default(),
            content: Arc::new(content),
            priority: Priority::Normal,
            created_at: SystemClock.now(),
            send_at: None,
            expires_at: None,
            collapse_key: None,
            request_id: "r".to_owned(),
        }),
        user: UserKey::new("default", "bob"),
        channel: "email".into(),
        recipient: Some("bob@example.org".to_owned()),
        locale: None,
        attempt,
        spent: 0,
        losses: 0,
        age_ms: 0,
    }
}
