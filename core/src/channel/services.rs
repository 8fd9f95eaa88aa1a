//! What this host does for a channel that is linked into it: waiting, logging, and requests to public addresses.
//!
//! Absent on purpose: metrics of a channel's own. The channels linked in make none.

use crate::outbound::{Allowed, Outbound};
use campanile_plugin::{BoxFuture, Context, HttpError, HttpReply, Level, LogLine, Sample, Services, http::HttpRequest};
use std::{sync::Arc, time::Duration};

/// For the instance of that name.
pub fn context(instance: &str, outbound: Arc<Outbound>) -> Context {
    Context::new(instance, Arc::new(Linked { instance: instance.to_owned(), outbound }))
}

struct Linked {
    instance: String,
    outbound: Arc<Outbound>,
}

impl Services for Linked {
    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply, HttpError>> {
        let outbound = self.outbound.clone();
        // Our own code, with addresses from the operator's configuration.
        Box::pin(async move { outbound.send(Allowed { public: &["*".to_owned()], private: &[] }, request).await })
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn log_enabled(&self, _: Level, _: &str) -> bool {
        true
    }

    fn log(&self, line: LogLine<'_>) {
        let (instance, message) = (self.instance.as_str(), line.message);
        match line.level {
            Level::Error => tracing::error!(target: "plugin", instance, source = line.target, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", instance, source = line.target, "{message}"),
            Level::Info => tracing::info!(target: "plugin", instance, source = line.target, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", instance, source = line.target, "{message}"),
            Level::Trace => tracing::trace!(target: "plugin", instance, source = line.target, "{message}"),
        }
    }

    fn metric(&self, _: Sample<'_>) {}
}
