//! The guard of one channel: its pause, its instances in order, and which of them takes a delivery.
//!
//! Owns: when the channel's consumer may begin attempts, and the failover: a delivery goes to the first instance whose
//! breaker lets it in and whose rate allows; one whose permits are all taken is waited for, since a second provider is
//! for failures and not for load. Absent on purpose: permits, breaker and rate themselves (the runner's), what an outcome
//! means for a delivery and when it is tried again (the worker's).

use super::{
    breaker::Verdict,
    runner::{Offer, Runner, Seat},
};
use crate::observe::{Metrics, metrics as m};
use campanile_model::ChannelName;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Longest address of a channel whose format the host does not know.
const ADDRESS_MAX: usize = 1024;
/// A consumer that waits longer than this for its rate gives back what it holds: others may be able to send it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a channel is, apart from its instances; may change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Known but switched off: a request that names it is 422 `channel_disabled`.
    pub enabled: bool,
    /// Completed by the store itself; needs no address.
    pub in_app: bool,
    /// Format of its addresses, while any of its code is known.
    pub recipient: Option<String>,
}

pub struct Guard {
    name: ChannelName,
    /// Another one for a channel that went and came back.
    id: u64,
    inner: Mutex<Inner>,
    /// Something changed that the channel's one consumer may wait for.
    bell: Arc<Notify>,
    /// Attempts under way, of instances on their way out too.
    busy: AtomicUsize,
    paused: AtomicBool,
    /// Fired when the channel is no more.
    gone: CancellationToken,
    metrics: Arc<Metrics>,
}

/// A newer version beside an instance, for a share of what the instance would take.
pub struct Beside {
    pub runner: Arc<Runner>,
    /// Percent.
    pub share: u8,
    asked: AtomicU64,
}

impl Beside {
    pub fn new(runner: Arc<Runner>, share: u8) -> Arc<Self> {
        Arc::new(Self { runner, share, asked: AtomicU64::new(0) })
    }

    /// Whether this delivery is its: evenly, and the first one is.
    fn turn(&self) -> bool {
        let share = u64::from(self.share);
        self.asked.fetch_add(1, Ordering::Relaxed) % 100 * share % 100 < share
    }
}

/// One place in the order of failover.
#[derive(Clone)]
pub struct Place {
    pub runner: Arc<Runner>,
    pub beside: Option<Arc<Beside>>,
}

impl From<Arc<Runner>> for Place {
    fn from(runner: Arc<Runner>) -> Self {
        Self { runner, beside: None }
    }
}

#[derive(Default)]
struct Inner {
    traits: Traits,
    /// In the order in which they are tried; only those that run.
    places: Vec<Place>,
}

/// What may begin now.
enum Admission {
    Go(usize),
    /// Everything is taken, or the rate used up for a moment.
    Wait(Option<Duration>),
    /// Nothing before something changes or that long has passed.
    Shut(Option<Duration>),
}

impl Guard {
    pub fn new(name: ChannelName, metrics: Arc<Metrics>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            name,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            inner: Mutex::default(),
            bell: Arc::default(),
            busy: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            gone: CancellationToken::new(),
            metrics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    pub fn enabled(&self) -> bool {
        self.lock().traits.enabled
    }

    pub fn in_app(&self) -> bool {
        self.lock().traits.in_app
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// In the order in which they are tried.
    pub fn runners(&self) -> Vec<Arc<Runner>> {
        self.lock().runners().cloned().collect()
    }

    /// Those and the newer versions beside them.
    pub fn all_runners(&self) -> Vec<Arc<Runner>> {
        let inner = self.lock();
        let beside = inner.places.iter().filter_map(|p| p.beside.as_ref()).map(|b| b.runner.clone());
        inner.runners().cloned().chain(beside).collect()
    }

    /// Says what is wrong with an address of this channel. Mail's form is known even while the channel is off.
    pub fn check_address(&self, address: &str) -> Result<(), String> {
        // A channel that is switched off keeps the addresses of its users just the same.
        let format = self.lock().traits.recipient.clone();
        match format.as_deref().unwrap_or(self.name.as_str()) {
            "email" => campanile_email::check_address(address),
            _ if address.is_empty() => Err("must not be empty".to_owned()),
            _ if address.len() > ADDRESS_MAX => Err(format!("must be at most {ADDRESS_MAX} bytes")),
            _ if address.chars().any(char::is_control) => Err("must not contain control characters".to_owned()),
            _ => Ok(()),
        }
    }

    // --- permits ---------------------------------------------------------------------------------------------

    /// Waits until at least one attempt may begin and says how many may. Only the channel's one consumer takes permits
    /// for new deliveries, so what is free stays free until it does, but for the odd one that falls over to the next
    /// instance.
    pub async fn room(&self) -> usize {
        loop {
            let wait = match self.admission() {
                Admission::Go(free) => return free,
                Admission::Wait(wait) | Admission::Shut(wait) => wait,
            };
            self.changed_within(wait).await;
        }
    }

    /// As [`Self::room`], but `None` as soon as nothing may begin for another reason than that all permits are taken or
    /// the rate is used up for a moment.
    pub async fn room_unless_shut(&self) -> Option<usize> {
        loop {
            match self.admission() {
                Admission::Go(free) => return Some(free),
                Admission::Shut(_) => return None,
                Admission::Wait(wait) => self.changed_within(wait).await,
            }
        }
    }

    /// Waits until nothing may begin: paused, every breaker open, or no instance left.
    pub async fn shut(&self) {
        while let Admission::Go(_) | Admission::Wait(_) = self.admission() {
            self.bell.notified().await;
        }
    }

    async fn changed_within(&self, wait: Option<Duration>) {
        match wait {
            // A change that came between looking and waiting is kept by `Notify`.
            None => self.bell.notified().await,
            Some(wait) => {
                let _ = tokio::time::timeout(wait, self.bell.notified()).await;
            }
        }
    }

    /// Returns when the channel is no more.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Whether the only way forward is one delivery that tries its luck.
    pub fn is_on_trial(&self) -> bool {
        let levels: Vec<_> = self.lock().runners().map(|r| r.breaker_level()).collect();
        !levels.contains(&0) && levels.contains(&1)
    }

    fn admission(&self) -> Admission {
        if self.is_paused() {
            return Admission::Shut(None);
        }
        let (inner, now) = (self.lock(), Instant::now());
        let (mut alive, mut soonest) = (false, None::<Duration>);
        let mut until = |wait: Duration| soonest = Some(soonest.map_or(wait, |s| s.min(wait)));
        for runner in inner.in_order(now) {
            match runner.offer(now) {
                Offer::Go(free) => return Admission::Go(free),
                Offer::Probe => return Admission::Go(1),
                Offer::Busy => return Admission::Wait(None),
                Offer::Later(wait) => {
                    alive |= wait <= PATIENCE;
                    until(wait);
                }
                Offer::Shut(Some(wait)) => until(wait),
                Offer::Shut(None) => {}
            }
        }
        drop(inner);
        self.show();
        if alive { Admission::Wait(soonest) } else { Admission::Shut(soonest) }
    }

    /// Takes `n` permits of those that [`Self::room`] promised.
    pub fn take(self: &Arc<Self>, n: usize) -> Vec<Permit> {
        // Seats are given under the lock: an instance that has lost its place gets no new ones.
        let (inner, now) = (self.lock(), Instant::now());
        let permits = (0..n).map(|_| {
            let offered = inner.in_order(now).find(|r| matches!(r.offer(now), Offer::Go(_) | Offer::Probe));
            // Something changed since: better one too many than a delivery that nobody looks after.
            let runner = offered.or_else(|| inner.runners().find(|r| r.breaker_level() == 0));
            let runner = runner.or_else(|| inner.runners().next());
            Permit::new(self.clone(), runner.map(|r| inner.beside(r, now).unwrap_or_else(|| r.seat())))
        });
        permits.collect()
    }

    /// Whether the relay may bring work now.
    pub fn takes_work(&self) -> bool {
        let inner = self.lock();
        inner.traits.enabled && !self.is_paused() && inner.runners().any(|r| r.lets_work_in())
    }

    // --- what moves it ---------------------------------------------------------------------------------------

    pub fn set_paused(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::Relaxed) == paused {
            return;
        }
        self.show();
        let (channel, state) = (self.name.as_str(), if paused { "paused" } else { "resumed" });
        tracing::info!(channel, "Channel {channel} is {state}");
        self.bell.notify_one();
    }

    /// The instances that run, in order, from now on. What was taken of others goes on where it is.
    pub fn set(&self, traits: Traits, places: Vec<impl Into<Place>>) {
        *self.lock() = Inner { traits, places: places.into_iter().map(Into::into).collect() };
        self.show();
        self.bell.notify_one();
    }

    /// The channel is no more: its consumer ends.
    pub fn end(&self) {
        self.set(Traits::default(), Vec::<Place>::new());
        self.gone.cancel();
        let label = m::ByChannel::new(self.name.as_str());
        self.metrics.channel_up.remove(&label);
        self.metrics.channel_paused.remove(&label);
        self.metrics.breaker_state.remove(&label);
        self.metrics.workers.remove(&m::ByQueue::new(self.name.as_str()));
    }

    /// An operator or a reload: one delivery may try at once.
    pub fn reset_breaker(&self) {
        for runner in self.all_runners() {
            runner.reset_breaker();
        }
        self.show();
    }

    /// The quick self-checks, called every 30 s.
    pub async fn check_health(&self) {
        let runners = self.all_runners();
        futures_util::future::join_all(runners.iter().map(|r| r.check_health())).await;
        self.show();
    }

    fn show(&self) {
        let inner = self.lock();
        let label = m::ByChannel::new(self.name.as_str());
        let works = inner.traits.enabled && inner.runners().any(|r| !r.is_failing());
        self.metrics.channel_up.get_or_create(&label).set(i64::from(works));
        self.metrics.channel_paused.get_or_create(&label).set(i64::from(self.is_paused()));
        // The channel gets through while one of its instances does.
        let level = inner.runners().map(|r| r.breaker_level()).min().unwrap_or(0);
        self.metrics.breaker_state.get_or_create(&label).set(level);
        if !inner.traits.in_app {
            let workers: usize = inner.runners().map(|r| r.concurrency()).sum();
            self.metrics.workers.get_or_create(&m::ByQueue::new(self.name.as_str())).set(workers as i64);
        }
    }

    fn show_busy(&self, busy: usize) {
        self.metrics.workers_busy.get_or_create(&m::ByQueue::new(self.name.as_str())).set(busy as i64);
    }
}

impl Inner {
    fn runners(&self) -> impl Iterator<Item = &Arc<Runner>> {
        self.places.iter().map(|place| &place.runner)
    }

    /// The newer version's seat, if this one is its turn and it can.
    fn beside(&self, runner: &Arc<Runner>, now: Instant) -> Option<Seat> {
        let beside = self.places.iter().find(|p| Arc::ptr_eq(&p.runner, runner))?.beside.as_ref()?;
        let free = beside.turn() && matches!(beside.runner.offer(now), Offer::Go(_));
        free.then(|| beside.runner.seat())
    }

    /// Those whose provider asked to slow down come last: they still send when nobody else can.
    fn in_order(&self, now: Instant) -> impl Iterator<Item = &Arc<Runner>> {
        let fresh = self.runners().filter(move |r| !r.is_resting(now));
        fresh.chain(self.runners().filter(move |r| r.is_resting(now)))
    }
}

/// The right to have one attempt of this channel under way, at one of its instances; gives itself back.
pub struct Permit {
    guard: Arc<Guard>,
    /// None when the channel has lost its last instance since the permit was taken.
    seat: Option<Seat>,
    /// Instances that have had their try in this attempt.
    tried: Vec<Arc<Runner>>,
}

impl Permit {
    fn new(guard: Arc<Guard>, seat: Option<Seat>) -> Self {
        let busy = guard.busy.fetch_add(1, Ordering::Relaxed) + 1;
        guard.show_busy(busy);
        Self { guard, seat, tried: Vec::new() }
    }

    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// The instance that makes the attempt.
    pub fn runner(&self) -> Option<&Arc<Runner>> {
        self.seat.as_ref().map(Seat::runner)
    }

    /// The channel has more than one instance that could make it.
    pub fn has_choice(&self) -> bool {
        let inner = self.guard.lock();
        let other = |r: &Arc<Runner>| self.runner().is_none_or(|here| !Arc::ptr_eq(here, r));
        inner.runners().any(other)
    }

    /// What the attempt said of its instance. `throttled` with the wait that its provider asks for, if it does.
    pub fn report(&mut self, verdict: Verdict, throttled: Option<Option<Duration>>, error: Option<&str>) {
        if let Some(seat) = &mut self.seat {
            seat.report(verdict, throttled, error);
            self.guard.show();
            self.guard.bell.notify_one();
        }
    }

    /// Another instance than this one, if one can take a delivery now; this one is still there to fall back on.
    pub fn prefer_another(&mut self) {
        let here = self.runner().cloned();
        if self.move_on() {
            self.tried.retain(|tried| here.as_ref().is_none_or(|here| !Arc::ptr_eq(here, tried)));
        }
    }

    /// Moves on to the next instance that can take a delivery now and has not been tried in this attempt. False: there is
    /// none, and the permit stays where it is.
    pub fn move_on(&mut self) -> bool {
        self.tried.extend(self.seat.as_ref().map(|seat| seat.runner().clone()));
        let inner = self.guard.lock();
        let now = Instant::now();
        // Not to one that is on trial: this delivery has had its bad luck already.
        let free =
            |r: &&Arc<Runner>| !self.tried.iter().any(|t| Arc::ptr_eq(t, r)) && matches!(r.offer(now), Offer::Go(_));
        let Some(seat) = inner.in_order(now).find(free).map(Runner::seat) else { return false };
        drop(inner);
        self.seat = Some(seat);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.seat = None;
        let busy = self.guard.busy.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.guard.show_busy(busy);
        self.guard.bell.notify_one();
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
