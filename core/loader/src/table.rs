//! The host's functions that plugins call, and the callbacks that are owed to them.
//!
//! Owns: turning pointers into values, keeping our own panics in, callbacks given exactly once. Absent on purpose: what a
//! call means ([`Upcalls`]).
#![allow(unsafe_code)] // Each place says why it is sound.

use crate::{
    native::Signal,
    upcalls::{Answer, Upcalls},
};
use campanile_plugin::{
    HttpError, Level, LogLine, MetricKind, Sample,
    http::{self, HttpErrorKind, HttpRequest},
    wire::{Outcome, Status},
};
use campanile_plugin_abi::{self as abi, Str, View};
use std::{
    collections::HashMap,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::Duration,
};

/// Longest line, and longest name of where it comes from.
pub(crate) const LINE_MAX: usize = 8 * 1024;
const TARGET_MAX: usize = 256;
/// Largest body of a request or a reply.
pub(crate) const BODY_MAX: usize = 512 * 1024;
/// Largest text beside a body.
const TEXT_MAX: usize = 64 * 1024;
/// Callbacks that one instance may wait for at once.
const OWED_MAX: usize = 4096;

/// Behind the `ctx` of one instance's host table. Never freed, as the table: a stray thread of the plugin may call after
/// `destroy`, and then finds nobody here.
pub(crate) struct Board {
    up: RwLock<Option<Arc<dyn Upcalls>>>,
    owed: Mutex<Owed>,
    /// Calls of the plugin's threads that outlived the instance.
    strays: AtomicU64,
}

struct Owed {
    callbacks: HashMap<u64, Callback>,
    next: u64,
    /// Where callbacks are called from; none once the instance ends.
    signal: Option<Sender<Signal>>,
}

/// The plugin's own pointer, which we only carry.
#[derive(Clone, Copy)]
struct Raw(*mut c_void);
// SAFETY: the interface says that a callback may come from any thread, so its pointer may go to any.
unsafe impl Send for Raw {}

#[derive(Clone, Copy)]
enum Callback {
    Http(abi::HttpCallback, Raw),
    Timer(abi::TimerCallback, Raw),
}

/// A host table, there for ever.
#[derive(Clone, Copy)]
pub(crate) struct HostTable(pub &'static abi::Host);
// SAFETY: the table is constant; its `ctx` is a board, which may be shared.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

impl Board {
    /// A board and the table in front of it, both for ever.
    pub fn leak(up: Arc<dyn Upcalls>, signal: Sender<Signal>) -> (&'static Self, HostTable) {
        let owed = Owed { callbacks: HashMap::new(), next: 0, signal: Some(signal) };
        let (up, owed, strays) = (RwLock::new(Some(up)), Mutex::new(owed), AtomicU64::new(0));
        let board: &'static Self = Box::leak(Box::new(Self { up, owed, strays }));
        let host = abi::Host::new(std::ptr::from_ref(board).cast_mut().cast(), complete)
            .is_cancelled(Some(is_cancelled))
            .log_enabled(Some(log_enabled))
            .log(Some(log))
            .metric(Some(metric))
            .http(Some(http))
            .timer(Some(timer));
        (board, HostTable(Box::leak(Box::new(host))))
    }

    /// Who answers, if the instance still lives.
    fn up(&self) -> Option<Arc<dyn Upcalls>> {
        let up = self.up.read().unwrap_or_else(PoisonError::into_inner).clone();
        if up.is_none() {
            self.strays.fetch_add(1, Ordering::Relaxed);
        }
        up
    }

    fn owe(&self, callback: Callback) -> Option<(u64, Sender<Signal>)> {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = owed.signal.clone()?;
        if owed.callbacks.len() >= OWED_MAX {
            return None;
        }
        owed.next += 1;
        let id = owed.next;
        owed.callbacks.insert(id, callback);
        Some((id, signal))
    }

    /// On the signal thread: gives what is owed, once.
    pub fn pay(&self, id: u64, answer: &Answer) {
        let callback = self.owed.lock().unwrap_or_else(PoisonError::into_inner).callbacks.remove(&id);
        match callback {
            None => {}
            // SAFETY: the plugin gave function and pointer for this one call; it was owed once and is taken once.
            Some(Callback::Timer(call, user)) => unsafe { call(user.0) },
            Some(Callback::Http(call, user)) => {
                let (headers, text);
                let response = match answer {
                    Ok(reply) => {
                        headers = http::headers_json(&reply.headers);
                        abi::HttpResponse::new(reply.status.into(), Str::new(&headers), Str::from_bytes(&reply.body))
                    }
                    Err(error) => {
                        text = error.to_string();
                        abi::HttpResponse::failed(Str::new(&text))
                    }
                };
                // SAFETY: as above; the response lives until the call returns.
                unsafe { call(user.0, &raw const response) };
            }
        }
    }

    /// Gives all that is owed and takes no more.
    pub fn pay_all(&self) {
        let ids: Vec<u64> = {
            let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
            owed.signal = None;
            owed.callbacks.keys().copied().collect()
        };
        let gone = Err(HttpError::new(HttpErrorKind::Cancelled, "the instance ends"));
        for id in ids {
            self.pay(id, &gone);
        }
    }

    /// Calls that came after [`Self::close`].
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    /// After `destroy`: whoever calls now is a stray.
    pub fn close(&self) {
        *self.up.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A panic of ours must not unwind into the plugin.
fn contained<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// # Safety
///
/// `ctx` is of a table made here.
unsafe fn board<'a>(ctx: *mut c_void) -> &'a Board {
    // SAFETY: leaked by `Board::leak`, so it lives for ever, and is only shared.
    unsafe { &*ctx.cast_const().cast::<Board>() }
}

/// At most `max` bytes of it, made UTF-8.
pub(crate) fn text(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
}

unsafe extern "C" fn complete(ctx: *mut c_void, token: u64, outcome: *const abi::Outcome) {
    contained((), || {
        // SAFETY: our own ctx, and a struct lent for this call.
        let (board, read) = unsafe { (board(ctx), View::new(outcome)) };
        let Some(up) = board.up() else { return };
        let outcome = match read {
            Err(bad) => Outcome::new(Status::Internal, "bad_outcome", bad.to_string()),
            Ok(o) => {
                Outcome::read(o.status(), o.retry_after_ms(), o.code(), o.message(), o.provider_id(), o.detail_json())
            }
        };
        up.complete(token, outcome);
    });
}

unsafe extern "C" fn is_cancelled(ctx: *mut c_void, token: u64) -> u32 {
    contained(1, || {
        // SAFETY: our own ctx.
        let board = unsafe { board(ctx) };
        u32::from(board.up().is_none_or(|up| up.is_cancelled(token)))
    })
}

unsafe extern "C" fn log_enabled(ctx: *mut c_void, level: u32, target: Str) -> u32 {
    contained(0, || {
        // SAFETY: our own ctx, and a text lent for this call.
        let (board, target) = unsafe { (board(ctx), target.bytes()) };
        let target = text(target, TARGET_MAX);
        u32::from(board.up().is_some_and(|up| up.log_enabled(Level::from_number(level), &target)))
    })
}

unsafe extern "C" fn log(ctx: *mut c_void, line: *const abi::Log) {
    contained((), || {
        // SAFETY: our own ctx, and a struct lent for this call.
        let (board, Ok(line)) = (unsafe { (board(ctx), View::new(line)) }) else { return };
        let Some(up) = board.up() else { return };
        let fields =
            if line.fields_json().len() > LINE_MAX { String::new() } else { text(line.fields_json(), LINE_MAX) };
        up.log(
            line.token(),
            LogLine {
                level: Level::from_number(line.level()),
                target: &text(line.target(), TARGET_MAX),
                message: &text(line.message(), LINE_MAX),
                fields_json: &fields,
            },
        );
    });
}

unsafe extern "C" fn metric(ctx: *mut c_void, sample: *const abi::Metric) {
    contained((), || {
        // SAFETY: our own ctx, and a struct lent for this call.
        let (board, Ok(sample)) = (unsafe { (board(ctx), View::new(sample)) }) else { return };
        let (Some(up), Some(kind)) = (board.up(), MetricKind::from_number(sample.kind())) else { return };
        let labels = if sample.labels_json().len() > LINE_MAX { &[] } else { sample.labels_json() };
        let labels = http::headers(labels);
        let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let name = text(sample.name(), TARGET_MAX);
        up.metric(Sample { kind, name: &name, value: sample.value(), labels: &labels });
    });
}

unsafe extern "C" fn http(
    ctx: *mut c_void,
    request: *const abi::HttpRequest,
    done: abi::HttpCallback,
    user: *mut c_void,
) -> i32 {
    contained(-1, || {
        // SAFETY: our own ctx, and a struct lent for this call.
        let (board, Ok(asked)) = (unsafe { (board(ctx), View::new(request)) }) else { return -1 };
        let (Some(up), Some((id, signal))) = (board.up(), board.owe(Callback::Http(done, Raw(user)))) else {
            return -1;
        };
        let answered = move |answer| drop(signal.send(Signal::Http(id, answer)));
        let texts = asked.method().len() + asked.url().len() + asked.headers_json().len();
        if asked.body().len() > BODY_MAX || texts > TEXT_MAX {
            let most =
                format!("a request has at most {} KiB, and {} KiB beside its body", BODY_MAX / 1024, TEXT_MAX / 1024);
            answered(Err(HttpError::new(HttpErrorKind::Invalid, most)));
            return 0;
        }
        let method = if asked.method().is_empty() { "GET".to_owned() } else { text(asked.method(), TEXT_MAX) };
        let mut request = HttpRequest::new(method, text(asked.url(), TEXT_MAX));
        request.headers = http::headers(asked.headers_json());
        request.body = asked.body().to_vec();
        request.timeout = Some(asked.timeout_ms()).filter(|ms| *ms != abi::UNSET).map(Duration::from_millis);
        up.http(request, Box::new(answered));
        0
    })
}

unsafe extern "C" fn timer(ctx: *mut c_void, after_ms: u64, done: abi::TimerCallback, user: *mut c_void) -> i32 {
    contained(-1, || {
        // SAFETY: our own ctx.
        let board = unsafe { board(ctx) };
        let (Some(up), Some((id, signal))) = (board.up(), board.owe(Callback::Timer(done, Raw(user)))) else {
            return -1;
        };
        up.timer(Duration::from_millis(after_ms), Box::new(move |()| drop(signal.send(Signal::Timer(id)))));
        0
    })
}
