//! Reads the SQLite file beside a running or dead host. Absent on purpose: writing.

use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use std::{collections::BTreeMap, path::Path, time::Duration};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Db(SqlitePool);

/// One row of `deliveries`.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    pub id: Uuid,
    pub notification_id: Uuid,
    pub user_id: String,
    pub channel: String,
    pub state: String,
    pub reason: Option<String>,
    pub attempt: i64,
    pub spent: i64,
    pub losses: i64,
    pub due_at: i64,
    pub lease_until: Option<i64>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Attempt {
    pub delivery_id: Uuid,
    pub attempt: i64,
    pub started_at: i64,
    pub duration_ms: i64,
    pub outcome: String,
    pub uncertain: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FeedRow {
    pub user_id: String,
    pub seq: i64,
    pub notification_id: Uuid,
    pub read: bool,
    pub seen: bool,
    pub archived: bool,
    pub expired: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserState {
    pub user_id: String,
    pub head_seq: i64,
    pub min_seq: i64,
    pub unread: i64,
    pub unseen: i64,
    pub total: i64,
}

impl Db {
    pub async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Self(pool.unwrap_or_else(|e| panic!("{} can't be read: {e}", path.display())))
    }

    pub async fn close(self) {
        self.0.close().await;
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.0).await.expect("a count")
    }

    pub async fn deliveries(&self) -> Vec<Delivery> {
        let rows = sqlx::query(
            "SELECT id, notification_id, user_id, channel, state, reason, attempt, spent, losses, due_at, lease_until
             FROM deliveries ORDER BY id",
        )
        .fetch_all(&self.0)
        .await
        .expect("deliveries");
        rows.iter()
            .map(|r| Delivery {
                id: uuid(r, "id"),
                notification_id: uuid(r, "notification_id"),
                user_id: r.get("user_id"),
                channel: r.get("channel"),
                state: r.get("state"),
                reason: r.get("reason"),
                attempt: r.get("attempt"),
                spent: r.get("spent"),
                losses: r.get("losses"),
                due_at: r.get("due_at"),
                lease_until: r.get("lease_until"),
            })
            .collect()
    }

    pub async fn attempts(&self) -> Vec<Attempt> {
        let rows = sqlx::query(
            "SELECT delivery_id, attempt, started_at, duration_ms, outcome, uncertain FROM attempts
             ORDER BY delivery_id, attempt",
        )
        .fetch_all(&self.0)
        .await
        .expect("attempts");
        rows.iter()
            .map(|r| Attempt {
                delivery_id: uuid(r, "delivery_id"),
                attempt: r.get("attempt"),
                started_at: r.get("started_at"),
                duration_ms: r.get("duration_ms"),
                outcome: r.get("outcome"),
                uncertain: r.get("uncertain"),
            })
            .collect()
    }

    pub async fn feed(&self) -> Vec<FeedRow> {
        let rows = sqlx::query(
            "SELECT user_id, seq, notification_id, read_at IS NOT NULL AS read, seen_at IS NOT NULL AS seen,
                    archived_at IS NOT NULL AS archived, expired_at IS NOT NULL AS expired
             FROM feed ORDER BY user_id, seq",
        )
        .fetch_all(&self.0)
        .await
        .expect("the feed");
        rows.iter()
            .map(|r| FeedRow {
                user_id: r.get("user_id"),
                seq: r.get("seq"),
                notification_id: uuid(r, "notification_id"),
                read: r.get("read"),
                seen: r.get("seen"),
                archived: r.get("archived"),
                expired: r.get("expired"),
            })
            .collect()
    }

    pub async fn users(&self) -> Vec<UserState> {
        let rows = sqlx::query("SELECT user_id, head_seq, min_seq, unread, unseen, total FROM user_state")
            .fetch_all(&self.0)
            .await
            .expect("user states");
        rows.iter()
            .map(|r| UserState {
                user_id: r.get("user_id"),
                head_seq: r.get("head_seq"),
                min_seq: r.get("min_seq"),
                unread: r.get("unread"),
                unseen: r.get("unseen"),
                total: r.get("total"),
            })
            .collect()
    }

    pub async fn notifications(&self) -> Vec<Uuid> {
        let rows = sqlx::query("SELECT id FROM notifications ORDER BY id").fetch_all(&self.0).await;
        rows.expect("notifications").iter().map(|r| uuid(r, "id")).collect()
    }

    /// id → title.
    pub async fn titles(&self) -> BTreeMap<Uuid, String> {
        let rows = sqlx::query("SELECT id, title FROM notifications").fetch_all(&self.0).await;
        rows.expect("notifications").iter().map(|r| (uuid(r, "id"), r.get("title"))).collect()
    }

    /// Deliveries that were replayed, as the audit log has it, once per replay.
    pub async fn replays(&self) -> Vec<String> {
        let rows = sqlx::query("SELECT target FROM audit WHERE action LIKE '%replay%'").fetch_all(&self.0).await;
        rows.expect("the audit log").iter().map(|r| r.get("target")).collect()
    }
}

fn uuid(row: &sqlx::sqlite::SqliteRow, column: &str) -> Uuid {
    Uuid::from_slice(row.get::<&[u8], _>(column)).expect("an id has 16 bytes")
}
