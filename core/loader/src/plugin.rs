//! From a name in the lock to code that can be started.

use crate::{
    Admitted, Family, Host, Isolation, Limits, Lock, Refusal, Runner, Running, State, Step, Who, admit, cache,
    desk::{Desk, Parts},
    lock::Entry,
    metrics::Samples,
    native::{Loaded, Native},
    probe::{self, Probed},
    process::{Launch, Remote},
    running::{self, Engine},
    unsupported,
};
use campanile_plugin::{Problem, StartError, wire::Description};
use campanile_plugin_abi::MAJOR;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Where plugins are, and how they run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the files.
    pub dir: PathBuf,
    /// `plugins.lock`.
    pub lock: PathBuf,
    /// Private copies; made if it isn't there.
    pub cache: PathBuf,
    pub runner: Runner,
    /// The first wait before a process that died is started again.
    pub backoff: Duration,
}

impl Settings {
    pub fn new(dir: PathBuf, lock: PathBuf, cache: PathBuf) -> Self {
        Self { dir, lock, cache, runner: Runner::this(), backoff: Duration::from_secs(1) }
    }
}

/// Loads plugins. One per host.
pub struct Loader {
    settings: Settings,
    host: Arc<dyn Host>,
    /// Of each plugin, over all its versions: a counter must not fall at a reload.
    samples: Mutex<BTreeMap<String, Arc<Samples>>>,
}

impl Loader {
    pub fn new(settings: Settings, host: Arc<dyn Host>) -> Self {
        Self { settings, host, samples: Mutex::default() }
    }

    /// What the lock lists now.
    pub fn lock(&self) -> Result<Lock, Refusal> {
        let lock = Lock::read(&self.settings.lock)?;
        if let Some(parent) = self.settings.lock.parent().filter(|_| self.settings.lock.exists()) {
            admit::check_folder(parent)?;
        }
        Ok(lock)
    }

    /// Removes copies of files that the lock doesn't list. At start, before anything runs.
    pub fn clean(&self, lock: &Lock) {
        let listed: Vec<_> = lock.entries.iter().map(|e| e.sha256.as_str()).collect();
        cache::clean(&self.settings.cache, &listed);
    }

    /// The plugin of that name as the lock lists it now: through every step up to the probe. Nothing of what runs changes.
    pub async fn load(&self, name: &str) -> Result<Plugin, Refusal> {
        if let Some(why) = unsupported() {
            return Step::Build.refuses(why);
        }
        let lock = self.lock()?;
        let Some(entry) = lock.get(name).cloned() else {
            return Step::Lock.refuses(format!("no plugin {name:?} is listed; run campanile plugin add FILE"));
        };
        let settings = self.settings.clone();
        let admitting = tokio::task::spawn_blocking(move || -> Result<_, Refusal> {
            let admitted = admit::admit(&settings.dir, &entry)?;
            let path = cache::keep(&settings.cache, &admitted.sha256, &admitted.bytes)?;
            Ok((entry, admitted.manifest, path))
        });
        let admitted = admitting.await.map_err(|e| Refusal::new(Step::File, format!("reading it failed: {e}")))?;
        let (entry, manifest, path) = admitted?;
        let probed = probe::probe(&self.settings.runner, &entry.limits, &path, &manifest).await?;
        Ok(self.plugin(entry, path, probed))
    }

    /// A file that no lock lists, as it would be run at that level: through the same steps but those of the lock and of its
    /// folder. For its author, never for a server.
    pub async fn load_unlisted(&self, file: &Path, isolation: Isolation, limits: Limits) -> Result<Plugin, Refusal> {
        let (admitted, path, probed) = tried(file, &self.settings.cache, &self.settings.runner, &limits).await?;
        let entry = Entry {
            name: admitted.manifest.name,
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            version: admitted.manifest.version,
            sha256: admitted.sha256,
            isolation,
            allowed_hosts: Vec::new(),
            private_hosts: Vec::new(),
            limits,
            unload: false,
        };
        Ok(self.plugin(entry, path, probed))
    }

    fn plugin(&self, entry: Entry, path: PathBuf, probed: Probed) -> Plugin {
        let samples = self.samples(&entry.name);
        let (settings, host) = (self.settings.clone(), self.host.clone());
        Plugin(Arc::new(Version { settings, host, entry, path, probed, samples, loaded: Mutex::default() }))
    }

    fn samples(&self, name: &str) -> Arc<Samples> {
        let mut all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_insert_with(|| Arc::new(Samples::new(name))).clone()
    }

    /// Everything that plugins measure.
    pub fn families(&self) -> Vec<Family> {
        let all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(|samples| samples.families()).collect()
    }
}

/// What a file that no lock lists yet is, as far as it says: checked and tried like a listed one.
pub async fn probe_file(path: &Path, cache: &Path, runner: &Runner) -> Result<(Admitted, Description), Refusal> {
    let (admitted, _, probed) = tried(path, cache, runner, &Limits::default()).await?;
    Ok((admitted, probed.description))
}

/// Admitted, copied, and opened in a child.
async fn tried(
    path: &Path,
    cache: &Path,
    runner: &Runner,
    limits: &Limits,
) -> Result<(Admitted, PathBuf, Probed), Refusal> {
    if let Some(why) = unsupported() {
        return Step::Build.refuses(why);
    }
    let admitted = admit::check_file(path)?;
    let copy = cache::keep(cache, &admitted.sha256, &admitted.bytes)?;
    let probed = probe::probe(runner, limits, &copy, &admitted.manifest).await?;
    Ok((admitted, copy, probed))
}

/// One version of a plugin, ready to be started. Cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Version>);

struct Version {
    settings: Settings,
    host: Arc<dyn Host>,
    entry: Entry,
    /// The private copy.
    path: PathBuf,
    probed: Probed,
    samples: Arc<Samples>,
    /// In this process: opened at the first start.
    loaded: Mutex<Option<Arc<Loaded>>>,
}

impl Plugin {
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    pub fn description(&self) -> &Description {
        &self.0.probed.description
    }

    /// Major and minor of the interface it was built for.
    pub fn abi(&self) -> String {
        format!("{MAJOR}.{}", self.0.probed.minor)
    }

    /// What the schema can't say of a configuration, asked in a child.
    pub async fn validate(&self, config: &Value) -> Result<(), Vec<Problem>> {
        let v = &self.0;
        probe::validate(&v.settings.runner, &v.entry.limits, &v.path, &v.entry.name, config).await
    }

    /// An instance with that configuration, secrets resolved: started, and healthy once.
    pub async fn start(&self, instance: &str, config: &Value) -> Result<Running, StartError> {
        let v = &self.0;
        let info = self.description().info();
        let limits = &v.entry.limits;
        let desk = Desk::new(Parts {
            who: Who { plugin: v.entry.name.as_str().into(), instance: instance.into() },
            host: v.host.clone(),
            info,
            allowed: v.entry.allowed_hosts.clone().into(),
            private: v.entry.private_hosts.clone().into(),
            places: limits.concurrency.unwrap_or(info.max_concurrency).min(info.max_concurrency),
            samples: v.samples.clone(),
        });
        let engine = match v.entry.isolation {
            Isolation::Process => {
                let mut launch =
                    Launch::new(v.settings.runner.clone(), v.path.clone(), limits.clone(), config.to_string());
                launch.backoff = v.settings.backoff;
                Engine::Remote(Remote::start(desk.clone(), launch).await?)
            }
            Isolation::InProcess => Engine::Native(self.start_here(&desk, config).await?),
        };
        desk.enter(State::Running, None, None);
        let limit = limits.timeout.map_or(info.timeout, |t| (*t).min(info.timeout));
        Ok(Running::new(desk, engine, limit, *limits.drain_timeout))
    }

    async fn start_here(&self, desk: &Arc<Desk>, config: &Value) -> Result<Native, StartError> {
        let loaded = self.loaded().await?;
        let started = desk.call();
        let limits = &self.0.entry.limits;
        let stack = limits.stack_kib * 1024;
        let name = &self.0.entry.name;
        let native = Native::start(loaded, desk.clone(), name, desk.places, stack, config.to_string(), started.0)?;
        match running::begin_native(&native, desk, started, *limits.start_timeout).await {
            Ok(()) => Ok(native),
            Err(why) => {
                // What began in it ends by itself, and nobody waits for that.
                drop(native.destroy());
                Err(StartError::new(why))
            }
        }
    }

    /// dlopen may block, and runs constructors.
    async fn loaded(&self) -> Result<Arc<Loaded>, StartError> {
        let v = self.0.clone();
        let open = move || -> Result<Arc<Loaded>, Refusal> {
            let mut loaded = v.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(loaded) = &*loaded {
                return Ok(loaded.clone());
            }
            let opened = Arc::new(Loaded::open(&v.path, v.entry.unload)?);
            *loaded = Some(opened.clone());
            Ok(opened)
        };
        let opened = tokio::task::spawn_blocking(open).await.map_err(|e| StartError::new(e.to_string()))?;
        opened.map_err(|refusal| StartError::new(refusal.to_string()))
    }
}
