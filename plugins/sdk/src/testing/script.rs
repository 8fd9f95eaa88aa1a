//! A host that does as it is told.

use crate::{
    BoxFuture, HttpError, HttpReply, Level, LogLine, MetricKind, Sample, Services,
    http::HttpRequest,
    slot::{Sender, slot},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Result<HttpReply, HttpError>;
type Responder = dyn Fn(&HttpRequest) -> Answer + Send + Sync;

/// Scripted services: answers in order, then those of the responder, which says 200 and `{}` unless told otherwise.
#[derive(Default)]
pub struct Script {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    answers: VecDeque<Answer>,
    responder: Option<Arc<Responder>>,
    requests: Vec<HttpRequest>,
    /// Calls (requests and sleeps) so far, and which of them wait.
    calls: usize,
    hold: Hold,
    held: Vec<Sender<()>>,
    clock: Duration,
    sleeping: Vec<(Duration, Sender<()>)>,
    logs: Vec<Logged>,
    metrics: Vec<Measured>,
}

#[derive(Default, PartialEq)]
enum Hold {
    #[default]
    None,
    All,
    Only(usize),
}

/// A line that the channel logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    pub level: Level,
    pub target: String,
    pub message: String,
    /// An object, or null.
    pub fields: Value,
}

/// A sample that the channel took.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub kind: MetricKind,
    pub name: String,
    pub value: f64,
    pub labels: BTreeMap<String, String>,
}

impl Script {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to the next request that has none yet.
    pub fn reply(&self, reply: HttpReply) -> &Self {
        self.lock().answers.push_back(Ok(reply));
        self
    }

    /// The next request gets no answer.
    pub fn fail(&self, error: HttpError) -> &Self {
        self.lock().answers.push_back(Err(error));
        self
    }

    /// Answers every request that has no scripted answer.
    pub fn respond(&self, responder: impl Fn(&HttpRequest) -> Answer + Send + Sync + 'static) -> &Self {
        self.lock().responder = Some(Arc::new(responder));
        self
    }

    /// From now on every request and sleep waits for [`Self::release`].
    pub fn hold(&self) {
        self.lock().hold = Hold::All;
    }

    /// Of the requests and sleeps from now on, only number `n` (from 1) waits.
    pub(crate) fn hold_only(&self, n: usize) {
        let mut inner = self.lock();
        inner.hold = Hold::Only(inner.calls + n);
    }

    /// What waits goes on, and what comes doesn't wait.
    pub fn release(&self) {
        let held = {
            let mut inner = self.lock();
            inner.hold = Hold::None;
            std::mem::take(&mut inner.held)
        };
        for held in held {
            held.send(());
        }
    }

    /// Requests and sleeps that wait for [`Self::release`]. Ones whose delivery is gone count, too.
    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    pub fn requests(&self) -> Vec<HttpRequest> {
        self.lock().requests.clone()
    }

    pub fn logs(&self) -> Vec<Logged> {
        self.lock().logs.clone()
    }

    pub fn metrics(&self) -> Vec<Measured> {
        self.lock().metrics.clone()
    }

    /// Sleeps that wait for [`Self::advance`].
    pub fn sleeping(&self) -> usize {
        self.lock().sleeping.len()
    }

    /// Moves the clock, the only one that sleeps see.
    pub fn advance(&self, time: Duration) {
        let due: Vec<_> = {
            let mut inner = self.lock();
            inner.clock += time;
            let now = inner.clock;
            let (due, later) = std::mem::take(&mut inner.sleeping).into_iter().partition(|(at, _)| *at <= now);
            inner.sleeping = later;
            due
        };
        for (_, sleep) in due {
            sleep.send(());
        }
    }

    /// Blocks until that is so; panics when it takes too long.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.wait_for(PATIENCE, what, is_so);
    }

    pub(crate) fn wait_for(&self, patience: Duration, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + patience;
        while !is_so(self) {
            assert!(Instant::now() < end, "waited in vain until {what}");
            let inner = self.lock();
            // Things that no call announces (a thread's end) are looked at again after a while.
            drop(self.changed.wait_timeout(inner, Duration::from_millis(20)));
        }
    }

    fn called(&self, inner: &mut Inner) -> Option<BoxFuture<'static, ()>> {
        inner.calls += 1;
        self.changed.notify_all();
        let waits = inner.hold == Hold::All || inner.hold == Hold::Only(inner.calls);
        waits.then(|| {
            let (send, receive) = slot();
            inner.held.push(send);
            let wait: BoxFuture<'static, ()> = Box::pin(async move {
                let _ = receive.await;
            });
            wait
        })
    }
}

impl Services for Script {
    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Answer> {
        let mut inner = self.lock();
        let wait = self.called(&mut inner);
        let scripted = inner.answers.pop_front();
        let responder = inner.responder.clone();
        inner.requests.push(request.clone());
        drop(inner);
        let answer = scripted.unwrap_or_else(|| match responder {
            Some(responder) => responder(&request),
            None => Ok(HttpReply::new(200, "{}").with_header("content-type", "application/json")),
        });
        Box::pin(async move {
            if let Some(wait) = wait {
                wait.await;
            }
            answer
        })
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let mut inner = self.lock();
        let wait = self.called(&mut inner);
        let (send, receive) = slot();
        let at = inner.clock + time;
        if time.is_zero() {
            send.send(());
        } else {
            inner.sleeping.push((at, send));
        }
        drop(inner);
        Box::pin(async move {
            if let Some(wait) = wait {
                wait.await;
            }
            let _ = receive.await;
        })
    }

    fn log_enabled(&self, _: Level, _: &str) -> bool {
        true
    }

    fn log(&self, line: LogLine<'_>) {
        let fields = serde_json::from_str(line.fields_json).unwrap_or_default();
        let (target, message) = (line.target.to_owned(), line.message.to_owned());
        self.lock().logs.push(Logged { level: line.level, target, message, fields });
        self.changed.notify_all();
    }

    fn metric(&self, sample: Sample<'_>) {
        let labels = sample.labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (name, value) = (sample.name.to_owned(), sample.value);
        self.lock().metrics.push(Measured { kind: sample.kind, name, value, labels });
        self.changed.notify_all();
    }
}
