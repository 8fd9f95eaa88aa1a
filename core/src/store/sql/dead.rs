//! Dead letters many at once: by their cause, replayed or put out of sight in one transaction.
//!
//! A dismissal is a mark beside the state. The contract lets nothing out of `dead` but a replay, and the mark keeps that:
//! the delivery stays dead in its notification and until retention, it can be taken back, and no count shows it.

use super::{
    SqlStore, audit,
    group::Operation,
    inspect::{attach_attempts, deliveries, delivery_row},
    read::{Reads, now},
    replay,
    rows::{Cells, json_ids},
    statement::{Sql, by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, DeliveryId, NotificationId, UserId,
    ports::{Actor, DeadGroup, DeadPlace, DeadWhich, DeliveryRow, ReplayOutcome, StoreResult},
};
use serde_json::json;

/// Everything of `$2` to `$9` that is told; the indexes hold all that is looked at, but for a person.
macro_rules! which {
    ($d:literal, anyone) => {
        concat!(which!($d), " AND $7 IS NULL")
    };
    ($d:literal, one) => {
        concat!(which!($d), " AND ", $d, "user_id = $7")
    };
    ($d:literal) => {
        concat!(
            $d,
            "state = 'dead' AND ",
            $d,
            "dismissed_at IS NULL AND ",
            $d,
            "app = $2 AND ($3 IS NULL OR ",
            $d,
            "channel = $3) AND ($4 IS NULL OR ",
            $d,
            "reason = $4) AND ($5 IS NULL OR ",
            $d,
            "error = $5) AND ($6 IS NULL OR ",
            $d,
            "destination = $6) AND ",
            $d,
            "settled_at >= $8 AND ",
            $d,
            "settled_at <= $9"
        )
    };
}

/// One cause, or one and all: told column by column, so that the index leads.
macro_rules! one_cause {
    ($d:literal) => {
        concat!(
            $d,
            "state = 'dead' AND ",
            $d,
            "dismissed_at IS NULL AND ",
            $d,
            "app = $2 AND ",
            $d,
            "channel = $3 AND ",
            $d,
            "reason = $4 AND ",
            $d,
            "error = $5 AND ",
            $d,
            "destination = $6 AND ($7 IS NULL OR ",
            $d,
            "user_id = $7) AND ",
            $d,
            "settled_at >= $8 AND ",
            $d,
            "settled_at <= $9"
        )
    };
}

fn is_one_cause(which: &DeadWhich) -> bool {
    which.channel.is_some() && which.reason.is_some() && which.error.is_some() && which.destination.is_some()
}

/// `$1` to `$9`. From a place on, what was given up on later is none of its business.
fn bound<'q>(ask: Sql<'q>, offset: i64, which: &'q DeadWhich, before: Option<DeadPlace>) -> Sql<'q> {
    let until = which.until.map(|at| at.timestamp_millis() - 1);
    let place = before.map(|place| place.at.timestamp_millis());
    ask.bind(offset)
        .bind(which.app.as_str())
        .bind(which.channel.as_ref().map(ChannelName::as_str))
        .bind(which.reason.as_deref())
        .bind(which.error.as_deref())
        .bind(which.destination.as_deref())
        .bind(which.user.as_ref().map(UserId::as_str))
        .bind(which.since.map_or(i64::MIN, |at| at.timestamp_millis()))
        .bind(place.into_iter().chain(until).min().unwrap_or(i64::MAX))
}

/// `$1` is the clock's offset in every text of this file; here nothing asks the time.
macro_rules! groups {
    ($of:ident) => {
        concat!(
            "SELECT g.channel, g.reason, g.error, g.destination, g.n, g.first, g.last, g.sample, t.message
             FROM (SELECT x.channel, x.reason, x.error, x.destination, COUNT(*) AS n, MIN(x.settled_at) AS first,
                          MAX(x.settled_at) AS last, (SELECT s.id FROM deliveries s WHERE s.state = 'dead'
                            AND s.dismissed_at IS NULL AND s.app = $2 AND s.channel = x.channel AND s.reason = x.reason
                            AND s.error = x.error AND s.destination = x.destination AND s.settled_at <= $9
                            ORDER BY s.settled_at DESC, s.id DESC LIMIT 1) AS sample
                   FROM deliveries x WHERE ",
            which!("x.", $of),
            " AND $1 IS NOT NULL GROUP BY x.channel, x.reason, x.error, x.destination
                   ORDER BY n DESC, x.channel, x.reason, x.error, x.destination LIMIT $10) g
             LEFT JOIN deliveries d ON d.id = g.sample
             LEFT JOIN attempts t ON t.delivery_id = g.sample AND t.attempt = d.attempt
             ORDER BY g.n DESC, g.channel, g.reason, g.error, g.destination"
        )
    };
}

macro_rules! counted {
    ($of:ident) => {
        concat!(
            "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM deliveries x WHERE ",
            which!("x.", $of),
            " AND $1 IS NOT NULL LIMIT $10) AS few"
        )
    };
}

/// Behind a place, newest first.
macro_rules! listed {
    ($which:expr) => {
        deliveries!(
            $which,
            " AND (d.settled_at < $9 OR $10 IS NULL OR d.id < $10) ORDER BY d.settled_at DESC, d.id DESC LIMIT $11"
        )
    };
}

impl Reads {
    pub async fn dead_groups(&self, which: &DeadWhich, limit: u32) -> StoreResult<Vec<DeadGroup>> {
        let ask = sql(if which.user.is_some() { groups!(one) } else { groups!(anyone) });
        let rows = self.fetch("dead_groups", bound(ask, self.offset(), which, None).bind(limit)).await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("deliveries", row);
                Ok(DeadGroup {
                    channel: c.channel("channel")?,
                    reason: c.text("reason")?,
                    error: c.text("error")?,
                    destination: c.text("destination")?,
                    count: c.count("n")?,
                    first: c.time("first")?,
                    last: c.time("last")?,
                    sample: c.delivery("sample")?,
                    said: c.as_table("attempts").get("message")?,
                })
            })
            .collect()
    }

    pub async fn dead_items(
        &self,
        which: &DeadWhich,
        before: Option<DeadPlace>,
        limit: u32,
    ) -> StoreResult<Vec<DeliveryRow>> {
        let ask = if is_one_cause(which) {
            listed!(one_cause!("d."))
        } else if which.user.is_some() {
            listed!(which!("d.", one))
        } else {
            listed!(which!("d.", anyone))
        };
        let mut snapshot = self.snapshot("dead_items").await?;
        let ask = bound(ask, self.offset(), which, before).bind(before.map(|place| place.id.0)).bind(limit);
        let rows = snapshot.fetch(ask).await?;
        let mut items: Vec<DeliveryRow> =
            rows.iter().map(|row| delivery_row(Cells::of("deliveries", row))).collect::<StoreResult<_>>()?;
        attach_attempts(&mut snapshot, &mut items).await?;
        snapshot.end().await;
        for item in &mut items {
            let earlier = item.attempts.len().saturating_sub(1);
            item.attempts.drain(..earlier);
        }
        Ok(items)
    }

    pub async fn dead_of(
        &self,
        app: &AppId,
        ids: &[NotificationId],
        after: Option<DeliveryId>,
        limit: u32,
    ) -> StoreResult<Vec<DeliveryId>> {
        let ask = by_engine(
            "SELECT d.id FROM json_each($2) j CROSS JOIN deliveries d ON d.notification_id = unhex(j.value)
             WHERE +d.app = $1 AND d.state = 'dead' AND d.dismissed_at IS NULL AND ($3 IS NULL OR d.id > $3)
             ORDER BY d.id LIMIT $4",
            "SELECT d.id FROM deliveries d
             WHERE d.notification_id IN (SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb))
               AND d.app = $1 AND d.state = 'dead' AND d.dismissed_at IS NULL AND ($3::uuid IS NULL OR d.id > $3)
             ORDER BY d.id LIMIT $4",
        );
        let ids = json_ids(ids.iter().map(|id| id.0));
        let ask = ask.bind(app.as_str()).bind(ids).bind(after.map(|id| id.0)).bind(limit);
        let rows = self.fetch("dead_of", ask).await?;
        rows.iter().map(|row| Cells::of("deliveries", row).delivery("id")).collect()
    }

    pub async fn dead_count(&self, which: &DeadWhich, limit: u64) -> StoreResult<u64> {
        let ask = sql(if which.user.is_some() { counted!(one) } else { counted!(anyone) });
        let ask = bound(ask, self.offset(), which, None).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let row = self.fetch_opt("dead_count", ask).await?;
        row.map_or(Ok(0), |row| Cells::of("deliveries", &row).count("n"))
    }
}

struct ReplayMany {
    app: AppId,
    ids: Vec<DeliveryId>,
    target: String,
    actor: Option<Actor>,
}

#[async_trait]
impl Operation for ReplayMany {
    type Output = Vec<ReplayOutcome>;
    const NAME: &'static str = "replay";

    fn rows(&self) -> usize {
        self.ids.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<ReplayOutcome>> {
        let mut outcomes = Vec::with_capacity(self.ids.len());
        let mut replayed = 0u64;
        // In the order of their ids, as all who lock deliveries do.
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_by_key(|i| self.ids[*i]);
        outcomes.resize_with(self.ids.len(), || ReplayOutcome::NotFound);
        for i in order {
            let (outcome, _) = replay::one(tx, &self.app, self.ids[i]).await?;
            replayed += u64::from(matches!(outcome, ReplayOutcome::Replayed));
            outcomes[i] = outcome;
        }
        if let Some(actor) = &self.actor {
            let detail = json!({"replayed": replayed, "skipped": self.ids.len() as u64 - replayed});
            audit::append(tx, actor, "delivery.replay", &self.target, Some(detail)).await?;
        }
        Ok(outcomes)
    }
}

struct Dismiss {
    app: AppId,
    ids: Vec<DeliveryId>,
    target: String,
    actor: Option<Actor>,
    /// Out of sight, or back into it.
    away: bool,
}

#[async_trait]
impl Operation for Dismiss {
    type Output = u64;
    const NAME: &'static str = "dismiss";

    fn rows(&self) -> usize {
        self.ids.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let now = tx.now;
        let changed = tx
            .exec(
                "dismissing dead letters",
                by_engine(
                    "UPDATE deliveries SET dismissed_at = $1 WHERE state = 'dead' AND app = $2
                        AND (dismissed_at IS NULL) = $3 AND id IN (SELECT unhex(value) FROM json_each($4))",
                    "UPDATE deliveries SET dismissed_at = $1 WHERE id IN (
                        SELECT id FROM deliveries WHERE state = 'dead' AND app = $2 AND (dismissed_at IS NULL) = $3
                          AND id IN (SELECT value::uuid FROM jsonb_array_elements_text($4::jsonb))
                        ORDER BY id FOR UPDATE)",
                )
                .bind(self.away.then_some(now))
                .bind(self.app.as_str())
                .bind(self.away)
                .bind(json_ids(self.ids.iter().map(|id| id.0))),
            )
            .await?;
        if let Some(actor) = &self.actor {
            let action = if self.away { "delivery.dismiss" } else { "delivery.recall" };
            audit::append(tx, actor, action, &self.target, Some(json!({"count": changed}))).await?;
        }
        Ok(changed)
    }
}

impl SqlStore {
    pub(super) async fn replay_each(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        target: &str,
        actor: Option<&Actor>,
    ) -> StoreResult<Vec<ReplayOutcome>> {
        let (app, ids, target) = (app.clone(), ids.to_vec(), target.to_owned());
        self.write(ReplayMany { app, ids, target, actor: actor.cloned() }).await
    }

    pub(super) async fn set_dismissed(
        &self,
        app: &AppId,
        ids: &[DeliveryId],
        target: &str,
        actor: Option<&Actor>,
        away: bool,
    ) -> StoreResult<u64> {
        let (app, ids, target) = (app.clone(), ids.to_vec(), target.to_owned());
        self.write(Dismiss { app, ids, target, actor: actor.cloned(), away }).await
    }
}
