//! What a failed statement means to callers.

use campanile_model::ports::StoreError;
use std::sync::Arc;

/// Primary result codes that speak of the database or the disk, not of the statement: BUSY, LOCKED, NOMEM, READONLY,
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
        sqlx::Error::Database(e) => e
            .code()
            .and_then(|code| code.parse::<i64>().ok())
            // The low byte is the primary code.
            .is_some_and(|code| OF_THE_DATABASE.contains(&(code & 0xff))),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
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
