//! A library in this process: opening it, and running one instance of it on threads of its own.
//!
//! Owns: dlopen, the plugin's table, the control thread (start, health, stop, destroy: may block), the signal thread
//! (cancel, callbacks: must be quick) and the lanes (deliver). Absent on purpose: time limits and what ends mean (the
//! desk), processes. No lock is held while the plugin is called, and no thread of the host's runtime ever is in it.
#![allow(unsafe_code)] // Each place says why it is sound.

use crate::{
    Refusal, Step,
    table::{Board, HostTable},
    upcalls::{Answer, Upcalls},
};
use campanile_plugin::{
    HttpError, OwnedDelivery, Problem,
    http::HttpErrorKind,
    wire::{self, Description, Outcome, Status},
};
use campanile_plugin_abi::{self as abi, EntryFn, Plugin, Sink, Str, View, flags};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::{
    collections::VecDeque,
    ffi::c_void,
    io,
    mem::ManuallyDrop,
    path::Path,
    ptr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Longest text that `describe` or `validate` may write.
const WRITTEN_MAX: usize = 768 * 1024;
/// The longest schema.
const SCHEMA_MAX: usize = 256 * 1024;
/// Most lanes of a plugin whose `deliver` blocks.
const LANES_MAX: usize = 64;
/// How long lanes may still be in the plugin when its instance ends.
const LEAVE: Duration = Duration::from_secs(5);

/// An opened library with a legal table.
pub(crate) struct Loaded {
    table: View<'static, Plugin>,
    /// Stays mapped for the rest of the process's life unless it may be unloaded.
    library: ManuallyDrop<Library>,
    unload: bool,
}

// SAFETY: a table is constant and made of numbers and functions.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// Opens a checked copy. Its constructors run here, so a child does this first.
    pub fn open(path: &Path, unload: bool) -> Result<Self, Refusal> {
        // SAFETY: running a plugin's code is what this is for; its bytes were hashed, listed by the operator and, in the
        // host, opened by a child before.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|e| Refusal::new(Step::Open, opening(&e, path)))?;
        // SAFETY: the interface gives the entry this type.
        let entry = unsafe { library.get::<EntryFn>(abi::ENTRY) };
        let Ok(entry) = entry.map(|e| *e) else {
            // Taking it out again is as dangerous as anything in it.
            let _kept = ManuallyDrop::new(library);
            return Step::Table.refuses(format!("it does not export {}(); use export! or CAMP_EXPORT", abi::ENTRY));
        };
        // SAFETY: the interface promises that the table lives as long as the library, which outlives `table`: it is a
        // field of the same value, taken out after it if ever.
        let table = unsafe { View::table(entry()) };
        match table {
            Ok(table) => Ok(Self { table, library: ManuallyDrop::new(library), unload }),
            Err(refusal) => {
                let _kept = ManuallyDrop::new(library);
                Step::Table.refuses(refusal.to_string())
            }
        }
    }

    /// The minor version it was built for.
    pub fn minor(&self) -> u32 {
        self.table.abi_minor()
    }

    /// What it says of itself, as text and read.
    pub fn describe(&self) -> Result<(String, Description), Refusal> {
        // SAFETY: the sink lives until the call returns.
        let text = collect(|sink| unsafe { self.table.describe().map(|f| f(sink)) });
        let refuse = |why: String| Step::Describe.refuses(why);
        let Some(text) = text else {
            return refuse(format!("describe() wrote more than {} KiB", WRITTEN_MAX / 1024));
        };
        match describe(&text) {
            Ok(description) => Ok((String::from_utf8_lossy(&text).into_owned(), description)),
            Err(why) => refuse(why),
        }
    }

    /// What `validate` finds.
    pub fn validate(&self, config: &str) -> Result<Vec<Problem>, String> {
        // SAFETY: text and sink live until the call returns.
        let text = collect(|sink| unsafe { self.table.validate().map(|f| f(Str::new(config), sink)) });
        wire::problems(&text.ok_or("validate() wrote more than it may")?)
    }

    fn lanes(&self, concurrency: usize) -> usize {
        if self.table.flags() & flags::BLOCKING == 0 { 1 } else { concurrency.clamp(1, LANES_MAX) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if self.unload {
            // SAFETY: dropped once, here. Instances hold this value and end their threads before they let go of it; the
            // operator said in the lock that the library starts none of its own that stay.
            unsafe { ManuallyDrop::drop(&mut self.library) };
        }
    }
}

/// Reads a description, within the limits of one.
pub(crate) fn describe(text: &[u8]) -> Result<Description, String> {
    let description: Description = serde_json::from_slice(text).map_err(|e| {
        let said = serde_json::from_slice::<serde_json::Value>(text).ok();
        match said.as_ref().and_then(|v| v.get("error")).and_then(|v| v.as_str()) {
            Some(error) => format!("describe() failed: it {}", error.chars().take(500).collect::<String>()),
            None => format!("what describe() wrote can't be read: {e}"),
        }
    })?;
    for schema in [Some(&description.config_schema), description.message_schema.as_ref()].into_iter().flatten() {
        check_schema(schema)?;
    }
    Ok(description)
}

/// The limits that hold before anybody compiles it: size, and references that stay inside.
fn check_schema(schema: &serde_json::Value) -> Result<(), String> {
    let size = schema.to_string().len();
    if size > SCHEMA_MAX {
        return Err(format!("its schema has {} KiB; at most {}", size / 1024, SCHEMA_MAX / 1024));
    }
    if !(schema.is_object() || schema.is_null() || schema.is_boolean()) {
        return Err("its schema is not a JSON object".to_owned());
    }
    let mut todo = vec![(schema, 0)];
    while let Some((value, depth)) = todo.pop() {
        if depth > 64 {
            return Err("its schema is nested deeper than 64 levels".to_owned());
        }
        match value {
            serde_json::Value::Object(map) => {
                for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
                    let outside = map.get(key).and_then(|r| r.as_str()).filter(|r| !r.starts_with('#'));
                    if let Some(outside) = outside {
                        let shown: String = outside.chars().take(100).collect();
                        return Err(format!(
                            "its schema refers to {shown:?}; only references within it (#/…) are followed"
                        ));
                    }
                }
                todo.extend(map.values().map(|v| (v, depth + 1)));
            }
            serde_json::Value::Array(list) => todo.extend(list.iter().map(|v| (v, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// dlopen's words, and what to do about them where we know it.
fn opening(error: &libloading::Error, path: &Path) -> String {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let said = said.replace(&format!("{}: ", path.display()), "").replace(&path.display().to_string(), "it");
    let hint = if said.contains("undefined symbol") {
        "; link it with -Wl,-z,defs to see this at build time"
    } else if said.contains("failed to map segment") {
        "; the cache must not lie on a file system mounted with noexec"
    } else if said.contains("cannot open shared object file") {
        "; install that library, or link it statically"
    } else {
        ""
    };
    format!("it can't be loaded: {said}{hint}")
}

/// Everything that is written to a sink; `None`: more than anybody reads.
fn collect<T>(call: impl FnOnce(*const Sink) -> T) -> Option<Vec<u8>> {
    unsafe extern "C" fn write(ctx: *mut c_void, chunk: Str) {
        // SAFETY: `ctx` is the vector below, used by one thread until the call returns; the chunk is lent.
        let (text, chunk) = unsafe { (&mut *ctx.cast::<Vec<u8>>(), chunk.bytes()) };
        let room = (WRITTEN_MAX + 1).saturating_sub(text.len());
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    let mut text: Vec<u8> = Vec::new();
    let sink = Sink::new((&raw mut text).cast(), write);
    call(&raw const sink);
    (text.len() <= WRITTEN_MAX).then_some(text)
}

/// For the thread that may block.
enum Control {
    Start { config: String, token: u64 },
    Health(u64),
    Stop(u64, Duration),
    Destroy(Sender<Result<(), String>>),
}

/// For the thread that must not.
pub(crate) enum Signal {
    Cancel(u64),
    Http(u64, Answer),
    Timer(u64),
    Quit,
}

/// Deliveries that go over in one call.
pub(crate) struct Batch {
    pub items: Vec<(u64, OwnedDelivery)>,
    pub handed: Instant,
}

/// One running instance.
pub(crate) struct Native {
    control: Sender<Control>,
    signal: Sender<Signal>,
    shared: Arc<Shared>,
}

struct Shared {
    loaded: Arc<Loaded>,
    up: Arc<dyn Upcalls>,
    board: &'static Board,
    host: HostTable,
    signal: Sender<Signal>,
    /// What `start` made; a plugin that keeps nothing may make NULL.
    raw: AtomicPtr<c_void>,
    /// `start` made it and `destroy` has not taken it.
    began: AtomicBool,
    queue: Mutex<Queue>,
    queued: Condvar,
    /// Lanes and the signal thread, as long as they run.
    running: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    closed: bool,
}

impl Native {
    /// Threads for an instance whose `start` is the first thing they do; `token` says how it went.
    pub fn start(
        loaded: Arc<Loaded>,
        up: Arc<dyn Upcalls>,
        name: &str,
        concurrency: usize,
        stack: usize,
        config: String,
        token: u64,
    ) -> io::Result<Self> {
        let (control, orders) = mpsc::channel();
        let (signal, signals) = mpsc::channel();
        let (board, host) = Board::leak(up.clone(), signal.clone());
        let lanes = loaded.lanes(concurrency);
        let shared = Arc::new(Shared {
            loaded,
            up,
            board,
            host,
            signal: signal.clone(),
            raw: AtomicPtr::default(),
            began: AtomicBool::new(false),
            queue: Mutex::default(),
            queued: Condvar::new(),
            running: AtomicUsize::new(0),
        });
        // Names of threads end after 15 bytes on Linux.
        let spawn = |kind: &str, work: Box<dyn FnOnce() + Send>| {
            let counted = shared.clone();
            counted.running.fetch_add(1, Ordering::AcqRel);
            let run = move || {
                work();
                counted.running.fetch_sub(1, Ordering::AcqRel);
            };
            let named = thread::Builder::new().name(format!("{name:.9}.{kind}")).stack_size(stack);
            named.spawn(run).inspect_err(|_| {
                shared.running.fetch_sub(1, Ordering::AcqRel);
            })
        };
        let mut threads = Vec::new();
        let all = || -> io::Result<()> {
            for n in 0..lanes {
                let shared = shared.clone();
                threads.push(spawn(&format!("l{n}"), Box::new(move || shared.lane()))?);
            }
            let mine = shared.clone();
            threads.push(spawn("sig", Box::new(move || mine.signals(&signals)))?);
            Ok(())
        };
        let begun = all();
        let mine = shared.clone();
        let control_thread = thread::Builder::new().name(format!("{name:.9}.ctl")).stack_size(stack);
        let run = move || mine.orders(&orders, threads);
        let begun = begun.and_then(|()| control_thread.spawn(run).map(drop));
        if let Err(e) = begun {
            // Those that began end by themselves.
            shared.close_queue();
            let _ = signal.send(Signal::Quit);
            return Err(e);
        }
        let _ = control.send(Control::Start { config, token });
        Ok(Self { control, signal, shared })
    }

    pub fn deliver(&self, batch: Batch) {
        let mut queue = self.shared.lock();
        if !queue.closed {
            queue.batches.push_back(batch);
        }
        drop(queue);
        self.shared.queued.notify_one();
    }

    pub fn cancel(&self, token: u64) {
        let _ = self.signal.send(Signal::Cancel(token));
    }

    pub fn health(&self, token: u64) {
        let _ = self.control.send(Control::Health(token));
    }

    pub fn stop(&self, token: u64, limit: Duration) {
        let _ = self.control.send(Control::Stop(token, limit));
    }

    /// Calls that came after it had ended.
    pub fn strays(&self) -> u64 {
        self.shared.board.strays()
    }

    /// Ends the instance and its threads. What comes back says whether the plugin let go of all of them.
    pub fn destroy(&self) -> Receiver<Result<(), String>> {
        self.shared.close_queue();
        let (done, ended) = mpsc::channel();
        let _ = self.control.send(Control::Destroy(done));
        ended
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_queue(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.batches.clear();
        drop(queue);
        self.queued.notify_all();
    }

    fn raw(&self) -> *mut c_void {
        self.raw.load(Ordering::Acquire)
    }

    // --- the control thread ----------------------------------------------------------------------------------

    fn orders(&self, orders: &Receiver<Control>, threads: Vec<JoinHandle<()>>) {
        while let Ok(order) = orders.recv() {
            match order {
                Control::Start { config, token } => self.start(&config, token),
                // SAFETY: what `start` made; `destroy` comes from this thread, later.
                Control::Health(token) => self.call(token, |t, raw| t.health().map(|f| unsafe { f(raw, token) })),
                Control::Stop(token, limit) => {
                    let ms = u64::try_from(limit.as_millis()).unwrap_or(abi::UNSET);
                    // SAFETY: as above.
                    self.call(token, |t, raw| t.stop().map(|f| unsafe { f(raw, token, ms) }));
                }
                Control::Destroy(done) => {
                    let _ = done.send(self.destroy(threads));
                    return;
                }
            }
        }
        // Whoever held the instance is gone without a word.
        self.close_queue();
        let _ = self.destroy(threads);
    }

    fn start(&self, config: &str, token: u64) {
        let mut raw = ptr::null_mut();
        let Some(start) = self.loaded.table.start() else { return };
        // SAFETY: the host's table lives for ever, the rest until the call returns.
        let code = unsafe { start(self.host.0, Str::new(config), token, &raw mut raw) };
        if code == 0 {
            self.raw.store(raw, Ordering::Release);
            self.began.store(true, Ordering::Release);
            return;
        }
        self.up.settle(token, Outcome::new(Status::Internal, "start", format!("start() returned {code}")));
    }

    /// A call that completes a token, or nothing to do and all well if the plugin doesn't have it.
    fn call(&self, token: u64, call: impl FnOnce(View<'static, Plugin>, *mut c_void) -> Option<()>) {
        if call(self.loaded.table, self.raw()).is_none() {
            self.up.settle(token, Outcome::ok());
        }
    }

    fn destroy(&self, threads: Vec<JoinHandle<()>>) -> Result<(), String> {
        let deadline = Instant::now() + LEAVE;
        let _ = self.signal.send(Signal::Quit);
        while self.running.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            self.queued.notify_all();
            thread::sleep(Duration::from_millis(1));
        }
        let blocked = self.running.load(Ordering::Acquire);
        if blocked > 0 {
            // `destroy` must be the only call under way, so it never comes: the instance is left as it is.
            self.board.close();
            return Err(format!("{blocked} of its threads are still in the plugin"));
        }
        for thread in threads {
            let _ = thread.join();
        }
        self.board.pay_all();
        let raw = self.raw.swap(ptr::null_mut(), Ordering::AcqRel);
        let began = self.began.swap(false, Ordering::AcqRel);
        if let (Some(destroy), true) = (self.loaded.table.destroy(), began) {
            // SAFETY: what `start` made; no thread of ours is in the plugin any more, so this is the only call.
            unsafe { destroy(raw) };
        }
        self.board.close();
        Ok(())
    }

    // --- the signal thread -----------------------------------------------------------------------------------

    fn signals(&self, signals: &Receiver<Signal>) {
        let rang = Err(HttpError::new(HttpErrorKind::Invalid, "a timer has no answer"));
        while let Ok(signal) = signals.recv() {
            match signal {
                Signal::Quit => return,
                Signal::Http(id, answer) => self.board.pay(id, &answer),
                Signal::Timer(id) => self.board.pay(id, &rang),
                Signal::Cancel(token) => {
                    if let (Some(cancel), true) = (self.loaded.table.cancel(), self.began.load(Ordering::Acquire)) {
                        // SAFETY: what `start` made; `destroy` waits for this thread to end.
                        unsafe { cancel(self.raw(), token) };
                    }
                }
            }
        }
    }

    // --- lanes -----------------------------------------------------------------------------------------------

    fn lane(&self) {
        loop {
            let mut queue = self.lock();
            let batch = loop {
                match queue.batches.pop_front() {
                    Some(batch) => break batch,
                    None if queue.closed => return,
                    None => queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            self.hand_over(batch);
        }
    }

    fn hand_over(&self, mut batch: Batch) {
        if !self.began.load(Ordering::Acquire) {
            return;
        }
        batch.items.retain(|(token, _)| self.up.begin(*token));
        let waited = batch.handed.elapsed();
        let jsons: Vec<_> = batch.items.iter().map(|(_, d)| d.borrow(&true).message_json().into_owned()).collect();
        let structs: Vec<_> = batch
            .items
            .iter()
            .zip(&jsons)
            .map(|((token, d), json)| {
                let left = d.timeout.saturating_sub(waited);
                abi::Delivery::new(*token, Str::new(&d.delivery_id))
                    .idempotency_key(Str::new(&d.idempotency_key))
                    .attempt(d.attempt)
                    .timeout_ms(u64::try_from(left.as_millis()).unwrap_or(abi::UNSET))
                    .recipient(Str::new(&d.recipient))
                    .subject(Str::new(&d.subject))
                    .text(Str::new(&d.text))
                    .html(Str::new(&d.html))
                    .message_json(Str::new(json))
                    .traceparent(Str::new(&d.traceparent))
            })
            .collect();
        let pointers: Vec<_> = structs.iter().map(ptr::from_ref).collect();
        if let (Some(deliver), false) = (self.loaded.table.deliver(), pointers.is_empty()) {
            // SAFETY: what `start` made; `destroy` waits for this thread to end; everything lent lives until the call
            // returns.
            unsafe { deliver(self.raw(), pointers.as_ptr(), pointers.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_stays_small_and_within_itself() {
        let of = |schema: serde_json::Value| {
            describe(json!({ "name": "x", "version": "1", "config_schema": schema }).to_string().as_bytes())
        };
        assert!(of(json!({ "$ref": "#/$defs/a", "$defs": { "a": true } })).is_ok());
        for outside in ["http://example.org/s.json", "file:///etc/passwd", "other.json", "//x"] {
            let said = of(json!({ "properties": { "a": [{ "$ref": outside }] } })).unwrap_err();
            assert!(said.contains("only references within it"), "{said}");
        }
        assert!(of(json!({ "a": "x".repeat(SCHEMA_MAX) })).unwrap_err().contains("at most 256"));
        assert!(of(json!("text")).unwrap_err().contains("not a JSON object"));
        let deep = (0..70).fold(json!({}), |inner, _| json!({ "not": inner }));
        assert!(of(deep).unwrap_err().contains("64 levels"));
        assert!(describe(b"{\"error\":\"panicked: no\"}").unwrap_err().contains("describe() failed: it panicked: no"));
        assert!(describe(b"nothing").unwrap_err().contains("can't be read"));
    }
}
