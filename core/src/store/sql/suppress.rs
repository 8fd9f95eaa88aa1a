//! Suppressed addresses, unsubscriptions, and the evidence that leads to them.

use super::{
    audit,
    group::Operation,
    read::Reads,
    rows::Cells,
    statement::{Row, sql},
    tx::Tx,
    wishes,
};
use crate::store::rules::fold_address;
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, DeliveryId, UserId, UserKey,
    ports::{Actor, StoreResult, Suppression},
    state::reason,
    work::AddressFault,
};
use serde_json::json;
use uuid::Uuid;

/// Keeps evidence against an address; suppresses it once there is enough.
pub async fn note_fault(
    tx: &mut Tx<'_>,
    app: &str,
    channel: &str,
    address: &str,
    delivery: DeliveryId,
    fault: AddressFault,
) -> StoreResult<()> {
    let address = fold_address(address);
    let now = tx.now;
    let (kind, limit, days) = match fault {
        AddressFault::Gone => {
            return suppress_address(tx, app, channel, &address, reason::RECIPIENT_GONE).await.map(drop);
        }
        AddressFault::Suspect { kind, limit, days } => (kind, i64::from(limit), i64::from(days)),
    };
    tx.exec(
        "keeping evidence against an address",
        sql("INSERT INTO address_faults (app, channel, address, kind, at, delivery_id) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING")
        .bind(app)
        .bind(channel)
        .bind(&address)
        .bind(kind)
        .bind(now)
        .bind(delivery.0),
    )
    .await?;
    let row = tx
        .fetch_opt(
            "counting evidence against an address",
            sql("SELECT COUNT(*) AS n FROM address_faults
                 WHERE app = $1 AND channel = $2 AND address = $3 AND kind = $4 AND at > $5")
            .bind(app)
            .bind(channel)
            .bind(&address)
            .bind(kind)
            .bind(now - days * 86_400_000),
        )
        .await?;
    let count = row.map_or(Ok(0), |row| Cells::of("address_faults", &row).int("n"))?;
    if count >= limit {
        suppress_address(tx, app, channel, &address, kind).await?;
    }
    Ok(())
}

/// False: it was suppressed already.
async fn suppress_address(tx: &mut Tx<'_>, app: &str, channel: &str, address: &str, reason: &str) -> StoreResult<bool> {
    let now = tx.now;
    let added = tx
        .exec(
            "suppressing an address",
            sql(
                "INSERT INTO suppressions (id, app, channel, address, reason, created_at) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT DO NOTHING",
            )
            .bind(Uuid::now_v7().to_string())
            .bind(app)
            .bind(channel)
            .bind(address)
            .bind(reason)
            .bind(now),
        )
        .await?;
    Ok(added > 0)
}

pub struct Unsubscribe {
    pub user: UserKey,
    pub channel: ChannelName,
    pub notification_type: String,
    /// Somebody did it for them; they themselves need no audit.
    pub actor: Option<Actor>,
}

#[async_trait]
impl Operation for Unsubscribe {
    /// False: they had done so before.
    type Output = bool;
    const NAME: &'static str = "unsubscribe";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let added = tx
            .exec(
                "unsubscribing",
                sql("INSERT INTO suppressions (id, app, channel, user_id, notification_type, reason, created_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING")
                .bind(Uuid::now_v7().to_string())
                .bind(self.user.app.as_str())
                .bind(self.channel.as_str())
                .bind(self.user.user.as_str())
                .bind(&self.notification_type)
                .bind(reason::UNSUBSCRIBED)
                .bind(now),
            )
            .await?;
        if added > 0 {
            let who = self.actor.as_ref().map(|actor| actor.who.as_str());
            let user = (self.user.app.as_str(), self.user.user.as_str());
            wishes::keep(tx, user, self.channel.as_str(), Some(&self.notification_type), false, who).await?;
        }
        if let (1.., Some(actor)) = (added, &self.actor) {
            let detail = json!({"channel": self.channel, "notification_type": self.notification_type});
            audit::append(tx, actor, "user.opt_out", self.user.user.as_str(), Some(detail)).await?;
        }
        Ok(added > 0)
    }
}

pub struct AddSuppression {
    pub app: AppId,
    pub channel: ChannelName,
    pub address: String,
    pub reason: String,
    pub actor: Actor,
}

#[async_trait]
impl Operation for AddSuppression {
    type Output = ();
    const NAME: &'static str = "suppress";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let address = fold_address(&self.address);
        if suppress_address(tx, self.app.as_str(), self.channel.as_str(), &address, &self.reason).await? {
            let detail = json!({"channel": self.channel, "reason": self.reason});
            audit::append(tx, &self.actor, "suppression.add", &address, Some(detail)).await?;
        }
        Ok(())
    }
}

pub struct LiftSuppression {
    pub app: AppId,
    pub id: String,
    pub actor: Actor,
}

#[async_trait]
impl Operation for LiftSuppression {
    type Output = bool;
    const NAME: &'static str = "suppress";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let row = tx
            .fetch_opt(
                "lifting a suppression",
                sql("DELETE FROM suppressions WHERE app = $1 AND id = $2
                     RETURNING app, channel, address, user_id, notification_type")
                .bind(self.app.as_str())
                .bind(&self.id),
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let c = Cells::of("suppressions", &row);
        let (channel, address) = (c.text("channel")?, c.get::<Option<String>>("address")?);
        if let Some(address) = &address {
            // Old evidence must not suppress it again at the next fault.
            tx.exec(
                "forgetting evidence against an address",
                sql("DELETE FROM address_faults WHERE app = $1 AND channel = $2 AND address = $3")
                    .bind(self.app.as_str())
                    .bind(&channel)
                    .bind(address),
            )
            .await?;
        }
        let (user, kind): (Option<String>, Option<String>) = (c.get("user_id")?, c.get("notification_type")?);
        if let Some(user) = &user {
            let (user, who) = ((self.app.as_str(), user.as_str()), Some(self.actor.who.as_str()));
            wishes::keep(tx, user, &channel, kind.as_deref(), true, who).await?;
        }
        let detail = json!({"channel": channel, "user_id": user, "notification_type": kind});
        // Under the person, where it is one: with what else was done for them.
        let target = address.or(user).unwrap_or_else(|| self.id.clone());
        audit::append(tx, &self.actor, "suppression.lift", &target, Some(detail)).await?;
        Ok(true)
    }
}

pub fn suppression(row: &Row) -> StoreResult<Suppression> {
    let c = Cells::of("suppressions", row);
    Ok(Suppression {
        id: c.text("id")?,
        channel: c.channel("channel")?,
        address: c.get("address")?,
        user_id: c.get::<Option<&str>>("user_id")?.map(UserId::from),
        notification_type: c.get("notification_type")?,
        reason: c.text("reason")?,
        created_at: c.time("created_at")?,
    })
}

impl Reads {
    pub async fn suppressions(&self, app: &AppId, after: Option<String>, limit: u32) -> StoreResult<Vec<Suppression>> {
        let rows = self
            .fetch(
                "suppressions",
                sql("SELECT * FROM suppressions WHERE app = $1 AND id > $2 ORDER BY id LIMIT $3")
                    .bind(app.as_str())
                    .bind(after.unwrap_or_default())
                    .bind(limit),
            )
            .await?;
        rows.iter().map(suppression).collect()
    }

    pub async fn unsubscribe_target(&self, id: DeliveryId) -> StoreResult<Option<(UserKey, ChannelName, String)>> {
        let row = self
            .fetch_opt(
                "unsubscribe_target",
                sql("SELECT d.app, d.user_id, d.channel, n.notification_type
                     FROM deliveries d JOIN notifications n ON n.id = d.notification_id WHERE d.id = $1")
                .bind(id.0),
            )
            .await?;
        row.map(|row| {
            let c = Cells::of("deliveries", &row);
            Ok((c.user()?, c.channel("channel")?, c.text("notification_type")?))
        })
        .transpose()
    }
}
