//! Two feeds become one: every item gets a new number above all that were ever given out, in the order of time.
//!
//! A number never means two things: what a client or a node remembers by the old ones (a cursor, a read up to, what
//! reached a socket) finds nothing there, and the new epoch says that they are over.

use super::{
    feed,
    rows::Cells,
    statement::{Sql, sql},
    tx::Tx,
};
use campanile_model::{UserKey, feed::Counts, ports::StoreResult};

/// Each feed keeps its own order, even where a clock was set back: an item counts as no older than the one before it. At
/// the same time the items of the one who stays come first.
const RENUMBER: &str = "UPDATE feed SET user_id = $3, seq = n.seq
    FROM (SELECT o.user_id AS old_user, o.seq AS old_seq,
                 $4 + ROW_NUMBER() OVER (ORDER BY o.at, o.user_id <> $3, o.seq) AS seq
          FROM (SELECT user_id, seq, MAX(created_at) OVER (PARTITION BY user_id ORDER BY seq) AS at
                FROM feed WHERE app = $1 AND user_id IN ($2, $3)) AS o) AS n
    WHERE feed.app = $1 AND feed.user_id = n.old_user AND feed.seq = n.old_seq";

/// The items of `from` come into the feed of `into`; how many. The counts are for [`begin_anew`].
pub async fn join(tx: &mut Tx<'_>, from: &UserKey, into: &UserKey) -> StoreResult<u64> {
    let bound = |text: Sql<'static>| text.bind(from.app.as_str()).bind(from.user.as_str()).bind(into.user.as_str());
    let now = tx.now;
    // They only kept their numbers taken, and those are over.
    let tombstones = sql("DELETE FROM feed WHERE app = $1 AND user_id IN ($2, $3)
                            AND (expired_at IS NOT NULL OR expires_at <= $4)");
    tx.exec("dropping tombstones of two feeds", bound(tombstones).bind(now)).await?;
    // What one person did to it, they did.
    let marks =
        sql("UPDATE feed SET read_at = COALESCE(feed.read_at, o.read_at), seen_at = COALESCE(feed.seen_at, o.seen_at),
                            archived_at = COALESCE(feed.archived_at, o.archived_at)
                     FROM feed AS o
                     WHERE feed.app = $1 AND feed.user_id = $3 AND o.app = $1 AND o.user_id = $2
                       AND o.notification_id = feed.notification_id");
    tx.exec("joining the marks of what two feeds have", bound(marks)).await?;
    let twice = sql("DELETE FROM feed WHERE app = $1 AND user_id = $2 AND EXISTS (
                        SELECT 1 FROM feed o WHERE o.app = $1 AND o.user_id = $3
                          AND o.notification_id = feed.notification_id)");
    tx.exec("dropping what two feeds have", bound(twice)).await?;
    let coming = sql("SELECT COUNT(*) AS n FROM feed WHERE app = $1 AND user_id = $2");
    let row = tx
        .fetch_opt("counting what comes into a feed", coming.bind(from.app.as_str()).bind(from.user.as_str()))
        .await?;
    let coming = row.map_or(Ok(0), |row| Cells::of("feed", &row).count("n"))?;
    let head = tx.user(into)?.head_seq;
    let items = tx.exec("numbering two feeds as one", bound(sql(RENUMBER)).bind(head)).await?;
    let row = tx.user_mut(into)?;
    row.min_seq = head + 1;
    row.head_seq = head.saturating_add(i64::try_from(items).unwrap_or(i64::MAX));
    Ok(coming)
}

/// Counts what there is, and tells whoever is connected to fetch it.
pub async fn begin_anew(tx: &mut Tx<'_>, user: &UserKey, epoch: &str) -> StoreResult<()> {
    let counted = feed::count(tx, std::slice::from_ref(user)).await?;
    let row = tx.user_mut(user)?;
    let (total, unread, unseen) = counted.first().map_or((0, 0, 0), |(_, counts)| *counts);
    row.counts = Counts { total, unread, unseen, version: row.counts.version + 1 };
    row.generation += 1;
    row.stored = true;
    tx.tell_anew(user, epoch)
}
