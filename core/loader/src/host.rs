//! What this crate needs from the host around it.

use campanile_model::Timestamp;
use campanile_plugin::{BoxFuture, HttpError, HttpReply, Level, http::HttpRequest};
use std::{sync::Arc, time::Duration};

/// Which plugin, and which instance of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub plugin: Arc<str>,
    pub instance: Arc<str>,
}

/// A line that a plugin wrote, made fit to be shown.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Timestamp,
    pub level: Level,
    /// Where in the plugin it comes from.
    pub source: String,
    pub message: String,
    /// A JSON object, or empty.
    pub fields: String,
    pub delivery_id: Option<String>,
}

/// What an operator should be able to look up later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its process ended by itself; started again after that time.
    Crashed {
        why: String,
        again_in: Duration,
    },
    Restarted,
    /// It crashed too often: not started again until it is reloaded.
    Quarantined {
        why: String,
    },
    /// Too many calls never came back.
    Wedged {
        abandoned: usize,
    },
}

pub trait Host: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// Makes a request for a plugin that may call those hosts.
    fn http(
        &self,
        who: &Who,
        allowed: &Arc<[String]>,
        private: &Arc<[String]>,
        request: HttpRequest,
    ) -> BoxFuture<'static, Result<HttpReply, HttpError>>;
    /// The most talkative level that is written.
    fn level(&self) -> Level;
    fn log(&self, who: &Who, line: &Line);
    fn event(&self, who: &Who, event: Event);
    /// Resident memory of an instance's process.
    fn memory(&self, _who: &Who, _bytes: u64) {}
}
