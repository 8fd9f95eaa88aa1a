//! Starts, kills and restarts the real binary.
//!
//! Owns: the child process, its folder, its captured output. Dropping a host kills it; a watchdog ends what a dying test
//! run leaves. Absent on purpose: anything that reaches into the process. What can't be seen from outside is read from
//! the database.
//!
//! A host stands on the engines of the run (`CAMPANILE_TEST_BACKEND`). A test that is about one of them asks for it by
//! `embedded()` or `production()` and runs there in every run, so none is ever skipped.

use crate::{
    api::Api,
    db::Db,
    engines::{Backend, Engines, runs_with_both},
    token,
    wait::{DEADLINE, until_within},
};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::watch;

/// The fixed operator key of every test host.
pub const API_KEY: &str = "operator-key-for-tests-0123456789abcdef";

/// The binary under test, beside this test's own target folder; `scripts/test` builds it first.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CAMPANILE_BIN") {
        return path.into();
    }
    let mut dir = std::env::current_exe().expect("this test has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join("campanile");
    assert!(
        path.exists(),
        "{} does not exist: run `cargo build --workspace --all-targets --features campanile-core/failpoints` first \
         (scripts/test does)",
        path.display()
    );
    path
}

/// How a host is to be started. Settings are lines of the configuration file.
#[derive(Clone, Debug, Default)]
pub struct HostBuilder {
    settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    backend: Option<Backend>,
    dev: bool,
    no_listen: bool,
}

impl HostBuilder {
    /// `retry.schedule`, `["100ms"]`: the value is TOML. A later one replaces an earlier one.
    pub fn set(mut self, key: &str, toml: impl Into<String>) -> Self {
        self.settings.retain(|(k, _)| k != key);
        self.settings.push((key.into(), toml.into()));
        self
    }
    /// A setting whose value is text.
    pub fn text(self, key: &str, value: &str) -> Self {
        self.set(key, serde_json::Value::from(value).to_string())
    }
    pub fn unset(mut self, key: &str) -> Self {
        self.settings.retain(|(k, _)| k != key);
        self
    }
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
    /// The value of a setting whose value is text.
    fn said(&self, key: &str) -> String {
        let (_, value) = self.settings.iter().find(|(k, _)| k == key).unwrap_or_else(|| panic!("{key} is not set"));
        serde_json::from_str(value).expect("text")
    }
    /// The same server by another way: the address in that URL becomes a proxy's.
    pub fn via(self, key: &str, proxy: SocketAddr) -> Self {
        let url = self.said(key);
        let (head, tail) = url.split_once("127.0.0.1:").unwrap_or_else(|| panic!("{url} is not on this machine"));
        let end = tail.find('/').map_or("", |at| &tail[at..]);
        let other = format!("{head}{proxy}{end}");
        self.text(key, &other)
    }
    /// Aborts the process at a crash point: `accept.after_commit=3`.
    pub fn failpoints(self, points: &str) -> Self {
        self.env("CAMPANILE_FAILPOINTS", points)
    }
    /// Sends mail to this relay.
    pub fn mail_to(self, relay: SocketAddr) -> Self {
        self.text("email.url", &format!("smtp://{relay}")).text("email.from", "Campanile <notify@example.org>")
    }
    /// Stands on SQLite and on nothing else, whatever this run is for.
    pub fn embedded(mut self) -> Self {
        self.backend = Some(Backend::Embedded);
        self
    }
    /// Stands on PostgreSQL and RabbitMQ, whatever this run is for.
    pub fn production(mut self) -> Self {
        self.backend = Some(Backend::Production);
        self
    }
    /// `serve --dev`, which is the embedded default.
    pub fn dev(mut self) -> Self {
        self.dev = true;
        self.embedded()
    }
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }
    /// Keeps the configured `server.listen`.
    pub fn fixed_address(mut self) -> Self {
        self.no_listen = true;
        self
    }

    /// Starts and waits until the host serves.
    pub async fn start(self) -> TestHost {
        let mut host = self.prepare();
        host.launch().await;
        host
    }

    /// Starts without waiting: for hosts that are to refuse.
    pub fn spawn(self) -> TestHost {
        let mut host = self.prepare();
        host.spawn();
        host
    }

    /// Makes folder and engines and starts nothing: for hosts that are told more before they start.
    pub fn prepare(self) -> TestHost {
        let engines = match self.backend.unwrap_or_else(Backend::of_this_run) {
            Backend::Embedded => None,
            Backend::Production => Some(Arc::new(Engines::create())),
        };
        TestHost::new(self, Arc::new(folder()), engines)
    }
}

/// A host under test and the folder it lives in.
pub struct TestHost {
    build: HostBuilder,
    folder: Arc<TempDir>,
    /// `None`: embedded.
    engines: Option<Arc<Engines>>,
    process: Option<Process>,
    /// What earlier lives of this host printed.
    past: String,
    address: Option<SocketAddr>,
}

struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    listening: watch::Receiver<Option<String>>,
}

impl TestHost {
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
            .text("server.listen", "127.0.0.1:0")
            .text("auth.api_key", API_KEY)
            .text("auth.jwt_secret", token::SECRET)
            .text("worker.poll", "50ms")
            .text("worker.sweep", "100ms")
            .set("auth.key_rate", "100000")
            .set("auth.key_burst", "100000")
    }

    /// A host with the defaults of the suite.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// One host shared by every test of this process that needs none of its own. Use names from [`crate::unique`].
    ///
    /// It lives until the test process ends; the watchdog then ends it.
    pub async fn shared() -> &'static Self {
        static SHARED: tokio::sync::OnceCell<TestHost> = tokio::sync::OnceCell::const_new();
        // Whoever comes first starts it; everybody is asked.
        runs_with_both();
        SHARED.get_or_init(|| async { Self::builder().start().await }).await
    }

    fn new(build: HostBuilder, folder: Arc<TempDir>, engines: Option<Arc<Engines>>) -> Self {
        Self { build, folder, engines, process: None, past: String::new(), address: None }
    }

    /// Another host that would use the same folder and the same engines.
    pub fn twin(&self) -> Self {
        Self::new(self.build.clone(), self.folder.clone(), self.engines.clone())
    }

    /// Another node: the same database and virtual host, a folder of its own. Not started yet.
    pub fn peer(&self) -> Self {
        assert!(self.engines.is_some(), "one SQLite file has one node; ask for `TestHost::builder().production()`");
        Self::new(self.build.clone(), Arc::new(folder()), self.engines.clone())
    }

    /// What a host in production stands on.
    pub fn engines(&self) -> &Engines {
        self.engines.as_ref().expect("this host is embedded; ask for `TestHost::builder().production()`")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
    /// Changes how the next start will be.
    pub fn reconfigure(&mut self, change: impl FnOnce(HostBuilder) -> HostBuilder) {
        self.build = change(std::mem::take(&mut self.build));
    }
    /// Takes the crash points back.
    pub fn disarm(&mut self) {
        self.build.env.retain(|(name, _)| name != "CAMPANILE_FAILPOINTS");
    }

    fn write_config(&self) -> PathBuf {
        let mut text = String::new();
        let mut build = self.build.clone();
        if let Some(engines) = &self.engines {
            // Beneath the test's own: it may put a proxy between, or one engine of each kind.
            let few = HostBuilder::default()
                .text("database.url", &engines.database())
                .text("queue.url", &engines.queue())
                .set("database.readers", "2");
            let told = |key: &str| self.build.settings.iter().any(|(k, _)| k == key);
            build.settings.extend(few.settings.into_iter().filter(|(key, _)| !told(key)));
        }
        for (key, value) in &build.settings {
            let _ = writeln!(text, "{key} = {value}");
        }
        let path = self.folder.path().join("campanile.toml");
        std::fs::write(&path, text).expect("the configuration can be written");
        path
    }

    /// A command of this binary with this host's surroundings and nothing of ours.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .env("TMPDIR", self.folder.path())
            .env("RUST_BACKTRACE", "1")
            // The mark by which scripts/test knows what is its own.
            .envs(std::env::var_os("CAMPANILE_TEST_RUN").map(|mark| ("CAMPANILE_TEST_RUN", mark)))
            .current_dir(self.folder.path());
        command
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "this host runs already");
        let config = self.write_config();
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(config);
        if self.build.dev {
            command.arg("--dev");
        }
        command.env("CAMPANILE_SERVER__DATA_DIR", self.data_dir());
        command.args(&self.build.args).envs(self.build.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        watchdog(child.id());
        let output = Arc::new(Mutex::new(String::new()));
        let (tell, listening) = watch::channel(None);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        collect(stdout, output.clone(), Some(tell));
        collect(stderr, output.clone(), None);
        self.process = Some(Process { child, output, listening });
    }

    /// Starts the process and waits until it says where it listens.
    pub async fn launch(&mut self) {
        self.spawn();
        let mut listening = self.process.as_ref().expect("just spawned").listening.clone();
        let found = tokio::time::timeout(DEADLINE, listening.wait_for(Option::is_some)).await;
        let address = match found {
            Ok(Ok(address)) => address.clone().expect("waited for it"),
            _ => panic!("the host did not say that it listens; it said:\n{}", self.output()),
        };
        self.address = Some(address.parse().unwrap_or_else(|_| panic!("{address:?} is no address")));
    }

    pub fn address(&self) -> SocketAddr {
        self.address.expect("the host was started")
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }
    pub fn api(&self) -> Api {
        Api::new(&self.url(""), API_KEY)
    }
    /// The calls of an end user.
    pub fn me(&self, user_id: &str) -> Api {
        Api::new(&self.url(""), &token::user(user_id))
    }
    pub async fn db(&self) -> Db {
        match &self.engines {
            Some(engines) => Db::postgres(&engines.database()).await,
            None => Db::sqlite(&self.data_dir().join("campanile.db")).await,
        }
    }
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the host runs").child.id()
    }
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| p.child.try_wait().expect("it can be waited for").is_none())
    }

    /// Everything this host printed, in all its lives.
    pub fn output(&self) -> String {
        let now = self.process.as_ref().map(|p| p.output.lock().unwrap().clone()).unwrap_or_default();
        format!("{}{now}", self.past)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a pid is never 0");
        rustix::process::kill_process(pid, signal).expect("the process can be signalled");
    }
    pub fn term(&self) {
        self.signal(rustix::process::Signal::TERM);
    }
    /// Freezes the process, as a long pause of the machine would.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// As abrupt as it gets; returns when the process is gone.
    pub async fn kill9(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.wait_exit(DEADLINE).await;
    }

    /// Waits for the end of the process.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let process = self.process.as_mut().expect("the host runs");
        let child = Mutex::new(&mut process.child);
        let status = until_within(deadline, "the host ends", || async {
            child.lock().unwrap().try_wait().expect("it can be waited for")
        })
        .await;
        // The readers end with the pipes; give them their last lines.
        let process = self.process.take().expect("it ran");
        let output = process.output;
        until_within(DEADLINE, "the output is read", || async { (Arc::strong_count(&output) == 1).then_some(()) })
            .await;
        self.past.push_str(&output.lock().unwrap());
        status
    }

    /// Ends as an operator would and expects a clean exit.
    pub async fn stop(&mut self) {
        self.term();
        let status = self.wait_exit(Duration::from_secs(40)).await;
        assert!(status.success(), "the host ended with {status}; it said:\n{}", self.output());
    }

    /// Kills what runs, then starts again on the same folder.
    pub async fn restart(&mut self) {
        if self.process.is_some() {
            self.kill9().await;
        }
        self.launch().await;
    }

    /// Memory the kernel counts for this process that it shares with nobody, in bytes.
    pub fn private_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("the process lives");
        text.lines()
            .filter(|line| line.starts_with("Private_"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>()
            * 1024
    }
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process lives").count()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.child.kill();
        let _ = process.child.wait();
        if std::thread::panicking() {
            let output = process.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let from = output.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            eprintln!("--- what the host said last\n{}\n---", &output[from..]);
        }
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("campanile-test-").tempdir().expect("a temporary folder")
}

fn collect(pipe: impl Read + Send + 'static, output: Arc<Mutex<String>>, tell: Option<watch::Sender<Option<String>>>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe);
        let mut raw = Vec::new();
        while lines.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&raw).into_owned();
            if let (Some(tell), Some(address)) = (&tell, line.trim().strip_prefix("Listening on http://")) {
                tell.send_replace(Some(address.to_owned()));
            }
            output.lock().unwrap().push_str(&line);
            raw.clear();
        }
    });
}

/// A child of ours ends with us, however we end: a shell waits for our pipe to close, then kills what still runs our
/// binary under the pids it was told.
fn watchdog(pid: u32) {
    static DOG: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
        let script = r#"pids=; while read -r pid; do pids="$pids $pid"; done
            for pid in $pids; do
                # A binary that was built anew meanwhile is "deleted".
                case $(readlink "/proc/$pid/exe") in "$0" | "$0 (deleted)") kill -9 "$pid" ;; esac
            done; exit 0"#;
        #[expect(clippy::zombie_processes, reason = "it outlives us on purpose")]
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .arg(binary())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Mutex::new(shell.stdin.take().expect("stdin is piped"))
    });
    let mut dog = DOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    writeln!(dog, "{pid}").and_then(|()| dog.flush()).expect("the watchdog listens");
}
