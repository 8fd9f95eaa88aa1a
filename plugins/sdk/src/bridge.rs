//! Whose line a log event or a panic belongs to, and how it gets there.
//!
//! A library has copies of `std`, `tracing` and `log` of its own, with their global hooks; those are set once, when the
//! host looks the table up, and only in a loaded library. They find the instance by the thread: an executor's threads
//! belong to theirs, and each poll names the delivery. A thread that the channel made by itself has no owner known here;
//! what it says goes to the youngest instance, marked `unattributed`.

use crate::{
    contain::{contained, note_place, text_of},
    context::{Level, LogLine},
    ffi::Line,
};
use serde_json::{Map, Value, json};
use std::{
    cell::RefCell,
    future::Future,
    panic,
    pin::Pin,
    sync::{Arc, Mutex, Once, PoisonError, Weak},
    task::{Context, Poll},
};

type Owner = Option<(Arc<Line>, u64)>;

thread_local! {
    static CURRENT: RefCell<Owner> = const { RefCell::new(None) };
}

/// Instances that run, youngest last. Not the way to any host but for what nobody can attribute.
static LIVE: Mutex<Vec<Weak<Line>>> = Mutex::new(Vec::new());

fn live() -> std::sync::MutexGuard<'static, Vec<Weak<Line>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn joined(line: &Arc<Line>) {
    live().push(Arc::downgrade(line));
}

pub(crate) fn left(line: &Arc<Line>) {
    live().retain(|other| other.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, line)));
}

/// This thread belongs to that instance for good.
pub(crate) fn stay(line: &Arc<Line>) {
    swap(Some((line.clone(), 0)));
}

fn swap(owner: Owner) -> Owner {
    CURRENT.try_with(|current| current.replace(owner)).unwrap_or_default()
}

/// The delivery that this thread works on now, or 0.
pub(crate) fn current_token() -> u64 {
    CURRENT.try_with(|current| current.borrow().as_ref().map_or(0, |(_, token)| *token)).unwrap_or(0)
}

/// The line to talk on, the delivery, and whether that is known and not guessed.
fn owner() -> Option<(Arc<Line>, u64, bool)> {
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    if let Some((line, token)) = current {
        return Some((line, token, true));
    }
    let youngest = live().iter().rev().find_map(Weak::upgrade)?;
    Some((youngest, 0, false))
}

/// Polls and drops `work` in the name of a delivery. A panic in its drop ends here.
pub(crate) fn scoped<F: Future<Output = ()>>(line: Arc<Line>, token: u64, work: F) -> Scoped<F> {
    Scoped { line, token, work: Some(Box::pin(work)) }
}

pub(crate) struct Scoped<F> {
    line: Arc<Line>,
    token: u64,
    work: Option<Pin<Box<F>>>,
}

impl<F> Scoped<F> {
    fn within<T>(&mut self, step: impl FnOnce(&mut Option<Pin<Box<F>>>) -> T) -> T {
        struct Restore(Owner);
        impl Drop for Restore {
            fn drop(&mut self) {
                swap(self.0.take());
            }
        }
        let _restore = Restore(swap(Some((self.line.clone(), self.token))));
        step(&mut self.work)
    }
}

impl<F: Future<Output = ()>> Future for Scoped<F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.within(|slot| {
            let Some(work) = slot.as_mut() else { return Poll::Ready(()) };
            if let Ok(Poll::Pending) = contained(|| work.as_mut().poll(cx)) {
                return Poll::Pending;
            }
            let done = slot.take();
            let _ = contained(|| drop(done));
            Poll::Ready(())
        })
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        self.within(|slot| {
            let work = slot.take();
            let _ = contained(|| drop(work));
        });
    }
}

/// Sets the hooks of this library's own copies, once.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|l| (l.file(), l.line()));
            if let Some((file, line)) = place {
                note_place(format!("{file}:{line}"));
            }
            let Some((line, token, known)) = owner() else { return before(info) };
            let mut fields = Map::new();
            if let Some((file, number)) = place {
                fields.insert("file".into(), file.into());
                fields.insert("line".into(), number.into());
            }
            if let Some(name) = std::thread::current().name() {
                fields.insert("thread".into(), name.into());
            }
            let trace = std::backtrace::Backtrace::capture();
            if trace.status() == std::backtrace::BacktraceStatus::Captured {
                let trace: String = trace.to_string().chars().take(4000).collect();
                fields.insert("backtrace".into(), trace.into());
            }
            let at = place.map(|(file, line)| format!(" at {file}:{line}")).unwrap_or_default();
            let message = text_of(info.payload()) + &at;
            say(&line, token, known, Level::Error, "panic", &message, fields);
        }));
        #[cfg(feature = "tracing")]
        events::install();
    });
}

fn say(
    line: &Line,
    token: u64,
    known: bool,
    level: Level,
    target: &str,
    message: &str,
    mut fields: Map<String, Value>,
) {
    if !known {
        fields.insert("unattributed".into(), true.into());
    }
    let fields_json = if fields.is_empty() { String::new() } else { json!(fields).to_string() };
    line.log(LogLine { level, target, message, fields_json: &fields_json }, token);
}

#[cfg(feature = "tracing")]
mod events {
    //! `tracing` and `log`. Spans are not kept: what an event says must be in its own fields.

    use super::{Level, Map, Value, owner, say};
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
        subscriber::Interest,
    };

    struct ToHost;

    pub(super) fn install() {
        // A channel that sets its own first keeps it.
        let _ = tracing::subscriber::set_global_default(ToHost);
        if log::set_boxed_logger(Box::new(ToHost)).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
    }

    fn level(metadata: &Metadata<'_>) -> Level {
        match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }

    impl Subscriber for ToHost {
        /// The host may change its level at any time.
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::sometimes()
        }
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.is_event()
                && owner().is_some_and(|(line, ..)| line.log_enabled(level(metadata), metadata.target()))
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            let Some((line, token, known)) = owner() else { return };
            let mut read = Read::default();
            event.record(&mut read);
            let metadata = event.metadata();
            say(&line, token, known, level(metadata), metadata.target(), &read.message, read.fields);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[derive(Default)]
    struct Read {
        message: String,
        fields: Map<String, Value>,
    }

    impl Read {
        fn put(&mut self, field: &Field, value: Value) {
            self.fields.insert(field.name().to_owned(), value);
        }
    }

    impl Visit for Read {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let text = format!("{value:?}");
            if field.name() == "message" {
                self.message = text;
            } else {
                self.put(field, text.into());
            }
        }
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "message" {
                value.clone_into(&mut self.message);
            } else {
                self.put(field, value.into());
            }
        }
        fn record_i64(&mut self, field: &Field, value: i64) {
            self.put(field, value.into());
        }
        fn record_u64(&mut self, field: &Field, value: u64) {
            self.put(field, value.into());
        }
        fn record_f64(&mut self, field: &Field, value: f64) {
            self.put(field, value.into());
        }
        fn record_bool(&mut self, field: &Field, value: bool) {
            self.put(field, value.into());
        }
        fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
            self.put(field, value.to_string().into());
        }
    }

    impl log::Log for ToHost {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            owner().is_some_and(|(line, ..)| line.log_enabled(of_log(metadata.level()), metadata.target()))
        }
        fn log(&self, record: &log::Record<'_>) {
            let Some((line, token, known)) = owner() else { return };
            let level = of_log(record.level());
            if line.log_enabled(level, record.target()) {
                say(&line, token, known, level, record.target(), &record.args().to_string(), Map::new());
            }
        }
        fn flush(&self) {}
    }

    fn of_log(level: log::Level) -> Level {
        match level {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug => Level::Debug,
            log::Level::Trace => Level::Trace,
        }
    }
}
