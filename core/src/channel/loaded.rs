//! Channels from files: the loader behind the seam, and what it needs of this host.
//!
//! Owns: its words as ours, where lines, requests and events of plugins go. Absent on purpose: everything about files,
//! processes and tables (`campanile-loader`), which instances exist (the registry).

use super::{
    catalogue::{Refusal as Refused, Source},
    code::{Code, Instance, Life, LogRecord, Origin},
};
use crate::{
    config::Config,
    observe::{Metrics, metrics as m},
    outbound::{Allowed, Outbound},
};
use async_trait::async_trait;
use campanile_loader::{
    Entry, Event, Family, Host, Line, Loader, Lock, Plugin, Refusal, Running, Settings, Step, Who, unsupported,
};
use campanile_model::{
    Clock, Timestamp,
    ports::{Actor, Store},
};
use campanile_plugin::{
    BoxFuture, DynChannel, HttpError, HttpReply, Level, MetricKind, Problem, StartError,
    http::{HttpErrorKind, HttpRequest},
    wire::Description,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// Events that wait to be written down; more are only logged.
const EVENTS: usize = 256;

/// Names of a lock, and what came of each.
type Tried = Vec<(String, Result<Arc<dyn Code>, Refused>)>;

/// The plugins of `plugins.lock`.
pub struct Files {
    loader: Loader,
    audit: Audit,
    clock: Arc<dyn Clock>,
}

impl Files {
    /// `None`: no plugins are configured.
    pub fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        outbound: Arc<Outbound>,
    ) -> Option<Arc<Self>> {
        let settings = settings(config)?;
        let audit = Audit::start(store);
        let around = Around {
            clock: clock.clone(),
            metrics: metrics.clone(),
            outbound,
            audit: audit.clone(),
            memory: Mutex::default(),
        };
        let files = Arc::new(Self { loader: Loader::new(settings, Arc::new(around)), audit, clock });
        let measured = Arc::downgrade(&files);
        metrics.add(move || measured.upgrade().map(|files| text(&files.loader.families())).unwrap_or_default());
        Some(files)
    }

    /// Every plugin that the lock lists, at start. A refused one is no reason not to start.
    pub async fn load_all(&self) -> Tried {
        let lock = match self.loader.lock() {
            Ok(lock) => lock,
            Err(refusal) => {
                return vec![("plugins.lock".to_owned(), Err(self.refused("plugins.lock", None, &refusal)))];
            }
        };
        self.loader.clean(&lock);
        if let Some(why) = unsupported().filter(|_| !lock.entries.is_empty()) {
            return self.none_of(lock, why);
        }
        let mut tried = Vec::new();
        for entry in &lock.entries {
            tried.push((entry.name.clone(), self.load(&entry.name).await));
        }
        tried
    }

    /// This build loads nothing. Said once, whatever is listed; the list is shown, each with the same reason.
    fn none_of(&self, lock: Lock, why: &str) -> Tried {
        let (step, plugins) = (Step::Build.word(), lock.entries.len());
        tracing::error!(step, plugins, "No plugin of plugins.lock is loaded: {why}");
        self.audit.tell("plugin.refused", "plugins.lock", json!({ "step": step, "reason": why }));
        let (refusal, at) = (Refusal::new(Step::Build, why), self.clock.now());
        let refused = |entry: Entry| (entry.name.clone(), Err(told(&entry.name, Some(entry.file), &refusal, at)));
        lock.entries.into_iter().map(refused).collect()
    }

    async fn load(&self, name: &str) -> Result<Arc<dyn Code>, Refused> {
        let loaded = match name {
            "websocket" => Err(Refusal::new(Step::Lock, "\"websocket\" is a part of the host; give it another name")),
            _ => self.loader.load(name).await,
        };
        match loaded {
            Ok(plugin) => {
                let (entry, isolation) = (plugin.entry(), plugin.entry().isolation.word());
                tracing::info!(plugin = name, version = entry.version, isolation, "Plugin {name} is loaded");
                let detail = json!({ "version": entry.version, "sha256": entry.sha256, "isolation": isolation });
                self.audit.tell("plugin.load", name, detail);
                Ok(Arc::new(FromFile(plugin)))
            }
            Err(refusal) => {
                let file = self.loader.lock().ok().and_then(|lock| Some(lock.get(name)?.file.clone()));
                Err(self.refused(name, file, &refusal))
            }
        }
    }

    fn refused(&self, name: &str, file: Option<String>, refusal: &Refusal) -> Refused {
        let (step, reason) = (refusal.step.word(), refusal.reason.as_str());
        tracing::error!(plugin = name, step, reason, "Plugin {name} is refused at step {step}: {reason}");
        self.audit.tell("plugin.refused", name, json!({ "step": step, "reason": reason }));
        told(name, file, refusal, self.clock.now())
    }
}

/// In the catalogue's words.
fn told(name: &str, file: Option<String>, refusal: &Refusal, at: Timestamp) -> Refused {
    Refused { plugin: name.to_owned(), step: life(refusal.step).to_owned(), reason: refusal.reason.clone(), file, at }
}

/// The step of a plugin's life that it did not get past.
fn life(step: Step) -> &'static str {
    match step {
        Step::Build | Step::Lock => "found",
        Step::Open | Step::Table | Step::Describe => "probed",
        _ => "admitted",
    }
}

#[async_trait]
impl Source for Files {
    async fn reload(&self, plugin: &str) -> Result<Option<Arc<dyn Code>>, Refused> {
        // A lock file that can't be read takes nothing away.
        if self.loader.lock().is_ok_and(|lock| lock.get(plugin).is_none()) {
            return Ok(None);
        }
        self.load(plugin).await.map(Some)
    }
}

/// Where plugins are, if the configuration says so.
pub fn settings(config: &Config) -> Option<Settings> {
    let dir = config.plugins.dir.clone()?;
    let lock = config.plugins.lock.clone().unwrap_or_else(|| dir.join("plugins.lock"));
    let data = std::path::absolute(&config.server.data_dir).unwrap_or_else(|_| config.server.data_dir.clone());
    Some(Settings::new(dir, lock, data.join("plugin-cache")))
}

/// Writes down what operators look up later, in order and beside the work.
#[derive(Clone)]
struct Audit(mpsc::Sender<(&'static str, String, Value)>);

impl Audit {
    fn start(store: Arc<dyn Store>) -> Self {
        let (send, mut events) = mpsc::channel::<(&'static str, String, Value)>(EVENTS);
        tokio::spawn(async move {
            let actor = Actor { who: "system".to_owned(), ..Actor::default() };
            while let Some((action, plugin, detail)) = events.recv().await {
                if let Err(e) = store.note(&actor, action, &plugin, Some(detail)).await {
                    tracing::warn!(plugin, action, error = %e, "An event of plugin {plugin} is not in the audit log");
                }
            }
        });
        Self(send)
    }

    fn tell(&self, action: &'static str, plugin: &str, detail: Value) {
        let _ = self.0.try_send((action, plugin.to_owned(), detail));
    }
}

/// By plugin and instance.
type Memory = BTreeMap<(Arc<str>, Arc<str>), u64>;

/// This host, as the loader needs it.
struct Around {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    outbound: Arc<Outbound>,
    audit: Audit,
    /// Of each instance's process.
    memory: Mutex<Memory>,
}

impl Host for Around {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn http(
        &self,
        who: &Who,
        allowed: &Arc<[String]>,
        private: &Arc<[String]>,
        request: HttpRequest,
    ) -> BoxFuture<'static, Result<HttpReply, HttpError>> {
        let (outbound, metrics) = (self.outbound.clone(), self.metrics.clone());
        let (plugin, public, private) = (who.plugin.clone(), allowed.clone(), private.clone());
        Box::pin(async move {
            let answer = outbound.send(Allowed { public: &public, private: &private }, request).await;
            let outcome = match &answer {
                Ok(_) => "answered",
                Err(e) => e.kind.word(),
            };
            metrics.plugin_requests.get_or_create(&m::PluginOutcome::new(&*plugin, outcome)).inc();
            if let Err(e) = &answer
                && e.kind == HttpErrorKind::Refused
            {
                tracing::warn!(plugin = &*plugin, reason = e.message, "A request of plugin {plugin} is refused");
            }
            answer
        })
    }

    fn level(&self) -> Level {
        use tracing::level_filters::LevelFilter;
        match LevelFilter::current() {
            LevelFilter::OFF | LevelFilter::ERROR => Level::Error,
            LevelFilter::WARN => Level::Warn,
            LevelFilter::INFO => Level::Info,
            LevelFilter::DEBUG => Level::Debug,
            _ => Level::Trace,
        }
    }

    fn log(&self, who: &Who, line: &Line) {
        let (plugin, instance, message) = (&*who.plugin, &*who.instance, line.message.as_str());
        let (source, fields) = (line.source.as_str(), line.fields.as_str());
        let delivery_id = line.delivery_id.as_deref();
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(
                    target: "plugin", plugin, instance, source, fields, delivery.id = delivery_id, "{message}"
                )
            };
        }
        match line.level {
            Level::Error => write!(error),
            Level::Warn => write!(warn),
            Level::Info => write!(info),
            Level::Debug => write!(debug),
            Level::Trace => write!(trace),
        }
    }

    fn event(&self, who: &Who, event: Event) {
        let (plugin, instance) = (&*who.plugin, &*who.instance);
        match event {
            Event::Restarted => {
                self.metrics.plugin_restarts.get_or_create(&m::ByPlugin::new(plugin)).inc();
                tracing::info!(plugin, instance, "Plugin {plugin} runs again");
            }
            Event::Crashed { why, again_in } => {
                let again_ms = millis(again_in);
                tracing::error!(plugin, instance, why, again_ms, "Plugin {plugin} crashed: {why}");
                self.audit.tell(
                    "plugin.crashed",
                    plugin,
                    json!({ "instance": instance, "why": why, "again_in_ms": again_ms }),
                );
            }
            Event::Quarantined { why } => {
                tracing::error!(plugin, instance, why, "Plugin {plugin} is not started again: {why}");
                self.audit.tell("plugin.quarantined", plugin, json!({ "instance": instance, "why": why }));
            }
            Event::Wedged { abandoned } => {
                tracing::error!(plugin, instance, abandoned, "Plugin {plugin} is wedged: calls never came back");
                self.audit.tell("plugin.wedged", plugin, json!({ "instance": instance, "abandoned": abandoned }));
            }
        }
    }

    fn memory(&self, who: &Who, bytes: u64) {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((who.plugin.clone(), who.instance.clone()), bytes);
        let sum: u64 = all.iter().filter(|((plugin, _), _)| *plugin == who.plugin).map(|(_, bytes)| bytes).sum();
        let label = m::ByPlugin::new(&*who.plugin);
        self.metrics.plugin_memory.get_or_create(&label).set(i64::try_from(sum).unwrap_or(i64::MAX));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The loader's code behind the registry's seam.
struct FromFile(Plugin);

#[async_trait]
impl Code for FromFile {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn origin(&self) -> Origin {
        let entry = self.0.entry();
        Origin {
            isolation: entry.isolation.word().to_owned(),
            file: Some(entry.file.clone()),
            sha256: Some(entry.sha256.clone()),
            abi: Some(self.0.abi()),
            allowed_hosts: entry.allowed_hosts.clone(),
            private_hosts: entry.private_hosts.clone(),
        }
    }

    async fn validate(&self, config: &Value) -> Result<(), Vec<Problem>> {
        self.0.validate(config).await
    }

    async fn start(&self, instance: &str, config: &Value) -> Result<Arc<dyn Instance>, StartError> {
        Ok(Arc::new(Started(self.0.start(instance, config).await?)))
    }
}

struct Started(Running);

impl Instance for Started {
    fn channel(&self) -> &dyn DynChannel {
        self.0.channel()
    }

    fn life(&self) -> Life {
        let life = self.0.life();
        let (crashed_at, crash) = life.last_crash.unzip();
        Life {
            crashed_at,
            crash,
            state: life.state.word(),
            detail: life.detail,
            since: life.since,
            restarts: life.restarts,
            next_start_at: life.next_start_at,
            memory_bytes: life.memory_bytes,
            abandoned: life.abandoned,
        }
    }

    fn logs(&self) -> Vec<LogRecord> {
        let record = |line: Line| LogRecord {
            at: line.at,
            level: word(line.level),
            source: line.source,
            message: if line.fields.is_empty() { line.message } else { format!("{} {}", line.message, line.fields) },
            delivery_id: line.delivery_id,
        };
        self.0.lines().into_iter().map(record).collect()
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// In OpenMetrics text, as the registry of the host's own writes it.
fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let name = family.name.strip_suffix("_total").unwrap_or(&family.name);
        let _ = writeln!(out, "# HELP {name} Measured by the plugin.\n# TYPE {name} {kind}");
        for (labels, value) in &family.series {
            match value {
                campanile_loader::Value::Number(n) => {
                    let end = if family.kind == MetricKind::Counter { "_total" } else { "" };
                    let _ = writeln!(out, "{name}{end}{} {n}", braces(labels, None));
                }
                campanile_loader::Value::Histogram(h) => {
                    let _ = writeln!(out, "{name}_sum{} {}", braces(labels, None), h.sum);
                    let _ = writeln!(out, "{name}_count{} {}", braces(labels, None), h.count);
                    let mut below = 0;
                    for (bound, n) in &h.buckets {
                        below += n;
                        let _ = writeln!(out, "{name}_bucket{} {below}", braces(labels, Some(&format!("{bound:?}"))));
                    }
                    let _ = writeln!(out, "{name}_bucket{} {}", braces(labels, Some("+Inf")), h.count);
                }
            }
        }
    }
    out
}

fn braces(labels: &[(String, String)], bound: Option<&str>) -> String {
    let escaped = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain(bound.map(|b| ("le", b)));
    let all: Vec<_> = all.map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_loader::Histogram;

    #[test]
    fn what_plugins_measure_reads_as_open_metrics() {
        let labels = vec![("to".to_owned(), "a\"b".to_owned())];
        let families = [
            Family {
                name: "campanile_plugin_x_sent".into(),
                kind: MetricKind::Counter,
                series: vec![(labels, campanile_loader::Value::Number(2.0))],
            },
            Family {
                name: "campanile_plugin_x_took".into(),
                kind: MetricKind::Histogram,
                series: vec![(
                    Vec::new(),
                    campanile_loader::Value::Histogram(Histogram {
                        sum: 3.5,
                        count: 3,
                        buckets: vec![(1.0, 1), (2.5, 1)],
                    }),
                )],
            },
        ];
        let page = text(&families);
        assert!(
            page.contains("# TYPE campanile_plugin_x_sent counter\ncampanile_plugin_x_sent_total{to=\"a\\\"b\"} 2\n"),
            "{page}"
        );
        for line in [
            "took_sum 3.5",
            "took_count 3",
            "took_bucket{le=\"1.0\"} 1",
            "took_bucket{le=\"2.5\"} 2",
            "took_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(page.contains(&format!("campanile_plugin_x_{line}\n")), "{page}");
        }
    }
}
