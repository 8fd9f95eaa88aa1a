//! Rows are checked on the way out: a value that must not be there names table, column and row.

use super::statement::Row;
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState, KeyId, Notification, NotificationId, Priority, Timestamp,
    TraceContext, UserId, UserKey, notification::Content, ports::StoreError, ports::StoreResult,
};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use sqlx::{Decode, Postgres, Row as _, Sqlite, Type};
use std::{io, sync::Arc};
use uuid::Uuid;

/// What a column of either engine can be read as.
pub trait Cell<'r>: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres> {}
impl<'r, T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>> Cell<'r> for T {}

/// A row of a statement over `table`; columns carry the table's own names.
#[derive(Clone, Copy)]
pub struct Cells<'r> {
    row: &'r Row,
    table: &'static str,
}

impl<'r> Cells<'r> {
    pub fn of(table: &'static str, row: &'r Row) -> Self {
        Self { row, table }
    }

    /// The same row, read as a row of another table of the join.
    pub fn as_table(self, table: &'static str) -> Self {
        Self { table, ..self }
    }

    pub fn get<T: Cell<'r>>(self, column: &'static str) -> StoreResult<T> {
        self.read(column).map_err(|e| self.wrong(column, e))
    }

    fn read<T: Cell<'r>>(self, column: &str) -> sqlx::Result<T> {
        match self.row {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    pub fn text(self, column: &'static str) -> StoreResult<String> {
        self.get(column)
    }

    pub fn int(self, column: &'static str) -> StoreResult<i64> {
        self.get(column)
    }

    pub fn flag(self, column: &'static str) -> StoreResult<bool> {
        match self.row {
            Row::Sqlite(_) => Ok(self.get::<i64>(column)? != 0),
            Row::Postgres(_) => self.get(column),
        }
    }

    pub fn count(self, column: &'static str) -> StoreResult<u64> {
        self.int(column)?.try_into().map_err(|e| self.wrong(column, e))
    }

    pub fn small(self, column: &'static str) -> StoreResult<u32> {
        self.int(column)?.try_into().map_err(|e| self.wrong(column, e))
    }

    pub fn uuid(self, column: &'static str) -> StoreResult<Uuid> {
        match self.row {
            Row::Sqlite(_) => Uuid::from_slice(self.get::<&[u8]>(column)?).map_err(|e| self.wrong(column, e)),
            Row::Postgres(row) => row.try_get(column).map_err(|e| self.wrong(column, e)),
        }
    }

    pub fn opt_uuid(self, column: &'static str) -> StoreResult<Option<Uuid>> {
        let known = match self.row {
            Row::Sqlite(_) => self.get::<Option<&[u8]>>(column)?.is_some(),
            Row::Postgres(row) => row.try_get::<Option<Uuid>, _>(column).map_err(|e| self.wrong(column, e))?.is_some(),
        };
        if known { self.uuid(column).map(Some) } else { Ok(None) }
    }

    pub fn delivery(self, column: &'static str) -> StoreResult<DeliveryId> {
        self.uuid(column).map(DeliveryId)
    }

    pub fn notification_id(self, column: &'static str) -> StoreResult<NotificationId> {
        self.uuid(column).map(NotificationId)
    }

    pub fn key_id(self, column: &'static str) -> StoreResult<KeyId> {
        self.uuid(column).map(KeyId)
    }

    pub fn time(self, column: &'static str) -> StoreResult<Timestamp> {
        let ms = self.int(column)?;
        Timestamp::from_timestamp_millis(ms).ok_or_else(|| self.wrong(column, format!("{ms} is not a time")))
    }

    pub fn opt_time(self, column: &'static str) -> StoreResult<Option<Timestamp>> {
        match self.get::<Option<i64>>(column)? {
            Some(_) => self.time(column).map(Some),
            None => Ok(None),
        }
    }

    pub fn state(self, column: &'static str) -> StoreResult<DeliveryState> {
        self.get::<&str>(column)?.parse().map_err(|e| self.wrong(column, e))
    }

    pub fn channel(self, column: &'static str) -> StoreResult<ChannelName> {
        Ok(ChannelName::from(self.get::<&str>(column)?))
    }

    pub fn priority(self) -> StoreResult<Priority> {
        let rank = self.int("priority")?;
        Priority::from_rank(rank).ok_or_else(|| self.wrong("priority", format!("{rank} is not a rank")))
    }

    pub fn json<T: DeserializeOwned>(self, column: &'static str) -> StoreResult<T> {
        serde_json::from_str(self.get::<&str>(column)?).map_err(|e| self.wrong(column, e))
    }

    /// Columns `app` and `user_id`.
    pub fn user(self) -> StoreResult<UserKey> {
        Ok(UserKey { app: AppId::from(self.get::<&str>("app")?), user: UserId::from(self.get::<&str>("user_id")?) })
    }

    /// All columns of `notifications`, with `id` under the given alias.
    pub fn notification(self, id: &'static str) -> StoreResult<Arc<Notification>> {
        let c = self.as_table("notifications");
        Ok(Arc::new(Notification {
            id: c.notification_id(id)?,
            app: AppId::from(c.get::<&str>("app")?),
            content: Arc::new(Content {
                title: c.text("title")?,
                message: c.text("message")?,
                notification_type: c.text("notification_type")?,
                data: c.json("data")?,
            }),
            priority: c.priority()?,
            created_at: c.time("n_created_at")?,
            send_at: c.opt_time("send_at")?,
            expires_at: c.opt_time("n_expires_at")?,
            collapse_key: c.get("collapse_key")?,
            request_id: c.text("request_id")?,
            trace: c.get::<Option<String>>("traceparent")?.as_deref().and_then(TraceContext::parse),
        }))
    }

    pub fn wrong(self, column: &'static str, detail: impl ToString) -> StoreError {
        StoreError::Row { table: self.table, column, row: self.name(), detail: detail.to_string() }
    }

    /// Whatever names this row best.
    fn name(self) -> String {
        for id in ["id", "delivery_id", "notification_id", "key_id"] {
            let uuid = match self.row {
                Row::Sqlite(row) => row.try_get(id).ok().and_then(|bytes: &[u8]| Uuid::from_slice(bytes).ok()),
                Row::Postgres(row) => row.try_get(id).ok(),
            };
            if let Some(uuid) = uuid {
                return uuid.to_string();
            }
        }
        if let Ok(user) = self.user() {
            return format!("{}/{}", user.app, user.user);
        }
        self.read::<i64>("id").map_or_else(|_| "a row".to_owned(), |id| id.to_string())
    }
}

/// The columns [`Cells::notification`] wants, of `notifications n`; `n.app` and `n.priority` are the delivery's too.
macro_rules! notification_columns {
    () => {
        "n.app, n.title, n.message, n.notification_type, n.data, n.priority, n.created_at AS n_created_at, n.send_at, \
         n.expires_at AS n_expires_at, n.collapse_key, n.request_id, n.traceparent"
    };
}
pub(crate) use notification_columns;

/// An id on its way in: hex text, which the statement turns into a blob with `unhex` or casts to `uuid`.
#[derive(Clone, Copy)]
pub struct Hex(pub Uuid);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0.simple().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// PostgreSQL's text has no NUL. Ingest refuses one where people write; what a far side says may hold one.
struct WithoutNul;

impl Formatter for WithoutNul {
    fn write_char_escape<W: ?Sized + io::Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(0) => out.write_all(NUL_SHOWN.as_bytes()),
            escape => CompactFormatter.write_char_escape(out, escape),
        }
    }
}

/// What stands for a NUL in a text column of either engine.
pub const NUL_SHOWN: &str = "\u{fffd}";

/// Rows for `json_each($1)` or `jsonb_array_elements($1::jsonb)`: tuples become arrays, read with `value ->> 0`.
pub fn json_rows<T: Serialize>(rows: &[T]) -> StoreResult<String> {
    let encoding = |e: Box<dyn std::error::Error + Send + Sync>| StoreError::Statement {
        what: "encoding rows for a statement",
        source: e,
    };
    let mut out = Vec::with_capacity(64 * rows.len());
    rows.serialize(&mut serde_json::Serializer::with_formatter(&mut out, WithoutNul))
        .map_err(|e| encoding(e.into()))?;
    String::from_utf8(out).map_err(|e| encoding(e.into()))
}

/// Ids for `SELECT unhex(value) FROM json_each($1)` or `SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)`.
pub fn json_ids(ids: impl IntoIterator<Item = Uuid>) -> String {
    let mut out = String::from("[");
    for id in ids {
        if out.len() > 1 {
            out.push(',');
        }
        out.push('"');
        out.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        out.push('"');
    }
    out.push(']');
    out
}
