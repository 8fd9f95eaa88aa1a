//! One instance of a channel, started: permits, breaker, rate, time limit, and no panic of its code gets past a call.
//!
//! Owns: whether this instance can take a delivery now. Absent on purpose: which instance of a channel takes it (the
//! guard's), what an outcome means for the delivery (the worker's), how it was started and how it ends (the keeper's).

use super::{
    breaker::{Admission, Breaker, Verdict},
    bucket::Bucket,
    code::{Instance, LogRecord},
    setup::secrets::Veil,
};
use crate::observe::{Metrics, metrics as m};
use campanile_model::{Clock, Timestamp, clock::SystemClock, ports::Rate};
use campanile_plugin::{Delivery, DeliveryError, Health, Info, Reason, Receipt};
use futures_util::FutureExt;
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long a health check may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// Throttled attempts that were under way together slow the instance once.
const SLOW_DOWN_EVERY: Duration = Duration::from_secs(1);
/// How long others are preferred to an instance that was throttled: what its provider asks for, within this.
const REST: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_mins(5);

/// How a call into a channel's code ended.
#[derive(Debug)]
pub enum Called {
    Answered(Result<Receipt, DeliveryError>),
    TimedOut,
    /// What it said when it panicked.
    Panicked(String),
}

/// What an operator allows an instance; may change while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    pub concurrency: usize,
    pub timeout: Duration,
    pub rate: Option<Rate>,
}

/// Whether it can take a delivery now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// So many.
    Go(usize),
    /// One, to see whether the far side is back.
    Probe,
    /// It works, and all its permits are taken.
    Busy,
    /// Its rate is used up; how long until one may go.
    Later(Duration),
    /// Its breaker is open; how long at most.
    Shut(Option<Duration>),
}

pub struct Runner {
    name: String,
    /// The channel's, as a metric label.
    channel: String,
    instance: Arc<dyn Instance>,
    inner: Mutex<Inner>,
    /// The channel's: rung when a permit, the breaker or a limit changed.
    bell: Arc<Notify>,
    /// Fired when deliveries under way are given up: the instance is on its way out and its time is over.
    cut: CancellationToken,
    /// Rung when a permit came back.
    returned: Notify,
    /// Over its secrets, in whatever it says.
    veil: Veil,
    metrics: Arc<Metrics>,
}

struct Inner {
    allowance: Allowance,
    busy: usize,
    /// Attempts that may be under way now: halved when the far side throttles, and slowly back up.
    allowed: f64,
    slowed_at: Option<Instant>,
    resting_until: Option<Instant>,
    breaker: Breaker,
    /// When the breaker last left "closed".
    open_since: Option<Timestamp>,
    last_error: Option<String>,
    health: Health,
    bucket: Option<Bucket>,
    tally: Tally,
}

/// What became of attempts since it was started, as far as they speak of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub worked: u64,
    pub failed: u64,
}

/// What an operator sees of it.
#[derive(Clone, Debug)]
pub struct RunnerView {
    pub busy: usize,
    /// Attempts that may be under way now; less than the concurrency while the far side throttles.
    pub allowed: usize,
    pub concurrency: usize,
    /// 0 closed, 1 half open, 2 open.
    pub breaker: i64,
    pub open_since: Option<Timestamp>,
    pub last_error: Option<String>,
    pub health: Health,
    pub rate: Option<Rate>,
    /// This node's share of the rate, in deliveries a second.
    pub effective_rate: Option<f64>,
    /// It was throttled, and others are preferred for this long.
    pub resting: Option<Duration>,
}

impl Runner {
    #[allow(clippy::too_many_arguments)] // Each is a part of it.
    pub fn new(
        name: String,
        channel: &str,
        instance: Arc<dyn Instance>,
        allowance: Allowance,
        breaker: Breaker,
        bell: Arc<Notify>,
        veil: Veil,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            channel: channel.to_owned(),
            instance,
            inner: Mutex::new(Inner {
                allowance,
                busy: 0,
                allowed: allowance.concurrency.max(1) as f64,
                slowed_at: None,
                resting_until: None,
                breaker,
                open_since: None,
                last_error: None,
                health: Health::Ok,
                bucket: allowance.rate.map(|rate| Bucket::full(rate.per_second(), Instant::now())),
                tally: Tally::default(),
            }),
            bell,
            cut: CancellationToken::new(),
            returned: Notify::new(),
            veil,
            metrics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn info(&self) -> &Info {
        self.instance.channel().info()
    }

    pub fn instance(&self) -> &Arc<dyn Instance> {
        &self.instance
    }

    pub fn timeout(&self) -> Duration {
        self.lock().allowance.timeout
    }

    pub fn concurrency(&self) -> usize {
        self.lock().allowance.concurrency
    }

    /// 0 closed, 1 half open, 2 open.
    pub fn breaker_level(&self) -> i64 {
        self.lock().breaker.level()
    }

    pub fn lets_work_in(&self) -> bool {
        self.lock().breaker.lets_work_in(Instant::now())
    }

    pub fn is_failing(&self) -> bool {
        let inner = self.lock();
        matches!(inner.health, Health::Failing(_)) || inner.breaker.level() == 2
    }

    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    pub fn is_resting(&self, now: Instant) -> bool {
        self.lock().resting_until.is_some_and(|until| now < until)
    }

    pub fn offer(&self, now: Instant) -> Offer {
        let mut inner = self.lock();
        let probe = match inner.breaker.admit(now) {
            Admission::Wait(wait) => return Offer::Shut(wait),
            Admission::Probe => true,
            Admission::Free => false,
        };
        let tokens = match inner.bucket.as_mut().map(|bucket| bucket.ready(now)) {
            Some(Err(wait)) => return Offer::Later(wait),
            Some(Ok(tokens)) => tokens,
            None => usize::MAX,
        };
        if probe {
            return Offer::Probe;
        }
        match (inner.allowed as usize).max(1).saturating_sub(inner.busy) {
            0 => Offer::Busy,
            free => Offer::Go(free.min(tokens)),
        }
    }

    /// Takes a permit, whatever [`Self::offer`] says.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let mut inner = self.lock();
        let probe = inner.breaker.level() == 1;
        if probe {
            inner.breaker.probe_taken();
        }
        inner.busy += 1;
        if let Some(bucket) = &mut inner.bucket {
            bucket.take(Instant::now());
        }
        drop(inner);
        Seat { runner: self.clone(), probe }
    }

    // --- what moves it ---------------------------------------------------------------------------------------

    pub fn set_allowance(&self, allowance: Allowance, nodes: usize) {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.allowance.concurrency != allowance.concurrency {
            inner.allowed = allowance.concurrency.max(1) as f64;
        }
        inner.allowance = allowance;
        let share = allowance.rate.map(|rate| rate.per_second() / nodes.max(1) as f64);
        match (share, &mut inner.bucket) {
            (None, bucket) => *bucket = None,
            (Some(share), Some(bucket)) => {
                if (bucket.rate() - share).abs() > f64::EPSILON {
                    bucket.set_rate(share, now);
                }
            }
            (Some(share), bucket) => *bucket = Some(Bucket::full(share, now)),
        }
        drop(inner);
        self.bell.notify_one();
    }

    pub fn allowance(&self) -> Allowance {
        self.lock().allowance
    }

    /// An operator or a reload: one delivery may try at once.
    pub fn reset_breaker(&self) {
        let mut inner = self.lock();
        inner.breaker.reset();
        inner.resting_until = None;
        drop(inner);
        self.bell.notify_one();
    }

    fn moved(&self, inner: &mut Inner, error: Option<&str>, step: impl FnOnce(&mut Breaker)) {
        let before = inner.breaker.level();
        step(&mut inner.breaker);
        if let Some(error) = error {
            inner.last_error = Some(error.to_owned());
        }
        let after = inner.breaker.level();
        if before == after {
            return;
        }
        let (name, channel) = (self.name.as_str(), self.channel.as_str());
        if after == 2 {
            if before == 0 {
                inner.open_since = Some(SystemClock.now());
            }
            tracing::error!(
                channel,
                instance = name,
                error,
                "{name} of channel {channel} does not work; nothing is sent by it until a single try succeeds"
            );
        } else if after == 0 {
            inner.open_since = None;
            inner.last_error = None;
            tracing::info!(channel, instance = name, "{name} of channel {channel} works again");
        }
    }

    pub fn view(&self) -> RunnerView {
        let inner = self.lock();
        let now = Instant::now();
        RunnerView {
            busy: inner.busy,
            allowed: inner.allowed as usize,
            concurrency: inner.allowance.concurrency,
            breaker: inner.breaker.level(),
            open_since: inner.open_since,
            last_error: inner.last_error.clone(),
            health: inner.health.clone(),
            rate: inner.allowance.rate,
            effective_rate: inner.bucket.as_ref().map(Bucket::rate),
            resting: inner.resting_until.map(|until| until.saturating_duration_since(now)).filter(|d| !d.is_zero()),
        }
    }

    // --- calls -----------------------------------------------------------------------------------------------

    /// One delivery into the instance's code: no longer than its time limit, and a panic ends here.
    pub async fn call(&self, delivery: Delivery<'_>) -> Called {
        let channel = self.instance.channel();
        let began = Instant::now();
        // The channel is told its limit; a little more lets it say itself how a late call ended.
        let limit = delivery.timeout() + (delivery.timeout() / 10).min(Duration::from_secs(1));
        let call = AssertUnwindSafe(async { channel.deliver(delivery).await }).catch_unwind();
        let called = match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Called::Answered(self.covered(answer)),
            Ok(Err(panic)) => Called::Panicked(self.panicked(panic.as_ref())),
            Err(_) => Called::TimedOut,
        };
        self.observe(began);
        called
    }

    /// Several at once, for the in-app channel: nothing waits for the answers.
    pub async fn call_batch(&self, items: Vec<Delivery<'_>>) {
        let channel = self.instance.channel();
        let (began, name) = (Instant::now(), self.channel.as_str());
        let limit = self.timeout();
        let call = AssertUnwindSafe(async { channel.deliver_batch(items).await }).catch_unwind();
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answers)) => {
                if let Some(e) = answers.iter().find_map(|a| a.as_ref().err()) {
                    tracing::warn!(channel = name, error = %e, "A push was refused; the feed has the items");
                }
            }
            Ok(Err(panic)) => {
                self.panicked(panic.as_ref());
            }
            Err(_) => tracing::warn!(channel = name, "A push took too long; the feed has the items"),
        }
        self.observe(began);
    }

    /// Providers like to repeat what they were asked, and libraries print the address they called.
    fn covered(&self, answer: Result<Receipt, DeliveryError>) -> Result<Receipt, DeliveryError> {
        let over = |reason: &mut Reason| {
            reason.message = self.veil.over(std::mem::take(&mut reason.message));
            reason.detail = reason.detail.take().map(|detail| self.veil.over_json(detail));
        };
        match answer {
            Ok(mut receipt) => {
                receipt.provider_id = receipt.provider_id.map(|id| self.veil.over(id));
                receipt.detail = receipt.detail.map(|detail| self.veil.over_json(detail));
                Ok(receipt)
            }
            Err(mut error) => {
                match &mut error {
                    DeliveryError::Retry { reason, .. }
                    | DeliveryError::Throttled { reason, .. }
                    | DeliveryError::Permanent { reason }
                    | DeliveryError::RecipientGone { reason }
                    | DeliveryError::Misconfigured { reason } => over(reason),
                    _ => {}
                }
                Err(error)
            }
        }
    }

    /// Its newest log lines, oldest first.
    pub fn logs(&self) -> Vec<LogRecord> {
        let covered = |line: LogRecord| LogRecord { message: self.veil.over(line.message), ..line };
        self.instance.logs().into_iter().map(covered).collect()
    }

    fn observe(&self, began: Instant) {
        let label = m::ByPlugin::new(self.info().name);
        self.metrics.plugin_call.get_or_create(&label).observe(began.elapsed().as_secs_f64());
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> String {
        let said = self.veil.over(panic_text(panic));
        self.metrics.panics.get_or_create(&m::ByReason::new("channel")).inc();
        let (channel, name) = (self.channel.as_str(), self.name.as_str());
        tracing::error!(channel, instance = name, panic = said, "{name} of channel {channel} panicked in a call");
        said
    }

    /// The quick self-check. Failing opens the breaker.
    pub async fn check_health(&self) {
        let channel = self.instance.channel();
        let check = AssertUnwindSafe(async { channel.health().await }).catch_unwind();
        let health = match tokio::time::timeout(HEALTH_LIMIT, check).await {
            Ok(Ok(Health::Ok)) => Health::Ok,
            Ok(Ok(Health::Degraded(why))) => Health::Degraded(self.veil.over(why)),
            Ok(Ok(Health::Failing(why))) => Health::Failing(self.veil.over(why)),
            Ok(Err(panic)) => {
                Health::Failing(format!("panicked in its health check: {}", self.panicked(panic.as_ref())))
            }
            Err(_) => Health::Degraded("no answer to the health check within 5 s".to_owned()),
        };
        let mut inner = self.lock();
        let news = inner.health != health;
        inner.health.clone_from(&health);
        if let Health::Failing(why) = &health {
            let now = Instant::now();
            self.moved(&mut inner, Some(why), |b| b.trip(now));
        }
        drop(inner);
        let (channel, name) = (self.channel.as_str(), self.name.as_str());
        match health {
            Health::Degraded(why) if news => {
                tracing::warn!(channel, instance = name, why, "{name} works, but is worth a look");
            }
            Health::Ok if news => tracing::info!(channel, instance = name, "{name} is healthy"),
            _ => {}
        }
        self.bell.notify_one();
    }

    // --- the end ---------------------------------------------------------------------------------------------

    /// Returns when deliveries under way are to be given up.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// After it has lost its place in the channel: waits for what is under way, gives up the rest, stops the instance.
    pub async fn retire(&self, patience: Duration, stop_limit: Duration) {
        if tokio::time::timeout(patience, self.idle()).await.is_err() {
            let (channel, name, busy) = (self.channel.as_str(), self.name.as_str(), self.lock().busy);
            tracing::warn!(
                channel,
                instance = name,
                busy,
                "{name} was replaced with {busy} deliveries under way; they are given up"
            );
            self.cut.cancel();
            // Each writes down what it knows, and then its permit is back.
            let _ = tokio::time::timeout(patience, self.idle()).await;
        }
        self.stop(stop_limit).await;
    }

    async fn idle(&self) {
        loop {
            let returned = self.returned.notified();
            if self.lock().busy == 0 {
                return;
            }
            returned.await;
        }
    }

    /// Once, before it is dropped.
    pub async fn stop(&self, limit: Duration) {
        let channel = self.instance.channel();
        let stop = AssertUnwindSafe(async { channel.stop().await }).catch_unwind();
        match tokio::time::timeout(limit, stop).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                self.panicked(panic.as_ref());
            }
            Err(_) => {
                tracing::warn!(channel = self.channel, instance = self.name, "{} did not stop in time", self.name);
            }
        }
    }
}

/// The right to have one delivery under way at an instance; gives itself back.
pub(super) struct Seat {
    runner: Arc<Runner>,
    /// The single try of a half-open breaker.
    probe: bool,
}

impl Seat {
    pub fn runner(&self) -> &Arc<Runner> {
        &self.runner
    }

    /// What the attempt said of the instance. `throttled` with the wait that its provider asks for, if it does.
    #[allow(clippy::option_option)] // Not throttled; throttled; throttled for so long.
    pub fn report(&mut self, verdict: Verdict, throttled: Option<Option<Duration>>, error: Option<&str>) {
        let runner = &self.runner;
        let mut inner = runner.lock();
        let now = Instant::now();
        if let Some(after) = throttled {
            if inner.slowed_at.is_none_or(|at| now - at >= SLOW_DOWN_EVERY) {
                inner.allowed = (inner.allowed / 2.0).max(1.0);
                inner.slowed_at = Some(now);
            }
            inner.resting_until = Some(now + after.unwrap_or(REST).min(REST_MAX));
        } else if verdict == Verdict::Works {
            let most = inner.allowance.concurrency.max(1) as f64;
            inner.allowed = (inner.allowed + 1.0 / inner.allowed).min(most);
        }
        match verdict {
            Verdict::Works => inner.tally.worked += 1,
            _ => inner.tally.failed += 1,
        }
        let error = if verdict == Verdict::Works { None } else { error };
        runner.moved(&mut inner, error, |b| b.report(now, verdict));
        self.probe = false;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.runner.lock();
        inner.busy = inner.busy.saturating_sub(1);
        if self.probe {
            inner.breaker.probe_returned();
        }
        drop(inner);
        self.runner.returned.notify_waiters();
        self.runner.bell.notify_one();
    }
}

/// What a panic carried, if it was text.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}
