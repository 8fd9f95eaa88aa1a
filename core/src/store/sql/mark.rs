//! Marks: runs of marks by id are one read and one write; `up_to_seq` is one read and one write each.

use super::{
    group::{MarkInput, MarkJob},
    rows::{Cells, Hex, json_rows},
    statement::{by_engine, sql},
    tx::Tx,
};
use crate::store::rules::{self, Marks};
use campanile_model::{
    NotificationId, UserKey,
    effects::Marked,
    feed::{MarkAs, MarkOutcome, MarkSelection},
    ports::StoreResult,
};
use std::collections::HashMap;

/// A live item: its seq and its marks, as this transaction leaves them.
struct Item {
    seq: i64,
    marks: Marks,
    changed: bool,
}

type Items = HashMap<(UserKey, NotificationId), Item>;

pub async fn run(tx: &mut Tx<'_>, jobs: &[MarkJob]) -> StoreResult<Vec<StoreResult<MarkOutcome>>> {
    tx.load_users(&jobs.iter().map(|job| job.input.user.clone()).collect::<Vec<_>>()).await?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    let mut rest = jobs;
    while let Some(first) = rest.first() {
        let by_id = |job: &&MarkJob| matches!(job.input.what, MarkSelection::Ids(_));
        let run = rest.iter().take_while(by_id).count();
        if run == 0 {
            outcomes.push(Ok(up_to(tx, &first.input).await?));
            rest = &rest[1..];
        } else {
            by_ids(tx, &rest[..run], &mut outcomes).await?;
            rest = &rest[run..];
        }
    }
    Ok(outcomes)
}

async fn by_ids(tx: &mut Tx<'_>, jobs: &[MarkJob], outcomes: &mut Vec<StoreResult<MarkOutcome>>) -> StoreResult<()> {
    let mut items = load(tx, jobs).await?;
    for MarkJob { input: MarkInput { user, what, mark }, .. } in jobs {
        let MarkSelection::Ids(ids) = what else { continue };
        let mut not_found = Vec::new();
        let mut found = Vec::new();
        let mut changes = Vec::new();
        for id in ids {
            match items.get_mut(&(user.clone(), *id)) {
                None => not_found.push(*id),
                Some(item) => {
                    found.push(*id);
                    if let Some(next) = item.marks.apply(*mark, tx.now) {
                        changes.push((item.marks, next));
                        item.marks = next;
                        item.changed = true;
                    }
                }
            }
        }
        let changed = change(tx, user, &changes, Marked::Ids(found), *mark)?;
        outcomes.push(Ok(MarkOutcome { not_found, changed, counts: tx.user(user)?.counts }));
    }
    let rows: Vec<_> = items
        .iter()
        .filter(|(_, item)| item.changed)
        .map(|((user, _), item)| row_of(user, item.seq, item.marks))
        .collect();
    write(tx, &rows).await
}

/// Live items up to a seq that a mark changes.
macro_rules! to_mark {
    ($feed:literal, $changes:literal) => {
        concat!(
            "SELECT seq, read_at, seen_at, archived_at FROM ",
            $feed,
            " WHERE app = $1 AND user_id = $2 AND seq <= $3 AND ",
            $changes,
            " AND expired_at IS NULL AND (expires_at IS NULL OR expires_at > $4)"
        )
    };
}

async fn up_to(tx: &mut Tx<'_>, MarkInput { user, what, mark }: &MarkInput) -> StoreResult<MarkOutcome> {
    let MarkSelection::UpToSeq(up_to) = what else {
        return Ok(MarkOutcome { not_found: Vec::new(), changed: 0, counts: tx.user(user)?.counts });
    };
    let now = tx.now;
    // Each finds exactly the rows that the mark changes; "read all" of a long feed goes by its own index.
    let text = match mark {
        MarkAs::Read => {
            by_engine(to_mark!("feed INDEXED BY feed_unread", "read_at IS NULL"), to_mark!("feed", "read_at IS NULL"))
        }
        MarkAs::Seen => sql(to_mark!("feed", "seen_at IS NULL")),
        MarkAs::Unread => sql(to_mark!("feed", "read_at IS NOT NULL")),
        MarkAs::Archived => sql(to_mark!("feed", "archived_at IS NULL")),
        MarkAs::Unarchived => sql(to_mark!("feed", "archived_at IS NOT NULL")),
    };
    let rows = tx
        .fetch(
            "reading feed items to mark",
            text.bind(user.app.as_str()).bind(user.user.as_str()).bind(*up_to).bind(now),
        )
        .await?;
    let mut changes = Vec::with_capacity(rows.len());
    let mut writes = Vec::with_capacity(rows.len());
    for row in &rows {
        let c = Cells::of("feed", row);
        let before = marks(c)?;
        if let Some(next) = before.apply(*mark, now) {
            changes.push((before, next));
            writes.push(row_of(user, c.int("seq")?, next));
        }
    }
    let changed = change(tx, user, &changes, Marked::UpToSeq(*up_to), *mark)?;
    write(tx, &writes).await?;
    Ok(MarkOutcome { not_found: Vec::new(), changed, counts: tx.user(user)?.counts })
}

/// Counts and version of one call, told once; a call that changes nothing is silent.
fn change(tx: &mut Tx<'_>, user: &UserKey, changes: &[(Marks, Marks)], what: Marked, mark: MarkAs) -> StoreResult<u64> {
    if changes.is_empty() {
        return Ok(0);
    }
    let row = tx.user_mut(user)?;
    let unread_before = row.counts.unread;
    for (before, after) in changes {
        rules::reweigh(&mut row.counts, before.weight(), after.weight());
    }
    row.counts.version += 1;
    tx.tell_marked(user, what, mark, unread_before)?;
    Ok(changes.len() as u64)
}

async fn load(tx: &mut Tx<'_>, jobs: &[MarkJob]) -> StoreResult<Items> {
    let mut wanted: Vec<(&str, &str, Hex)> = Vec::new();
    for job in jobs {
        if let MarkSelection::Ids(ids) = &job.input.what {
            let user = &job.input.user;
            wanted.extend(ids.iter().map(|id| (user.app.as_str(), user.user.as_str(), Hex(id.0))));
        }
    }
    let now = tx.now;
    let rows = tx
        .fetch(
            "reading feed items to mark",
            by_engine(
                "SELECT f.app, f.user_id, f.seq, f.notification_id, f.read_at, f.seen_at, f.archived_at
                 FROM json_each($1) j CROSS JOIN feed f ON f.app = j.value ->> 0 AND f.user_id = j.value ->> 1
                   AND f.notification_id = unhex(j.value ->> 2)
                 WHERE f.expired_at IS NULL AND (f.expires_at IS NULL OR f.expires_at > $2)",
                "SELECT f.app, f.user_id, f.seq, f.notification_id, f.read_at, f.seen_at, f.archived_at
                 FROM jsonb_array_elements($1::jsonb) AS j (value)
                 JOIN feed f ON f.app = j.value ->> 0 AND f.user_id = j.value ->> 1
                   AND f.notification_id = (j.value ->> 2)::uuid
                 WHERE f.expired_at IS NULL AND (f.expires_at IS NULL OR f.expires_at > $2)",
            )
            .bind(json_rows(&wanted)?)
            .bind(now),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let c = Cells::of("feed", row);
            let item = Item { seq: c.int("seq")?, marks: marks(c)?, changed: false };
            Ok(((c.user()?, c.notification_id("notification_id")?), item))
        })
        .collect()
}

pub fn marks(c: Cells<'_>) -> StoreResult<Marks> {
    Ok(Marks { read_at: c.get("read_at")?, seen_at: c.get("seen_at")?, archived_at: c.get("archived_at")? })
}

type MarkRow<'a> = (&'a str, &'a str, i64, Option<i64>, Option<i64>, Option<i64>);

fn row_of(user: &UserKey, seq: i64, m: Marks) -> MarkRow<'_> {
    (user.app.as_str(), user.user.as_str(), seq, m.read_at, m.seen_at, m.archived_at)
}

async fn write(tx: &mut Tx<'_>, rows: &[MarkRow<'_>]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(
        "marking feed items",
        by_engine(
            "UPDATE feed SET read_at = j.read_at, seen_at = j.seen_at, archived_at = j.archived_at
             FROM (SELECT value ->> 0 AS a, value ->> 1 AS u, value ->> 2 AS seq, value ->> 3 AS read_at,
                          value ->> 4 AS seen_at, value ->> 5 AS archived_at FROM json_each($1)) j
             WHERE feed.app = j.a AND feed.user_id = j.u AND feed.seq = j.seq",
            "UPDATE feed SET read_at = j.read_at, seen_at = j.seen_at, archived_at = j.archived_at
             FROM (SELECT value ->> 0 AS a, value ->> 1 AS u, (value ->> 2)::bigint AS seq,
                          (value ->> 3)::bigint AS read_at, (value ->> 4)::bigint AS seen_at,
                          (value ->> 5)::bigint AS archived_at FROM jsonb_array_elements($1::jsonb)) j
             WHERE feed.app = j.a AND feed.user_id = j.u AND feed.seq = j.seq",
        )
        .bind(json_rows(rows)?),
    )
    .await?;
    Ok(())
}
