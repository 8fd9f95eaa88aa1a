//! Why nothing was accepted.

use super::Invalid;
use campanile_model::ports::{AcceptError, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The caller must change the request.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// More than `ingest.max_backlog` deliveries are unsettled already: nothing was written, try again.
    #[error("too many deliveries are waiting")]
    Backlog,
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

impl IngestError {
    /// Stable, from a closed set: the label of `campanile_notifications_rejected`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.code,
            Self::Backlog => "backlog",
            Self::Accept(AcceptError::KeyMismatch) => "idempotency_key_reused",
            Self::Accept(AcceptError::KeyBusy) => "idempotency_key_busy",
            Self::Accept(AcceptError::Stale) => "recipient_changed",
            Self::Accept(AcceptError::Store(StoreError::Overloaded)) => "overloaded",
            Self::Accept(AcceptError::Store(StoreError::Unavailable(_) | StoreError::CommitUnknown(_))) => {
                "unavailable"
            }
            Self::Accept(AcceptError::Store(StoreError::Row { .. } | StoreError::Statement { .. })) => "internal",
        }
    }

    /// The same request may do later: nothing is wrong with it.
    pub fn is_temporary(&self) -> bool {
        matches!(self.code(), "backlog" | "overloaded" | "unavailable")
    }
}

impl From<StoreError> for IngestError {
    fn from(e: StoreError) -> Self {
        Self::Accept(e.into())
    }
}
