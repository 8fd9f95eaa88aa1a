//! The structs of the header, in its order. Each has `new` for what it must have and a setter for everything else; the
//! matching accessors are on [`View`](crate::View).

use crate::{view::growable, UNSET};
use core::{ffi::c_void, ptr};

/// Text on its way over the line: borrowed for one call, UTF-8 by promise, not NUL-terminated. Frozen for ever.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    ptr: *const u8,
    len: usize,
}

impl Str {
    /// No text.
    pub const EMPTY: Self = Self { ptr: ptr::null(), len: 0 };

    /// The writer keeps `text` alive for the call it is passed to.
    pub const fn new(text: &str) -> Self {
        Self::from_bytes(text.as_bytes())
    }

    /// As [`Self::new`], for bodies.
    pub const fn from_bytes(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// What it points to. NULL and impossible lengths are empty.
    ///
    /// # Safety
    ///
    /// Unless the pointer is NULL or the length 0, so many bytes are readable and unchanged for `'a`.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 || self.len > isize::MAX as usize {
            return &[];
        }
        // SAFETY: not null, not longer than memory can be, readable for 'a (the caller's promise).
        unsafe { core::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// Where a function writes text, in as many chunks as it likes. Frozen for ever.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sink {
    ctx: *mut c_void,
    write: Option<unsafe extern "C" fn(ctx: *mut c_void, chunk: Str)>,
}

impl Sink {
    /// A sink that hands `ctx` and each chunk to `write`.
    pub const fn new(ctx: *mut c_void, write: unsafe extern "C" fn(*mut c_void, Str)) -> Self {
        Self { ctx, write: Some(write) }
    }

    /// Writes a chunk.
    ///
    /// # Safety
    ///
    /// The call that lent this sink hasn't returned yet.
    pub unsafe fn write(&self, chunk: &[u8]) {
        if let Some(write) = self.write {
            // SAFETY: the lender promised that `write` takes its `ctx` until its call returns.
            unsafe { write(self.ctx, Str::from_bytes(chunk)) }
        }
    }
}

/// Takes the answer to an HTTP request: once, with the `user` pointer that went with it.
pub type HttpCallback = unsafe extern "C" fn(user: *mut c_void, response: *const HttpResponse);
/// Says that time is over: once, with the `user` pointer that went with it.
pub type TimerCallback = unsafe extern "C" fn(user: *mut c_void);

/// Of [`Host`].
pub type CompleteFn = unsafe extern "C" fn(ctx: *mut c_void, token: u64, outcome: *const Outcome);
/// Of [`Host`].
pub type IsCancelledFn = unsafe extern "C" fn(ctx: *mut c_void, token: u64) -> u32;
/// Of [`Host`].
pub type LogEnabledFn = unsafe extern "C" fn(ctx: *mut c_void, level: u32, target: Str) -> u32;
/// Of [`Host`].
pub type LogFn = unsafe extern "C" fn(ctx: *mut c_void, line: *const Log);
/// Of [`Host`].
pub type MetricFn = unsafe extern "C" fn(ctx: *mut c_void, sample: *const Metric);
/// Of [`Host`]. 0: taken, the callback comes exactly once.
pub type HttpFn = unsafe extern "C" fn(*mut c_void, *const HttpRequest, HttpCallback, user: *mut c_void) -> i32;
/// Of [`Host`]. 0: taken, the callback comes exactly once.
pub type TimerFn = unsafe extern "C" fn(*mut c_void, after_ms: u64, TimerCallback, user: *mut c_void) -> i32;

/// Of [`Plugin`].
pub type DescribeFn = unsafe extern "C" fn(out: *const Sink);
/// Of [`Plugin`]. 0: the instance is set, and the token is completed once, now or later.
pub type StartFn = unsafe extern "C" fn(*const Host, config_json: Str, token: u64, instance: *mut *mut c_void) -> i32;
/// Of [`Plugin`].
pub type DeliverFn = unsafe extern "C" fn(instance: *mut c_void, items: *const *const Delivery, n: usize);
/// Of [`Plugin`].
pub type DestroyFn = unsafe extern "C" fn(instance: *mut c_void);
/// Of [`Plugin`].
pub type ValidateFn = unsafe extern "C" fn(config_json: Str, problems: *const Sink);
/// Of [`Plugin`].
pub type CancelFn = unsafe extern "C" fn(instance: *mut c_void, token: u64);
/// Of [`Plugin`].
pub type HealthFn = unsafe extern "C" fn(instance: *mut c_void, token: u64);
/// Of [`Plugin`].
pub type StopFn = unsafe extern "C" fn(instance: *mut c_void, token: u64, timeout_ms: u64);

growable! {
    /// How work ended.
    pub struct Outcome, at least up to status {
        /// One of [`status`](crate::status).
        value status: u32 = crate::status::INTERNAL,
        /// What the far side asked for; [`UNSET`]: the host decides.
        value retry_after_ms: u64 = UNSET,
        /// `[a-z0-9_.-]`, at most 64 bytes.
        text code: Str,
        /// For people: no secret, no address.
        text message: Str,
        /// The far side's own id.
        text provider_id: Str,
        /// A JSON object; `campanile_uncertain` and `campanile_suspect` in it are for the host.
        text detail_json: Str,
    }
}

growable! {
    /// One message to one recipient.
    pub struct Delivery, at least up to token {
        /// From 1.
        value attempt: u32 = 1,
        /// Names this work until it is completed.
        value token: u64 = 0,
        /// What is left of the host's time for this attempt.
        value timeout_ms: u64 = UNSET,
        /// Stable over attempts.
        text delivery_id: Str,
        /// For the far side; stable over attempts.
        text idempotency_key: Str,
        /// Where to.
        text recipient: Str,
        /// Rendered by the host.
        text subject: Str,
        /// Rendered by the host.
        text text: Str,
        /// Rendered by the host.
        text html: Str,
        /// The whole notification.
        text message_json: Str,
        /// W3C trace context of the attempt.
        text traceparent: Str,
    }
}

growable! {
    /// A line for the host's log.
    pub struct Log, at least up to level {
        /// One of [`level`](crate::level).
        value level: u32 = crate::level::INFO,
        /// The work it is about, or 0.
        value token: u64 = 0,
        /// Where in the plugin it comes from.
        text target: Str,
        /// For people.
        text message: Str,
        /// A JSON object.
        text fields_json: Str,
    }
}

growable! {
    /// A sample for the host's metrics.
    pub struct Metric, at least up to value {
        /// One of [`metric`](crate::metric).
        value kind: u32 = crate::metric::COUNTER,
        /// Added, set or observed.
        value value: f64 = 0.0,
        /// `[a-z0-9_]`; the host puts the plugin's name before it.
        text name: Str,
        /// A JSON object of strings.
        text labels_json: Str,
    }
}

growable! {
    /// A request that the host makes in the plugin's place.
    pub struct HttpRequest, at least up to reserved {
        /// 0.
        value reserved: u32 = 0,
        /// The delivery it is for, or 0.
        value token: u64 = 0,
        /// [`UNSET`]: the host's own limit.
        value timeout_ms: u64 = UNSET,
        /// Empty: `GET`.
        text method: Str,
        /// `https://…` or `http://…`.
        text url: Str,
        /// A JSON object of strings.
        text headers_json: Str,
        /// Any bytes.
        text body: Str,
    }
}

growable! {
    /// What came of it.
    pub struct HttpResponse, at least up to status {
        /// 0: no answer came, see `error`.
        value status: u32 = 0,
        /// A JSON object of strings, names in lower case.
        text headers_json: Str,
        /// Any bytes.
        text body: Str,
        /// `word: text`.
        text error: Str,
    }
}

growable! {
    /// What the host offers to one instance, until its `destroy` has returned.
    pub struct Host, at least up to complete {
        /// The host's [`MINOR`](crate::MINOR).
        value abi_minor: u32 = 0,
        /// First argument of every call.
        value ctx: *mut c_void = ptr::null_mut(),
        /// Ends a token. Never missing.
        maybe complete: Option<CompleteFn>,
        /// Not 0: stop, and complete the token as cancelled.
        maybe is_cancelled: Option<IsCancelledFn>,
        /// 0: the line would be dropped.
        maybe log_enabled: Option<LogEnabledFn>,
        /// Takes a line.
        maybe log: Option<LogFn>,
        /// Takes a sample.
        maybe metric: Option<MetricFn>,
        /// Makes a request.
        maybe http: Option<HttpFn>,
        /// Waits.
        maybe timer: Option<TimerFn>,
    }
}

growable! {
    /// What the plugin offers; [`View::check`](crate::View::check) says whether it may be used.
    pub struct Plugin, at least up to destroy {
        /// The [`MINOR`](crate::MINOR) it was built for.
        value abi_minor: u32 = 0,
        /// Of [`flags`](crate::flags).
        value flags: u32 = 0,
        /// 0.
        value reserved: u32 = 0,
        /// Writes one JSON object. Never missing.
        maybe describe: Option<DescribeFn>,
        /// Makes an instance. Never missing.
        maybe start: Option<StartFn>,
        /// Takes deliveries. Never missing.
        maybe deliver: Option<DeliverFn>,
        /// Ends an instance and its threads. Never missing.
        maybe destroy: Option<DestroyFn>,
        /// Writes what is wrong with a configuration.
        maybe validate: Option<ValidateFn>,
        /// Asks for an early end of some work.
        maybe cancel: Option<CancelFn>,
        /// A quick self-check.
        maybe health: Option<HealthFn>,
        /// Finish up; `destroy` follows.
        maybe stop: Option<StopFn>,
    }
}

impl Outcome {
    /// Work that ended like this.
    pub const fn new(status: u32) -> Self {
        Self::blank().status(status)
    }
}

impl Delivery {
    /// The work behind `token`.
    pub const fn new(token: u64, delivery_id: Str) -> Self {
        Self::blank().token(token).delivery_id(delivery_id).idempotency_key(delivery_id)
    }
}

impl Log {
    /// A line.
    pub const fn new(level: u32, target: Str, message: Str) -> Self {
        Self::blank().level(level).target(target).message(message)
    }
}

impl Metric {
    /// A sample.
    pub const fn new(kind: u32, name: Str, value: f64) -> Self {
        Self::blank().kind(kind).name(name).value(value)
    }
}

impl HttpRequest {
    /// A request without headers and body.
    pub const fn new(method: Str, url: Str) -> Self {
        Self::blank().method(method).url(url)
    }
}

impl HttpResponse {
    /// An answer.
    pub const fn new(status: u32, headers_json: Str, body: Str) -> Self {
        Self::blank().status(status).headers_json(headers_json).body(body)
    }

    /// No answer: `word: text`.
    pub const fn failed(error: Str) -> Self {
        Self::blank().error(error)
    }
}

impl Host {
    /// A host with nothing but completion.
    pub const fn new(ctx: *mut c_void, complete: CompleteFn) -> Self {
        Self::blank().abi_minor(crate::MINOR).ctx(ctx).complete(Some(complete))
    }
}

impl Plugin {
    /// A plugin with nothing but what it must have.
    pub const fn new(describe: DescribeFn, start: StartFn, deliver: DeliverFn, destroy: DestroyFn) -> Self {
        Self::blank()
            .abi_minor(crate::MINOR)
            .describe(Some(describe))
            .start(Some(start))
            .deliver(Some(deliver))
            .destroy(Some(destroy))
    }
}
