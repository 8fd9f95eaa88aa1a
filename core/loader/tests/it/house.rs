//! A folder of plugins with its lock, a host that writes everything down, and the loader between them.

use campanile_loader::{
    Entry, Event, Host, Isolation, Limits, Line, Loader, Lock, Plugin, Refusal, Runner, Running, Settings, Who,
};
use campanile_model::{Clock, Timestamp, clock::SystemClock};
use campanile_plugin::{
    BoxFuture, Delivery, DeliveryError, HttpError, HttpReply, Level, Receipt, Span, http::HttpRequest,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything takes, however busy the machine.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Default)]
pub struct Written {
    pub lines: Mutex<Vec<(Who, Line)>>,
    pub events: Mutex<Vec<Event>>,
    pub requests: Mutex<Vec<(Who, HttpRequest)>>,
}

impl Host for Written {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }
    fn http(
        &self,
        who: &Who,
        _: &Arc<[String]>,
        _: &Arc<[String]>,
        request: HttpRequest,
    ) -> BoxFuture<'static, Result<HttpReply, HttpError>> {
        self.requests.lock().unwrap().push((who.clone(), request));
        Box::pin(async { Ok(HttpReply::new(201, "made")) })
    }
    fn level(&self) -> Level {
        Level::Info
    }
    fn log(&self, who: &Who, line: &Line) {
        self.lines.lock().unwrap().push((who.clone(), line.clone()));
    }
    fn event(&self, _: &Who, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Written {
    pub fn said(&self, text: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|(_, l)| l.message.contains(text)).count()
    }
    pub fn crashed(&self, text: &str) -> bool {
        self.events.lock().unwrap().iter().any(|e| matches!(e, Event::Crashed { why, .. } if why.contains(text)))
    }
}

/// Both levels, for what must be the same in both.
pub const BOTH: [Isolation; 2] = [Isolation::Process, Isolation::InProcess];

pub struct House {
    _dir: TempDir,
    pub folder: PathBuf,
    pub host: Arc<Written>,
    pub loader: Loader,
}

impl House {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let folder = root.join("plugins");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let host = Arc::new(Written::default());
        let mut settings = Settings::new(folder.clone(), folder.join("plugins.lock"), root.join("cache"));
        settings.runner = Runner { program: env!("CARGO_BIN_EXE_campanile-plugin-runner").into(), args: Vec::new() };
        settings.backoff = Duration::from_millis(5);
        let loader = Loader::new(settings, host.clone());
        Self { _dir: dir, folder, host, loader }
    }

    fn lock(&self, change: impl FnOnce(&mut Lock)) {
        let path = self.folder.join("plugins.lock");
        let mut lock = Lock::read(&path).unwrap();
        change(&mut lock);
        lock.write(&path).unwrap();
    }

    /// Puts a file there and lists it as that plugin, whatever it is.
    pub fn list(&self, file: &Path, name: &str, version: &str, change: impl FnOnce(&mut Entry)) {
        let bytes = fs::read(file).unwrap();
        let sha256 = Sha256::digest(&bytes).iter().fold(String::new(), |mut out, b| {
            write!(out, "{b:02x}").unwrap();
            out
        });
        let at = self.folder.join(format!("{name}.so"));
        // As an installer does it: never into a file that may be in use.
        fs::write(at.with_extension("half"), bytes).unwrap();
        fs::set_permissions(at.with_extension("half"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(at.with_extension("half"), at).unwrap();
        let mut entry = Entry {
            name: name.into(),
            file: format!("{name}.so"),
            version: version.into(),
            sha256,
            isolation: Isolation::Process,
            allowed_hosts: Vec::new(),
            private_hosts: Vec::new(),
            limits: Limits::default(),
            unload: false,
        };
        change(&mut entry);
        self.lock(|lock| lock.put(entry));
    }

    pub async fn refusal(&self, file: &Path) -> Refusal {
        self.list(file, "villain", "1.0.0", |_| {});
        match self.loader.load("villain").await {
            Ok(_) => panic!("it loads"),
            Err(refusal) => refusal,
        }
    }

    pub async fn load(&self, file: &Path, name: &str, version: &str, isolation: Isolation) -> Plugin {
        self.list(file, name, version, |e| e.isolation = isolation);
        self.loader.load(name).await.unwrap()
    }

    /// The villain, running.
    pub async fn villain(&self, isolation: Isolation) -> Running {
        self.villain_with(super::build::plain(), isolation, |_| {}).await
    }

    pub async fn villain_with(&self, file: &Path, isolation: Isolation, limits: impl FnOnce(&mut Limits)) -> Running {
        self.list(file, "villain", "1.0.0", |e| {
            e.isolation = isolation;
            limits(&mut e.limits);
        });
        self.loader.load("villain").await.unwrap().start("main", &json!({})).await.unwrap()
    }

    pub async fn drill(&self, file: &Path, isolation: Isolation, config: &Value) -> Running {
        self.load(file, "drill", "0.3.1", isolation).await.start("main", config).await.unwrap()
    }
}

pub fn span(ms: u64) -> Span {
    Span(Duration::from_millis(ms))
}

/// One delivery with as much time as it likes.
pub async fn send(to: &Running, order: &str) -> Result<Receipt, DeliveryError> {
    to.channel().deliver(Delivery::new("d-1", order).with_timeout(PATIENCE).with_content("", "word", "")).await
}

/// One delivery that has only so long.
pub async fn send_within(to: &Running, order: &str, ms: u64) -> Result<Receipt, DeliveryError> {
    to.channel().deliver(Delivery::new("d-1", order).with_timeout(Duration::from_millis(ms))).await
}

/// Waits for what must come.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
