//! The relay's half of the outbox: which rows to publish now.
//!
//! A reader looks, so that an idle host costs the writer nothing; the writer moves `relay_at` on and returns what it
//! moved. One channel and one priority at a time, by index: a paused channel's backlog is never walked over.

use super::{
    group::Operation,
    read::{Reads, now},
    rows::{Cells, json_ids, json_rows},
    statement::by_engine,
    tx::Tx,
};
use crate::store::rules::relay_step_ms;
use async_trait::async_trait;
use campanile_model::{ChannelName, DeliveryId, ports::StoreResult, work::RelayRow};
use std::collections::HashMap;

/// The channels that something waits for, one look at an index each.
macro_rules! waiting_channels {
    () => {
        "channels(channel) AS (
            SELECT MIN(channel) FROM deliveries WHERE state IN ('pending', 'retrying')
            UNION ALL
            SELECT (SELECT MIN(d.channel) FROM deliveries d
                    WHERE d.state IN ('pending', 'retrying') AND d.channel > channels.channel)
            FROM channels WHERE channels.channel IS NOT NULL)"
    };
}
pub(crate) use waiting_channels;

/// `$1` offset, `$2` channels left out, `$3` limit.
macro_rules! due {
    ($engine:ident, $left_out:literal, $rows:literal, $last:literal) => {
        concat!(
            "WITH RECURSIVE ",
            waiting_channels!(),
            ",
             open AS (
                SELECT channel FROM channels WHERE channel IS NOT NULL
                  AND channel NOT IN (SELECT ",
            $left_out,
            ") AND channel NOT IN (SELECT channel FROM channel_pauses WHERE ended IS NULL))
             SELECT d.id, d.channel FROM open CROSS JOIN (SELECT 0 AS p UNION ALL SELECT 1 UNION ALL SELECT 2) ranks
             CROSS JOIN ",
            $rows,
            " FROM deliveries x
                WHERE x.state IN ('pending', 'retrying') AND x.channel = open.channel AND x.priority = ranks.p
                  AND x.relay_at <= ",
            now!($engine),
            "   ORDER BY x.relay_at LIMIT $3)",
            $last,
            " WHERE d.next_attempt_at <= ",
            now!($engine),
            " AND (d.expires_at IS NULL OR d.expires_at > ",
            now!($engine),
            ")
             ORDER BY d.priority, d.due_at, d.id LIMIT $3"
        )
    };
}
const DUE_SQLITE: &str = due!(sqlite, "value FROM json_each($2)", "deliveries d ON d.id IN (SELECT x.id", "");
const DUE_POSTGRES: &str = due!(postgres, "jsonb_array_elements_text($2::jsonb)", "LATERAL (SELECT x.*", " AS d");

impl Reads {
    /// Candidates in (priority, due) order.
    pub async fn relay_candidates(&self, limit: u32, skip: &[ChannelName]) -> StoreResult<Vec<DeliveryId>> {
        let rows = self
            .fetch("relay", by_engine(DUE_SQLITE, DUE_POSTGRES).bind(self.offset()).bind(json_rows(skip)?).bind(limit))
            .await?;
        rows.iter().map(|row| Cells::of("deliveries", row).delivery("id")).collect()
    }
}

pub struct MoveOn {
    /// In the order to publish.
    pub ids: Vec<DeliveryId>,
}

#[async_trait]
impl Operation for MoveOn {
    type Output = Vec<RelayRow>;
    const NAME: &'static str = "relay";

    fn rows(&self) -> usize {
        self.ids.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<RelayRow>> {
        let now = tx.now;
        let paused = tx.paused_json()?;
        let rows = tx
            .fetch(
                "moving rows on",
                by_engine(
                    // The steps of rules::relay_step_ms.
                    "UPDATE deliveries SET relay_n = relay_n + 1,
                            relay_at = $1 + CASE relay_n WHEN 0 THEN 10000 WHEN 1 THEN 60000 ELSE 120000 END
                     WHERE id IN (SELECT unhex(value) FROM json_each($2)) AND state IN ('pending', 'retrying')
                       AND relay_at <= $1 AND channel NOT IN (SELECT value FROM json_each($3))
                     RETURNING id, channel", // What another node holds, it moves on itself.
                    "UPDATE deliveries d SET relay_n = relay_n + 1,
                            relay_at = $1 + CASE relay_n WHEN 0 THEN 10000 WHEN 1 THEN 60000 ELSE 120000 END
                     FROM (SELECT x.id FROM deliveries x
                           WHERE x.id IN (SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb))
                             AND x.state IN ('pending', 'retrying') AND x.relay_at <= $1
                             AND x.channel NOT IN (SELECT jsonb_array_elements_text($3::jsonb))
                           ORDER BY x.id FOR UPDATE SKIP LOCKED) mine
                     WHERE d.id = mine.id
                     RETURNING d.id, d.channel",
                )
                .bind(now)
                .bind(json_ids(self.ids.iter().map(|i| i.0)))
                .bind(paused),
            )
            .await?;
        let mut moved: HashMap<DeliveryId, ChannelName> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let c = Cells::of("deliveries", row);
            moved.insert(c.delivery("id")?, c.channel("channel")?);
        }
        Ok(self
            .ids
            .iter()
            .filter_map(|id| moved.remove(id).map(|channel| RelayRow { channel, delivery_id: *id }))
            .collect())
    }
}

/// Publishing failed: due for the relay again at once.
pub struct Failed {
    pub ids: Vec<DeliveryId>,
}

#[async_trait]
impl Operation for Failed {
    type Output = ();
    const NAME: &'static str = "relay";

    fn rows(&self) -> usize {
        self.ids.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "taking rows back from the relay",
            by_engine(
                "UPDATE deliveries SET relay_at = MAX($1, next_attempt_at)
                 WHERE id IN (SELECT unhex(value) FROM json_each($2)) AND state IN ('pending', 'retrying')",
                "UPDATE deliveries SET relay_at = GREATEST($1, next_attempt_at)
                 WHERE id IN (SELECT x.id FROM deliveries x
                              WHERE x.id IN (SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb))
                                AND x.state IN ('pending', 'retrying') ORDER BY x.id FOR UPDATE)",
            )
            .bind(now)
            .bind(json_ids(self.ids.iter().map(|i| i.0))),
        )
        .await?;
        Ok(())
    }
}

/// Published to a broker that was away since: due for the relay again, with its steps from the first.
pub struct Again {
    pub channel: ChannelName,
    pub limit: u32,
}

#[async_trait]
impl Operation for Again {
    type Output = u64;
    const NAME: &'static str = "relay";

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let now = tx.now;
        // What comes within the first step comes by itself, and so a second node that hears of the broker a moment later
        // does not bring it all again. Nothing that is due waits longer than the last step; beyond it are retries only.
        tx.exec(
            "making rows due for the relay again",
            by_engine(
                "UPDATE deliveries SET relay_at = $1, relay_n = 0 WHERE id IN (
                    SELECT id FROM deliveries
                    WHERE channel = $2 AND state IN ('pending', 'retrying') AND priority IN (0, 1, 2)
                      AND relay_at > $1 + $3 AND relay_at <= $1 + $4 AND next_attempt_at <= $1 LIMIT $5)",
                "UPDATE deliveries SET relay_at = $1, relay_n = 0 WHERE id IN (
                    SELECT id FROM deliveries
                    WHERE channel = $2 AND state IN ('pending', 'retrying') AND priority IN (0, 1, 2)
                      AND relay_at > $1 + $3 AND relay_at <= $1 + $4 AND next_attempt_at <= $1
                    ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED)",
            )
            .bind(now)
            .bind(self.channel.as_str())
            .bind(relay_step_ms(0))
            .bind(relay_step_ms(i64::MAX))
            .bind(self.limit),
        )
        .await
    }
}
