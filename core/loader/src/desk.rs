//! The host's side of one instance: who waits for what, and how it ends.
//!
//! Owns: tokens, permits, the state, what came back and what didn't, the plugin's log lines, requests and samples. The same
//! for both isolation levels. Absent on purpose: threads and processes (the engines), retries and breakers (the worker's).
//!
//! A token leads to exactly one end: its plugin's word, its time being over, or the end of whoever ran it. What comes
//! after that, or for a token that never was, is counted and nothing else.

use crate::{
    Event, Host, Life, Line, State, Who, clamp, logs,
    logs::Logs,
    metrics::Samples,
    rate::Verdict,
    upcalls::{Answer, Done, Upcalls},
};
use campanile_model::Timestamp;
use campanile_plugin::{
    DeliveryError, HttpError, Info, Level, LogLine, Reason, Sample,
    http::{HttpErrorKind, HttpRequest},
    wire::{Outcome, Status},
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc as std_mpsc,
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};

/// A permit whose delivery never came back is free again after this.
const RELEASE: Duration = Duration::from_secs(30);
/// Requests of one instance under way at once.
const REQUESTS: usize = 64;
/// How long a plugin's thread waits to be told whether it may go on; then it may not.
const ASK_LIMIT: Duration = Duration::from_secs(5);
const SHARDS: usize = 16;

/// The next token. From a random start, so that one made up is never right, and never used twice.
fn token() -> u64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) >> 2 | 1));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether a plugin may go on; no answer is a no.
pub(crate) struct Reply(Option<Box<dyn FnOnce(bool) + Send>>);

impl Reply {
    pub fn new(give: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(Some(Box::new(give)))
    }
    pub fn give(mut self, may: bool) {
        if let Some(give) = self.0.take() {
            give(may);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(give) = self.0.take() {
            give(false);
        }
    }
}

enum Entry {
    /// Start, health, stop.
    Call(oneshot::Sender<Outcome>),
    Work(Work),
    /// Nobody waits any more; the plugin still has it.
    Abandoned {
        delivery_id: String,
        _permit: OwnedSemaphorePermit,
    },
}

struct Work {
    end: oneshot::Sender<Outcome>,
    asks: mpsc::UnboundedSender<Reply>,
    delivery_id: String,
    permit: OwnedSemaphorePermit,
    handed: bool,
    asked: bool,
}

/// What a waiting delivery holds.
pub(crate) struct Held {
    pub token: u64,
    pub end: oneshot::Receiver<Outcome>,
    pub asks: mpsc::UnboundedReceiver<Reply>,
}

/// What went wrong with ends, since the instance started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ends that came after their time.
    pub late: u64,
    /// Second ends, and ends of tokens that never were.
    pub unknown: u64,
    /// Outcomes of panics.
    pub panics: u64,
    /// Samples that were not taken.
    pub samples_dropped: u64,
}

pub(crate) struct Desk {
    me: Weak<Self>,
    pub who: Who,
    pub host: Arc<dyn Host>,
    pub info: Info,
    allowed: Arc<[String]>,
    private: Arc<[String]>,
    runtime: Handle,
    shards: [Mutex<HashMap<u64, Entry>>; SHARDS],
    pub permits: Arc<Semaphore>,
    pub places: usize,
    requests: Arc<Semaphore>,
    life: Mutex<Now>,
    abandoned: AtomicUsize,
    late: AtomicU64,
    unknown: AtomicU64,
    panics: AtomicU64,
    logs: Logs,
    samples: Arc<Samples>,
    /// Rings when too many calls never came back.
    pub wedged: Notify,
}

struct Now {
    state: State,
    detail: Option<String>,
    since: Timestamp,
    restarts: u64,
    last_crash: Option<(Timestamp, String)>,
    next_start_at: Option<Timestamp>,
}

/// What makes a desk.
pub(crate) struct Parts {
    pub who: Who,
    pub host: Arc<dyn Host>,
    pub info: Info,
    pub allowed: Arc<[String]>,
    pub private: Arc<[String]>,
    pub places: usize,
    pub samples: Arc<Samples>,
}

impl Desk {
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { who, host, info, allowed, private, places, samples } = parts;
        let now = Now {
            state: State::Starting,
            detail: None,
            since: host.now(),
            restarts: 0,
            last_crash: None,
            next_start_at: None,
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            who,
            host,
            info,
            allowed,
            private,
            runtime: Handle::current(),
            shards: std::array::from_fn(|_| Mutex::default()),
            permits: Arc::new(Semaphore::new(places)),
            places,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            life: Mutex::new(now),
            abandoned: AtomicUsize::new(0),
            late: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            logs: Logs::default(),
            samples,
            wedged: Notify::new(),
        })
    }

    fn shard(&self, token: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.shards[token as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- tokens ----------------------------------------------------------------------------------------------

    /// A token for a call that isn't a delivery.
    pub fn call(&self) -> (u64, oneshot::Receiver<Outcome>) {
        let (end, ended) = oneshot::channel();
        let token = token();
        self.shard(token).insert(token, Entry::Call(end));
        (token, ended)
    }

    /// Nobody waits for that call any more.
    pub fn forget(&self, token: u64) {
        self.shard(token).remove(&token);
    }

    /// A token for a delivery.
    pub fn work(&self, delivery_id: &str, permit: OwnedSemaphorePermit) -> Held {
        let (end, ended) = oneshot::channel();
        let (asks, asked) = mpsc::unbounded_channel();
        let token = token();
        let work = Work { end, asks, delivery_id: delivery_id.to_owned(), permit, handed: false, asked: false };
        self.shard(token).insert(token, Entry::Work(work));
        Held { token, end: ended, asks: asked }
    }

    /// The plugin was told that this delivery may go on.
    pub fn note_asked(&self, token: u64) {
        if let Some(Entry::Work(work)) = self.shard(token).get_mut(&token) {
            work.asked = true;
        }
    }

    /// Whether an end that nobody saw leaves a doubt.
    fn doubtful(&self, work: &Work) -> bool {
        work.handed && !self.info.idempotent && (work.asked || !self.info.asks_permission)
    }

    /// Nobody waits for that delivery any more. `None`: it has ended. Else whether the plugin has it, and whether it may
    /// have done something with it.
    pub fn give_up(&self, token: u64) -> Option<(bool, bool)> {
        let mut shard = self.shard(token);
        if !matches!(shard.get(&token), Some(Entry::Work(_))) {
            return None;
        }
        let Some(Entry::Work(work)) = shard.remove(&token) else { return None };
        let doubtful = self.doubtful(&work);
        if !work.handed {
            return Some((false, false));
        }
        shard.insert(token, Entry::Abandoned { delivery_id: work.delivery_id, _permit: work.permit });
        drop(shard);
        let abandoned = self.abandoned.fetch_add(1, Ordering::AcqRel) + 1;
        let me = self.me.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(RELEASE).await;
            if let Some(desk) = me.upgrade() {
                desk.release(token);
            }
        });
        if abandoned >= 4.max(self.places / 2) && self.state().takes_work() {
            let detail = format!("{abandoned} calls never came back");
            self.enter(State::Wedged, Some(detail), None);
            self.host.event(&self.who, Event::Wedged { abandoned });
            self.wedged.notify_one();
        }
        Some((true, doubtful))
    }

    fn release(&self, token: u64) -> bool {
        let mut shard = self.shard(token);
        if !matches!(shard.get(&token), Some(Entry::Abandoned { .. })) {
            return false;
        }
        shard.remove(&token);
        drop(shard);
        self.abandoned.fetch_sub(1, Ordering::AcqRel);
        true
    }

    fn end(&self, token: u64, outcome: Outcome, counted: bool) {
        let mut shard = self.shard(token);
        match shard.remove(&token) {
            None => {
                drop(shard);
                if counted {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                }
            }
            Some(Entry::Abandoned { .. }) => {
                drop(shard);
                self.abandoned.fetch_sub(1, Ordering::AcqRel);
                self.late.fetch_add(1, Ordering::Relaxed);
            }
            Some(Entry::Call(end)) => {
                drop(shard);
                let _ = end.send(self.seen(outcome));
            }
            Some(Entry::Work(work)) => {
                drop(shard);
                let _ = work.end.send(self.seen(outcome));
            }
        }
    }

    fn seen(&self, outcome: Outcome) -> Outcome {
        if outcome.status == Status::Internal && outcome.code == "panic" {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        clamp::outcome(outcome)
    }

    /// Whoever ran the instance is gone: everything ends.
    pub fn end_all(&self, why: &str) {
        for shard in &self.shards {
            let entries = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            for entry in entries.into_values() {
                let mut outcome = Outcome::new(Status::Retry, "unavailable", why);
                match entry {
                    Entry::Abandoned { .. } => {
                        self.abandoned.fetch_sub(1, Ordering::AcqRel);
                    }
                    Entry::Call(end) => drop(end.send(outcome)),
                    Entry::Work(work) => {
                        if self.doubtful(&work) {
                            outcome.detail = Some(serde_json::json!({ "campanile_uncertain": true }));
                        }
                        let _ = work.end.send(outcome);
                    }
                }
            }
        }
    }

    /// Deliveries that the plugin has.
    pub fn under_way(&self) -> Vec<u64> {
        let mut tokens = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.extend(shard.iter().filter(|(_, e)| !matches!(e, Entry::Call(_))).map(|(token, _)| *token));
        }
        tokens
    }

    /// A plugin asks whether a delivery is still its to make.
    pub fn ask(&self, token: u64, reply: Reply) {
        let asks = match self.shard(token).get(&token) {
            Some(Entry::Work(work)) => Some(work.asks.clone()),
            Some(Entry::Call(_)) => None,
            Some(Entry::Abandoned { .. }) | None => return reply.give(false),
        };
        match asks {
            None => reply.give(true),
            // If nobody listens any more it is dropped, which is a no.
            Some(asks) => drop(asks.send(reply)),
        }
    }

    // --- state -----------------------------------------------------------------------------------------------

    fn now(&self) -> MutexGuard<'_, Now> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> State {
        self.now().state
    }

    pub fn enter(&self, state: State, detail: Option<String>, next_start_at: Option<Timestamp>) {
        let at = self.host.now();
        let mut now = self.now();
        if now.state == State::Stopped {
            return;
        }
        if now.state != state {
            now.since = at;
        }
        now.state = state;
        now.detail = detail.map(|d| logs::fit(&d));
        if matches!(state, State::Backoff | State::Quarantined) {
            now.last_crash = now.detail.clone().map(|why| (at, why));
        }
        now.next_start_at = next_start_at;
    }

    /// Between running and degraded only.
    pub fn works(&self, detail: Option<String>) {
        if self.state().takes_work() {
            let state = if detail.is_some() { State::Degraded } else { State::Running };
            self.enter(state, detail, None);
        }
    }

    pub fn restarted(&self) {
        self.now().restarts += 1;
    }

    pub fn life(&self, memory_bytes: Option<u64>) -> Life {
        let now = self.now();
        Life {
            state: now.state,
            detail: now.detail.clone(),
            since: now.since,
            restarts: now.restarts,
            last_crash: now.last_crash.clone(),
            next_start_at: now.next_start_at,
            memory_bytes,
            abandoned: self.abandoned.load(Ordering::Acquire) as u64,
        }
    }

    /// Why nothing can be handed over now, if nothing can.
    pub fn unavailable(&self) -> Option<DeliveryError> {
        let now = self.now();
        if now.state.takes_work() {
            return None;
        }
        let detail = now.detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default();
        let text = format!("the plugin is {}{detail}", now.state.word());
        Some(DeliveryError::retry(Reason::new("unavailable", text)))
    }

    pub fn counts(&self) -> Counts {
        Counts {
            late: self.late.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            samples_dropped: self.samples.dropped(),
        }
    }

    // --- lines -----------------------------------------------------------------------------------------------

    pub fn lines(&self) -> Vec<Line> {
        self.logs.newest()
    }

    /// A line of the plugin's, or what its process wrote on its own.
    pub fn line(&self, level: Level, source: &str, message: &str, fields: &str, token: u64) {
        match self.logs.rate.admit(Instant::now()) {
            Verdict::Drop => return,
            Verdict::DropAndTell => return self.tell_dropped(),
            Verdict::Take => {}
        }
        let delivery_id = match self.shard(token).get(&token) {
            Some(Entry::Work(Work { delivery_id, .. }) | Entry::Abandoned { delivery_id, .. }) => {
                Some(delivery_id.clone())
            }
            _ => None,
        };
        self.write(level, logs::fit(source), logs::fit(message), clamp::line(fields), delivery_id);
    }

    fn write(&self, level: Level, source: String, message: String, fields: String, delivery_id: Option<String>) {
        let line = Line { at: self.host.now(), level, source, message, fields, delivery_id };
        self.host.log(&self.who, &line);
        self.logs.keep(line);
    }

    fn tell_dropped(&self) {
        let me = self.me.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Some(desk) = me.upgrade() else { return };
            let message = logs::dropped(desk.logs.rate.dropped());
            desk.write(Level::Warn, "campanile".to_owned(), message, String::new(), None);
        });
    }

    /// What a plugin's process has kept to itself. It may say so as often as any other line.
    pub fn dropped(&self, lines: u64, samples: u64) {
        self.samples.not_taken(samples);
        if lines > 0 {
            self.line(Level::Warn, "campanile", &logs::dropped(lines), "", 0);
        }
    }

    pub fn sample(&self, sample: Sample<'_>) {
        self.samples.take(sample);
    }

    // --- services --------------------------------------------------------------------------------------------

    pub fn request(&self, request: HttpRequest, done: impl FnOnce(Answer) + Send + 'static) {
        let Ok(place) = self.requests.clone().try_acquire_owned() else {
            let many = format!("more than {REQUESTS} requests at once");
            return done(Err(HttpError::new(HttpErrorKind::Cancelled, many)));
        };
        let answer = self.host.http(&self.who, &self.allowed, &self.private, request);
        self.runtime.spawn(async move {
            let answer = answer.await;
            drop(place);
            done(answer);
        });
    }
}

/// In this process the plugin's threads come straight here.
impl Upcalls for Desk {
    fn begin(&self, token: u64) -> bool {
        match self.shard(token).get_mut(&token) {
            Some(Entry::Work(work)) => {
                work.handed = true;
                true
            }
            _ => false,
        }
    }
    fn complete(&self, token: u64, outcome: Outcome) {
        self.end(token, outcome, true);
    }
    fn settle(&self, token: u64, outcome: Outcome) {
        self.end(token, outcome, false);
    }
    fn is_cancelled(&self, token: u64) -> bool {
        let (send, receive) = std_mpsc::sync_channel(1);
        self.ask(
            token,
            Reply::new(move |may| {
                let _ = send.try_send(may);
            }),
        );
        !receive.recv_timeout(ASK_LIMIT).unwrap_or(false)
    }
    fn log_enabled(&self, level: Level, _: &str) -> bool {
        logs::enabled(self.host.level(), level)
    }
    fn log(&self, token: u64, line: LogLine<'_>) {
        if logs::enabled(self.host.level(), line.level) {
            self.line(line.level, line.target, line.message, line.fields_json, token);
        }
    }
    fn metric(&self, sample: Sample<'_>) {
        self.sample(sample);
    }
    fn http(&self, request: HttpRequest, done: Done<Answer>) {
        self.request(request, done);
    }
    fn timer(&self, time: Duration, done: Done<()>) {
        self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            done(());
        });
    }
}
