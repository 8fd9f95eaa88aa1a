//! A small host for tests: it drives a plugin through its table, in this process and without mercy.
//!
//! Owns: tokens and the record of their ends, callbacks given exactly once. Absent on purpose: everything that makes a
//! host robust (lanes, limits, time-outs, loading). The services behind it are any [`Services`].

use crate::{
    Channel, OwnedDelivery, Problem, Services,
    context::{Level, LogLine, MetricKind, Sample},
    executor::plain::Executor,
    http::{self, HttpError, HttpErrorKind, HttpReply, HttpRequest},
    slot::{Receiver, Sender, slot},
    wire::{self, Outcome},
};
use campanile_plugin_abi::{self as abi, Refusal, Sink, Str, View};
use std::{
    collections::{HashMap, HashSet},
    ffi::c_void,
    io, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A plugin's table.
#[derive(Clone, Copy)]
pub struct Plugin(View<'static, abi::Plugin>);

// SAFETY: a table is constant and made of numbers and functions.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

impl Plugin {
    /// The table that [`export!`](crate::export) would publish for this channel.
    pub fn of<C: Channel>() -> Self {
        let table: &'static abi::Plugin = Box::leak(Box::new(super::table::<C>()));
        // SAFETY: lives for ever.
        match unsafe { View::table(table) } {
            Ok(view) => Self(view),
            Err(refusal) => unreachable!("our own table is legal: {refusal}"),
        }
    }

    /// The table of a loaded library.
    ///
    /// # Safety
    ///
    /// `table` is what the library's entry returned, and the library stays loaded.
    pub unsafe fn at(table: *const abi::Plugin) -> Result<Self, Refusal> {
        // SAFETY: the caller's promise.
        unsafe { View::table(table) }.map(Self)
    }

    /// What `describe` writes.
    pub fn describe(&self) -> Vec<u8> {
        // SAFETY: the sink lives until the call returns.
        collect(|sink| unsafe { self.0.describe().map(|f| f(sink)) })
    }

    /// What `validate` finds.
    pub fn validate(&self, config: &str) -> Result<Vec<Problem>, String> {
        // SAFETY: text and sink live until the call returns.
        wire::problems(&collect(|sink| unsafe { self.0.validate().map(|f| f(Str::new(config), sink)) }))
    }

    /// Starts an instance and waits until it is ready.
    pub async fn start(&self, config: &str, services: Arc<dyn Services>) -> Result<Instance, Outcome> {
        let (instance, started) = self.begin(config, services)?;
        match started.await {
            Some(outcome) if outcome.status == wire::Status::Ok => Ok(instance),
            Some(outcome) => Err(outcome),
            None => Err(Outcome::new(wire::Status::Internal, "lost", "start's token was never completed")),
        }
    }

    fn begin(&self, config: &str, services: Arc<dyn Services>) -> Result<(Instance, Pending), Outcome> {
        let internal = |text: String| Outcome::new(wire::Status::Internal, "test_host", text);
        let state = State::new(services).map_err(|e| internal(e.to_string()))?;
        // A stray thread of a plugin may call for ever: so the state is never freed.
        let ctx: *mut Arc<State> = Box::into_raw(Box::new(state.clone()));
        let host = abi::Host::new(ctx.cast(), complete)
            .is_cancelled(Some(is_cancelled))
            .log_enabled(Some(log_enabled))
            .log(Some(log))
            .metric(Some(metric))
            .http(Some(http))
            .timer(Some(timer));
        let host: &'static abi::Host = Box::leak(Box::new(host));
        let (token, pending) = state.token();
        let mut raw = ptr::null_mut();
        // SAFETY: the host's table lives for ever, the rest until the call returns.
        let code = unsafe { self.0.start().map_or(-1, |start| start(host, Str::new(config), token, &raw mut raw)) };
        if code != 0 {
            return Err(state.recorded(token).unwrap_or_else(|| internal(format!("start returned {code}"))));
        }
        let instance = Instance { plugin: *self, raw: Raw(raw), state, destroyed: false };
        Ok((instance, pending))
    }
}

fn collect<T>(call: impl FnOnce(*const Sink) -> T) -> Vec<u8> {
    unsafe extern "C" fn write(ctx: *mut c_void, chunk: Str) {
        // SAFETY: `ctx` is the vector below, used by one thread until the call returns; the chunk is lent.
        unsafe { (*ctx.cast::<Vec<u8>>()).extend_from_slice(chunk.bytes()) };
    }
    let mut text: Vec<u8> = Vec::new();
    let sink = Sink::new((&raw mut text).cast(), write);
    call(&raw const sink);
    text
}

type Pending = Receiver<Outcome>;

struct Raw(*mut c_void);
// SAFETY: an instance may be called from any thread.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

/// A running instance. Dropping it destroys it.
pub struct Instance {
    plugin: Plugin,
    raw: Raw,
    state: Arc<State>,
    destroyed: bool,
}

/// Work that was handed over.
pub struct Handed {
    pub token: u64,
    end: Pending,
}

impl Handed {
    pub async fn end(self) -> Outcome {
        let lost = || Outcome::new(wire::Status::Internal, "lost", "the token was never completed");
        self.end.await.unwrap_or_else(lost)
    }
}

impl Instance {
    /// Hands deliveries over in one call.
    pub fn hand_over(&self, items: &[OwnedDelivery]) -> Vec<Handed> {
        let (tokens, handed): (Vec<_>, Vec<_>) = items
            .iter()
            .map(|_| {
                let (token, end) = self.state.token();
                (token, Handed { token, end })
            })
            .unzip();
        let jsons: Vec<_> = items.iter().map(|d| d.borrow(&true).message_json().into_owned()).collect();
        let structs: Vec<_> = items
            .iter()
            .zip(&jsons)
            .zip(&tokens)
            .map(|((d, json), token)| {
                abi::Delivery::new(*token, Str::new(&d.delivery_id))
                    .idempotency_key(Str::new(&d.idempotency_key))
                    .attempt(d.attempt)
                    .timeout_ms(u64::try_from(d.timeout.as_millis()).unwrap_or(abi::UNSET))
                    .recipient(Str::new(&d.recipient))
                    .subject(Str::new(&d.subject))
                    .text(Str::new(&d.text))
                    .html(Str::new(&d.html))
                    .message_json(Str::new(json))
                    .traceparent(Str::new(&d.traceparent))
            })
            .collect();
        let pointers: Vec<_> = structs.iter().map(ptr::from_ref).collect();
        if let Some(deliver) = self.plugin.0.deliver() {
            // SAFETY: what `start` made and `destroy` hasn't taken; everything lent lives until the call returns.
            unsafe { deliver(self.raw.0, pointers.as_ptr(), pointers.len()) };
        }
        handed
    }

    /// Hands one delivery over and waits.
    pub async fn deliver(&self, item: &OwnedDelivery) -> Outcome {
        match self.hand_over(std::slice::from_ref(item)).pop() {
            Some(handed) => handed.end().await,
            None => unreachable!("one item, one token"),
        }
    }

    /// Takes the delivery back, as a host does whose time is over. Requests of it still get their scripted answer: the
    /// plugin must let go by itself and not because its request came back.
    pub fn cancel(&self, token: u64) {
        self.state.lock().cancelled.insert(token);
        if let Some(cancel) = self.plugin.0.cancel() {
            // SAFETY: as in `hand_over`.
            unsafe { cancel(self.raw.0, token) };
        }
    }

    /// `None`: the plugin has no health check.
    pub async fn health(&self) -> Option<Outcome> {
        let (token, end) = self.state.token();
        // SAFETY: as in `hand_over`.
        self.plugin.0.health().map(|health| unsafe { health(self.raw.0, token) })?;
        Some(Handed { token, end }.end().await)
    }

    /// `None`: the plugin has nothing to stop.
    pub async fn stop(&self) -> Option<Outcome> {
        let (token, end) = self.state.token();
        // SAFETY: as in `hand_over`.
        self.plugin.0.stop().map(|stop| unsafe { stop(self.raw.0, token, 30_000) })?;
        Some(Handed { token, end }.end().await)
    }

    /// Ends it; returns when the plugin says that its threads are gone.
    pub fn destroy(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.destroyed, true) {
            return;
        }
        self.state.call_back();
        if let Some(destroy) = self.plugin.0.destroy() {
            // SAFETY: what `start` made; the last call and, by `&mut`, the only one.
            unsafe { destroy(self.raw.0) };
        }
        self.state.call_back();
        self.state.driver.shut_down();
    }

    /// Tokens completed more than once, or never given out.
    pub fn faults(&self) -> u64 {
        self.state.faults.load(Ordering::SeqCst)
    }

    /// Name of a thread of the instance; empty where the system doesn't tell.
    pub(crate) fn thread(&self) -> String {
        self.state.lock().thread.clone().unwrap_or_default()
    }

    /// A look at [`Self::faults`] that outlives the instance.
    pub fn watch(&self) -> impl Fn() -> u64 + Send + 'static {
        let state = self.state.clone();
        move || state.faults.load(Ordering::SeqCst)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.end();
    }
}

struct State {
    services: Arc<dyn Services>,
    /// Drives what the services return.
    driver: Executor,
    inner: Mutex<Inner>,
    faults: AtomicU64,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<u64, Sender<Outcome>>,
    /// How each token ended, for tests that look later.
    ended: HashMap<u64, Outcome>,
    cancelled: HashSet<u64>,
    /// Name of the thread that completed the first token: one of the instance's own.
    thread: Option<String>,
    ops: HashMap<u64, Arc<Op>>,
    next_op: u64,
}

/// A callback that is owed.
struct Op {
    owed: Mutex<Option<Callback>>,
}

enum Callback {
    Http(abi::HttpCallback, Raw),
    Timer(abi::TimerCallback, Raw),
}

impl Op {
    /// The first who comes calls; the others do nothing.
    fn pay(&self, answer: Result<HttpReply, HttpError>) {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match owed {
            None => {}
            // SAFETY: owed once, taken once.
            Some(Callback::Timer(call, user)) => unsafe { call(user.0) },
            Some(Callback::Http(call, user)) => {
                let (headers, text);
                let response = match &answer {
                    Ok(reply) => {
                        headers = http::headers_json(&reply.headers);
                        abi::HttpResponse::new(reply.status.into(), Str::new(&headers), Str::from_bytes(&reply.body))
                    }
                    Err(error) => {
                        text = error.to_string();
                        abi::HttpResponse::failed(Str::new(&text))
                    }
                };
                // SAFETY: owed once, taken once; the response lives until the call returns.
                unsafe { call(user.0, &raw const response) };
            }
        }
    }
}

impl State {
    fn new(services: Arc<dyn Services>) -> io::Result<Arc<Self>> {
        let driver = Executor::start("test-host", || {})?;
        Ok(Arc::new(Self { services, driver, inner: Mutex::default(), faults: AtomicU64::new(0) }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> (u64, Pending) {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
        let token = NEXT.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = slot();
        self.lock().waiting.insert(token, send);
        (token, receive)
    }

    fn recorded(&self, token: u64) -> Option<Outcome> {
        self.lock().ended.get(&token).cloned()
    }

    fn call_back(&self) {
        let owed = std::mem::take(&mut self.lock().ops);
        for op in owed.into_values() {
            op.pay(Err(HttpError::new(HttpErrorKind::Cancelled, "the instance ends")));
        }
    }

    fn owe(&self, callback: Callback) -> (u64, Arc<Op>) {
        let op = Arc::new(Op { owed: Mutex::new(Some(callback)) });
        let mut inner = self.lock();
        inner.next_op += 1;
        let id = inner.next_op;
        inner.ops.insert(id, op.clone());
        (id, op)
    }
}

/// # Safety
///
/// `ctx` is that of a host made here.
unsafe fn state<'a>(ctx: *mut c_void) -> &'a Arc<State> {
    // SAFETY: leaked by `begin`, so it lives for ever; only shared.
    unsafe { &*ctx.cast_const().cast::<Arc<State>>() }
}

unsafe extern "C" fn complete(ctx: *mut c_void, token: u64, outcome: *const abi::Outcome) {
    // SAFETY: our own ctx, and a struct lent for this call.
    let (state, read) = unsafe { (state(ctx), View::new(outcome)) };
    let outcome = match read {
        Err(bad) => Outcome::new(wire::Status::Internal, "bad_outcome", bad.to_string()),
        Ok(o) => Outcome::read(o.status(), o.retry_after_ms(), o.code(), o.message(), o.provider_id(), o.detail_json()),
    };
    let mut inner = state.lock();
    let Some(waiting) = inner.waiting.remove(&token) else {
        drop(inner);
        state.faults.fetch_add(1, Ordering::SeqCst);
        return;
    };
    inner.ended.insert(token, outcome.clone());
    if inner.thread.is_none() {
        let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
        inner.thread = Some(name.trim_end().to_owned());
    }
    drop(inner);
    waiting.send(outcome);
}

unsafe extern "C" fn is_cancelled(ctx: *mut c_void, token: u64) -> u32 {
    // SAFETY: our own ctx.
    u32::from(unsafe { state(ctx) }.lock().cancelled.contains(&token))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

unsafe extern "C" fn log_enabled(ctx: *mut c_void, level: u32, target: Str) -> u32 {
    // SAFETY: our own ctx, and a text lent for this call.
    let (state, target) = unsafe { (state(ctx), target.bytes()) };
    u32::from(state.services.log_enabled(Level::from_number(level), &text(target)))
}

unsafe extern "C" fn log(ctx: *mut c_void, line: *const abi::Log) {
    // SAFETY: our own ctx, and a struct lent for this call.
    let (state, Ok(line)) = (unsafe { (state(ctx), View::new(line)) }) else { return };
    let (target, message, fields) = (text(line.target()), text(line.message()), text(line.fields_json()));
    state.services.log(LogLine {
        level: Level::from_number(line.level()),
        target: &target,
        message: &message,
        fields_json: &fields,
    });
}

unsafe extern "C" fn metric(ctx: *mut c_void, sample: *const abi::Metric) {
    // SAFETY: our own ctx, and a struct lent for this call.
    let (state, Ok(sample)) = (unsafe { (state(ctx), View::new(sample)) }) else { return };
    let Some(kind) = MetricKind::from_number(sample.kind()) else { return };
    let labels = http::headers(sample.labels_json());
    let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    state.services.metric(Sample { kind, name: &text(sample.name()), value: sample.value(), labels: &labels });
}

unsafe extern "C" fn http(
    ctx: *mut c_void,
    request: *const abi::HttpRequest,
    done: abi::HttpCallback,
    user: *mut c_void,
) -> i32 {
    // SAFETY: our own ctx, and a struct lent for this call.
    let (state, Ok(asked)) = (unsafe { (state(ctx), View::new(request)) }) else { return -1 };
    let method = if asked.method().is_empty() { "GET".to_owned() } else { text(asked.method()) };
    let mut request = HttpRequest::new(method, text(asked.url()));
    request.headers = http::headers(asked.headers_json());
    request.body = asked.body().to_vec();
    request.timeout = Some(asked.timeout_ms()).filter(|ms| *ms != abi::UNSET).map(Duration::from_millis);
    let (id, op) = state.owe(Callback::Http(done, Raw(user)));
    let (answer, state_later) = (state.services.http(request), state.clone());
    state.driver.spawn(Box::pin(async move {
        let answer = answer.await;
        state_later.lock().ops.remove(&id);
        op.pay(answer);
    }));
    0
}

unsafe extern "C" fn timer(ctx: *mut c_void, after_ms: u64, done: abi::TimerCallback, user: *mut c_void) -> i32 {
    // SAFETY: our own ctx.
    let state = unsafe { state(ctx) };
    let (id, op) = state.owe(Callback::Timer(done, Raw(user)));
    let (rung, state_later) = (state.services.sleep(Duration::from_millis(after_ms)), state.clone());
    state.driver.spawn(Box::pin(async move {
        rung.await;
        state_later.lock().ops.remove(&id);
        op.pay(Err(HttpError::unsupported()));
    }));
    0
}
