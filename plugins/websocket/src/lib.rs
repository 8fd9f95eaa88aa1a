//! The websocket channel: asks the host to push feed items to open sockets.
//!
//! An in-app delivery is complete when its feed row is committed, so this channel has nothing to lose: it only hands
//! the news on. Absent on purpose: sockets, the hub, the protocol. They are the host's.

use campanile_model::{effects::PushBatch, ports::Realtime};
use campanile_plugin::{Channel, Delivery, DeliveryError, Info, Reason, Receipt, StartError};
use std::sync::Arc;

pub struct Websocket {
    realtime: Arc<dyn Realtime>,
}

impl Channel for Websocket {
    type Config = ();
    type Host = Arc<dyn Realtime>;
    const INFO: Info = Info {
        recipient: "none",
        max_batch: 1000,
        idempotent: true,
        rendered: false,
        ..Info::new("websocket", env!("CARGO_PKG_VERSION"))
    };

    async fn start(_config: (), realtime: Arc<dyn Realtime>) -> Result<Self, StartError> {
        Ok(Self { realtime })
    }

    /// `native` carries the committed [`PushBatch`]: one notification and all of its users in that commit.
    async fn deliver(&self, delivery: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let Some(batch) = delivery.native.and_then(|n| n.downcast_ref::<PushBatch>()) else {
            return Err(DeliveryError::Permanent {
                reason: Reason::new("not_in_app", "an in-app delivery is made by its commit; there is nothing to send"),
            });
        };
        self.realtime.push(std::slice::from_ref(batch));
        Ok(Receipt::default())
    }

    /// In order: a user's items must reach the sockets as they were numbered.
    async fn deliver_batch(&self, items: Vec<Delivery<'_>>) -> Vec<Result<Receipt, DeliveryError>> {
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            results.push(self.deliver(item).await);
        }
        results
    }
}
