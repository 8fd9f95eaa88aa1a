//! Where an instance is in its life.

use campanile_model::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Running,
    /// Works, but worth a look.
    Degraded,
    /// Its process ended; it is started again.
    Backoff,
    /// Not started again by itself.
    Quarantined,
    /// Too many calls never came back.
    Wedged,
    Draining,
    Stopped,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Wedged => "wedged",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// Whether deliveries are handed over.
    pub(crate) fn takes_work(self) -> bool {
        matches!(self, Self::Running | Self::Degraded)
    }
}

/// What is known of an instance now.
#[derive(Clone, Debug)]
pub struct Life {
    pub state: State,
    /// Why, when it is not simply running.
    pub detail: Option<String>,
    pub since: Timestamp,
    /// Times its process was started again.
    pub restarts: u64,
    /// When it last ended by itself, and why.
    pub last_crash: Option<(Timestamp, String)>,
    pub next_start_at: Option<Timestamp>,
    pub memory_bytes: Option<u64>,
    /// Calls whose time was over and that have not come back.
    pub abandoned: u64,
}
