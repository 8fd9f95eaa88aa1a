//! Reading feeds. Archived and expired items are in no list; an item past `expires_at` counts as expired at once.

use super::{
    group::Operation,
    read::{Reads, now},
    rows::{Cells, json_rows},
    statement::{Sql, by_engine, sql},
    tx::{Tx, UserRow, user_row},
};
use async_trait::async_trait;
use campanile_model::{
    UserKey,
    feed::{Counts, FeedFilter, FeedItem, FeedPage, FeedState, Replay, ReplayItem},
    frame::Frame,
    ports::StoreResult,
};

/// `f` is neither archived nor expired. `$1` is the clock's offset.
macro_rules! live {
    ($engine:ident) => {
        concat!(
            "f.archived_at IS NULL AND f.expired_at IS NULL AND (f.expires_at IS NULL OR f.expires_at > ",
            now!($engine),
            ")"
        )
    };
}

macro_rules! page {
    ($engine:ident, $feed:literal, $filter:literal) => {
        concat!(
            "SELECT f.app, f.user_id, f.seq, f.notification_id, f.read_at, f.seen_at, f.archived_at, n.title, n.message,
                    n.notification_type, n.data, n.created_at
             FROM ",
            $feed,
            " JOIN notifications n ON n.id = f.notification_id
             WHERE f.app = $2 AND f.user_id = $3 AND f.seq < $4 AND f.expired_at IS NULL
               AND (f.expires_at IS NULL OR f.expires_at > ",
            now!($engine),
            ") AND ",
            $filter,
            " ORDER BY f.seq DESC LIMIT $5"
        )
    };
    ($filter:literal) => {
        by_engine(page!(sqlite, "feed f", $filter), page!(postgres, "feed f", $filter))
    };
}

macro_rules! replay {
    ($engine:ident) => {
        concat!(
            "SELECT f.app, f.user_id, f.seq, f.notification_id, f.read_at, n.title, n.message,
                    n.notification_type, n.data, n.created_at
             FROM feed f JOIN notifications n ON n.id = f.notification_id
             WHERE f.app = $2 AND f.user_id = $3 AND f.seq > $4 AND f.seq <= $5 AND ",
            live!($engine),
            " ORDER BY f.seq LIMIT $6"
        )
    };
}

macro_rules! missed {
    ($engine:ident) => {
        concat!(
            "SELECT COUNT(*) AS n FROM (SELECT 1 FROM feed f
             WHERE f.app = $2 AND f.user_id = $3 AND f.seq > $4 AND f.seq <= $5 AND ",
            live!($engine),
            " LIMIT $6) AS missed"
        )
    };
}

/// Without a lock: what a feed looks like just now.
fn states<'q>() -> Sql<'q> {
    by_engine(
        "SELECT s.head_seq, s.min_seq, s.unread, s.unseen, s.total, s.version, s.generation, 1 AS known, 0 AS disabled
         FROM json_each($1) j
         LEFT JOIN user_state s ON s.app = j.value ->> 0 AND s.user_id = j.value ->> 1 ORDER BY j.key",
        "SELECT s.head_seq, s.min_seq, s.unread, s.unseen, s.total, s.version, s.generation, true AS known,
                false AS disabled
         FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j (value, n)
         LEFT JOIN user_state s ON s.app = j.value ->> 0 AND s.user_id = j.value ->> 1 ORDER BY j.n",
    )
}

impl Reads {
    pub async fn feed_state(&self, user: &UserKey) -> StoreResult<FeedState> {
        let states = self.feed_heads(std::slice::from_ref(user)).await?;
        Ok(states.into_iter().next().unwrap_or_else(|| UserRow { min_seq: 1, ..UserRow::default() }.state(&self.epoch)))
    }

    pub async fn feed_heads(&self, users: &[UserKey]) -> StoreResult<Vec<FeedState>> {
        let keys: Vec<(&str, &str)> = users.iter().map(|u| (u.app.as_str(), u.user.as_str())).collect();
        let rows = self.fetch("feed_heads", states().bind(json_rows(&keys)?)).await?;
        rows.iter().map(|row| Ok(user_row(Cells::of("user_state", row))?.state(&self.epoch))).collect()
    }

    pub async fn feed_page(
        &self,
        user: &UserKey,
        before: Option<i64>,
        limit: u32,
        filter: FeedFilter,
    ) -> StoreResult<FeedPage> {
        let page = match filter {
            FeedFilter::All => page!("f.archived_at IS NULL"),
            // A long feed with few unread items goes by its own index; PostgreSQL finds it without being told.
            FeedFilter::Unread => by_engine(
                page!(sqlite, "feed f INDEXED BY feed_unread", "f.read_at IS NULL AND f.archived_at IS NULL"),
                page!(postgres, "feed f", "f.read_at IS NULL AND f.archived_at IS NULL"),
            ),
            FeedFilter::Read => page!("f.read_at IS NOT NULL AND f.archived_at IS NULL"),
            FeedFilter::Archived => page!("f.archived_at IS NOT NULL"),
        };
        let mut snapshot = self.snapshot("feed_page").await?;
        let mut rows = snapshot
            .fetch(
                page.bind(self.offset())
                    .bind(user.app.as_str())
                    .bind(user.user.as_str())
                    .bind(before.unwrap_or(i64::MAX))
                    .bind(i64::from(limit) + 1),
            )
            .await?;
        let counts = counts(&mut snapshot, user).await?.counts;
        snapshot.end().await;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let items: Vec<FeedItem> = rows.iter().map(|row| item(Cells::of("feed", row))).collect::<StoreResult<_>>()?;
        let next_before = items.last().filter(|_| more).map(|item| item.seq);
        Ok(FeedPage { items, next_before, counts })
    }

    pub async fn feed_replay(&self, user: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay> {
        let mut snapshot = self.snapshot("feed_replay").await?;
        let rows = snapshot
            .fetch(
                by_engine(replay!(sqlite), replay!(postgres))
                    .bind(self.offset())
                    .bind(user.app.as_str())
                    .bind(user.user.as_str())
                    .bind(after)
                    .bind(up_to)
                    .bind(limit),
            )
            .await?;
        let items: Vec<ReplayItem> =
            rows.iter().map(|row| replay_item(Cells::of("feed", row))).collect::<StoreResult<_>>()?;
        // What is not born yet is not covered.
        let end = up_to.min(counts(&mut snapshot, user).await?.head_seq);
        snapshot.end().await;
        let covered_to = match items.last() {
            Some(last) if items.len() >= limit as usize => last.seq,
            _ => end.max(after.min(up_to)),
        };
        Ok(Replay { items, covered_to })
    }

    pub async fn feed_missed(&self, user: &UserKey, after: i64, up_to: i64, limit: i64) -> StoreResult<i64> {
        let row = self
            .fetch_opt(
                "feed_missed",
                by_engine(missed!(sqlite), missed!(postgres))
                    .bind(self.offset())
                    .bind(user.app.as_str())
                    .bind(user.user.as_str())
                    .bind(after)
                    .bind(up_to)
                    .bind(limit),
            )
            .await?;
        row.map_or(Ok(0), |row| Cells::of("feed", &row).int("n"))
    }
}

async fn counts(snapshot: &mut super::read::Snapshot, user: &UserKey) -> StoreResult<UserRow> {
    let keys = json_rows(&[(user.app.as_str(), user.user.as_str())])?;
    let row = snapshot.fetch_opt(states().bind(keys)).await?;
    row.map_or(Ok(UserRow::default()), |row| user_row(Cells::of("user_state", &row)))
}

fn item(c: Cells<'_>) -> StoreResult<FeedItem> {
    let n = c.as_table("notifications");
    Ok(FeedItem {
        notification_id: c.notification_id("notification_id")?,
        seq: c.int("seq")?,
        title: n.text("title")?,
        message: n.text("message")?,
        notification_type: n.text("notification_type")?,
        timestamp: n.time("created_at")?,
        read_at: c.opt_time("read_at")?,
        seen_at: c.opt_time("seen_at")?,
        archived_at: c.opt_time("archived_at")?,
        data: n.json("data")?,
    })
}

fn replay_item(c: Cells<'_>) -> StoreResult<ReplayItem> {
    let n = c.as_table("notifications");
    Ok(ReplayItem {
        seq: c.int("seq")?,
        frame: Frame::encode(
            c.notification_id("notification_id")?,
            n.get("title")?,
            n.get("message")?,
            n.get("notification_type")?,
            n.time("created_at")?,
            &n.json("data")?,
        ),
        unread: c.get::<Option<i64>>("read_at")?.is_none(),
    })
}

macro_rules! counted {
    ($users:literal) => {
        concat!(
            "SELECT s.app, s.user_id, COUNT(f.seq) AS total,
                    COUNT(f.seq) FILTER (WHERE f.read_at IS NULL) AS unread,
                    COUNT(f.seq) FILTER (WHERE f.seen_at IS NULL) AS unseen
             FROM (SELECT value ->> 0 AS app, value ->> 1 AS user_id FROM ",
            $users,
            " AS j) s
             LEFT JOIN feed f ON f.app = s.app AND f.user_id = s.user_id AND f.archived_at IS NULL
               AND f.expired_at IS NULL
             GROUP BY s.app, s.user_id ORDER BY s.app, s.user_id"
        )
    };
}

/// (total, unread, unseen) as the rows of these loaded users say, in their order.
pub async fn count(tx: &mut Tx<'_>, users: &[UserKey]) -> StoreResult<Vec<(UserKey, (i64, i64, i64))>> {
    let keys: Vec<(&str, &str)> = users.iter().map(|u| (u.app.as_str(), u.user.as_str())).collect();
    let rows = tx
        .fetch(
            "counting feed items",
            by_engine(counted!("json_each($1)"), counted!("jsonb_array_elements($1::jsonb)")).bind(json_rows(&keys)?),
        )
        .await?;
    let counted = |row| {
        let c = Cells::of("feed", row);
        Ok((c.user()?, (c.int("total")?, c.int("unread")?, c.int("unseen")?)))
    };
    rows.iter().map(counted).collect()
}

/// Compares counts with the rows and repairs what drifted.
pub struct AuditCounts {
    pub after: Option<UserKey>,
    pub limit: u32,
}

#[async_trait]
impl Operation for AuditCounts {
    type Output = (Option<UserKey>, u64);
    const NAME: &'static str = "audit_counts";
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<(Option<UserKey>, u64)> {
        let (app, user) = self.after.as_ref().map_or(("", ""), |k| (k.app.as_str(), k.user.as_str()));
        let rows = tx
            .fetch(
                "reading feeds to count",
                sql("SELECT app, user_id FROM user_state WHERE (app, user_id) > ($1, $2) ORDER BY app, user_id LIMIT $3")
                    .bind(app)
                    .bind(user)
                    .bind(self.limit),
            )
            .await?;
        let users: Vec<UserKey> =
            rows.iter().map(|row| Cells::of("user_state", row).user()).collect::<StoreResult<_>>()?;
        // Held before they are counted: what is compared belongs together.
        tx.load_users(&users).await?;
        let mut found = count(tx, &users).await?;
        let mut repaired = 0;
        for (key, (total, unread, unseen)) in &found {
            let Counts { total: t, unread: r, unseen: s, .. } = tx.user(key)?.counts;
            if (t, r, s) != (*total, *unread, *unseen) {
                tracing::error!(user = %key.user, "Counts had drifted from the feed and were repaired");
                let counts = &mut tx.user_mut(key)?.counts;
                *counts = Counts { total: *total, unread: *unread, unseen: *unseen, version: counts.version + 1 };
                repaired += 1;
            }
        }
        Ok((found.pop().map(|(key, _)| key), repaired))
    }
}
