//! The guard around one channel: permits, breaker, pause, time limit, panics.
//!
//! Owns: how many attempts may be under way, when none may, and that no fault of a channel's code gets further than one
//! delivery. Absent on purpose: what an outcome means for a delivery and when it is tried again (the worker's).

use super::{
    breaker::{Admission, Breaker, Limits, Verdict},
    registry::ChannelHandle,
};
use crate::observe::{Metrics, metrics as m};
use campanile_model::{Clock, Timestamp, clock::SystemClock};
use campanile_plugin::{Delivery, DeliveryError, Health, Receipt};
use futures_util::FutureExt;
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long a health check may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// Throttled attempts that were under way together slow the channel once.
const SLOW_DOWN_EVERY: Duration = Duration::from_secs(1);

/// How a call into a channel's code ended.
#[derive(Debug)]
pub enum Called {
    Answered(Result<Receipt, DeliveryError>),
    TimedOut,
    /// What it said when it panicked.
    Panicked(String),
}

pub struct Guard {
    handle: Arc<ChannelHandle>,
    inner: Mutex<Inner>,
    /// Permits, breaker or pause changed. One consumer per channel listens.
    changed: Notify,
    metrics: Arc<Metrics>,
}

struct Inner {
    busy: usize,
    /// Attempts that may be under way now: halved when the far side throttles, and slowly back up.
    allowed: f64,
    slowed_at: Option<Instant>,
    breaker: Breaker,
    /// When the breaker last left "closed".
    open_since: Option<Timestamp>,
    last_error: Option<String>,
    paused: bool,
    health: Health,
}

/// What an operator sees of the guard.
#[derive(Clone, Debug)]
pub struct GuardView {
    pub paused: bool,
    pub busy: usize,
    /// Attempts that may be under way now; less than the concurrency while the far side throttles.
    pub allowed: usize,
    /// 0 closed, 1 half open, 2 open.
    pub breaker: i64,
    pub open_since: Option<Timestamp>,
    pub last_error: Option<String>,
    pub health: Health,
}

impl Guard {
    pub fn new(handle: Arc<ChannelHandle>, limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        let concurrency = handle.concurrency.max(1);
        let guard = Arc::new(Self {
            inner: Mutex::new(Inner {
                busy: 0,
                allowed: concurrency as f64,
                slowed_at: None,
                breaker: Breaker::new(limits),
                open_since: None,
                last_error: None,
                paused: false,
                health: Health::Ok,
            }),
            changed: Notify::new(),
            handle,
            metrics,
        });
        guard.show(&guard.lock());
        if !guard.handle.in_app {
            let workers = if guard.handle.enabled { concurrency as i64 } else { 0 };
            guard.metrics.workers.get_or_create(&m::ByQueue::new(guard.name())).set(workers);
        }
        guard
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> &str {
        self.handle.name.as_str()
    }

    pub fn handle(&self) -> &Arc<ChannelHandle> {
        &self.handle
    }

    // --- permits ---------------------------------------------------------------------------------------------

    /// Waits until at least one attempt may begin and says how many may. Only the channel's one consumer takes permits,
    /// so what is free stays free until it does.
    pub async fn room(&self) -> usize {
        loop {
            let wait = match self.admission() {
                (Admission::Free, free) if free > 0 => return free,
                (Admission::Probe, _) => return 1,
                (Admission::Wait(wait), _) => wait,
                (Admission::Free, _) => None,
            };
            match wait {
                // A change that came between looking and waiting is kept by `Notify`.
                None => self.changed.notified().await,
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, self.changed.notified()).await;
                }
            }
        }
    }

    /// Waits until nothing may begin because the channel was paused or its breaker opened.
    pub async fn shut(&self) {
        while !matches!(self.admission(), (Admission::Wait(_), _)) {
            self.changed.notified().await;
        }
    }

    fn admission(&self) -> (Admission, usize) {
        let mut inner = self.lock();
        if inner.paused {
            return (Admission::Wait(None), 0);
        }
        let before = inner.breaker.level();
        let admission = inner.breaker.admit(Instant::now());
        if inner.breaker.level() != before {
            self.show(&inner);
        }
        (admission, (inner.allowed as usize).max(1).saturating_sub(inner.busy))
    }

    /// Takes `n` permits of those that [`Self::room`] promised.
    pub fn take(self: &Arc<Self>, n: usize) -> Vec<Permit> {
        let mut inner = self.lock();
        let probe = inner.breaker.level() == 1;
        if probe {
            inner.breaker.probe_taken();
        }
        inner.busy += n;
        self.show_busy(inner.busy);
        drop(inner);
        (0..n).map(|_| Permit { guard: self.clone(), probe }).collect()
    }

    /// Whether the relay may bring work now.
    pub fn takes_work(&self) -> bool {
        let inner = self.lock();
        self.handle.enabled && !inner.paused && inner.breaker.lets_work_in(Instant::now())
    }

    // --- what moves it ---------------------------------------------------------------------------------------

    pub fn set_paused(&self, paused: bool) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.paused, paused) == paused {
            return;
        }
        self.show(&inner);
        drop(inner);
        tracing::info!(
            channel = self.name(),
            "Channel {} is {}",
            self.name(),
            if paused { "paused" } else { "resumed" }
        );
        self.changed.notify_one();
    }

    /// An operator or a reload: one delivery may try at once.
    pub fn reset_breaker(&self) {
        let mut inner = self.lock();
        inner.breaker.reset();
        self.show(&inner);
        drop(inner);
        self.changed.notify_one();
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
        if after == 2 {
            if before == 0 {
                inner.open_since = Some(SystemClock.now());
            }
            tracing::error!(
                channel = self.name(),
                error,
                "Channel {} does not work; nothing is sent by it until a single try succeeds",
                self.name()
            );
        } else if after == 0 {
            inner.open_since = None;
            inner.last_error = None;
            tracing::info!(channel = self.name(), "Channel {} works again", self.name());
        }
        self.show(inner);
    }

    fn show(&self, inner: &Inner) {
        let label = m::ByChannel::new(self.name());
        let failing = matches!(inner.health, Health::Failing(_)) || inner.breaker.level() == 2 || !self.handle.enabled;
        self.metrics.channel_up.get_or_create(&label).set(i64::from(!failing));
        self.metrics.channel_paused.get_or_create(&label).set(i64::from(inner.paused));
        self.metrics.breaker_state.get_or_create(&label).set(inner.breaker.level());
    }

    fn show_busy(&self, busy: usize) {
        self.metrics.workers_busy.get_or_create(&m::ByQueue::new(self.name())).set(busy as i64);
    }

    pub fn view(&self) -> GuardView {
        let inner = self.lock();
        GuardView {
            paused: inner.paused,
            busy: inner.busy,
            allowed: inner.allowed as usize,
            breaker: inner.breaker.level(),
            open_since: inner.open_since,
            last_error: inner.last_error.clone(),
            health: inner.health.clone(),
        }
    }

    // --- calls -----------------------------------------------------------------------------------------------

    /// One delivery into the channel's code: no longer than the channel's time limit, and a panic ends here.
    pub async fn call(&self, delivery: Delivery<'_>) -> Called {
        let Some(channel) = self.handle.channel.as_deref() else {
            return Called::Panicked("the channel has no code".to_owned());
        };
        let began = Instant::now();
        // The channel is told its limit; a little more lets it say itself how a late call ended.
        let limit = delivery.timeout + (delivery.timeout / 10).min(Duration::from_secs(1));
        let call = AssertUnwindSafe(async { channel.deliver(delivery).await }).catch_unwind();
        let called = match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Called::Answered(answer),
            Ok(Err(panic)) => Called::Panicked(self.panicked(panic.as_ref())),
            Err(_) => Called::TimedOut,
        };
        let label = m::ByPlugin::new(channel.info().name);
        self.metrics.plugin_call.get_or_create(&label).observe(began.elapsed().as_secs_f64());
        called
    }

    /// Several at once, for the in-app channel: nothing waits for the answers.
    pub async fn call_batch(&self, items: Vec<Delivery<'_>>) {
        let Some(channel) = self.handle.channel.as_deref() else { return };
        let began = Instant::now();
        let call = AssertUnwindSafe(async { channel.deliver_batch(items).await }).catch_unwind();
        match tokio::time::timeout(self.handle.timeout, call).await {
            Ok(Ok(answers)) => {
                if let Some(e) = answers.iter().find_map(|a| a.as_ref().err()) {
                    tracing::warn!(channel = self.name(), error = %e, "A push was refused; the feed has the items");
                }
            }
            Ok(Err(panic)) => {
                self.panicked(panic.as_ref());
            }
            Err(_) => tracing::warn!(channel = self.name(), "A push took too long; the feed has the items"),
        }
        let label = m::ByPlugin::new(channel.info().name);
        self.metrics.plugin_call.get_or_create(&label).observe(began.elapsed().as_secs_f64());
    }

    fn panicked(&self, panic: &(dyn Any + Send)) -> String {
        let said = panic_text(panic);
        self.metrics.panics.get_or_create(&m::ByReason::new("channel")).inc();
        tracing::error!(channel = self.name(), panic = said, "Channel {} panicked in a call", self.name());
        said
    }

    /// The quick self-check, called every 30 s. Failing opens the breaker.
    pub async fn check_health(&self) {
        let Some(channel) = self.handle.channel.as_deref() else { return };
        let check = AssertUnwindSafe(async { channel.health().await }).catch_unwind();
        let health = match tokio::time::timeout(HEALTH_LIMIT, check).await {
            Ok(Ok(health)) => health,
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
        self.show(&inner);
        drop(inner);
        match health {
            Health::Degraded(why) if news => {
                tracing::warn!(channel = self.name(), why, "Channel {} works, but is worth a look", self.name());
            }
            Health::Ok if news => tracing::info!(channel = self.name(), "Channel {} is healthy", self.name()),
            _ => {}
        }
        self.changed.notify_one();
    }

    /// Once, at the end of a drain.
    pub async fn stop(&self, limit: Duration) {
        let Some(channel) = self.handle.channel.as_deref() else { return };
        let stop = AssertUnwindSafe(async { channel.stop().await }).catch_unwind();
        match tokio::time::timeout(limit, stop).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                self.panicked(panic.as_ref());
            }
            Err(_) => tracing::warn!(channel = self.name(), "Channel {} did not stop in time", self.name()),
        }
    }
}

/// The right to have one attempt under way; gives itself back.
pub struct Permit {
    guard: Arc<Guard>,
    /// The single try of a half-open breaker.
    probe: bool,
}

impl Permit {
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// What the attempt said of the channel.
    pub fn report(&mut self, verdict: Verdict, throttled: bool, error: Option<&str>) {
        let guard = self.guard.clone();
        let mut inner = guard.lock();
        let now = Instant::now();
        if throttled {
            if inner.slowed_at.is_none_or(|at| now - at >= SLOW_DOWN_EVERY) {
                inner.allowed = (inner.allowed / 2.0).max(1.0);
                inner.slowed_at = Some(now);
            }
        } else if verdict == Verdict::Works {
            let most = guard.handle.concurrency.max(1) as f64;
            inner.allowed = (inner.allowed + 1.0 / inner.allowed).min(most);
        }
        let error = if verdict == Verdict::Works { None } else { error };
        guard.moved(&mut inner, error, |b| b.report(now, verdict));
        self.probe = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.guard.lock();
        inner.busy = inner.busy.saturating_sub(1);
        if self.probe {
            inner.breaker.probe_returned();
        }
        self.guard.show_busy(inner.busy);
        drop(inner);
        self.guard.changed.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::{Answer, Fake, handle};
    use campanile_plugin::Reason;
    use serde_json::Value;

    const LIMITS: Limits = Limits { failures: 2, open: Duration::from_millis(30), open_max: Duration::from_millis(30) };

    fn guard(fake: &Arc<Fake>) -> Arc<Guard> {
        Guard::new(Arc::new(handle("email", fake.clone())), LIMITS, Arc::new(Metrics::new()))
    }
    fn delivery(timeout: Duration) -> Delivery<'static> {
        Delivery {
            delivery_id: "d",
            attempt: 1,
            recipient: "r",
            subject: "",
            text: "",
            html: "",
            message: &Value::Null,
            timeout,
            native: None,
            permission: &true,
        }
    }
    /// Whether it is still waiting after everything that could move has moved.
    async fn waits(future: impl Future) -> bool {
        tokio::time::timeout(Duration::from_millis(5), future).await.is_err()
    }

    #[tokio::test]
    async fn a_call_is_answered_cut_or_caught() {
        let refusal = DeliveryError::Permanent { reason: Reason::new("no", "no") };
        let fake = Fake::new([Answer::Accept, Answer::Refuse(refusal.clone()), Answer::Panic, Answer::Wait]);
        let guard = guard(&fake);
        let long = Duration::from_secs(30);
        assert!(matches!(guard.call(delivery(long)).await, Called::Answered(Ok(_))));
        assert!(matches!(guard.call(delivery(long)).await, Called::Answered(Err(e)) if e == refusal));
        assert!(matches!(guard.call(delivery(long)).await, Called::Panicked(said) if said == "told to"));
        assert!(matches!(guard.call(delivery(Duration::from_millis(10))).await, Called::TimedOut));
        assert!(matches!(guard.call(delivery(long)).await, Called::Answered(Ok(_))), "a fault costs one delivery");
    }

    #[tokio::test]
    async fn there_is_room_while_permits_are_left() {
        let guard = guard(&Fake::new([]));
        assert_eq!(guard.room().await, 4);
        let mut permits = guard.take(4);
        assert!(waits(guard.room()).await);
        permits.pop();
        assert_eq!(guard.room().await, 1);
        drop(permits);
        assert_eq!((guard.room().await, guard.view().busy), (4, 0));
    }

    #[tokio::test]
    async fn a_pause_takes_the_room_away_and_gives_it_back() {
        let guard = guard(&Fake::new([]));
        assert!(waits(guard.shut()).await);
        guard.set_paused(true);
        guard.shut().await;
        assert!(waits(guard.room()).await && !guard.takes_work());
        guard.set_paused(false);
        assert_eq!(guard.room().await, 4);
    }

    #[tokio::test]
    async fn an_open_breaker_lets_one_through_and_its_success_closes() {
        let guard = guard(&Fake::new([]));
        for _ in 0..2 {
            guard.take(1)[0].report(Verdict::Fails, false, Some("e"));
        }
        guard.shut().await;
        let view = guard.view();
        assert_eq!((view.breaker, view.last_error.as_deref()), (2, Some("e")));
        assert!(!guard.takes_work() && view.open_since.is_some());
        assert_eq!(guard.room().await, 1, "after a while one may try");
        let probe = guard.take(1);
        assert!(waits(guard.room()).await, "and nobody beside it");
        drop(probe);
        assert_eq!(guard.room().await, 1, "a try that came to nothing is made again");
        guard.take(1)[0].report(Verdict::Works, false, None);
        assert_eq!(guard.room().await, 4);
        assert_eq!(guard.view().last_error, None);
    }

    #[tokio::test]
    async fn throttling_halves_what_may_run_and_success_brings_it_back() {
        let guard = guard(&Fake::new([]));
        guard.take(1)[0].report(Verdict::Works, true, Some("slow down"));
        assert_eq!(guard.room().await, 2);
        guard.take(1)[0].report(Verdict::Works, true, Some("slow down"));
        assert_eq!(guard.room().await, 2, "those that ran side by side count once");
        for _ in 0..20 {
            guard.take(1)[0].report(Verdict::Works, false, None);
        }
        assert_eq!(guard.room().await, 4);
    }

    #[tokio::test]
    async fn a_failing_health_check_opens_the_breaker() {
        let fake = Fake::new([]);
        let guard = guard(&fake);
        guard.check_health().await;
        assert_eq!(guard.view().breaker, 0);
        fake.set_health(Health::Failing("no route".to_owned()));
        guard.check_health().await;
        assert_eq!(guard.view().breaker, 2);
    }
}
