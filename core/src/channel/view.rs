//! Channels and their instances as the API and the console show them: this node's picture.

use super::{
    code::Life,
    guard::Guard,
    registry::Entry,
    runner::RunnerView,
    spec::{Origin, allowance},
};
use campanile_model::{ChannelName, Timestamp, clock, ports::Rate};
use campanile_plugin::{Health, Problem};
use serde::Serialize;

/// A channel as `GET /channels` and the dashboard show it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ChannelView {
    pub name: ChannelName,
    /// Version of the code of the first instance that runs; none when none does.
    pub version: Option<String>,
    pub enabled: bool,
    /// Delivered into the feed, not to an address.
    pub in_app: bool,
    pub paused: bool,
    /// `ok`, `degraded`, `failing` or `disabled`.
    pub health: String,
    /// Why, when it is not `ok`.
    pub health_detail: Option<String>,
    /// `closed` while one instance lets deliveries through.
    pub breaker: BreakerView,
    /// Attempts under way on this node.
    pub busy: usize,
    /// Attempts that may be under way on this node, of all instances together.
    pub concurrency: usize,
    /// Less than `concurrency` while the far side asks to slow down.
    pub allowed: usize,
    /// In the order in which they are tried.
    pub instances: Vec<InstanceView>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BreakerView {
    /// `closed`, `half_open` or `open`.
    pub state: String,
    /// When it opened.
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub since: Option<Timestamp>,
    /// The newest error that counted towards opening it.
    pub last_error: Option<String>,
}

/// An instance as this node sees it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct InstanceView {
    pub name: String,
    pub channel: ChannelName,
    pub plugin: String,
    /// Of the code that runs, or would.
    pub plugin_version: Option<String>,
    pub origin: Origin,
    pub enabled: bool,
    /// Version of its configuration; none for one that the configuration file made.
    pub version: Option<u64>,
    /// `disabled`, `failed` (wished for, but not running), or as its life says: `starting`, `running`, `degraded`, `backoff`,
    /// `quarantined`, `wedged`, `draining`, `stopped`.
    pub state: String,
    /// The life of what runs.
    pub life: Option<Life>,
    /// Why what is wished for does not run. Beside a life: an older configuration or version goes on running.
    pub failure: Option<Failure>,
    /// `ok`, `degraded`, `failing` or `disabled`.
    pub health: String,
    pub health_detail: Option<String>,
    pub breaker: BreakerView,
    /// Attempts under way on this node.
    pub busy: usize,
    /// Attempts that may be under way on this node.
    pub concurrency: usize,
    /// Less than `concurrency` while its provider asks to slow down.
    pub allowed: usize,
    /// Longest time of one delivery, in ms.
    pub timeout_ms: u64,
    pub rate: Option<RateView>,
    /// Its provider asked to slow down: others are preferred for so long, in ms.
    pub resting_ms: Option<u64>,
}

/// A rate as it was configured, and what this node may do of it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RateView {
    /// On all nodes together.
    #[serde(flatten)]
    pub configured: Rate,
    /// This node's share, in deliveries a second.
    pub effective_per_second: f64,
    /// Live nodes that share it.
    pub nodes: usize,
}

/// Why an instance does not run as it is wished for.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Failure {
    /// `plugin` (no such code), `name` (taken), `schema`, `secrets`, `validate`, `start` or `health`.
    pub step: &'static str,
    pub reason: String,
    /// Problems of the configuration, by JSON pointer.
    pub problems: Vec<ProblemView>,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ProblemView {
    /// JSON pointer into the configuration.
    pub pointer: String,
    pub message: String,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self { pointer: problem.pointer(), message: problem.message.clone() }
    }
}

fn level(breaker: i64) -> String {
    match breaker {
        0 => "closed",
        1 => "half_open",
        _ => "open",
    }
    .to_owned()
}

fn health(health: &Health) -> (&'static str, Option<String>) {
    match health {
        Health::Ok => ("ok", None),
        Health::Degraded(why) => ("degraded", Some(why.clone())),
        Health::Failing(why) => ("failing", Some(why.clone())),
    }
}

impl InstanceView {
    pub(super) fn of(entry: &Entry, nodes: usize) -> Self {
        let spec = &entry.spec;
        let (runner, life) = match &entry.runner {
            Some(runner) => (Some(runner.view()), Some(runner.instance().life())),
            None => (None, None),
        };
        let enabled = spec.setup.enabled;
        let (health, health_detail) = match (&runner, &entry.failure) {
            _ if !enabled => ("disabled", None),
            (Some(runner), _) => health(&runner.health),
            (None, failure) => ("failing", failure.as_ref().map(|f| f.reason.clone())),
        };
        let state = match &life {
            _ if !enabled => "disabled",
            Some(life) => life.state,
            None => "failed",
        };
        let wanted = entry.code.as_ref().map(|code| allowance(&spec.setup.limits, code.description()));
        let rate = runner.as_ref().and_then(|r| {
            let (configured, effective_per_second) = (r.rate?, r.effective_rate?);
            Some(RateView { configured, effective_per_second, nodes })
        });
        Self {
            name: spec.name.clone(),
            channel: spec.channel.clone(),
            plugin: spec.plugin.clone(),
            plugin_version: entry
                .runner
                .as_ref()
                .map(|r| r.info().version.to_owned())
                .or_else(|| entry.code.as_ref().map(|code| code.description().version.clone())),
            origin: spec.origin,
            enabled,
            version: (spec.origin == Origin::Database).then_some(spec.version),
            state: state.to_owned(),
            life,
            failure: entry.failure.clone(),
            health: health.to_owned(),
            health_detail,
            breaker: breaker(runner.as_ref()),
            busy: runner.as_ref().map_or(0, |r| r.busy),
            concurrency: runner.as_ref().map(|r| r.concurrency).or(wanted.map(|w| w.concurrency)).unwrap_or(0),
            allowed: runner.as_ref().map_or(0, |r| r.allowed),
            timeout_ms: entry
                .runner
                .as_ref()
                .map(|r| r.timeout())
                .or(wanted.map(|w| w.timeout))
                .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            rate,
            resting_ms: runner.and_then(|r| r.resting).map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn breaker(runner: Option<&RunnerView>) -> BreakerView {
    BreakerView {
        state: level(runner.map_or(0, |r| r.breaker)),
        since: runner.and_then(|r| r.open_since),
        last_error: runner.and_then(|r| r.last_error.clone()),
    }
}

impl ChannelView {
    pub(super) fn of(guard: &Guard, entries: &[&Entry], nodes: usize) -> Self {
        let instances: Vec<_> = entries.iter().map(|entry| InstanceView::of(entry, nodes)).collect();
        let enabled = guard.enabled();
        let on: Vec<_> = instances.iter().filter(|i| i.enabled).collect();
        let rank = |word: &str| ["ok", "degraded", "failing"].iter().position(|w| *w == word).unwrap_or(2);
        // While the first works, all is well; while another one does, it is worth a look.
        let best = on.iter().min_by_key(|i| rank(&i.health) + 3 * usize::from(i.breaker.state == "open"));
        let first = on.first();
        let (health, health_detail) = match (best, first) {
            _ if !enabled => ("disabled".to_owned(), None),
            (Some(best), Some(first)) if best.name != first.name && best.health != "failing" => {
                let why = first.health_detail.clone().or_else(|| first.breaker.last_error.clone());
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                ("degraded".to_owned(), Some(format!("{} sends in place of {}{why}", best.name, first.name)))
            }
            (Some(best), _) => (best.health.clone(), best.health_detail.clone()),
            (None, _) => ("failing".to_owned(), None),
        };
        let states = ["closed", "half_open", "open"];
        let runs = || on.iter().filter(|i| i.life.is_some());
        let mildest = runs().min_by_key(|i| states.iter().position(|s| *s == i.breaker.state));
        let nothing = BreakerView { state: level(0), since: None, last_error: None };
        Self {
            name: guard.name().clone(),
            version: runs().find_map(|i| i.plugin_version.clone()),
            enabled,
            in_app: guard.in_app(),
            paused: guard.is_paused(),
            health,
            health_detail,
            breaker: mildest.map_or(nothing, |i| i.breaker.clone()),
            busy: guard.busy(),
            concurrency: on.iter().map(|i| i.concurrency).sum(),
            allowed: on.iter().map(|i| i.allowed).sum(),
            instances,
        }
    }
}
