//! What a failed statement means to callers.

use campanile_model::ports::StoreError;
use std::sync::Arc;

/// SQLite's primary result codes that speak of the database or the disk, not of the statement: BUSY, LOCKED, NOMEM, READONLY,
/// IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
const OF_THE_DATABASE: [i64; 10] = [5, 6, 7, 8, 10, 11, 13, 14, 15, 26];

/// For `map_err`: the statement was about to do `what`.
pub fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |e| if is_unavailable(&e) { StoreError::Unavailable(Box::new(e)) } else { statement(what, e) }
}

pub fn statement(what: &'static str, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Statement { what, source: e.into() }
}

fn is_unavailable(e: &sqlx::Error) -> bool {
    match e {
        sqlx::Error::Database(e) => e.code().is_some_and(|code| match sqlstate(&code) {
            // Connection, resources, an operator's shutdown or a crash, the server's own system; 57014 is a statement that
            // ran into its time limit, which is the server's slowness and not the statement's fault.
            Some(state) => ["08", "53", "57", "58"].iter().any(|class| state.starts_with(class)) || state == "25P03",
            // The low byte is the primary code.
            None => code.parse::<i64>().is_ok_and(|code| OF_THE_DATABASE.contains(&(code & 0xff))),
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// PostgreSQL's codes have five characters, SQLite's are shorter numbers.
fn sqlstate(code: &str) -> Option<&str> {
    (code.len() == 5).then_some(code)
}

/// Two transactions were in each other's way: the same work may succeed at once.
pub fn is_contention(e: &StoreError) -> bool {
    let StoreError::Statement { source, .. } = e else { return false };
    let Some(sqlx::Error::Database(e)) = source.downcast_ref::<sqlx::Error>() else { return false };
    // Deadlock, serialization, lock_timeout.
    matches!(e.code().as_deref(), Some("40P01" | "40001" | "55P03"))
}

/// One error for everyone who shared a commit.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Shared(pub Arc<StoreError>);

impl Shared {
    pub fn unavailable(&self) -> StoreError {
        StoreError::Unavailable(Box::new(self.clone()))
    }
    pub fn commit_unknown(&self) -> StoreError {
        StoreError::CommitUnknown(Box::new(self.clone()))
    }
}

impl Shared {
    /// For the only one who waited: the error itself.
    pub fn only(&self) -> StoreError {
        match &*self.0 {
            StoreError::Row { table, column, row, detail } => {
                StoreError::Row { table, column, row: row.clone(), detail: detail.clone() }
            }
            StoreError::Statement { what, .. } => StoreError::Statement { what, source: Box::new(self.cause()) },
            StoreError::Overloaded => StoreError::Overloaded,
            StoreError::Unavailable(_) => self.unavailable(),
            StoreError::CommitUnknown(_) => self.commit_unknown(),
        }
    }

    fn cause(&self) -> Cause {
        Cause(self.0.clone())
    }
}

/// The source of a shared statement error, without repeating what it was about.
#[derive(Debug)]
struct Cause(Arc<StoreError>);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            StoreError::Statement { source, .. } => source.fmt(f),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for Cause {}
