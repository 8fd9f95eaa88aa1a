//! Suppressed addresses and unsubscriptions, as the accepting and the claiming transaction see them.

use super::{
    rows::{Cells, json_rows},
    statement::by_engine,
    tx::Tx,
};
use crate::store::rules::fold_address;
use campanile_model::{
    ChannelName, Notification, UserId,
    plan::{DeliveryPlan, RecipientPlan},
    ports::StoreResult,
};
use std::collections::{BTreeSet, HashSet};

/// Those of the asked that exist. Keys are (app, channel, address) and (app, channel, user, type).
#[derive(Default)]
pub struct Gate {
    addresses: HashSet<(String, String, String)>,
    users: HashSet<(String, String, String, String)>,
}

impl Gate {
    pub async fn load(tx: &mut Tx<'_>, plans: &[(&Notification, &RecipientPlan)]) -> StoreResult<Self> {
        let mut wanted = Wanted::default();
        for (n, recipient) in plans {
            for plan in &recipient.deliveries {
                if !plan.in_app && plan.suppressed.is_none() {
                    wanted.add(n, &recipient.user_id, &plan.channel, plan.recipient.as_deref());
                }
            }
        }
        wanted.load(tx).await
    }

    pub fn address(&self, n: &Notification, plan: &DeliveryPlan) -> bool {
        plan.recipient.as_deref().is_some_and(|address| self.address_of(n, &plan.channel, address))
    }

    pub fn address_of(&self, n: &Notification, channel: &ChannelName, address: &str) -> bool {
        !self.addresses.is_empty()
            && self.addresses.contains(&(n.app.to_string(), channel.to_string(), fold_address(address)))
    }

    pub fn unsubscribed(&self, n: &Notification, user: &UserId, channel: &ChannelName) -> bool {
        !self.users.is_empty()
            && self.users.contains(&(
                n.app.to_string(),
                channel.to_string(),
                user.to_string(),
                n.content.notification_type.clone(),
            ))
    }
}

/// What to look up.
#[derive(Default)]
pub struct Wanted {
    addresses: BTreeSet<(String, String, String)>,
    users: BTreeSet<(String, String, String, String)>,
}

impl Wanted {
    pub fn add(&mut self, n: &Notification, user: &UserId, channel: &ChannelName, address: Option<&str>) {
        let (app, channel) = (n.app.to_string(), channel.to_string());
        if let Some(address) = address {
            self.addresses.insert((app.clone(), channel.clone(), fold_address(address)));
        }
        self.users.insert((app, channel, user.to_string(), n.content.notification_type.clone()));
    }

    pub async fn load(self, tx: &mut Tx<'_>) -> StoreResult<Gate> {
        let mut gate = Gate::default();
        if self.users.is_empty() {
            return Ok(gate);
        }
        let rows = tx
            .fetch(
                "reading suppressions",
                by_engine(
                    "SELECT s.app, s.channel, s.address, NULL AS user_id, NULL AS notification_type
                     FROM json_each($1) j CROSS JOIN suppressions s
                       ON s.app = j.value ->> 0 AND s.channel = j.value ->> 1 AND s.address = j.value ->> 2
                     UNION ALL
                     SELECT s.app, s.channel, NULL, s.user_id, s.notification_type
                     FROM json_each($2) j CROSS JOIN suppressions s
                       ON s.app = j.value ->> 0 AND s.channel = j.value ->> 1 AND s.user_id = j.value ->> 2
                      AND s.notification_type = j.value ->> 3",
                    "SELECT s.app, s.channel, s.address, NULL AS user_id, NULL AS notification_type
                     FROM jsonb_array_elements($1::jsonb) AS j (value) JOIN suppressions s
                       ON s.app = j.value ->> 0 AND s.channel = j.value ->> 1 AND s.address = j.value ->> 2
                     UNION ALL
                     SELECT s.app, s.channel, NULL, s.user_id, s.notification_type
                     FROM jsonb_array_elements($2::jsonb) AS j (value) JOIN suppressions s
                       ON s.app = j.value ->> 0 AND s.channel = j.value ->> 1 AND s.user_id = j.value ->> 2
                      AND s.notification_type = j.value ->> 3",
                )
                .bind(json_rows(&self.addresses.iter().collect::<Vec<_>>())?)
                .bind(json_rows(&self.users.iter().collect::<Vec<_>>())?),
            )
            .await?;
        for row in &rows {
            let c = Cells::of("suppressions", row);
            let (app, channel) = (c.text("app")?, c.text("channel")?);
            match c.get::<Option<String>>("address")? {
                Some(address) => {
                    gate.addresses.insert((app, channel, address));
                }
                None => {
                    gate.users.insert((app, channel, c.text("user_id")?, c.text("notification_type")?));
                }
            }
        }
        Ok(gate)
    }
}
