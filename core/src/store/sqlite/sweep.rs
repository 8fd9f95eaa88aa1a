//! What time settles: expired rows, rows of cancelled notifications, rows over `max_age`, feed items past `expires_at`.
//!
//! A reader looks first, so that an idle host costs the writer nothing.

use super::{
    claim::paused_since_due,
    collapse::transition,
    group::Operation,
    mark::marks,
    read::Reads,
    rows::{Cells, Hex, json_rows},
    tx::Tx,
};
use crate::store::rules;
use async_trait::async_trait;
use campanile_model::{NotificationId, UserKey, effects::Marked, feed::MarkAs, ports::StoreResult};
use std::{collections::BTreeMap, time::Duration};

/// A cancel settles its rows itself; this many ms back is looked for rows that slipped by.
const CANCELLED_WINDOW_MS: i64 = 600_000;

/// `?1` now, `?2` limit, `?3` max_age in ms. Columns: id, state, reason.
macro_rules! settled_by_time {
    () => {
        concat!(
            "SELECT * FROM (SELECT d.id, 'expired' AS state, 'expired' AS reason FROM deliveries d
              WHERE d.state IN ('pending', 'retrying') AND d.expires_at <= ?1 LIMIT ?2)
             UNION
             SELECT * FROM (SELECT d.id, 'cancelled', 'cancelled' FROM notifications n
              CROSS JOIN deliveries d ON d.notification_id = n.id
              WHERE n.cancelled_at > ?1 - ?4 AND d.state IN ('pending', 'retrying')
                AND (d.expires_at IS NULL OR d.expires_at > ?1) LIMIT ?2)
             UNION
             SELECT * FROM (SELECT d.id, 'dead', 'max_age' FROM deliveries d
              WHERE ?3 > 0 AND d.state IN ('pending', 'retrying') AND d.due_at <= ?1 - ?3
                AND (d.expires_at IS NULL OR d.expires_at > ?1)
                AND d.channel NOT IN (SELECT channel FROM channel_pauses WHERE ended IS NULL)
                AND ?1 - d.due_at - ",
            paused_since_due!(),
            " > ?3 LIMIT ?2)"
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
                sqlx::query(concat!(
                    "SELECT EXISTS (",
                    settled_by_time!(),
                    ") OR EXISTS (SELECT 1 FROM feed WHERE expires_at <= ?1 AND expired_at IS NULL)
                       OR EXISTS (SELECT 1 FROM idempotency WHERE expires_at <= ?1)
                       OR EXISTS (SELECT 1 FROM ws_tickets WHERE expires_at <= ?1) AS work"
                ))
                .bind(now)
                .bind(1)
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

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let settled = self.settle(tx).await?;
        let expired = self.expire_feed(tx).await?;
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
                sqlx::query(settled_by_time!())
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
                sqlx::query(
                    "UPDATE deliveries SET state = j.state, reason = j.reason, settled_at = ?1
                     FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS state, value ->> 2 AS reason
                           FROM json_each(?2)) j
                     WHERE deliveries.id = j.id AND deliveries.state IN ('pending', 'retrying')
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
                "expiring feed items",
                sqlx::query(
                    "UPDATE feed SET expired_at = ?1 WHERE (app, user_id, seq) IN (
                        SELECT app, user_id, seq FROM feed WHERE expires_at <= ?1 AND expired_at IS NULL LIMIT ?2)
                     RETURNING app, user_id, notification_id, read_at, seen_at, archived_at",
                )
                .bind(now)
                .bind(self.limit),
            )
            .await?;
        let mut by_user: BTreeMap<UserKey, Vec<(NotificationId, rules::Marks)>> = BTreeMap::new();
        for row in &rows {
            let c = Cells::of("feed", row);
            by_user.entry(c.user()?).or_default().push((c.notification_id("notification_id")?, marks(c)?));
        }
        tx.load_users(&by_user.keys().cloned().collect::<Vec<_>>()).await?;
        for (user, items) in by_user {
            take_from_feed(tx, &user, &items)?;
        }
        Ok(rows.len() as u64)
    }

    async fn forget(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "forgetting idempotency keys",
            sqlx::query(
                "DELETE FROM idempotency WHERE (app, key) IN (
                    SELECT app, key FROM idempotency WHERE expires_at <= ? LIMIT ?)",
            )
            .bind(now)
            .bind(self.limit),
        )
        .await?;
        tx.exec(
            "forgetting tickets",
            sqlx::query(
                "DELETE FROM ws_tickets WHERE hash IN (SELECT hash FROM ws_tickets WHERE expires_at <= ? LIMIT ?)",
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
