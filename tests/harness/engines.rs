//! What a host stands on: the embedded default, or a database and a virtual host of its own on the servers of the run.
//!
//! Owns: their names, making them, dropping them. A host's pair goes when the last host on it is dropped; whatever a
//! dying run leaves goes by [`sweep`], in a process that outlives it. Absent on purpose: starting the servers, which is
//! `scripts/services`.

use crate::host::binary;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use std::{
    future::Future,
    os::unix::process::CommandExt as _,
    process::{ChildStdin, Command, Stdio},
    str::FromStr as _,
    sync::{
        LazyLock, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// SQLite in the data folder, queue and bus in the process.
    Embedded,
    /// PostgreSQL and RabbitMQ.
    Production,
}

impl Backend {
    /// What a host gets when its test doesn't say: `CAMPANILE_TEST_BACKEND`, embedded when nobody says.
    pub fn of_this_run() -> Self {
        runs_with_both();
        match std::env::var("CAMPANILE_TEST_BACKEND").as_deref() {
            Err(_) | Ok("" | "embedded") => Self::Embedded,
            Ok("production") => Self::Production,
            Ok(other) => panic!("CAMPANILE_TEST_BACKEND is {other:?}; it knows embedded and production"),
        }
    }
}

/// Stops a test that asks for the run's engines, but stands among those that run with the embedded ones alone.
pub(crate) fn runs_with_both() {
    let Ok(once) = std::env::var("CAMPANILE_TEST_ONCE") else { return };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    if let Some(module) = once.split(' ').find(|module| !module.is_empty() && test.starts_with(module)) {
        panic!("{module} runs once: name the engines, or take it out of ONCE in scripts/test");
    }
}

/// A database and a virtual host for one host and its peers.
#[derive(Debug)]
pub struct Engines {
    name: String,
}

impl Engines {
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}_{}", run_name(), NEXT.fetch_add(1, Ordering::Relaxed));
        let template = template();
        blocking(async {
            tokio::join!(on_server(format!("CREATE DATABASE {name} TEMPLATE {template}")), create_vhost(&name))
        });
        Self { name }
    }

    /// `database.url`.
    pub fn database(&self) -> String {
        database_url(&self.name)
    }
    /// `queue.url`.
    pub fn queue(&self) -> String {
        format!("{}/{}", given("RABBITMQ").trim_end_matches('/'), self.name)
    }
    pub fn vhost(&self) -> &str {
        &self.name
    }
    /// Calls the management API; the path follows `/api/`.
    pub async fn broker(&self, method: Method, path: &str, body: Option<serde_json::Value>) -> serde_json::Value {
        management(method, path, body).await
    }
    /// The same where a refusal is an answer, too.
    pub async fn try_broker(&self, method: Method, path: &str, body: Option<serde_json::Value>) -> StatusCode {
        answered(method, path, body).await.0
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        /// Dropping takes a while and nobody waits for it.
        static JANITOR: LazyLock<mpsc::Sender<String>> = LazyLock::new(|| {
            let (sender, names) = mpsc::channel::<String>();
            std::thread::spawn(move || {
                for name in names {
                    // What it leaves, the sweep takes: it says why.
                    let _ = std::panic::catch_unwind(|| blocking(remove(&name)));
                }
            });
            sender
        });
        let _ = JANITOR.send(std::mem::take(&mut self.name));
    }
}

fn given(service: &str) -> String {
    let name = format!("CAMPANILE_TEST_{service}");
    let script = service.split('_').next().unwrap_or_default().to_lowercase();
    std::env::var(&name).unwrap_or_else(|_| {
        panic!("{name} names no server; `scripts/services/{script} start` starts one and prints it")
    })
}

/// The prefix of everything this process makes on the servers.
fn run_name() -> &'static str {
    static RUN: LazyLock<String> = LazyLock::new(|| {
        let name = format!("campanile_test_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        sweep_after_us(&name);
        name
    });
    &RUN
}

fn database_url(name: &str) -> String {
    let url = given("POSTGRES");
    let (server, database) = url.rsplit_once('/').expect("a URL with a database");
    let parameters = database.split_once('?').map(|(_, parameters)| format!("?{parameters}")).unwrap_or_default();
    format!("{server}/{name}{parameters}")
}

/// A migrated database to copy from: a copy takes a tenth of a migration.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = format!("{}_template", run_name());
        blocking(on_server(format!("CREATE DATABASE {name}")));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ran = Command::new(binary())
            .args(["migrate", "up"])
            .env_clear()
            .env("HOME", folder.path())
            .env("CAMPANILE_SERVER__DATA_DIR", folder.path())
            .env("CAMPANILE_DATABASE__URL", database_url(&name))
            .current_dir(folder.path())
            .output()
            .expect("the binary starts");
        assert!(ran.status.success(), "migrating: {}", String::from_utf8_lossy(&ran.stderr));
        name
    })
}

/// Runs it to its end on a thread of its own: tests and drops have runtimes that must not be entered twice.
fn blocking<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn server() -> PgConnection {
    let options = PgConnectOptions::from_str(&given("POSTGRES")).expect("CAMPANILE_TEST_POSTGRES is a URL");
    PgConnection::connect_with(&options)
        .await
        .unwrap_or_else(|e| panic!("no PostgreSQL at CAMPANILE_TEST_POSTGRES: {e}"))
}

/// The names in it are our own; a database can't be a parameter.
async fn on_server(sql: String) {
    let mut conn = server().await;
    sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut conn).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let _ = conn.close().await;
}

async fn create_vhost(name: &str) {
    management(Method::PUT, &format!("vhosts/{name}"), Some(json!({}))).await;
    let queue = given("RABBITMQ");
    let user = queue.split("://").nth(1).and_then(|rest| rest.split([':', '@']).next()).unwrap_or("guest");
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    management(Method::PUT, &format!("permissions/{name}/{user}"), Some(all)).await;
}

async fn management(method: Method, path: &str, body: Option<serde_json::Value>) -> serde_json::Value {
    let (status, text) = answered(method.clone(), path, body).await;
    assert!(status.is_success(), "{method} /api/{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

async fn answered(method: Method, path: &str, body: Option<serde_json::Value>) -> (StatusCode, String) {
    let url = format!("{}/api/{path}", given("RABBITMQ_API").trim_end_matches('/'));
    let mut request = crate::api::client().request(method, &url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let reply = request.send().await.unwrap_or_else(|e| panic!("no RabbitMQ at CAMPANILE_TEST_RABBITMQ_API: {e}"));
    (reply.status(), reply.text().await.unwrap_or_default())
}

async fn remove(name: &str) {
    let vhost = format!("vhosts/{name}");
    tokio::join!(
        on_server(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")),
        management(Method::DELETE, &vhost, None)
    );
}

/// A copy of this test process that waits for our end, however we end, and then runs [`sweep`].
fn sweep_after_us(prefix: &str) {
    static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    #[expect(clippy::zombie_processes, reason = "it outlives us on purpose")]
    let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["--ignored", "--exact", "sweep_what_a_run_left", "--nocapture"])
        .env("CAMPANILE_TEST_SWEEP", prefix)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // An interrupt from the terminal is ours and not its.
        .process_group(0)
        .spawn()
        .expect("this test starts");
    let _ = PIPE.set(Mutex::new(child.stdin.take().expect("stdin is piped")));
}

/// Removes what another run of the given prefix left. It ends quietly where the servers are gone already.
pub fn sweep() {
    let Ok(prefix) = std::env::var("CAMPANILE_TEST_SWEEP") else { return };
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let ours = |name: &String| name.starts_with(&prefix);
    blocking(async {
        let mut conn = server().await;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT datname::text FROM pg_database").fetch_all(&mut conn).await.expect("databases");
        for name in names.iter().filter(|name| ours(name)) {
            on_server(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
        let vhosts = management(Method::GET, "vhosts?columns=name", None).await;
        let vhosts = vhosts.as_array().into_iter().flatten().filter_map(|v| v["name"].as_str().map(str::to_owned));
        for name in vhosts.filter(ours) {
            management(Method::DELETE, &format!("vhosts/{name}"), None).await;
        }
    });
}
