//! Leases: renewed, given back, lapsed, rescued.

use super::{
    collapse::transition,
    finish::{AttemptInsert, store_attempts},
    group::Operation,
    read::{Reads, now},
    rows::{Cells, Hex, json_ids, json_rows},
    statement::{Row, by_engine, sql},
    tx::Tx,
};
use crate::store::rules;
use async_trait::async_trait;
use campanile_model::{
    DeliveryId, DeliveryState, NodeId,
    ports::StoreResult,
    work::{AttemptOutcome, NextStep},
};
use std::time::Duration;

pub struct Renew {
    pub node: NodeId,
    pub held: Vec<(DeliveryId, u32)>,
    pub lease: Duration,
}

#[async_trait]
impl Operation for Renew {
    type Output = Vec<DeliveryId>;
    const NAME: &'static str = "renew";

    fn rows(&self) -> usize {
        self.held.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<DeliveryId>> {
        let held: Vec<(Hex, u32)> = self.held.iter().map(|(id, attempt)| (Hex(id.0), *attempt)).collect();
        let until = tx.now.saturating_add(self.lease.as_millis() as i64);
        let rows = tx
            .fetch(
                "renewing leases",
                by_engine(
                    "UPDATE deliveries SET lease_until = $1
                     FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS attempt FROM json_each($2)) j
                     WHERE deliveries.id = j.id AND deliveries.state = 'sending' AND deliveries.attempt = j.attempt
                       AND deliveries.lease_owner = $3
                     RETURNING deliveries.id",
                    "UPDATE deliveries SET lease_until = $1
                     FROM (SELECT d.id FROM jsonb_array_elements($2::jsonb) AS h (value)
                           JOIN deliveries d ON d.id = (h.value ->> 0)::uuid AND d.attempt = (h.value ->> 1)::bigint
                           WHERE d.state = 'sending' AND d.lease_owner = $3 ORDER BY d.id FOR UPDATE OF d) j
                     WHERE deliveries.id = j.id
                     RETURNING deliveries.id",
                )
                .bind(until)
                .bind(json_rows(&held)?)
                .bind(self.node.0),
            )
            .await?;
        rows.iter().map(|row| Cells::of("deliveries", row).delivery("id")).collect()
    }
}

impl Reads {
    /// Whether a rescue would find anything: an idle host costs the writer nothing.
    pub async fn lease_lapsed(&self) -> StoreResult<bool> {
        let row = self
            .fetch_opt(
                "rescue",
                by_engine(
                    concat!(
                        "SELECT COALESCE((SELECT MIN(lease_until) FROM deliveries WHERE state = 'sending') <= ",
                        now!(sqlite),
                        ", false) AS lapsed"
                    ),
                    concat!(
                        "SELECT COALESCE((SELECT MIN(lease_until) FROM deliveries WHERE state = 'sending') <= ",
                        now!(postgres),
                        ", false) AS lapsed"
                    ),
                )
                .bind(self.offset()),
            )
            .await?;
        row.map_or(Ok(false), |row| Cells::of("deliveries", &row).flag("lapsed"))
    }
}

pub struct Rescue {
    pub limit: u32,
}

#[async_trait]
impl Operation for Rescue {
    type Output = u64;
    const NAME: &'static str = "rescue";
    const BEFORE_COMMIT: Option<&'static str> = Some("rescue.before_commit");

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let now = tx.now;
        let rows = tx
            .fetch(
                "reading lapsed leases",
                by_engine(
                    "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.priority, d.attempt, d.losses,
                            d.stop, d.in_app, d.claimed_at, d.lease_owner, n.cancelled_at IS NOT NULL AS cancelled
                     FROM deliveries d JOIN notifications n ON n.id = d.notification_id
                     WHERE d.state = 'sending' AND d.lease_until <= $1 ORDER BY d.lease_until LIMIT $2",
                    "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.priority, d.attempt, d.losses,
                            d.stop, d.in_app, d.claimed_at, d.lease_owner, n.cancelled_at IS NOT NULL AS cancelled
                     FROM deliveries d JOIN notifications n ON n.id = d.notification_id
                     WHERE d.state = 'sending' AND d.lease_until <= $1 ORDER BY d.lease_until LIMIT $2
                     FOR UPDATE OF d SKIP LOCKED",
                )
                .bind(now)
                .bind(self.limit),
            )
            .await?;
        let mut attempts = Vec::with_capacity(rows.len());
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let started_at = c.get::<Option<i64>>("claimed_at")?.unwrap_or(now);
            attempts.push(AttemptInsert {
                id: Hex(c.uuid("id")?),
                attempt: c.small("attempt")?,
                started_at,
                duration_ms: (now - started_at).max(0),
                outcome: AttemptOutcome::Lost.as_str(),
                code: None,
                message: None,
                // Whether the far side got it, nobody knows.
                uncertain: !c.flag("in_app")?,
                instance: None,
                template: None,
                code_version: None,
                node: c.opt_uuid("lease_owner")?.map(Hex),
            });
        }
        store_attempts(tx, &attempts).await?;
        release(tx, &rows, |c| {
            let losses = c.int("losses")? + 1;
            let stop: Option<String> = c.get("stop")?;
            Ok((rules::after_loss(losses, stop.as_deref(), c.flag("cancelled")?), losses))
        })
        .await
    }
}

/// `None`: everything this node holds, audiences too.
pub struct GiveBack {
    pub node: NodeId,
    pub ids: Option<Vec<DeliveryId>>,
}

#[async_trait]
impl Operation for GiveBack {
    type Output = u64;
    const NAME: &'static str = "give_back";

    fn rows(&self) -> usize {
        self.ids.as_ref().map_or(100, Vec::len)
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let rows = tx
            .fetch(
                "reading own leases",
                by_engine(
                    "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.priority, d.attempt, d.losses,
                            d.stop, n.cancelled_at IS NOT NULL AS cancelled
                     FROM deliveries d JOIN notifications n ON n.id = d.notification_id
                     WHERE d.state = 'sending' AND d.lease_owner = $1
                       AND ($2 IS NULL OR d.id IN (SELECT unhex(value) FROM json_each($2)))",
                    "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.priority, d.attempt, d.losses,
                            d.stop, n.cancelled_at IS NOT NULL AS cancelled
                     FROM deliveries d JOIN notifications n ON n.id = d.notification_id
                     WHERE d.state = 'sending' AND d.lease_owner = $1
                       AND ($2 IS NULL OR d.id IN (SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb)))
                     ORDER BY d.id FOR UPDATE OF d",
                )
                .bind(self.node.0)
                .bind(self.ids.as_ref().map(|ids| json_ids(ids.iter().map(|i| i.0)))),
            )
            .await?;
        if self.ids.is_none() {
            tx.exec(
                "giving audiences back",
                sql("UPDATE audiences SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1")
                    .bind(self.node.0),
            )
            .await?;
        }
        release(tx, &rows, |c| {
            let stop: Option<String> = c.get("stop")?;
            let wished = NextStep::RetryIn { delay_ms: 0 };
            Ok((rules::after_attempt(&wished, stop.as_deref(), c.flag("cancelled")?), c.int("losses")?))
        })
        .await
    }
}

type Verdict = ((DeliveryState, Option<String>), i64);

/// Takes these rows out of `sending`: due now, at once for the relay, unless the verdict settles them.
async fn release(
    tx: &mut Tx<'_>,
    rows: &[Row],
    verdict: impl Fn(Cells<'_>) -> StoreResult<Verdict>,
) -> StoreResult<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let now = tx.now;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let c = Cells::of("deliveries", row);
        let ((state, reason), losses) = verdict(c)?;
        tx.effects.transitions.push(transition(c, state, reason.clone())?);
        changes.push((Hex(c.uuid("id")?), state.as_str(), reason, losses));
    }
    tx.exec(
        "releasing leases",
        by_engine("UPDATE deliveries SET state = j.state, reason = j.reason, losses = j.losses,
                    next_attempt_at = CASE WHEN j.state = 'retrying' THEN $1 ELSE next_attempt_at END, relay_at = $1, relay_n = 0,
                    lease_owner = NULL, lease_until = NULL, claimed_at = NULL, stop = CASE WHEN j.state = 'dead' THEN stop END,
                    settled_at = CASE WHEN j.state = 'retrying' THEN NULL ELSE $1 END
             FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS state, value ->> 2 AS reason, value ->> 3 AS losses
                   FROM json_each($2)) j
             WHERE deliveries.id = j.id AND deliveries.state = 'sending'", "UPDATE deliveries SET state = j.state, reason = j.reason, losses = j.losses,
                    next_attempt_at = CASE WHEN j.state = 'retrying' THEN $1 ELSE next_attempt_at END, relay_at = $1,
                    relay_n = 0, lease_owner = NULL, lease_until = NULL, claimed_at = NULL,
                    stop = CASE WHEN j.state = 'dead' THEN stop END,
                    settled_at = CASE WHEN j.state = 'retrying' THEN NULL ELSE $1 END
             FROM (SELECT (value ->> 0)::uuid AS id, value ->> 1 AS state, value ->> 2 AS reason,
                          (value ->> 3)::bigint AS losses
                   FROM jsonb_array_elements($2::jsonb)) j
             WHERE deliveries.id = j.id AND deliveries.state = 'sending'")
        .bind(now)
        .bind(json_rows(&changes)?),
    )
    .await
}

/// A node on SQLite is alone: whatever is leased at its start belongs to a process that is gone, and so does whatever was
/// handed to the queue, which lived in that process.
pub struct LapseAll;

#[async_trait]
impl Operation for LapseAll {
    type Output = u64;
    const NAME: &'static str = "lapse_leases";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let now = tx.now;
        let audiences = tx
            .exec(
                "lapsing audience leases",
                sql("UPDATE audiences SET lease_owner = NULL, lease_until = NULL
                     WHERE done_at IS NULL AND lease_until IS NOT NULL"),
            )
            .await?;
        let deliveries = tx
            .exec(
                "lapsing leases",
                sql("UPDATE deliveries SET lease_until = $1 WHERE state = 'sending' AND lease_until > $1").bind(now),
            )
            .await?;
        tx.exec(
            "making what was queued due for the relay",
            sql("UPDATE deliveries SET relay_at = $1, relay_n = 0
                 WHERE state IN ('pending', 'retrying') AND next_attempt_at <= $1 AND relay_at > $1")
            .bind(now),
        )
        .await?;
        Ok(audiences + deliveries)
    }
}
