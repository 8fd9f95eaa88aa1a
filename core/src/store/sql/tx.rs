//! One write transaction as its operations see it: one time, the pauses in force, the users' feed states, the effects.
//!
//! `user_state` rows are read once per transaction, changed in memory and written back once before COMMIT: a group of
//! accepts is two statements, not two each. That is safe because nobody else changes them meanwhile: on SQLite there is no
//! other writer, on PostgreSQL the rows are locked as they are read, in (app, user) order and all at once, before anything
//! else is locked.

use super::{
    error::failed,
    rows::{Cells, json_rows},
    statement::{Conn, Row, Sql, by_engine, sql},
};
use campanile_model::{
    AppId, ChannelName, UserKey,
    effects::{Effects, FeedChange, FeedChangeKind, Marked},
    feed::{Counts, FeedState, MarkAs},
    ports::{StoreError, StoreResult},
};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A user's `user_state` row, and what the `users` row says.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserRow {
    pub head_seq: i64,
    pub min_seq: i64,
    pub counts: Counts,
    pub generation: i64,
    /// `users` has a row.
    pub known: bool,
    /// `user_state` has a row.
    pub stored: bool,
    pub disabled: bool,
}

impl UserRow {
    /// A new unread item: its seq.
    pub fn append(&mut self) -> i64 {
        self.head_seq += 1;
        self.counts.total += 1;
        self.counts.unread += 1;
        self.counts.unseen += 1;
        self.counts.version += 1;
        self.head_seq
    }

    pub fn state(&self, epoch: &str) -> FeedState {
        FeedState {
            epoch: format!("{epoch}.{}", self.generation),
            head_seq: self.head_seq,
            min_seq: self.min_seq,
            counts: self.counts,
        }
    }
}

pub struct Tx<'c> {
    conn: Conn<'c>,
    /// The database's clock, read once: everything in this transaction happens at this time.
    pub now: i64,
    paused: HashSet<ChannelName>,
    users: HashMap<UserKey, UserRow>,
    dirty: BTreeSet<UserKey>,
    pub effects: Effects,
}

impl<'c> Tx<'c> {
    /// Starts inside an open transaction.
    pub async fn start(mut conn: Conn<'c>, clock_offset: i64) -> StoreResult<Self> {
        let row = conn
            .fetch_optional(
                by_engine(
                    "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) + $1 AS now,
                            (SELECT json_group_array(channel) FROM channel_pauses WHERE ended IS NULL) AS paused",
                    "SELECT CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT) + $1 AS now,
                            (SELECT COALESCE(json_agg(channel), '[]')::text FROM channel_pauses WHERE ended IS NULL)
                                AS paused",
                )
                .bind(clock_offset),
            )
            .await
            .map_err(failed("reading the database's clock"))?
            .ok_or_else(|| StoreError::Unavailable("the database has no clock".into()))?;
        let cells = Cells::of("channel_pauses", &row);
        Ok(Self {
            now: cells.int("now")?,
            paused: cells.json("paused")?,
            conn,
            users: HashMap::new(),
            dirty: BTreeSet::new(),
            effects: Effects::default(),
        })
    }

    /// Other transactions run beside this one.
    pub fn is_shared(&self) -> bool {
        matches!(self.conn, Conn::Postgres(_))
    }

    pub fn is_paused(&self, channel: &ChannelName) -> bool {
        self.paused.contains(channel)
    }

    /// The channels paused now, as a JSON array.
    pub fn paused_json(&self) -> StoreResult<String> {
        json_rows(&self.paused.iter().collect::<Vec<_>>())
    }

    /// A pause or its end in this very transaction.
    pub fn set_paused(&mut self, channel: &ChannelName, paused: bool) {
        if paused {
            self.paused.insert(channel.clone());
        } else {
            self.paused.remove(channel);
        }
    }

    pub async fn exec(&mut self, what: &'static str, sql: Sql<'_>) -> StoreResult<u64> {
        self.conn.execute(sql).await.map_err(failed(what))
    }

    pub async fn fetch(&mut self, what: &'static str, sql: Sql<'_>) -> StoreResult<Vec<Row>> {
        self.conn.fetch_all(sql).await.map_err(failed(what))
    }

    pub async fn fetch_opt(&mut self, what: &'static str, sql: Sql<'_>) -> StoreResult<Option<Row>> {
        self.conn.fetch_optional(sql).await.map_err(failed(what))
    }

    /// Reads the feed states of these users, unless this transaction has them.
    pub async fn load_users(&mut self, keys: &[UserKey]) -> StoreResult<()> {
        let missing: BTreeSet<&UserKey> = keys.iter().filter(|k| !self.users.contains_key(*k)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // In (app, user) order, as the set is.
        let wanted: Vec<(&str, &str)> = missing.iter().map(|k| (k.app.as_str(), k.user.as_str())).collect();
        let wanted = json_rows(&wanted)?;
        if self.is_shared() {
            // A row that is not there can't be locked. Those that are there cost a look at the index.
            let make = sql("INSERT INTO user_state (app, user_id)
                 SELECT j.value ->> 0, j.value ->> 1
                 FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j (value, n) ORDER BY j.n
                 ON CONFLICT DO NOTHING");
            self.exec("making feed states", make.bind(wanted.clone())).await?;
        }
        let rows = self
            .fetch(
                "reading feed states",
                by_engine(
                    "SELECT j.value ->> 0 AS app, j.value ->> 1 AS user_id, s.head_seq, s.min_seq, s.unread, s.unseen,
                            s.total, s.version, s.generation, u.user_id IS NOT NULL AS known,
                            u.disabled_at IS NOT NULL AS disabled
                     FROM json_each($1) j
                     LEFT JOIN user_state s ON s.app = j.value ->> 0 AND s.user_id = j.value ->> 1
                     LEFT JOIN users u ON u.app = j.value ->> 0 AND u.user_id = j.value ->> 1",
                    "SELECT s.app, s.user_id, s.head_seq, s.min_seq, s.unread, s.unseen, s.total, s.version, s.generation,
                            u.user_id IS NOT NULL AS known, u.disabled_at IS NOT NULL AS disabled
                     FROM jsonb_array_elements($1::jsonb) AS j (value)
                     JOIN user_state s ON s.app = j.value ->> 0 AND s.user_id = j.value ->> 1
                     LEFT JOIN users u ON u.app = s.app AND u.user_id = s.user_id
                     ORDER BY s.app, s.user_id FOR UPDATE OF s",
                )
                .bind(wanted),
            )
            .await?;
        for row in &rows {
            let cells = Cells::of("user_state", row);
            self.users.insert(cells.user()?, user_row(cells)?);
        }
        Ok(())
    }

    /// Whether this transaction has the feed state: it can't be had later, as all are locked at once.
    pub fn has_user(&self, key: &UserKey) -> bool {
        self.users.contains_key(key)
    }

    /// A loaded user's feed state.
    pub fn user(&self, key: &UserKey) -> StoreResult<&UserRow> {
        self.users.get(key).ok_or_else(not_loaded)
    }

    /// The same, to change: it is written back before COMMIT.
    pub fn user_mut(&mut self, key: &UserKey) -> StoreResult<&mut UserRow> {
        let row = self.users.get_mut(key).ok_or_else(not_loaded)?;
        if !self.dirty.contains(key) {
            self.dirty.insert(key.clone());
        }
        Ok(row)
    }

    /// `users` changed under us: read again before the next use, unless this transaction has changed the feed state.
    pub fn forget_user(&mut self, key: &UserKey) {
        if !self.dirty.contains(key) {
            self.users.remove(key);
        }
    }

    /// Tells of items that left or changed, with the counts as they are now.
    pub fn tell_marked(&mut self, user: &UserKey, what: Marked, mark: MarkAs, unread_before: i64) -> StoreResult<()> {
        let counts = self.user(user)?.counts;
        self.effects.changes.push(FeedChange {
            user: user.clone(),
            kind: FeedChangeKind::Marked { what, mark },
            counts,
            unread_changed: counts.unread != unread_before,
        });
        Ok(())
    }

    /// Tells that a feed begins anew under its present generation.
    pub fn tell_anew(&mut self, user: &UserKey, epoch: &str) -> StoreResult<()> {
        let state = self.user(user)?.state(epoch);
        self.effects.changes.push(FeedChange {
            user: user.clone(),
            kind: FeedChangeKind::Erased { epoch: state.epoch, head_seq: state.head_seq },
            counts: state.counts,
            // Classic sockets get `unread_count` whatever they had.
            unread_changed: true,
        });
        Ok(())
    }

    /// Writes the changed feed states, in (app, user) order. The last statement before COMMIT.
    pub async fn flush_users(&mut self) -> StoreResult<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let dirty = std::mem::take(&mut self.dirty);
        let mut rows = Vec::with_capacity(dirty.len());
        for key in &dirty {
            let u = self.user(key)?;
            let c = u.counts;
            rows.push((
                key.app.as_str(),
                key.user.as_str(),
                (u.head_seq, u.min_seq, c.unread, c.unseen, c.total, c.version, u.generation),
            ));
        }
        let rows = json_rows(&rows)?;
        self.exec(
            "writing feed states",
            by_engine(
                "INSERT INTO user_state (app, user_id, head_seq, min_seq, unread, unseen, total, version, generation)
                 SELECT value ->> 0, value ->> 1, value ->> '$[2][0]', value ->> '$[2][1]', value ->> '$[2][2]',
                        value ->> '$[2][3]', value ->> '$[2][4]', value ->> '$[2][5]', value ->> '$[2][6]'
                 FROM json_each($1) WHERE true
                 ON CONFLICT (app, user_id) DO UPDATE SET
                    head_seq = excluded.head_seq, min_seq = excluded.min_seq, unread = excluded.unread,
                    unseen = excluded.unseen, total = excluded.total, version = excluded.version,
                    generation = excluded.generation",
                // The rows are there and locked.
                "UPDATE user_state s SET head_seq = j.head_seq, min_seq = j.min_seq, unread = j.unread,
                        unseen = j.unseen, total = j.total, version = j.version, generation = j.generation
                 FROM (SELECT value ->> 0 AS app, value ->> 1 AS user_id, (value #>> '{2,0}')::bigint AS head_seq,
                              (value #>> '{2,1}')::bigint AS min_seq, (value #>> '{2,2}')::bigint AS unread,
                              (value #>> '{2,3}')::bigint AS unseen, (value #>> '{2,4}')::bigint AS total,
                              (value #>> '{2,5}')::bigint AS version, (value #>> '{2,6}')::bigint AS generation
                       FROM jsonb_array_elements($1::jsonb)) j
                 WHERE s.app = j.app AND s.user_id = j.user_id",
            )
            .bind(rows),
        )
        .await?;
        Ok(())
    }
}

/// Columns of `user_state s` left-joined: NULL where the user has no row yet.
pub fn user_row(cells: Cells<'_>) -> StoreResult<UserRow> {
    let Some(head_seq) = cells.get::<Option<i64>>("head_seq")? else {
        return Ok(UserRow {
            min_seq: 1,
            known: cells.flag("known")?,
            disabled: cells.flag("disabled")?,
            ..UserRow::default()
        });
    };
    Ok(UserRow {
        head_seq,
        min_seq: cells.int("min_seq")?,
        counts: Counts {
            unseen: cells.int("unseen")?,
            unread: cells.int("unread")?,
            total: cells.int("total")?,
            version: cells.int("version")?,
        },
        generation: cells.int("generation")?,
        known: cells.flag("known")?,
        // PostgreSQL makes the row to lock it: only a used one counts.
        stored: head_seq > 0 || cells.int("version")? > 0 || cells.int("generation")? > 0,
        disabled: cells.flag("disabled")?,
    })
}

fn not_loaded() -> StoreError {
    StoreError::Statement {
        what: "a transaction",
        source: "it changed a feed state that it had not read; this is a bug".into(),
    }
}

/// Shorthand for a key of parts.
pub fn user_key(app: &AppId, user: &campanile_model::UserId) -> UserKey {
    UserKey { app: app.clone(), user: user.clone() }
}
