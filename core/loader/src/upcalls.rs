//! What a plugin's code may ask of whoever runs it: the desk in this process, or the pipe to it in a child.

use campanile_plugin::{HttpError, HttpReply, Level, LogLine, Sample, http::HttpRequest, wire::Outcome};
use std::time::Duration;

/// Called once, with what came of it.
pub(crate) type Done<T> = Box<dyn FnOnce(T) + Send>;
pub(crate) type Answer = Result<HttpReply, HttpError>;

/// Called from the plugin's threads; nothing here may panic, and nothing may wait for the plugin.
pub(crate) trait Upcalls: Send + Sync + 'static {
    /// The last look before a delivery is handed over. False: its time is over, so it never is.
    fn begin(&self, token: u64) -> bool;
    fn complete(&self, token: u64, outcome: Outcome);
    /// As [`Self::complete`], from us and only if the plugin hasn't: so it is no fault if it has.
    fn settle(&self, token: u64, outcome: Outcome);
    fn is_cancelled(&self, token: u64) -> bool;
    fn log_enabled(&self, level: Level, target: &str) -> bool;
    fn log(&self, token: u64, line: LogLine<'_>);
    fn metric(&self, sample: Sample<'_>);
    fn http(&self, request: HttpRequest, done: Done<Answer>);
    fn timer(&self, time: Duration, done: Done<()>);
}
