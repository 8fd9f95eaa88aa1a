//! The worker over the real embedded store.

use crate::channel::fake;
use campanile_model::{DeliveryId, UserKey, work::Claimed};

pub fn claimed(attempt: u32) -> Claimed {
    Claimed {
        delivery_id: DeliveryId::new(),
        notification: fake::notification(),
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
