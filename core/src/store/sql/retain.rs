//! What retention deletes, in batches. Candidates are found on a reading connection, so that the writer never scans.

use super::{
    SqlStore,
    audit::TrimAudit,
    group::Operation,
    listing::first_id_of,
    mark::marks,
    read::Reads,
    rows::{Cells, json_ids, json_rows},
    statement::{by_engine, sql},
    sweep::take_from_feed,
    tx::Tx,
};
use crate::store::rules::Marks;
use async_trait::async_trait;
use campanile_model::{
    NotificationId, UserKey,
    ports::{Retention, StoreResult},
};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// The time before which a kind goes; `None` keeps it for ever.
fn cutoff(now: i64, keep: Duration) -> Option<i64> {
    (!keep.is_zero()).then(|| now.saturating_sub(keep.as_millis() as i64))
}

impl SqlStore {
    /// True: some kind has more than `limit`.
    pub(super) async fn retain_all(&self, keep: &Retention, limit: u32) -> StoreResult<bool> {
        let now = self.reads.now_ms().await?;
        let mut more = false;
        if let Some(before) = cutoff(now, keep.feed) {
            more |= self.write_patiently(TrimFeed { before, limit }).await? >= u64::from(limit);
        }
        if let Some(before) = cutoff(now, keep.dead) {
            more |= self.write_patiently(DropDead { before, limit }).await? >= u64::from(limit);
        }
        if let Some(before) = cutoff(now, keep.notifications) {
            more |= self.drop_settled(before, limit).await?;
            self.write_patiently(Trim { table: Trimmed::Collapses, before, limit }).await?;
            self.write_patiently(Trim { table: Trimmed::Faults, before, limit }).await?;
            self.write_patiently(Trim { table: Trimmed::Pauses, before, limit }).await?;
        }
        if let Some(before) = cutoff(now, keep.audit) {
            more |= self.write_patiently(TrimAudit { before, limit }).await? >= u64::from(limit);
        }
        if let Some(before) = cutoff(now, keep.poison) {
            let trim = Trim { table: Trimmed::Poison, before, limit };
            more |= self.write_patiently(trim).await? >= u64::from(limit);
        }
        Ok(more)
    }

    /// Looks at the old ones step by step, a few steps a call: those that are still needed may be a million.
    async fn drop_settled(&self, before: i64, limit: u32) -> StoreResult<bool> {
        let mut dropped = 0;
        for _ in 0..LOOKS {
            let after = *self.looked_at();
            let Some(Looked { last, settled }) = self.reads.settled_before(before, after, limit).await? else {
                // The next time begins anew.
                *self.looked_at() = Uuid::nil();
                return Ok(false);
            };
            *self.looked_at() = last;
            dropped += settled.len();
            if !settled.is_empty() {
                self.write_patiently(DropNotifications { ids: settled }).await?;
            }
            if dropped >= limit as usize {
                break;
            }
        }
        Ok(true)
    }

    fn looked_at(&self) -> std::sync::MutexGuard<'_, Uuid> {
        self.looked_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Statements that look, of one call.
const LOOKS: u32 = 4;
/// One step over the old notifications.
struct Looked {
    last: Uuid,
    settled: Vec<NotificationId>,
}

/// From the low end of each feed: `min_seq` rises, so that a cursor below it gets a reset and never a silent gap.
struct TrimFeed {
    before: i64,
    limit: u32,
}

macro_rules! oldest {
    ($feed:literal) => {
        concat!(
            "SELECT app, user_id, MAX(seq) AS seq FROM (SELECT app, user_id, seq FROM ",
            $feed,
            " WHERE created_at < $1 ORDER BY created_at, app, user_id, seq LIMIT $2) AS old GROUP BY app, user_id"
        )
    };
}

#[async_trait]
impl Operation for TrimFeed {
    type Output = u64;
    const NAME: &'static str = "retain";
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        // The oldest rows name the users and how far each feed is cut; a later row that is older by a clock's step back
        // goes with them.
        let rows = tx
            .fetch(
                "choosing old feed items",
                by_engine(oldest!("feed INDEXED BY feed_age"), oldest!("feed")).bind(self.before).bind(self.limit),
            )
            .await?;
        let mut cuts = Vec::with_capacity(rows.len());
        for row in &rows {
            let c = Cells::of("feed", row);
            cuts.push((c.user()?, c.int("seq")?));
        }
        tx.load_users(&cuts.iter().map(|(user, _)| user.clone()).collect::<Vec<_>>()).await?;
        let cuts: Vec<(&str, &str, i64)> =
            cuts.iter().map(|(user, seq)| (user.app.as_str(), user.user.as_str(), *seq)).collect();
        let rows = tx
            .fetch(
                "trimming feeds",
                by_engine(
                    "DELETE FROM feed WHERE (app, user_id, seq) IN (
                        SELECT f.app, f.user_id, f.seq FROM json_each($1) j
                        CROSS JOIN feed f ON f.app = j.value ->> 0 AND f.user_id = j.value ->> 1
                          AND f.seq <= j.value ->> 2)
                     RETURNING app, user_id, seq, notification_id, read_at, seen_at, archived_at, expired_at",
                    "DELETE FROM feed f USING jsonb_array_elements($1::jsonb) AS j (value)
                     WHERE f.app = j.value ->> 0 AND f.user_id = j.value ->> 1 AND f.seq <= (j.value ->> 2)::bigint
                     RETURNING f.app, f.user_id, f.seq, f.notification_id, f.read_at, f.seen_at, f.archived_at,
                               f.expired_at",
                )
                .bind(json_rows(&cuts)?),
            )
            .await?;
        let mut by_user: BTreeMap<UserKey, (i64, Vec<(NotificationId, Marks)>)> = BTreeMap::new();
        for row in &rows {
            let c = Cells::of("feed", row);
            let cut = by_user.entry(c.user()?).or_default();
            cut.0 = cut.0.max(c.int("seq")?);
            // A tombstone weighs nothing any more.
            if c.get::<Option<i64>>("expired_at")?.is_none() {
                cut.1.push((c.notification_id("notification_id")?, marks(c)?));
            }
        }
        for (user, (seq, items)) in by_user {
            take_from_feed(tx, &user, &items)?;
            let row = tx.user_mut(&user)?;
            row.min_seq = row.min_seq.max(seq + 1);
        }
        Ok(rows.len() as u64)
    }
}

struct DropDead {
    before: i64,
    limit: u32,
}

#[async_trait]
impl Operation for DropDead {
    type Output = u64;
    const NAME: &'static str = "retain";

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let rows = tx
            .fetch(
                "dropping dead letters",
                by_engine(
                    "DELETE FROM deliveries WHERE id IN (
                        SELECT id FROM deliveries WHERE state = 'dead' AND settled_at < $1 ORDER BY settled_at LIMIT $2)
                     RETURNING id",
                    "DELETE FROM deliveries WHERE id IN (
                        SELECT id FROM deliveries WHERE state = 'dead' AND settled_at < $1 ORDER BY settled_at LIMIT $2
                        FOR UPDATE SKIP LOCKED) RETURNING id",
                )
                .bind(self.before)
                .bind(self.limit),
            )
            .await?;
        let ids: Vec<Uuid> =
            rows.iter().map(|row| Cells::of("deliveries", row).uuid("id")).collect::<StoreResult<_>>()?;
        drop_attempts(tx, &json_ids(ids)).await?;
        Ok(rows.len() as u64)
    }
}

async fn drop_attempts(tx: &mut Tx<'_>, deliveries: &str) -> StoreResult<()> {
    tx.exec(
        "dropping attempts",
        by_engine(
            "DELETE FROM attempts WHERE delivery_id IN (SELECT unhex(value) FROM json_each($1))",
            "DELETE FROM attempts WHERE delivery_id IN (
                SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb))",
        )
        .bind(deliveries),
    )
    .await?;
    Ok(())
}

/// Nothing of it waits, is dead (that has its own time) or stands in a feed.
///
/// Scalars, so that each stays a look at one notification's rows: NOT EXISTS becomes a list of all deliveries that wait.
macro_rules! nobody_needs {
    ($with:literal, $in_app:literal) => {
        concat!(
            "(SELECT 1 FROM audiences a WHERE a.notification_id = n.id AND a.done_at IS NULL LIMIT 1) IS NULL
             AND (SELECT 1 FROM deliveries d WHERE d.notification_id = n.id
                  AND d.state IN ('pending', 'sending', 'retrying', 'dead') LIMIT 1) IS NULL
             AND (SELECT 1 FROM deliveries d ",
            $with,
            " feed f ON f.app = d.app AND f.user_id = d.user_id
                  AND f.notification_id = d.notification_id WHERE d.notification_id = n.id AND ",
            $in_app,
            " LIMIT 1) IS NULL"
        )
    };
    (sqlite) => {
        nobody_needs!("CROSS JOIN", "d.in_app = 1")
    };
    (postgres) => {
        nobody_needs!("JOIN", "d.in_app")
    };
}

/// `$1` the last one seen, `$2` the first id that is too young, `$3` how many, `$4` the time before which they go.
macro_rules! settled {
    ($engine:ident, $yes:literal) => {
        concat!(
            "SELECT n.id, CASE WHEN n.created_at < $4 AND ",
            nobody_needs!($engine),
            " THEN ",
            $yes,
            " END AS settled
             FROM (SELECT id FROM notifications WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3) AS old
             JOIN notifications n ON n.id = old.id ORDER BY n.id"
        )
    };
}

impl Reads {
    /// `None`: there are no more old ones.
    async fn settled_before(&self, before: i64, after: Uuid, limit: u32) -> StoreResult<Option<Looked>> {
        let ask = by_engine(settled!(sqlite, "1"), settled!(postgres, "1::bigint"));
        let rows = self.fetch("retain", ask.bind(after).bind(first_id_of(before)).bind(limit).bind(before)).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = Cells::of("notifications", last).uuid("id")?;
        let mut settled = Vec::new();
        for row in &rows {
            let c = Cells::of("notifications", row);
            if c.get::<Option<i64>>("settled")?.is_some() {
                settled.push(c.notification_id("id")?);
            }
        }
        Ok(Some(Looked { last, settled }))
    }
}

/// In both dialects: the rows whose `$column` is among the ids.
macro_rules! drop_by {
    ($table:literal, $column:literal) => {
        (
            concat!("DELETE FROM ", $table, " WHERE ", $column, " IN (SELECT unhex(value) FROM json_each($1))"),
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $column,
                " IN (SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb))"
            ),
        )
    };
}

struct DropNotifications {
    ids: Vec<NotificationId>,
}

#[async_trait]
impl Operation for DropNotifications {
    type Output = u64;
    const NAME: &'static str = "retain";

    fn rows(&self) -> usize {
        self.ids.len() * 3
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        // Asked again: a dead letter may have been replayed since the look.
        let rows = tx
            .fetch(
                "choosing settled notifications",
                by_engine(
                    concat!(
                        "SELECT n.id FROM json_each($1) j CROSS JOIN notifications n ON n.id = unhex(j.value) WHERE ",
                        nobody_needs!(sqlite)
                    ),
                    concat!(
                        "SELECT n.id FROM jsonb_array_elements_text($1::jsonb) AS j (value)
                         JOIN notifications n ON n.id = j.value::uuid WHERE ",
                        nobody_needs!(postgres),
                        " ORDER BY n.id FOR UPDATE OF n"
                    ),
                )
                .bind(json_ids(self.ids.iter().map(|i| i.0))),
            )
            .await?;
        let ids: Vec<Uuid> =
            rows.iter().map(|row| Cells::of("notifications", row).uuid("id")).collect::<StoreResult<_>>()?;
        let ids = json_ids(ids);
        for (sqlite, postgres) in [
            (
                "DELETE FROM attempts WHERE delivery_id IN (
                    SELECT d.id FROM json_each($1) j CROSS JOIN deliveries d ON d.notification_id = unhex(j.value))",
                "DELETE FROM attempts WHERE delivery_id IN (
                    SELECT d.id FROM jsonb_array_elements_text($1::jsonb) AS j (value)
                    JOIN deliveries d ON d.notification_id = j.value::uuid)",
            ),
            drop_by!("deliveries", "notification_id"),
            drop_by!("audiences", "notification_id"),
            drop_by!("notifications", "id"),
        ] {
            tx.exec("dropping settled notifications", by_engine(sqlite, postgres).bind(&ids)).await?;
        }
        Ok(rows.len() as u64)
    }
}

#[derive(Clone, Copy)]
enum Trimmed {
    Poison,
    Collapses,
    Faults,
    Pauses,
}

/// Rows that nothing refers to. On PostgreSQL they are chosen by their places and judged again, as the sweep does.
struct Trim {
    table: Trimmed,
    before: i64,
    limit: u32,
}

#[async_trait]
impl Operation for Trim {
    type Output = u64;
    const NAME: &'static str = "retain";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let text = match self.table {
            Trimmed::Poison => by_engine(
                "DELETE FROM poison WHERE id IN (
                    SELECT id FROM (SELECT id, created_at FROM poison ORDER BY id LIMIT $2) AS old WHERE created_at < $1)",
                "DELETE FROM poison WHERE created_at < $1 AND ctid = ANY (ARRAY(
                    SELECT place FROM (SELECT ctid AS place, created_at FROM poison ORDER BY id LIMIT $2) AS old
                    WHERE created_at < $1))",
            ),
            Trimmed::Collapses => by_engine(
                "DELETE FROM collapses WHERE (app, user_id, notification_type, collapse_key) IN (
                    SELECT app, user_id, notification_type, collapse_key FROM collapses WHERE updated_at < $1
                    ORDER BY updated_at LIMIT $2)",
                "DELETE FROM collapses WHERE updated_at < $1 AND ctid = ANY (ARRAY(
                    SELECT ctid FROM collapses WHERE updated_at < $1 ORDER BY updated_at LIMIT $2))",
            ),
            Trimmed::Faults => by_engine(
                "DELETE FROM address_faults WHERE (app, channel, address, kind, delivery_id) IN (
                    SELECT app, channel, address, kind, delivery_id FROM address_faults WHERE at < $1
                    ORDER BY at LIMIT $2)",
                "DELETE FROM address_faults WHERE at < $1 AND ctid = ANY (ARRAY(
                    SELECT ctid FROM address_faults WHERE at < $1 ORDER BY at LIMIT $2))",
            ),
            Trimmed::Pauses => {
                sql("DELETE FROM channel_pauses WHERE id IN (SELECT id FROM channel_pauses WHERE ended < $1 LIMIT $2)")
            }
        };
        tx.exec("trimming old rows", text.bind(self.before).bind(self.limit)).await
    }
}
