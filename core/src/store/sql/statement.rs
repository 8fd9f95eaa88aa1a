//! A statement in both dialects, what it binds, and the rows that come back.
//!
//! Most statements are the same text for both engines (`$1` is theirs both); the rest name two texts side by side, so that
//! what differs is seen where it is used. An id is a `uuid` in PostgreSQL and sixteen bytes in SQLite.

use super::rows::NUL_SHOWN;
#[cfg(test)]
use crate::store::plans;
use sqlx::{
    PgConnection, Sqlite, SqliteConnection,
    postgres::{PgArguments, PgRow, Postgres},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use std::borrow::Cow;
use uuid::Uuid;

/// One bound value.
#[derive(Clone, Debug)]
pub enum Arg<'q> {
    Int(Option<i64>),
    Flag(bool),
    Text(Option<Cow<'q, str>>),
    Bytes(Option<Vec<u8>>),
    Id(Option<Uuid>),
}

/// Text for SQLite, text for PostgreSQL, and the values of both.
#[derive(Clone, Debug)]
pub struct Sql<'q> {
    sqlite: &'static str,
    postgres: &'static str,
    args: Vec<Arg<'q>>,
}

/// The same text for both engines.
pub fn sql<'q>(text: &'static str) -> Sql<'q> {
    by_engine(text, text)
}

/// Two texts that do the same, over the same values in the same order.
pub fn by_engine<'q>(sqlite: &'static str, postgres: &'static str) -> Sql<'q> {
    Sql { sqlite, postgres, args: Vec::new() }
}

impl<'q> Sql<'q> {
    #[must_use]
    pub fn bind(mut self, value: impl Into<Arg<'q>>) -> Self {
        self.args.push(value.into());
        self
    }

    fn for_sqlite(self) -> Query<'q, Sqlite, SqliteArguments> {
        self.args.into_iter().fold(sqlx::query(self.sqlite), |query, arg| match arg {
            Arg::Int(v) => query.bind(v),
            Arg::Flag(v) => query.bind(v),
            Arg::Text(v) => query.bind(v.map(storable)),
            Arg::Bytes(v) => query.bind(v),
            Arg::Id(v) => query.bind(v.map(|id| id.into_bytes().to_vec())),
        })
    }

    fn for_postgres(self) -> Query<'q, Postgres, PgArguments> {
        self.args.into_iter().fold(sqlx::query(self.postgres), |query, arg| match arg {
            Arg::Int(v) => query.bind(v),
            Arg::Flag(v) => query.bind(v),
            Arg::Text(v) => query.bind(v.map(storable)),
            Arg::Bytes(v) => query.bind(v),
            Arg::Id(v) => query.bind(v),
        })
    }
}

/// Without NUL, which PostgreSQL's text can't hold.
fn storable(text: Cow<'_, str>) -> String {
    if text.contains('\0') { text.replace('\0', NUL_SHOWN) } else { text.into_owned() }
}

macro_rules! into_arg {
    ($($from:ty => $variant:ident($value:ident) $make:expr),+ $(,)?) => {
        $(impl<'q> From<$from> for Arg<'q> {
            fn from($value: $from) -> Self {
                Self::$variant($make)
            }
        })+
    };
}
into_arg! {
    i64 => Int(v) Some(v),
    u32 => Int(v) Some(v.into()),
    Option<i64> => Int(v) v,
    bool => Flag(v) v,
    &'q str => Text(v) Some(v.into()),
    String => Text(v) Some(v.into()),
    &'q String => Text(v) Some(v.as_str().into()),
    Option<&'q str> => Text(v) v.map(Into::into),
    Option<String> => Text(v) v.map(Into::into),
    Vec<u8> => Bytes(v) Some(v),
    Uuid => Id(v) Some(v),
    Option<Uuid> => Id(v) v,
}

/// A row of either engine.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A connection in use.
pub enum Conn<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Conn<'_> {
    pub async fn execute(&mut self, sql: Sql<'_>) -> sqlx::Result<u64> {
        #[cfg(test)]
        plans::hear(self, &sql).await?;
        match self {
            Self::Sqlite(conn) => Ok(sql.for_sqlite().execute(&mut **conn).await?.rows_affected()),
            Self::Postgres(conn) => Ok(sql.for_postgres().execute(&mut **conn).await?.rows_affected()),
        }
    }

    pub async fn fetch_all(&mut self, sql: Sql<'_>) -> sqlx::Result<Vec<Row>> {
        #[cfg(test)]
        plans::hear(self, &sql).await?;
        match self {
            Self::Sqlite(conn) => {
                let rows = sql.for_sqlite().fetch_all(&mut **conn).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(conn) => {
                let rows = sql.for_postgres().fetch_all(&mut **conn).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    pub async fn fetch_optional(&mut self, sql: Sql<'_>) -> sqlx::Result<Option<Row>> {
        #[cfg(test)]
        plans::hear(self, &sql).await?;
        match self {
            Self::Sqlite(conn) => Ok(sql.for_sqlite().fetch_optional(&mut **conn).await?.map(Row::Sqlite)),
            Self::Postgres(conn) => Ok(sql.for_postgres().fetch_optional(&mut **conn).await?.map(Row::Postgres)),
        }
    }
}

/// For those who ask about a statement.
#[cfg(test)]
impl<'q> Sql<'q> {
    pub fn texts(&self) -> (&'static str, &'static str) {
        (self.sqlite, self.postgres)
    }

    /// Another text with the same values.
    pub fn about_on_sqlite(&self, text: &'static str) -> Query<'q, Sqlite, SqliteArguments> {
        Self { sqlite: text, ..self.clone() }.for_sqlite()
    }

    /// Another text with the same values.
    pub fn about_on_postgres(&self, text: &'static str) -> Query<'q, Postgres, PgArguments> {
        Self { postgres: text, ..self.clone() }.for_postgres()
    }

    pub fn into_owned(self) -> Sql<'static> {
        let owned = |arg| match arg {
            Arg::Int(v) => Arg::Int(v),
            Arg::Flag(v) => Arg::Flag(v),
            Arg::Text(v) => Arg::Text(v.map(|text| Cow::Owned(text.into_owned()))),
            Arg::Bytes(v) => Arg::Bytes(v),
            Arg::Id(v) => Arg::Id(v),
        };
        Sql { sqlite: self.sqlite, postgres: self.postgres, args: self.args.into_iter().map(owned).collect() }
    }

    /// For PREPARE: the types and the values as PostgreSQL writes them.
    pub fn spelled_for_postgres(&self) -> (String, String) {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let spelled = |arg: &Arg<'_>| match arg {
            Arg::Int(v) => ("bigint", v.map(|v| v.to_string())),
            Arg::Flag(v) => ("boolean", Some(v.to_string())),
            Arg::Text(v) => ("text", v.as_deref().map(|text| quoted(&storable(text.into())))),
            Arg::Bytes(v) => ("bytea", v.as_ref().map(|bytes| format!("'\\x{}'", super::accept::hex(bytes)))),
            Arg::Id(v) => ("uuid", v.map(|id| quoted(&id.to_string()))),
        };
        let (types, values): (Vec<_>, Vec<_>) = self
            .args
            .iter()
            .map(spelled)
            .map(|(kind, value)| (kind, value.unwrap_or_else(|| "NULL".to_owned())))
            .unzip();
        (types.join(", "), values.join(", "))
    }

    /// How much is asked for: items of the longest list among the values, or the limit.
    pub fn asked_for(&self) -> usize {
        const LIMITS: std::ops::RangeInclusive<i64> = 1..=2_000;
        let size = |arg: &Arg<'_>| match arg {
            Arg::Text(Some(text)) => {
                serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text).map_or(0, |list| list.len())
            }
            Arg::Int(Some(n)) if LIMITS.contains(n) => *n as usize,
            _ => 0,
        };
        self.args.iter().map(size).max().unwrap_or(0)
    }
}
