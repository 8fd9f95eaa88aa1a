//! What a channel gets from its host.
//!
//! Owns: [`Context`], and [`Services`], the seam behind it. A channel that is linked in gets the host's own services; one
//! in a library gets the same through the C table (`ffi`); a test gets scripted ones (`testing`). Absent on purpose: any
//! static. Everything belongs to one instance.

use crate::http::{Http, HttpError, HttpReply, HttpRequest};
use futures_util::future::{BoxFuture, Either, select};
use std::{any::Any, fmt, future::Future, pin::pin, sync::Arc, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Level {
    Error = campanile_plugin_abi::level::ERROR,
    Warn = campanile_plugin_abi::level::WARN,
    Info = campanile_plugin_abi::level::INFO,
    Debug = campanile_plugin_abi::level::DEBUG,
    Trace = campanile_plugin_abi::level::TRACE,
}

impl Level {
    /// As it goes over the line; an unknown one is `Info`.
    pub fn from_number(n: u32) -> Self {
        [Self::Error, Self::Warn, Self::Debug, Self::Trace].into_iter().find(|l| *l as u32 == n).unwrap_or(Self::Info)
    }
}

/// A line for the host's log.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<'a> {
    pub level: Level,
    /// Where in the plugin it comes from.
    pub target: &'a str,
    pub message: &'a str,
    /// A JSON object, or empty.
    pub fields_json: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MetricKind {
    /// The value is added.
    Counter = campanile_plugin_abi::metric::COUNTER,
    /// The value is set.
    Gauge = campanile_plugin_abi::metric::GAUGE,
    /// The value is observed.
    Histogram = campanile_plugin_abi::metric::HISTOGRAM,
}

impl MetricKind {
    /// As it goes over the line.
    pub fn from_number(n: u32) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram].into_iter().find(|k| *k as u32 == n)
    }
}

/// A sample for the host's metrics.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub kind: MetricKind,
    pub name: &'a str,
    pub value: f64,
    pub labels: &'a [(&'a str, &'a str)],
}

/// What a host does for one instance. Implemented by hosts.
pub trait Services: Send + Sync + 'static {
    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply, HttpError>>;
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
    fn log_enabled(&self, level: Level, target: &str) -> bool;
    fn log(&self, line: LogLine<'_>);
    fn metric(&self, sample: Sample<'_>);
}

/// What a channel gets from its host at start. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    name: Arc<str>,
    services: Arc<dyn Services>,
    native: Option<Arc<dyn Any + Send + Sync>>,
}

impl Context {
    pub fn new(name: impl Into<Arc<str>>, services: Arc<dyn Services>) -> Self {
        Self { name: name.into(), services, native: None }
    }

    /// A context without a host behind it: HTTP is refused, logs and metrics are dropped, a sleep costs a thread.
    pub fn detached(name: impl Into<Arc<str>>) -> Self {
        Self::new(name, Arc::new(Detached))
    }

    /// With something that only a channel linked into this host can use.
    #[must_use]
    pub fn with_native<T: Any + Send + Sync>(mut self, native: T) -> Self {
        self.native = Some(Arc::new(native));
        self
    }

    /// What [`Self::with_native`] put in. `None` in every loaded plugin.
    pub fn native<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.native.as_deref()?.downcast_ref()
    }

    /// The instance's name where the host gives one, else the channel's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client whose requests the host makes: under its rules for addresses, on its connections.
    pub fn http(&self) -> Http {
        Http::new(self.services.clone())
    }

    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.services.sleep(time)
    }

    /// `None` when `time` is over before `work` is done; `work` is dropped then.
    pub async fn timeout<F: Future>(&self, time: Duration, work: F) -> Option<F::Output> {
        match select(pin!(work), self.services.sleep(time)).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }

    /// A line for the host's log; with the feature `tracing`, its macros do this and more.
    pub fn log(&self, level: Level, message: &str) {
        if self.services.log_enabled(level, &self.name) {
            self.services.log(LogLine { level, target: &self.name, message, fields_json: "" });
        }
    }

    /// Adds to a counter: `campanile_plugin_<channel>_<name>`.
    pub fn count(&self, name: &str, value: f64, labels: &[(&str, &str)]) {
        self.services.metric(Sample { kind: MetricKind::Counter, name, value, labels });
    }

    /// Sets a gauge.
    pub fn gauge(&self, name: &str, value: f64, labels: &[(&str, &str)]) {
        self.services.metric(Sample { kind: MetricKind::Gauge, name, value, labels });
    }

    /// Observes a value.
    pub fn observe(&self, name: &str, value: f64, labels: &[(&str, &str)]) {
        self.services.metric(Sample { kind: MetricKind::Histogram, name, value, labels });
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name).finish_non_exhaustive()
    }
}

struct Detached;

impl Services for Detached {
    fn http(&self, _: HttpRequest) -> BoxFuture<'static, Result<HttpReply, HttpError>> {
        Box::pin(async { Err(HttpError::unsupported()) })
    }
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (send, receive) = crate::slot::slot();
        let slept = std::thread::Builder::new().name("camp-sleep".into()).spawn(move || {
            std::thread::sleep(time);
            send.send(());
        });
        drop(slept);
        Box::pin(async move {
            let _ = receive.await;
        })
    }
    fn log_enabled(&self, _: Level, _: &str) -> bool {
        false
    }
    fn log(&self, _: LogLine<'_>) {}
    fn metric(&self, _: Sample<'_>) {}
}
