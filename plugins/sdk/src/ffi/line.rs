//! The host, as one instance sees it.

use crate::{
    contain::contained,
    context::{Level, LogLine, MetricKind, Sample, Services},
    executor::Sleeper,
    http::{self, HttpError, HttpErrorKind, HttpReply, HttpRequest},
    slot::{Sender, slot},
    wire::Outcome,
};
use campanile_plugin_abi::{self as abi, BadStruct, Str, View};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::{
    ffi::c_void,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const CLOSED: usize = 1 << (usize::BITS - 1);

/// The host's functions with their first argument. Closed by `destroy`: a thread that outlives its instance then calls
/// nobody.
pub(crate) struct Line {
    ctx: *mut c_void,
    complete: Option<abi::CompleteFn>,
    is_cancelled: Option<abi::IsCancelledFn>,
    log_enabled: Option<abi::LogEnabledFn>,
    log: Option<abi::LogFn>,
    metric: Option<abi::MetricFn>,
    http: Option<abi::HttpFn>,
    timer: Option<abi::TimerFn>,
    /// Calls under way, and whether it is closed.
    calls: AtomicUsize,
}

// SAFETY: the interface promises that a host's functions may be called with its `ctx` from any thread until `destroy` has
// returned; `close` is called before that and waits for calls under way.
unsafe impl Send for Line {}
// SAFETY: as above.
unsafe impl Sync for Line {}

impl Line {
    /// # Safety
    ///
    /// `host` is what a host passed to `start`, and `close` is called before `destroy` returns.
    pub(crate) unsafe fn new(host: *const abi::Host) -> Result<Arc<Self>, BadStruct> {
        // SAFETY: the caller's promise.
        let host = unsafe { View::new(host) }?;
        Ok(Arc::new(Self {
            ctx: host.ctx(),
            complete: host.complete(),
            is_cancelled: host.is_cancelled(),
            log_enabled: host.log_enabled(),
            log: host.log(),
            metric: host.metric(),
            http: host.http(),
            timer: host.timer(),
            calls: AtomicUsize::new(0),
        }))
    }

    /// Makes a call unless the line is closed.
    fn call<T>(&self, call: impl FnOnce(*mut c_void) -> T) -> Option<T> {
        struct Under<'a>(&'a AtomicUsize);
        impl Drop for Under<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Release);
            }
        }
        let open = self.calls.fetch_add(1, Ordering::Acquire) & CLOSED == 0;
        let _under = Under(&self.calls);
        open.then(|| call(self.ctx))
    }

    /// Returns when no call is under way; later ones do nothing.
    pub(crate) fn close(&self) {
        self.calls.fetch_or(CLOSED, Ordering::AcqRel);
        while self.calls.load(Ordering::Acquire) != CLOSED {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn complete(&self, token: u64, outcome: &Outcome) {
        let Some(complete) = self.complete else { return };
        let detail = outcome.detail_json();
        let told = abi::Outcome::new(outcome.status as u32)
            .retry_after_ms(outcome.retry_after_ms())
            .code(Str::new(&outcome.code))
            .message(Str::new(&outcome.message))
            .provider_id(Str::new(outcome.provider_id.as_deref().unwrap_or_default()))
            .detail_json(Str::new(&detail));
        // SAFETY: the host's function with its own ctx; the struct and its texts live until the call returns.
        self.call(|ctx| unsafe { complete(ctx, token, &raw const told) });
    }

    pub(crate) fn is_cancelled(&self, token: u64) -> bool {
        // SAFETY: as in `complete`.
        let asked = self.is_cancelled.and_then(|asks| self.call(|ctx| unsafe { asks(ctx, token) }));
        asked.unwrap_or(0) != 0
    }

    pub(crate) fn log_enabled(&self, level: Level, target: &str) -> bool {
        let (Some(_), Some(asks)) = (self.log, self.log_enabled) else { return self.log.is_some() };
        // SAFETY: as in `complete`.
        self.call(|ctx| unsafe { asks(ctx, level as u32, Str::new(target)) }).unwrap_or(0) != 0
    }

    pub(crate) fn log(&self, line: LogLine<'_>, token: u64) {
        let Some(log) = self.log else { return };
        let told = abi::Log::new(line.level as u32, Str::new(line.target), Str::new(line.message))
            .token(token)
            .fields_json(Str::new(line.fields_json));
        // SAFETY: as in `complete`.
        self.call(|ctx| unsafe { log(ctx, &raw const told) });
    }

    fn metric(&self, sample: Sample<'_>) {
        let Some(metric) = self.metric else { return };
        let labels: serde_json::Map<_, _> = sample.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { json!(labels).to_string() };
        let told =
            abi::Metric::new(sample.kind as u32, Str::new(sample.name), sample.value).labels_json(Str::new(&labels));
        // SAFETY: as in `complete`.
        self.call(|ctx| unsafe { metric(ctx, &raw const told) });
    }

    fn http(&self, request: &HttpRequest, token: u64) -> Option<BoxFuture<'static, Result<HttpReply, HttpError>>> {
        let http = self.http?;
        let headers = http::headers_json(&request.headers);
        let timeout = request.timeout.map_or(abi::UNSET, |t| u64::try_from(t.as_millis()).unwrap_or(abi::UNSET));
        let asked = abi::HttpRequest::new(Str::new(&request.method), Str::new(&request.url))
            .token(token)
            .timeout_ms(timeout)
            .headers_json(Str::new(&headers))
            .body(Str::from_bytes(&request.body));
        let (send, receive) = slot();
        let user = Box::into_raw(Box::new(send));
        // SAFETY: as in `complete`; the host calls `answered` exactly once with `user` if and only if this returns 0.
        let taken = self.call(|ctx| unsafe { http(ctx, &raw const asked, answered, user.cast()) });
        if taken != Some(0) {
            // SAFETY: made above, and not taken by the host, so nobody else frees it.
            drop(unsafe { Box::from_raw(user) });
            let error = HttpError::new(HttpErrorKind::Refused, "the host takes no more requests of this channel");
            return Some(Box::pin(async { Err(error) }));
        }
        let gone = || HttpError::new(HttpErrorKind::Cancelled, "the host gave no answer");
        Some(Box::pin(async move { receive.await.unwrap_or_else(|| Err(gone())) }))
    }

    fn timer(&self, time: Duration) -> Option<BoxFuture<'static, ()>> {
        let timer = self.timer?;
        let (send, receive) = slot::<()>();
        let user = Box::into_raw(Box::new(send));
        let ms = u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        // SAFETY: as in `http`.
        let taken = self.call(|ctx| unsafe { timer(ctx, ms, rang, user.cast()) });
        if taken != Some(0) {
            // SAFETY: made above, and not taken by the host.
            drop(unsafe { Box::from_raw(user) });
            return None;
        }
        Some(Box::pin(async move {
            let _ = receive.await;
        }))
    }
}

type Answer = Result<HttpReply, HttpError>;

unsafe extern "C" fn answered(user: *mut c_void, response: *const abi::HttpResponse) {
    let _ = contained(|| {
        // SAFETY: `user` is the box that `http` made; the host gives it back once.
        let send = unsafe { Box::from_raw(user.cast::<Sender<Answer>>()) };
        // SAFETY: a response that the host lends for this call.
        send.send(match unsafe { View::new(response) } {
            Err(bad) => Err(HttpError::new(HttpErrorKind::Connect, format!("the host's answer can't be read: {bad}"))),
            Ok(r) if r.status() == 0 => Err(HttpError::parse(&String::from_utf8_lossy(r.error()))),
            Ok(r) => {
                let mut reply = HttpReply::new(u16::try_from(r.status()).unwrap_or(599), r.body());
                reply.headers = http::headers(r.headers_json());
                Ok(reply)
            }
        });
    });
}

unsafe extern "C" fn rang(user: *mut c_void) {
    let _ = contained(|| {
        // SAFETY: `user` is the box that `timer` made; the host gives it back once.
        let send = unsafe { Box::from_raw(user.cast::<Sender<()>>()) };
        send.send(());
    });
}

/// A context's services through the table.
pub(crate) struct Table {
    pub line: Arc<Line>,
    /// For hosts without a timer.
    pub sleeper: Sleeper,
}

impl Services for Table {
    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Answer> {
        let asked = self.line.http(&request, crate::bridge::current_token());
        asked.unwrap_or_else(|| Box::pin(async { Err(HttpError::unsupported()) }))
    }
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.line.timer(time).unwrap_or_else(|| self.sleeper.sleep(time))
    }
    fn log_enabled(&self, level: Level, target: &str) -> bool {
        self.line.log_enabled(level, target)
    }
    fn log(&self, line: LogLine<'_>) {
        self.line.log(line, crate::bridge::current_token());
    }
    fn metric(&self, sample: Sample<'_>) {
        // Without this a host would have to guess what NaN adds up to.
        if sample.value.is_finite() || sample.kind != MetricKind::Counter {
            self.line.metric(sample);
        }
    }
}
