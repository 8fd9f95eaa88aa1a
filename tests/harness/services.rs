//! Servers under the test's own hand: a PostgreSQL, a RabbitMQ and a Redis whose processes it may kill, freeze and bring back.
//!
//! Owns: their start (by `scripts/services`), their processes (all that live in the service's folder), their end. They are
//! shared by the tests of one binary, one test at a time: who takes them finds them healthy, whatever the last one did. A
//! watchdog ends them and removes their folders when the test process ends, however it ends. Absent on purpose: servers of
//! others (nobody's shared server is killed here).

use crate::{
    api::{Api, Reply},
    wait::until_within,
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{OnceCell, SemaphorePermit},
};

/// A server of ours may take this long to come up on a busy machine.
const UP: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Postgres,
    RabbitMq,
    Redis,
}

impl Kind {
    const fn script(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
        }
    }
    const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "CAMPANILE_TEST_POSTGRES",
            Self::RabbitMq => "CAMPANILE_TEST_RABBITMQ",
            Self::Redis => "CAMPANILE_TEST_REDIS",
        }
    }
}

/// A server of ours.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    folder: PathBuf,
    /// As the script says it, without a database or vhost of a test.
    url: String,
    /// RabbitMQ's management API.
    api: Option<String>,
    brought_back: Mutex<Vec<Child>>,
}

impl Service {
    /// Starts one that nobody else knows.
    pub fn start(kind: Kind) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services").join(kind.script());
        let run = Command::new(&script).arg("own").stderr(Stdio::inherit()).output().expect("the script runs");
        assert!(run.status.success(), "{} own failed", script.display());
        let facts: HashMap<String, String> = String::from_utf8_lossy(&run.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace('\\', "")))
            .collect();
        let fact = |name: &str| facts.get(name).unwrap_or_else(|| panic!("the script said no {name}")).clone();
        let stop = fact(&format!("{}_STOP", kind.variable()));
        let folder = PathBuf::from(stop.rsplit(':').next().expect("a folder"));
        watchdog(&folder);
        let api = (kind == Kind::RabbitMq).then(|| fact("CAMPANILE_TEST_RABBITMQ_API"));
        Self { kind, folder, url: fact(kind.variable()), api, brought_back: Mutex::default() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
    /// The URL with another address, so that a proxy stands between.
    pub fn url_via(&self, proxy: SocketAddr) -> String {
        self.url.replace(&self.address().to_string(), &proxy.to_string())
    }
    pub fn address(&self) -> SocketAddr {
        let behind = self.url.rsplit('@').next().expect("an address");
        let behind = behind.trim_start_matches("redis://");
        behind.split('/').next().and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("{} has no address", self.url))
    }

    /// Its processes, but for Erlang's name server: that is not what a fault is about.
    fn pids(&self) -> Vec<i32> {
        living_in(&self.folder).into_iter().filter(|(_, name)| name != "epmd").map(|(pid, _)| pid).collect()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        for pid in self.pids() {
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid is never 0");
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Every process of it, as abruptly as it gets; returns when they are gone.
    pub async fn kill9(&self) {
        until_within(UP, "the server's processes are gone", || async {
            self.signal(rustix::process::Signal::KILL);
            self.reap();
            self.pids().is_empty().then_some(())
        })
        .await;
        // Until somebody waits for the dead, their numbers are taken; a server would believe that its forerunner lives.
        let _ = std::fs::remove_file(self.folder.join("data/postmaster.pid"));
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for socket in files.filter(|file| file.file_name().to_string_lossy().starts_with(".s.PGSQL.")) {
            let _ = std::fs::remove_file(socket.path());
        }
    }

    fn reap(&self) {
        self.brought_back.lock().unwrap().retain_mut(|child| child.try_wait().expect("it can be waited for").is_none());
    }

    /// Starts it again on the same port and data; returns at once.
    pub fn run(&self) {
        let child = Command::new(self.folder.join("run"))
            .stdin(Stdio::null())
            .stdout(self.output())
            .stderr(self.output())
            .spawn()
            .expect("the server can be started");
        self.brought_back.lock().unwrap().push(child);
    }

    fn output(&self) -> Stdio {
        std::fs::File::options().create(true).append(true).open(self.folder.join("output")).expect("a log").into()
    }

    /// Starts it again on the same port and data, and waits until it serves.
    pub async fn revive(&self) {
        self.run();
        self.serves().await;
    }

    pub async fn serves(&self) {
        let start = Instant::now();
        while !self.is_up().await {
            assert!(start.elapsed() < UP, "the server does not serve again; it said:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The ends of what it wrote.
    fn said(&self) -> String {
        let mut said = format!("processes: {:?}\n", living_in(&self.folder));
        let logs = std::fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten().map(|f| f.path());
        for file in ["output", "server.log"].map(|name| self.folder.join(name)).into_iter().chain(logs) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let from = text.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
            said.push_str(&text[from..]);
        }
        said
    }

    /// Every process stands still, its connections stay open: a peer gone silent.
    pub fn freeze(&self) {
        // Twice: a child may have been born between the look and the signal.
        for _ in 0..2 {
            self.signal(rustix::process::Signal::STOP);
        }
    }
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Whatever the last test left: awake, without alarm, serving.
    async fn repair(&self) {
        self.thaw();
        if tokio::time::timeout(Duration::from_secs(10), self.is_up()).await != Ok(true) {
            self.kill9().await;
            self.revive().await;
        }
        if self.kind == Kind::RabbitMq && self.has_alarm().await {
            self.alarm(false).await;
        }
    }

    /// Whether it answers in its own language.
    async fn is_up(&self) -> bool {
        let ask = async {
            match self.kind {
                Kind::Postgres => {
                    // A request for TLS is answered with one letter.
                    self.answers(&[0, 0, 0, 8, 4, 210, 22, 47], b"N").await && self.takes_sessions().await
                }
                Kind::RabbitMq => self.answers(b"AMQP\0\0\0\0", b"AMQP").await && self.api_answers().await,
                Kind::Redis => self.answers(b"PING\r\n", b"+PONG").await,
            }
        };
        tokio::time::timeout(Duration::from_secs(5), ask).await.unwrap_or(false)
    }

    async fn answers(&self, say: &[u8], hear: &[u8]) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()).await else { return false };
        let mut heard = vec![0; hear.len()];
        stream.write_all(say).await.is_ok() && stream.read_exact(&mut heard).await.is_ok() && heard == hear
    }

    /// While it recovers it answers and takes nobody.
    async fn takes_sessions(&self) -> bool {
        use sqlx::Connection as _;
        let Ok(session) = sqlx::PgConnection::connect(&self.url).await else { return false };
        session.close().await.is_ok()
    }

    // RabbitMQ.

    fn management(&self) -> Api {
        Api::new(self.api.as_deref().expect("a broker"), "")
    }
    /// The management API: `GET`, `queues/vhost`.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.try_call(method, path, body).await.expect("the management API answers")
    }
    async fn try_call(&self, method: &str, path: &str, body: &Value) -> Option<Reply> {
        let api = self.management().anonymous();
        let request = api.request(method, &format!("/api/{path}"));
        let request = if body.is_null() { request } else { request.json(body) };
        api.try_run(request).await.ok()
    }
    async fn api_answers(&self) -> bool {
        self.try_call("GET", "whoami", &Value::Null).await.is_some_and(|reply| reply.status == 200)
    }

    /// `rabbitmqctl`, and what it says.
    pub async fn ctl(&self, args: &[&str]) -> String {
        let (command, args) = (self.folder.join("ctl"), args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        let run = tokio::task::spawn_blocking(move || Command::new(command).args(args).stdin(Stdio::null()).output());
        let run = run.await.expect("no panic").expect("rabbitmqctl runs");
        assert!(run.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// The memory alarm: publishers are blocked while it is on.
    pub async fn alarm(&self, on: bool) {
        self.ctl(&["set_vm_memory_high_watermark", if on { "0.00001" } else { "0.6" }]).await;
        until_within(UP, "the broker's memory alarm has changed", || async {
            (self.has_alarm().await == on).then_some(())
        })
        .await;
    }

    /// Asked of the broker itself: the management API's figures are seconds old.
    async fn has_alarm(&self) -> bool {
        self.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await.contains("resource_limit")
    }
}

/// The processes that have their working directory in a folder.
fn living_in(folder: &Path) -> Vec<(i32, String)> {
    let processes = std::fs::read_dir("/proc").expect("a Linux system").flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let inside = std::fs::read_link(entry.path().join("cwd")).ok()?.starts_with(folder);
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            // A process that ended and was not waited for has no working directory, so it does not count.
            inside.then(|| (pid, name.trim().to_owned()))
        })
        .collect()
}

/// What we started ends with us, however we end: a shell waits for our pipe to close, then kills whatever lives in the
/// folders it was told, and removes them.
fn watchdog(folder: &Path) {
    static DOG: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
        let script = r#"folders=; while read -r folder; do folders="$folders $folder"; done
            for folder in $folders; do
                # Erlang's name server last: whoever starts without one starts another, which lives nowhere and for ever.
                for spared in epmd epmd epmd none; do
                    for process in /proc/[0-9]*; do
                        [ "$(cat "$process/comm")" != "$spared" ] || continue
                        case "$(readlink "$process/cwd")/" in "$folder"/*) kill -9 "${process#/proc/}";; esac
                    done
                done
                if [ -f "$folder/epmd" ]; then epmd -port "$(cat "$folder/epmd")" -kill; fi
                rm -rf "$folder"
            done; exit 0"#;
        #[expect(clippy::zombie_processes, reason = "it outlives us on purpose")]
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Mutex::new(shell.stdin.take().expect("stdin is piped"))
    });
    let mut dog = DOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    writeln!(dog, "{}", folder.display()).and_then(|()| dog.flush()).expect("the watchdog listens");
}

/// The servers of this test binary, in the hands of one test.
#[derive(Debug)]
pub struct Site {
    _turn: SemaphorePermit<'static>,
    /// Seen healthy since this test began; from then on what ails a server is the test's doing.
    seen: Mutex<HashSet<Kind>>,
}

static TURN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);
static POSTGRES: OnceCell<Service> = OnceCell::const_new();
static RABBITMQ: OnceCell<Service> = OnceCell::const_new();
static REDIS: OnceCell<Service> = OnceCell::const_new();

impl Site {
    /// Waits for its turn; faults of one test are not to be seen by another.
    pub async fn take() -> Self {
        Self { _turn: TURN.acquire().await.expect("it is never closed"), seen: Mutex::default() }
    }

    pub async fn postgres(&self) -> &'static Service {
        self.healthy(&POSTGRES, Kind::Postgres).await
    }
    pub async fn rabbitmq(&self) -> &'static Service {
        self.healthy(&RABBITMQ, Kind::RabbitMq).await
    }
    pub async fn redis(&self) -> &'static Service {
        self.healthy(&REDIS, Kind::Redis).await
    }

    async fn healthy(&self, cell: &'static OnceCell<Service>, kind: Kind) -> &'static Service {
        let start = async || tokio::task::spawn_blocking(move || Service::start(kind)).await.expect("it starts");
        let service = cell.get_or_init(start).await;
        if self.seen.lock().unwrap().insert(kind) {
            service.repair().await;
        }
        service
    }
}
