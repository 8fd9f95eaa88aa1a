//! Reads the database beside a running or dead host, on both engines alike. Absent on purpose: writing.

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::{
    PgPool, Row, SqlitePool,
    postgres::{PgPoolCopyExt as _, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use std::{collections::BTreeMap, path::Path, time::Duration};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Db(Pool);

#[derive(Clone, Debug)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// One row of `deliveries`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
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

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub delivery_id: Uuid,
    pub attempt: i64,
    pub started_at: i64,
    pub duration_ms: i64,
    pub outcome: String,
    pub uncertain: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FeedRow {
    pub user_id: String,
    pub seq: i64,
    pub notification_id: Uuid,
    pub read: bool,
    pub seen: bool,
    pub archived: bool,
    pub expired: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserState {
    pub user_id: String,
    pub head_seq: i64,
    pub min_seq: i64,
    pub unread: i64,
    pub unseen: i64,
    pub total: i64,
}

/// The same statement on either engine, one value per row.
macro_rules! rows {
    ($db:expr, $sql:expr, |$row:ident| $value:expr) => {{
        let sql: &'static str = $sql;
        match &$db.0 {
            Pool::Sqlite(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
                rows.iter().map(|$row| $value).collect()
            }
            Pool::Postgres(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
                rows.iter().map(|$row| $value).collect()
            }
        }
    }};
}

impl Db {
    /// The file of an embedded host.
    pub async fn sqlite(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Self(Pool::Sqlite(pool.unwrap_or_else(|e| panic!("{} can't be read: {e}", path.display()))))
    }

    /// The database of a host in production.
    pub async fn postgres(url: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await;
        Self(Pool::Postgres(pool.unwrap_or_else(|e| panic!("the host's database can't be read: {e}"))))
    }

    pub async fn close(self) {
        match self.0 {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    /// A statement that both engines know.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let counts: Vec<i64> = rows!(self, sql, |r| r.get(0));
        counts[0]
    }

    /// The clock that the rows are written by, in ms.
    pub async fn now_ms(&self) -> i64 {
        self.count(match self.0 {
            Pool::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Pool::Postgres(_) => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        })
        .await
    }

    pub async fn deliveries(&self) -> Vec<Delivery> {
        rows!(
            self,
            "SELECT id, notification_id, user_id, channel, state, reason, attempt, spent, losses, due_at, lease_until
             FROM deliveries ORDER BY id",
            |r| Delivery {
                id: r.get("id"),
                notification_id: r.get("notification_id"),
                user_id: r.get("user_id"),
                channel: r.get("channel"),
                state: r.get("state"),
                reason: r.get("reason"),
                attempt: r.get("attempt"),
                spent: r.get("spent"),
                losses: r.get("losses"),
                due_at: r.get("due_at"),
                lease_until: r.get("lease_until"),
            }
        )
    }

    pub async fn attempts(&self) -> Vec<Attempt> {
        rows!(
            self,
            "SELECT delivery_id, attempt, started_at, duration_ms, outcome, uncertain FROM attempts
             ORDER BY delivery_id, attempt",
            |r| Attempt {
                delivery_id: r.get("delivery_id"),
                attempt: r.get("attempt"),
                started_at: r.get("started_at"),
                duration_ms: r.get("duration_ms"),
                outcome: r.get("outcome"),
                uncertain: r.get("uncertain"),
            }
        )
    }

    pub async fn feed(&self) -> Vec<FeedRow> {
        rows!(
            self,
            "SELECT user_id, seq, notification_id, read_at IS NOT NULL AS read, seen_at IS NOT NULL AS seen,
                    archived_at IS NOT NULL AS archived, expired_at IS NOT NULL AS expired
             FROM feed ORDER BY user_id, seq",
            |r| FeedRow {
                user_id: r.get("user_id"),
                seq: r.get("seq"),
                notification_id: r.get("notification_id"),
                read: r.get("read"),
                seen: r.get("seen"),
                archived: r.get("archived"),
                expired: r.get("expired"),
            }
        )
    }

    pub async fn users(&self) -> Vec<UserState> {
        rows!(self, "SELECT user_id, head_seq, min_seq, unread, unseen, total FROM user_state", |r| UserState {
            user_id: r.get("user_id"),
            head_seq: r.get("head_seq"),
            min_seq: r.get("min_seq"),
            unread: r.get("unread"),
            unseen: r.get("unseen"),
            total: r.get("total"),
        })
    }

    pub async fn notifications(&self) -> Vec<Uuid> {
        rows!(self, "SELECT id FROM notifications ORDER BY id", |r| r.get("id"))
    }

    /// id → title.
    pub async fn titles(&self) -> BTreeMap<Uuid, String> {
        rows!(self, "SELECT id, title FROM notifications", |r| (r.get("id"), r.get("title")))
    }

    /// Deliveries that were replayed, as the audit log has it, once per replay.
    pub async fn replays(&self) -> Vec<String> {
        rows!(self, "SELECT target FROM audit WHERE action LIKE '%replay%'", |r| r.get("target"))
    }

    /// Everything the database holds, as the bytes of its rows.
    pub async fn dump(&self) -> Vec<u8> {
        match &self.0 {
            Pool::Sqlite(pool) => {
                let options = pool.connect_options();
                let mut bytes = std::fs::read(options.get_filename()).expect("the database file");
                bytes.extend(std::fs::read(options.get_filename().with_extension("db-wal")).unwrap_or_default());
                bytes
            }
            Pool::Postgres(pool) => {
                let tables: Vec<String> =
                    sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                        .fetch_all(pool)
                        .await
                        .expect("the tables");
                let mut bytes = Vec::new();
                for table in tables {
                    let copy = format!("COPY \"{table}\" TO STDOUT (FORMAT binary)");
                    let mut rows = pool.copy_out_raw(&copy).await.expect("a copy of the table");
                    while let Some(row) = rows.next().await {
                        bytes.extend(row.expect("a row"));
                    }
                }
                bytes
            }
        }
    }
}
