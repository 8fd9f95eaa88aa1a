//! What time settles: expired rows, rows of cancelled notifications, rows over `max_age`, feed items past `expires_at`.
//!
//! A reader looks first, so that an idle host costs the writer nothing.

use super::{
    claim::paused_since_due,
    collapse::transition,
    group::Operation,
    mark::marks,
    read::Reads,
    relay::waiting_channels,
    rows::{Cells, Hex, json_rows},
    statement::{by_engine, sql},
    tx::Tx,
};
use crate::store::rules;
use async_trait::async_trait;
use campanile_model::{NotificationId, UserKey, effects::Marked, feed::MarkAs, ports::StoreResult};
use std::{collections::BTreeMap, time::Duration};

/// A cancel settles its rows itself; this many ms back is looked for rows that slipped by.
const CANCELLED_WINDOW_MS: i64 = 600_000;

macro_rules! too_old {
    ($engine:ident) => {
        concat!(
            "d.state IN ('pending', 'retrying') AND d.due_at <= $1 - $3
             AND (d.expires_at IS NULL OR d.expires_at > $1) AND $1 - d.due_at - ",
            paused_since_due!($engine),
            " > $3"
        )
    };
}

/// `$1` now, `$2` limit, `$3` max_age in ms, `$4` the window. Columns: id, state, reason.
///
/// Each part names the order of the index that finds it: planned without its values, "older than" looks to PostgreSQL like
/// a third of the table.
macro_rules! settled_by_time {
    ($cancelled:literal, $too_old:expr) => {
        concat!(
            "WITH RECURSIVE ",
            waiting_channels!(),
            ",
             open AS (SELECT channel FROM channels WHERE channel IS NOT NULL
                        AND channel NOT IN (SELECT channel FROM channel_pauses WHERE ended IS NULL))
             SELECT * FROM (SELECT d.id, 'expired' AS state, 'expired' AS reason FROM deliveries d
              WHERE d.state IN ('pending', 'retrying') AND d.expires_at <= $1 ORDER BY d.expires_at LIMIT $2) AS expired
             UNION
             SELECT * FROM (SELECT d.id, 'cancelled', 'cancelled' FROM notifications n CROSS JOIN ",
            $cancelled,
            " ORDER BY n.cancelled_at LIMIT $2) AS cancelled
             UNION
             SELECT * FROM (SELECT d.id, 'dead', 'max_age' FROM open CROSS JOIN ",
            $too_old,
            " LIMIT $2) AS dead"
        )
    };
    (sqlite) => {
        settled_by_time!(
            "deliveries d ON d.notification_id = n.id
             WHERE n.cancelled_at > $1 - $4 AND d.state IN ('pending', 'retrying')
               AND (d.expires_at IS NULL OR d.expires_at > $1)",
            concat!(
                "deliveries d ON d.channel = open.channel WHERE $3 > 0 AND ",
                too_old!(sqlite),
                " ORDER BY d.due_at"
            )
        )
    };
    (postgres) => {
        settled_by_time!(
            "LATERAL (SELECT x.id FROM deliveries x
                WHERE x.notification_id = n.id AND x.state IN ('pending', 'retrying')
                  AND (x.expires_at IS NULL OR x.expires_at > $1) OFFSET 0) d
             WHERE n.cancelled_at > $1 - $4",
            concat!(
                "LATERAL (SELECT d.id FROM deliveries d WHERE d.channel = open.channel AND ",
                too_old!(postgres),
                " ORDER BY d.due_at LIMIT $2) d WHERE $3 > 0"
            )
        )
    };
}

/// The least of each is read from an index; a plain EXISTS may walk a whole table that holds nothing.
macro_rules! has_work {
    ($engine:ident) => {
        concat!(
            "SELECT EXISTS (",
            settled_by_time!($engine),
            ") OR COALESCE((SELECT MIN(expires_at) FROM feed WHERE expires_at IS NOT NULL AND expired_at IS NULL) <= $1,
                           false)
               OR COALESCE((SELECT MIN(expires_at) FROM idempotency) <= $1, false)
               OR COALESCE((SELECT MIN(expires_at) FROM ws_tickets) <= $1, false) AS work"
        )
    };
}

impl Reads {
    /// Whether a sweep would find anything.
    pub async fn sweep_has_work(&self, max_age: Duration) -> StoreResult<bool> {
        let now = self.now_ms().await?;
        let row = self
            .fetch_opt(
                "sweep",
                by_engine(has_work!(sqlite), has_work!(postgres))
                    .bind(now)
                    .bind(1i64)
                    .bind(max_age.as_millis() as i64)
                    .bind(CANCELLED_WINDOW_MS),
            )
            .await?;
        row.map_or(Ok(false), |row| Cells::of("deliveries", &row).flag("work"))
    }
}

pub struct Sweep {
    pub limit: u32,
    pub max_age: Duration,
}

#[async_trait]
impl Operation for Sweep {
    type Output = u64;
    const NAME: &'static str = "sweep";
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        // Feed states are locked before deliveries, as everywhere.
        let expired = self.expire_feed(tx).await?;
        let settled = self.settle(tx).await?;
        self.forget(tx).await?;
        Ok(settled + expired)
    }
}

impl Sweep {
    async fn settle(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let now = tx.now;
        let rows = tx
            .fetch(
                "reading rows whose time is over",
                by_engine(settled_by_time!(sqlite), settled_by_time!(postgres))
                    .bind(now)
                    .bind(self.limit)
                    .bind(self.max_age.as_millis() as i64)
                    .bind(CANCELLED_WINDOW_MS),
            )
            .await?;
        // A row found twice is settled by the first reason in the table's order: cancelled, dead, expired.
        let mut verdicts: BTreeMap<uuid::Uuid, (String, String)> = BTreeMap::new();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            verdicts.entry(c.uuid("id")?).or_insert((c.text("state")?, c.text("reason")?));
        }
        if verdicts.is_empty() {
            return Ok(0);
        }
        let changes: Vec<_> = verdicts.iter().map(|(id, (state, why))| (Hex(*id), state, why)).collect();
        let rows = tx
            .fetch(
                "settling rows whose time is over",
                by_engine(
                    "UPDATE deliveries SET state = j.state, reason = j.reason, settled_at = $1
                     FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS state, value ->> 2 AS reason
                           FROM json_each($2)) j
                     WHERE deliveries.id = j.id AND deliveries.state IN ('pending', 'retrying')
                     RETURNING deliveries.id, notification_id, app, user_id, channel, priority, attempt,
                               deliveries.state, deliveries.reason",
                    "UPDATE deliveries SET state = j.state, reason = j.reason, settled_at = $1
                     FROM (SELECT d.id, v.value ->> 1 AS state, v.value ->> 2 AS reason
                           FROM jsonb_array_elements($2::jsonb) AS v (value)
                           JOIN deliveries d ON d.id = (v.value ->> 0)::uuid
                           WHERE d.state IN ('pending', 'retrying') ORDER BY d.id FOR UPDATE OF d SKIP LOCKED) j
                     WHERE deliveries.id = j.id
                     RETURNING deliveries.id, notification_id, app, user_id, channel, priority, attempt,
                               deliveries.state, deliveries.reason",
                )
                .bind(now)
                .bind(json_rows(&changes)?),
            )
            .await?;
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let t = transition(c, c.state("state")?, c.get("reason")?)?;
            tx.effects.transitions.push(t);
        }
        Ok(rows.len() as u64)
    }

    /// Items past `expires_at` become tombstones: the seq stays, the counts fall.
    async fn expire_feed(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let now = tx.now;
        let rows = tx
            .fetch(
                "choosing feed items to expire",
                sql("SELECT app, user_id, seq FROM feed WHERE expires_at <= $1 AND expired_at IS NULL
                     ORDER BY expires_at LIMIT $2")
                .bind(now)
                .bind(self.limit),
            )
            .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut chosen = Vec::with_capacity(rows.len());
        for row in &rows {
            let c = Cells::of("feed", row);
            chosen.push((c.user()?, c.int("seq")?));
        }
        tx.load_users(&chosen.iter().map(|(user, _)| user.clone()).collect::<Vec<_>>()).await?;
        let chosen: Vec<(&str, &str, i64)> =
            chosen.iter().map(|(user, seq)| (user.app.as_str(), user.user.as_str(), *seq)).collect();
        // Asked again: a mark may have come between.
        let rows = tx
            .fetch(
                "expiring feed items",
                by_engine(
                    "UPDATE feed SET expired_at = $1 WHERE expired_at IS NULL AND (app, user_id, seq) IN (
                        SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($2))
                     RETURNING app, user_id, notification_id, read_at, seen_at, archived_at",
                    "UPDATE feed SET expired_at = $1
                     FROM (SELECT value ->> 0 AS a, value ->> 1 AS u, (value ->> 2)::bigint AS s
                           FROM jsonb_array_elements($2::jsonb)) j
                     WHERE feed.app = j.a AND feed.user_id = j.u AND feed.seq = j.s AND expired_at IS NULL
                     RETURNING feed.app, feed.user_id, notification_id, read_at, seen_at, archived_at",
                )
                .bind(now)
                .bind(json_rows(&chosen)?),
            )
            .await?;
        let mut by_user: BTreeMap<UserKey, Vec<(NotificationId, rules::Marks)>> = BTreeMap::new();
        for row in &rows {
            let c = Cells::of("feed", row);
            by_user.entry(c.user()?).or_default().push((c.notification_id("notification_id")?, marks(c)?));
        }
        for (user, items) in by_user {
            take_from_feed(tx, &user, &items)?;
        }
        Ok(rows.len() as u64)
    }

    /// On PostgreSQL by places (`ctid`), in an array: a join with the chosen ones is, planned without values, a look at the
    /// whole table. The condition stands outside too, for a row that was renewed since it was chosen.
    async fn forget(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "forgetting idempotency keys",
            by_engine(
                "DELETE FROM idempotency WHERE (app, key) IN (
                    SELECT app, key FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
                "DELETE FROM idempotency WHERE expires_at <= $1 AND ctid = ANY (ARRAY(
                    SELECT ctid FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2))",
            )
            .bind(now)
            .bind(self.limit),
        )
        .await?;
        tx.exec(
            "forgetting tickets",
            by_engine(
                "DELETE FROM ws_tickets WHERE hash IN (
                    SELECT hash FROM ws_tickets WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
                "DELETE FROM ws_tickets WHERE expires_at <= $1 AND ctid = ANY (ARRAY(
                    SELECT ctid FROM ws_tickets WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2))",
            )
            .bind(now)
            .bind(self.limit),
        )
        .await?;
        Ok(())
    }
}

/// These items leave a loaded user's lists (expiry, retention): counts, one version, one change told as archived.
pub fn take_from_feed(tx: &mut Tx<'_>, user: &UserKey, items: &[(NotificationId, rules::Marks)]) -> StoreResult<()> {
    let row = tx.user_mut(user)?;
    let unread_before = row.counts.unread;
    let mut gone = Vec::new();
    for (id, marks) in items {
        rules::reweigh(&mut row.counts, marks.weight(), (0, 0, 0));
        if marks.archived_at.is_none() {
            gone.push(*id);
        }
    }
    row.counts.version += 1;
    if gone.is_empty() {
        return Ok(());
    }
    tx.tell_marked(user, Marked::Ids(gone), MarkAs::Archived, unread_before)
}
