//! What operators do: try at once, pause, resume.

use super::{
    SqlStore, audit,
    group::Operation,
    read::{Reads, now},
    rows::Cells,
    statement::{by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState, Timestamp,
    ports::{Actor, Pause, StoreResult},
};
use serde_json::json;

/// Held rows that one transaction of a resume makes due.
const RELEASE_BATCH: i64 = 1_000;

/// What waits for its next try is tried at once.
pub struct Hasten {
    pub app: AppId,
    pub id: DeliveryId,
    pub actor: Actor,
}

#[async_trait]
impl Operation for Hasten {
    type Output = bool;
    const NAME: &'static str = "hasten";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let hastened = tx
            .exec(
                "trying a delivery at once",
                sql("UPDATE deliveries SET next_attempt_at = $1, relay_at = $1, relay_n = 0
                     WHERE id = $2 AND app = $3 AND state = 'retrying' AND next_attempt_at > $1")
                .bind(now)
                .bind(self.id.0)
                .bind(self.app.as_str()),
            )
            .await?;
        if hastened > 0 {
            audit::append(tx, &self.actor, "delivery.hasten", &self.id.to_string(), None).await?;
        }
        Ok(hastened > 0)
    }
}

pub struct SetPause {
    pub channel: ChannelName,
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    pub actor: Actor,
}

#[async_trait]
impl Operation for SetPause {
    type Output = bool;
    const NAME: &'static str = "pause";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let until = self.until.map(|t| t.timestamp_millis());
        let updated = tx
            .exec(
                "changing a pause",
                sql(
                    "UPDATE channel_pauses SET until = $1, reason = $2, actor = $3 WHERE channel = $4 AND ended IS NULL",
                )
                .bind(until)
                .bind(self.reason.as_deref())
                .bind(&self.actor.who)
                .bind(self.channel.as_str()),
            )
            .await?;
        if updated == 0 {
            tx.exec(
                "pausing a channel",
                sql("INSERT INTO channel_pauses (channel, since, until, reason, actor) VALUES ($1, $2, $3, $4, $5)")
                    .bind(self.channel.as_str())
                    .bind(now)
                    .bind(until)
                    .bind(self.reason.as_deref())
                    .bind(&self.actor.who),
            )
            .await?;
            tx.set_paused(&self.channel, true);
        }
        let detail = json!({"until": self.until.map(campanile_model::clock::rfc3339), "reason": self.reason});
        audit::append(tx, &self.actor, "channel.pause", self.channel.as_str(), Some(detail)).await?;
        Ok(updated == 0)
    }
}

pub struct EndPause {
    pub channel: ChannelName,
    pub actor: Actor,
}

#[async_trait]
impl Operation for EndPause {
    type Output = bool;
    const NAME: &'static str = "resume";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let ended = tx
            .exec(
                "ending a pause",
                sql("UPDATE channel_pauses SET ended = $1 WHERE channel = $2 AND ended IS NULL")
                    .bind(now)
                    .bind(self.channel.as_str()),
            )
            .await?;
        if ended == 0 {
            return Ok(false);
        }
        tx.set_paused(&self.channel, false);
        audit::append(tx, &self.actor, "channel.resume", self.channel.as_str(), None).await?;
        Ok(true)
    }
}

/// One batch of a channel's unclaimed due rows that would wait longer than now: published before the pause. In the order of
/// an index, from where the last batch ended: a long backlog is walked once.
struct ReleaseHeld {
    channel: ChannelName,
    state: DeliveryState,
    from: i64,
}

#[async_trait]
impl Operation for ReleaseHeld {
    /// Where the next batch begins.
    type Output = Option<i64>;
    const NAME: &'static str = "resume";

    fn rows(&self) -> usize {
        RELEASE_BATCH as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<i64>> {
        let now = tx.now;
        let rows = tx
            .fetch(
                "releasing held deliveries",
                by_engine(
                    "UPDATE deliveries SET relay_at = $1, relay_n = 0 WHERE id IN (
                        SELECT id FROM deliveries
                        WHERE channel = $2 AND state = $3 AND state IN ('pending', 'retrying') AND next_attempt_at >= $4
                          AND next_attempt_at <= $1 AND (relay_at > $1 OR relay_n > 0)
                        ORDER BY next_attempt_at LIMIT $5) RETURNING next_attempt_at",
                    "UPDATE deliveries SET relay_at = $1, relay_n = 0 WHERE id IN (
                        SELECT id FROM deliveries
                        WHERE channel = $2 AND state = $3 AND state IN ('pending', 'retrying') AND next_attempt_at >= $4
                          AND next_attempt_at <= $1 AND (relay_at > $1 OR relay_n > 0)
                        ORDER BY next_attempt_at LIMIT $5 FOR UPDATE SKIP LOCKED) RETURNING next_attempt_at",
                )
                .bind(now)
                .bind(self.channel.as_str())
                .bind(self.state.as_str())
                .bind(self.from)
                .bind(RELEASE_BATCH),
            )
            .await?;
        let times = rows.iter().map(|row| Cells::of("deliveries", row).int("next_attempt_at"));
        Ok(times.collect::<StoreResult<Vec<_>>>()?.into_iter().max())
    }
}

impl SqlStore {
    /// Rows whose `relay_at` has passed already are due as they are.
    pub(super) async fn release_held(&self, channel: &ChannelName) -> StoreResult<()> {
        for state in [DeliveryState::Pending, DeliveryState::Retrying] {
            let mut from = Some(i64::MIN);
            while let Some(at) = from {
                from = self.write_patiently(ReleaseHeld { channel: channel.clone(), state, from: at }).await?;
            }
        }
        Ok(())
    }
}

impl Reads {
    pub async fn pauses(&self) -> StoreResult<Vec<Pause>> {
        let rows =
            self.fetch("pauses", sql("SELECT * FROM channel_pauses WHERE ended IS NULL ORDER BY channel")).await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("channel_pauses", row);
                Ok(Pause {
                    channel: c.channel("channel")?,
                    since: c.time("since")?,
                    until: c.opt_time("until")?,
                    reason: c.get("reason")?,
                    actor: c.text("actor")?,
                })
            })
            .collect()
    }

    pub async fn lapsed_pauses(&self) -> StoreResult<Vec<ChannelName>> {
        let rows = self
            .fetch(
                "pauses",
                by_engine(
                    concat!(
                        "SELECT channel FROM channel_pauses WHERE ended IS NULL AND until <= ",
                        now!(sqlite),
                        " ORDER BY channel"
                    ),
                    concat!(
                        "SELECT channel FROM channel_pauses WHERE ended IS NULL AND until <= ",
                        now!(postgres),
                        " ORDER BY channel"
                    ),
                )
                .bind(self.offset()),
            )
            .await?;
        rows.iter().map(|row| Cells::of("channel_pauses", row).channel("channel")).collect()
    }
}
