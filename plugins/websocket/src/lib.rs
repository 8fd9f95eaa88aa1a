//! The websocket channel: asks the host to push feed items to open sockets.
//!
//! An in-app delivery is complete when its feed row is committed, so this channel has nothing to lose: it only hands
//! the news on. Absent on purpose: sockets, the hub, the protocol. They are the host's.

use campanile_model::{effects::PushBatch, ports::Realtime};
use campanile_plugin::{
    Channel, Context, Delivery, DeliveryError, Info, Reason, Receipt, StartError, info,
    schemars::{self, JsonSchema},
};
use serde::Deserialize;
use std::sync::Arc;

/// There is nothing to set here; the sockets' own settings are the host's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Started with the host's [`Realtime`] as the context's native part: an `Arc<dyn Realtime>`.
pub struct Websocket {
    realtime: Arc<dyn Realtime>,
}

impl Channel for Websocket {
    type Config = Config;
    const INFO: Info =
        info!("websocket").display_name("WebSocket").recipient("none").max_batch(1000).idempotent(true).content(&[]);

    async fn start(_: Config, context: Context) -> Result<Self, StartError> {
        match context.native::<Arc<dyn Realtime>>() {
            Some(realtime) => Ok(Self { realtime: realtime.clone() }),
            None => Err(StartError::new("the websocket channel works only inside the host that owns the sockets")),
        }
    }

    /// `native` carries the committed [`PushBatch`]: one notification and all of its users in that commit.
    async fn deliver(&self, delivery: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let Some(batch) = delivery.native().and_then(|n| n.downcast_ref::<PushBatch>()) else {
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
