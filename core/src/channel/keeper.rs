//! Makes what runs follow what is wished for: configuration file and rows on one side, started instances on the other.
//!
//! Owns: starting an instance beside the old one, the swap, the end of the old one, trying again what would not start, and
//! the rows' way to the registry. Any failure leaves what runs running and says why. Absent on purpose: changing rows
//! (`manage`), loading code (the loader's), a new version on trial (`trial`), who takes which delivery (the guard's).

mod trial;

use super::{
    breaker::Breaker,
    catalogue::{Catalogue, Trial},
    code::{Code, Instance},
    guard::{Guard, Place, Traits},
    registry::{Entry, Registry, Wish},
    runner::{Runner, panic_text},
    setup::{
        self,
        secrets::{Trust, Vault, Veil},
    },
    spec::Spec,
    view::Failure,
};
use crate::queue::backoff::Outage;
use campanile_model::{
    ChannelName, Clock, NodeId,
    ports::{Bus, Store, StoreResult, WorkQueue},
};
use campanile_plugin::{Health, Problem};
use futures_util::{FutureExt, future::join_all};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long an instance may take to start, and to say for the first time how it is.
const START_LIMIT: Duration = Duration::from_secs(10);
const FIRST_HEALTH: Duration = Duration::from_secs(5);
/// Rows are read again so often, for signals that were lost.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Live nodes are counted so often.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// What would not start is tried again after this, doubling up to the other.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_mins(5);
/// What the old instance has under way may take this long after the swap.
const DRAIN: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(5);

pub struct Keeper {
    parts: KeeperParts,
    /// One at a time makes changes; deliveries never wait for it.
    state: tokio::sync::Mutex<State>,
    /// Old instances on their way out.
    leaving: TaskTracker,
    stop: CancellationToken,
}

/// What the keeper is built from.
pub struct KeeperParts {
    pub node: NodeId,
    pub registry: Arc<Registry>,
    pub catalogue: Arc<Catalogue>,
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn WorkQueue>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub vault: Vault,
    /// The host's own and those of the configuration file.
    pub fixed: Vec<Spec>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<String, Running>,
    failed: BTreeMap<String, Failed>,
    /// New versions on trial, by instance.
    trials: BTreeMap<String, trial::Trying>,
    /// Counts up with each wish to restart an instance.
    restarts: HashMap<String, u64>,
}

impl State {
    fn keep_failure(&mut self, spec: &Spec, made_from: Make, failure: &Failure) {
        let old = self.failed.get(&spec.name).filter(|f| f.made_from == made_from);
        let pause = old.map_or(AGAIN, |f| (f.pause * 2).min(AGAIN_MAX));
        let failed = Failed { made_from, failure: failure.clone(), again_at: Instant::now() + pause, pause };
        self.failed.insert(spec.name.clone(), failed);
    }
}

struct Running {
    made_from: Make,
    runner: Arc<Runner>,
}

struct Failed {
    made_from: Make,
    failure: Failure,
    again_at: Instant,
    pause: Duration,
}

/// What a started instance was made from: when this is the same, so is the instance.
#[derive(Clone)]
struct Make {
    channel: ChannelName,
    config: Value,
    restart: u64,
    code: Arc<dyn Code>,
}

impl PartialEq for Make {
    fn eq(&self, other: &Self) -> bool {
        self.channel == other.channel
            && self.config == other.config
            && self.restart == other.restart
            && Arc::ptr_eq(&self.code, &other.code)
    }
}

/// What is to be done for one instance.
enum Plan {
    Keep,
    Start(Make),
    /// It is on trial already, and has won.
    Promote(Make, Arc<Runner>),
    /// It failed like this a moment ago.
    Wait,
    Off,
    Fail(Failure),
}

impl Keeper {
    pub fn new(parts: KeeperParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            state: tokio::sync::Mutex::default(),
            leaving: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    pub fn parts(&self) -> &KeeperParts {
        &self.parts
    }

    /// Follows signals, rows, code and nodes until the host drains.
    pub async fn run(self: Arc<Self>, silent: Duration) {
        let Some(mut wishes) = self.parts.registry.inbox() else { return };
        let code_changed = self.parts.catalogue.changed();
        let mut outage = Outage::of("Reading the instances of channels");
        let mut count_at = tokio::time::Instant::now();
        let mut look_at = tokio::time::Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                wish = wishes.recv() => match wish {
                    Some(wish) => self.heed(wish, &mut wishes).await,
                    None => return,
                },
                () = code_changed.notified() => {}
                () = tokio::time::sleep_until(look_at) => {}
                () = tokio::time::sleep_until(count_at) => {
                    count_at = tokio::time::Instant::now() + COUNT_EVERY;
                    if let Ok(nodes) = self.parts.store.nodes(silent).await {
                        self.parts.registry.set_nodes(nodes.len());
                    }
                    continue;
                }
            }
            let wait = match self.look().await {
                Ok(()) => {
                    outage.over();
                    self.next_try().await.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
                }
                Err(e) => outage.failed(&e),
            };
            look_at = tokio::time::Instant::now() + wait;
        }
    }

    /// This wish and all that wait behind it: one look serves them together.
    async fn heed(&self, first: Wish, wishes: &mut mpsc::UnboundedReceiver<Wish>) {
        let mut next = Some(first);
        while let Some(wish) = next {
            match wish {
                Wish::Look => {}
                // What was asked for at this node has been done here already.
                Wish::Restart(_, by) | Wish::Reload(_, by) | Wish::Trial(_, _, by) | Wish::Settle(_, _, by)
                    if by == self.parts.node => {}
                Wish::Restart(name, _) => self.want_restart(&name).await,
                Wish::Reload(plugin, _) => drop(self.reload(&plugin, None).await),
                Wish::Trial(plugin, share, _) => drop(self.reload(&plugin, Some(share)).await),
                Wish::Settle(plugin, keep_new, _) => drop(self.parts.catalogue.settle(&plugin, keep_new)),
            }
            next = wishes.try_recv().ok();
        }
    }

    /// The next look makes it anew, whatever its configuration.
    pub async fn want_restart(&self, instance: &str) {
        let mut state = self.state.lock().await;
        *state.restarts.entry(instance.to_owned()).or_default() += 1;
        state.failed.remove(instance);
    }

    /// The plugin's file as it is now, beside the old, for good or for a share of its deliveries; what is listed no more ends. Err: a
    /// sentence; the old goes on.
    pub async fn reload(&self, plugin: &str, share: Option<u8>) -> Result<(), super::catalogue::Refusal> {
        let refusal = |step: &str, reason: String| super::catalogue::Refusal {
            plugin: plugin.to_owned(),
            step: step.to_owned(),
            reason,
            file: None,
            at: self.parts.clock.now(),
        };
        let linked = self.parts.catalogue.find(plugin).is_some_and(|code| code.origin().isolation == "built-in");
        let own = || refusal("found", "is a part of the host and changes with it".to_owned());
        let Some(source) = self.parts.catalogue.source() else {
            let none = || refusal("found", "this host loads no plugins; set plugins.dir".to_owned());
            return Err(if linked { own() } else { none() });
        };
        match source.reload(plugin).await {
            Ok(Some(code)) => {
                // Of what does not run here yet nothing is to be kept.
                match share.filter(|_| self.parts.catalogue.find(plugin).is_some()) {
                    None => self.parts.catalogue.put(code),
                    Some(share) => {
                        self.parts.catalogue.try_out(Trial { code, share, since: self.parts.clock.now() });
                    }
                }
                Ok(())
            }
            Ok(None) if linked => Err(own()),
            Ok(None) => {
                self.parts.catalogue.remove(plugin);
                Ok(())
            }
            Err(refused) => {
                tracing::error!(plugin, step = refused.step, "Plugin {plugin} was not reloaded: {}", refused.reason);
                self.parts.catalogue.refuse(refused.clone());
                Err(refused)
            }
        }
    }

    async fn next_try(&self) -> Option<Duration> {
        let now = Instant::now();
        let state = self.state.lock().await;
        let again = state.failed.values().map(|f| f.again_at.saturating_duration_since(now));
        // A trial that goes wrong is taken back soon.
        again.chain((!state.trials.is_empty()).then_some(trial::LOOK_EVERY)).min()
    }

    /// Reads the rows and makes what runs follow them. Returns when everything that could be started has been.
    pub async fn look(&self) -> StoreResult<()> {
        let mut state = self.state.lock().await;
        let (rows, orders) = tokio::try_join!(self.parts.store.instances(), self.parts.store.channel_orders())?;
        if self.stop.is_cancelled() {
            return Ok(());
        }
        let specs = self.wished(rows.into_iter().map(Spec::from).collect(), &orders);
        self.take_back_ill(&state).await;
        self.follow(&mut state, specs).await;
        Ok(())
    }

    /// In the order of failover: as somebody ordered them, then the file's, then the rows'.
    fn wished(&self, rows: Vec<Spec>, orders: &BTreeMap<ChannelName, Vec<String>>) -> Vec<(Spec, Option<Failure>)> {
        let taken = |spec: &Spec| {
            let failure =
                |reason: String| Failure { step: "name", reason, problems: Vec::new(), at: self.parts.clock.now() };
            if self.parts.fixed.iter().any(|f| f.name == spec.name) {
                return Some(failure(format!("the configuration file has another instance called {}", spec.name)));
            }
            let in_app = self.parts.fixed.iter().any(|f| f.in_app && f.channel == spec.channel);
            in_app.then(|| failure(format!("channel {} is the host's own", spec.channel)))
        };
        let mut all: Vec<_> = self.parts.fixed.iter().map(|spec| (spec.clone(), None)).collect();
        all.extend(rows.into_iter().map(|spec| {
            let failure = taken(&spec);
            (spec, failure)
        }));
        let place = |spec: &Spec| {
            let order = orders.get(&spec.channel)?;
            order.iter().position(|name| *name == spec.name)
        };
        // Stable: what nobody ordered stays as it is, behind what somebody did.
        all.sort_by_key(|(spec, _)| place(spec).unwrap_or(usize::MAX));
        all.sort_by(|(a, _), (b, _)| a.channel.cmp(&b.channel));
        all
    }

    async fn follow(&self, state: &mut State, specs: Vec<(Spec, Option<Failure>)>) {
        let plans: Vec<_> = specs.iter().map(|(spec, failure)| self.plan(state, spec, failure.clone())).collect();
        for ((spec, _), plan) in specs.iter().zip(&plans) {
            if matches!(plan, Plan::Promote(..)) {
                state.trials.remove(&spec.name);
            }
        }
        let mut guards: BTreeMap<ChannelName, Arc<Guard>> = BTreeMap::new();
        for (spec, _) in &specs {
            let guard = || self.parts.registry.guard_of(&spec.channel);
            guards.entry(spec.channel.clone()).or_insert_with(guard);
        }
        self.prepare(&specs).await;
        let started = specs.iter().zip(plans).map(|((spec, _), plan)| {
            let guard = &guards[&spec.channel];
            async move {
                match plan {
                    Plan::Start(make) => {
                        let made = self.make(spec, &make, guard).await;
                        Done::Tried(make, made)
                    }
                    Plan::Promote(make, runner) => Done::Tried(make, Ok(runner)),
                    Plan::Keep => Done::Kept,
                    Plan::Wait => Done::Waits,
                    Plan::Off => Done::Off,
                    Plan::Fail(failure) => Done::Refused(failure),
                }
            }
        });
        let started = join_all(started).await;
        for runner in self.try_out(state, &specs, &guards).await {
            self.let_go(runner);
        }
        self.settle(state, specs.into_iter().map(|(spec, _)| spec).zip(started), guards);
    }

    /// A new channel's queue, before its first delivery. The host has done it for those it began with.
    async fn prepare(&self, specs: &[(Spec, Option<Failure>)]) {
        let registry = &self.parts.registry;
        let fresh = |s: &&Spec| s.setup.enabled && registry.get(&s.channel).is_none();
        let fresh: Vec<_> = specs.iter().map(|(spec, _)| spec).filter(fresh).map(|s| s.channel.clone()).collect();
        if fresh.is_empty() || registry.entries().is_empty() {
            return;
        }
        if let Err(e) = self.parts.queue.prepare(&fresh).await {
            tracing::error!(error = %e, "The queue of a new channel can't be used");
        }
    }

    fn plan(&self, state: &State, spec: &Spec, failure: Option<Failure>) -> Plan {
        if let Some(failure) = failure {
            return Plan::Fail(failure);
        }
        if !spec.setup.enabled {
            return Plan::Off;
        }
        let Some(make) = self.made_from(state, spec) else {
            let reason = match self.parts.catalogue.refusal(&spec.plugin) {
                Some(refusal) => format!("plugin {} was refused: {}", spec.plugin, refusal.reason),
                None => format!("this host has no plugin called {}", spec.plugin),
            };
            return Plan::Fail(Failure { step: "plugin", reason, problems: Vec::new(), at: self.parts.clock.now() });
        };
        if state.running.get(&spec.name).is_some_and(|r| r.made_from == make) {
            return Plan::Keep;
        }
        if let Some(trying) = state.trials.get(&spec.name).filter(|t| t.made_from == make) {
            return Plan::Promote(make, trying.beside.runner.clone());
        }
        let waits = |f: &Failed| f.made_from == make && Instant::now() < f.again_at;
        if state.failed.get(&spec.name).is_some_and(waits) { Plan::Wait } else { Plan::Start(make) }
    }

    fn made_from(&self, state: &State, spec: &Spec) -> Option<Make> {
        Some(Make {
            channel: spec.channel.clone(),
            config: spec.setup.config.clone(),
            restart: state.restarts.get(&spec.name).copied().unwrap_or(0),
            code: self.parts.catalogue.find(&spec.plugin)?,
        })
    }

    /// Checks, starts and looks at it once. Nothing of it is left when it fails.
    async fn make(&self, spec: &Spec, make: &Make, guard: &Guard) -> Result<Arc<Runner>, Failure> {
        let started = bring_up(make.code.as_ref(), &self.parts.vault, spec.trust(), &spec.name, &spec.setup.config);
        let (instance, veil) = started.await.map_err(|(step, reason, problems)| Failure {
            step,
            reason,
            problems: problems.iter().map(Into::into).collect(),
            at: self.parts.clock.now(),
        })?;
        Ok(Runner::new(
            spec.name.clone(),
            spec.channel.as_str(),
            instance,
            spec.allowance(make.code.as_ref()),
            Breaker::new(self.parts.registry.limits),
            guard.bell(),
            veil,
            self.parts.registry.metrics.clone(),
        ))
    }

    /// The swap: all that was started takes its place at once, and what it replaced goes.
    fn settle(
        &self,
        state: &mut State,
        done: impl Iterator<Item = (Spec, Done)>,
        guards: BTreeMap<ChannelName, Arc<Guard>>,
    ) {
        let registry = &self.parts.registry;
        let mut before = std::mem::take(&mut state.running);
        let (mut entries, mut out) = (Vec::new(), Vec::new());
        for (spec, done) in done {
            let mut running = before.remove(&spec.name);
            let failure = match done {
                Done::Kept => None,
                Done::Waits => state.failed.get(&spec.name).map(|f| f.failure.clone()),
                Done::Tried(made_from, Ok(runner)) => {
                    let (channel, name) = (&spec.channel, spec.name.as_str());
                    tracing::info!(%channel, instance = name, "{name} of channel {channel} runs");
                    out.extend(running.replace(Running { made_from, runner }).map(|old| old.runner));
                    None
                }
                Done::Tried(made_from, Err(failure)) => {
                    state.keep_failure(&spec, made_from, &failure);
                    Some(failure)
                }
                Done::Off => {
                    out.extend(running.take().map(|old| old.runner));
                    None
                }
                Done::Refused(failure) => {
                    // There is nothing to try again until something changes.
                    state.failed.remove(&spec.name);
                    // A newer version that was refused leaves the old one running; what was taken away does not.
                    if failure.step == "name" || self.parts.catalogue.refusal(&spec.plugin).is_none() {
                        out.extend(running.take().map(|old| old.runner));
                    }
                    Some(failure)
                }
            };
            match &failure {
                None => drop(state.failed.remove(&spec.name)),
                Some(failure) => self.tell(&spec, failure),
            }
            let code = self.parts.catalogue.find(&spec.plugin);
            let runner = running.as_ref().map(|r| r.runner.clone());
            if let (Some(runner), Some(code)) = (&runner, &code) {
                runner.set_allowance(spec.allowance(code.as_ref()), registry.nodes());
            }
            state.running.extend(running.map(|r| (spec.name.clone(), r)));
            let beside = state.trials.get(&spec.name).map(|t| t.beside.clone()).filter(|_| runner.is_some());
            entries.push(Entry { spec, code, runner, beside, failure });
        }
        // Deleted.
        out.extend(before.into_values().map(|old| old.runner));
        state.failed.retain(|name, _| entries.iter().any(|e| e.spec.name == *name));
        state.restarts.retain(|name, _| entries.iter().any(|e| e.spec.name == *name));
        let channels = guards.into_values().map(|guard| channel_of(guard, &entries)).collect();
        registry.publish(channels, entries);
        for runner in out {
            self.let_go(runner);
        }
    }

    /// Nobody gives it anything new from here on.
    fn let_go(&self, runner: Arc<Runner>) {
        self.leaving.spawn(async move { runner.retire(DRAIN, STOP).await });
    }

    /// Once, however often it is tried.
    fn tell(&self, spec: &Spec, failure: &Failure) {
        let told = self.parts.registry.entry(&spec.name).and_then(|e| e.failure);
        if told.is_some_and(|told| told.reason == failure.reason) {
            return;
        }
        let (channel, name, step) = (&spec.channel, spec.name.as_str(), failure.step);
        // What is wrong with a plugin that was refused has been said, once for all of its instances.
        if step == "plugin" && self.parts.catalogue.refusal(&spec.plugin).is_some() {
            let why = &failure.reason;
            tracing::warn!(%channel, instance = name, step, "{name} of channel {channel} was not started: {why}");
            return;
        }
        tracing::error!(%channel, instance = name, step, "{name} of channel {channel} was not started: {}", failure.reason);
    }

    /// From here on nothing is started. The worker stops what runs when its deliveries have ended.
    pub fn close(&self) {
        self.stop.cancel();
        self.leaving.close();
    }

    /// Returns when every replaced instance has ended.
    pub async fn left(&self) {
        self.leaving.wait().await;
    }
}

/// What a plan came to.
enum Done {
    Kept,
    Waits,
    Tried(Make, Result<Arc<Runner>, Failure>),
    Off,
    Refused(Failure),
}

fn channel_of(guard: Arc<Guard>, entries: &[Entry]) -> (Arc<Guard>, Traits, Vec<Place>) {
    let of: Vec<_> = entries.iter().filter(|e| e.spec.channel == *guard.name()).collect();
    let traits = Traits {
        enabled: of.iter().any(|e| e.spec.setup.enabled),
        in_app: of.iter().any(|e| e.spec.in_app),
        recipient: of.iter().find_map(|e| Some(e.code.as_ref()?.description().recipient.format.clone())),
    };
    let place = |e: &&Entry| Some(Place { runner: e.runner.clone()?, beside: e.beside.clone() });
    (guard, traits, of.iter().filter_map(place).collect())
}

type Fault = (&'static str, String, Vec<Problem>);

/// schema → validate → start → one health check. Nothing of it is left when it fails.
pub(super) async fn bring_up(
    code: &dyn Code,
    vault: &Vault,
    trust: Trust,
    name: &str,
    config: &Value,
) -> Result<(Arc<dyn Instance>, Veil), Fault> {
    let ready = setup::check(code, vault, trust, name, config).await.map_err(|refused| {
        let said: Vec<_> = refused.problems.iter().map(ToString::to_string).collect();
        (refused.step, said.join("; "), refused.problems)
    })?;
    let veil = ready.veil;
    let start = AssertUnwindSafe(code.start(name, &ready.config)).catch_unwind();
    let instance = match tokio::time::timeout(START_LIMIT, start).await {
        Ok(Ok(Ok(instance))) => instance,
        Ok(Ok(Err(e))) => return Err(("start", veil.over(e.to_string()), Vec::new())),
        Ok(Err(panic)) => {
            return Err(("start", veil.over(format!("panicked: {}", panic_text(panic.as_ref()))), Vec::new()));
        }
        Err(_) => return Err(("start", format!("did not start within {} s", START_LIMIT.as_secs()), Vec::new())),
    };
    let health = AssertUnwindSafe(instance.channel().health()).catch_unwind();
    let failing = match tokio::time::timeout(FIRST_HEALTH, health).await {
        Ok(Ok(Health::Failing(why))) => Some(why),
        Ok(Err(panic)) => Some(format!("panicked in its health check: {}", panic_text(panic.as_ref()))),
        // A slow answer is looked at again; what is degraded works.
        Ok(Ok(_)) | Err(_) => None,
    };
    let Some(why) = failing else { return Ok((instance, veil)) };
    end(instance.as_ref()).await;
    Err(("health", veil.over(why), Vec::new()))
}

/// Of an instance that no delivery has met.
pub(super) async fn end(instance: &dyn Instance) {
    let stop = AssertUnwindSafe(instance.channel().stop()).catch_unwind();
    let _ = tokio::time::timeout(STOP, stop).await;
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
