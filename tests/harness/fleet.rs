//! Several nodes on servers of the test's own, the load on them, the people at their sockets, and the verdict at the end.
//!
//! Owns: the nodes of one fault test or chaos run, their database and virtual host, the record. Absent on purpose: which
//! fault, and when (the test's).

use crate::{
    api::Api,
    apps, checker,
    db::Db,
    device::Device,
    history::{CountsShown, Final, History, Recovery, Terms},
    host::{API_KEY, HostBuilder, TestHost},
    load::{Load, Recorder, Work},
    services::{Service, Site},
    smtp::SmtpServer,
    socket::{Connect, Got, Socket},
    token,
    wait::{DEADLINE, until_within},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Tries again soon: a test has no patience for minutes.
const SCHEDULE: [i64; 6] = [200, 300, 400, 500, 1000, 2000];

/// From the end of all faults until all work has come to rest. Longer than anything the product may take by design: a relay
/// round that was missed comes again within two minutes.
const REST: Duration = Duration::from_secs(150);

/// What carries work and hints between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// Each node by itself: they meet in the database alone.
    None,
    RabbitMq,
    /// Work by RabbitMQ, hints by Redis.
    Redis,
}

/// Nodes and what stands around them.
pub struct Fleet {
    site: Site,
    pub nodes: Vec<TestHost>,
    /// Straight to the server, whatever the nodes' own way to it is.
    database: String,
    vhost: Option<String>,
    pub relay: SmtpServer,
    pub record: Recorder,
    up: watch::Sender<Vec<SocketAddr>>,
    devices: Vec<Device>,
}

impl Fleet {
    /// As many nodes as `n`; `change` gets each one's number and settings.
    pub async fn start(
        site: Site,
        n: usize,
        carrier: Carrier,
        change: impl Fn(usize, HostBuilder) -> HostBuilder,
    ) -> Self {
        let mut fleet = Self::prepare(site, n, carrier, change).await;
        for node in &mut fleet.nodes {
            node.launch().await;
        }
        fleet.tell();
        fleet
    }

    /// Everything but the start of the nodes.
    pub async fn prepare(
        site: Site,
        n: usize,
        carrier: Carrier,
        change: impl Fn(usize, HostBuilder) -> HostBuilder,
    ) -> Self {
        let name = format!("fleet_{}", uuid::Uuid::new_v4().simple());
        let postgres = site.postgres().await;
        create_database(postgres, &name).await;
        let database = format!("{}/{name}", postgres.url().trim_end_matches("/postgres"));
        let mut queue = None;
        if carrier != Carrier::None {
            let broker = site.rabbitmq().await;
            create_vhost(broker, &name).await;
            queue = Some(format!("{}/{name}", broker.url()));
        }
        let bus = match carrier {
            Carrier::Redis => Some(site.redis().await.url().to_owned()),
            _ => None,
        };
        let relay = SmtpServer::start().await;
        let schedule: Vec<_> = SCHEDULE.iter().map(|ms| format!("\"{ms}ms\"")).collect();
        let nodes = (0..n)
            .map(|n| {
                let mut build = TestHost::builder()
                    .embedded()
                    .mail_to(relay.address)
                    .text("database.url", &database)
                    .set("retry.schedule", format!("[{}]", schedule.join(", ")))
                    .text("worker.lease", "3s")
                    .text("worker.rescue_delay", "3s")
                    .text("server.drain_spread", "1s");
                if let Some(queue) = &queue {
                    build = build.text("queue.url", queue);
                }
                if let Some(bus) = &bus {
                    build = build.text("bus.url", bus);
                }
                change(n, build).prepare()
            })
            .collect();
        let record = Recorder::default();
        record.with(|h| {
            h.terms = Terms { schedule_ms: SCHEDULE.to_vec(), jitter: 0.2, slack_ms: 180_000, sweep_ms: 5_000 };
            h.secret("the operator's key", API_KEY);
            h.secret("the secret of tokens", token::SECRET);
        });
        let vhost = queue.is_some().then_some(name);
        let up = watch::Sender::new(Vec::new());
        Self { site, nodes, database, vhost, relay, record, up, devices: Vec::new() }
    }

    pub async fn postgres(&self) -> &'static Service {
        self.site.postgres().await
    }
    pub async fn broker(&self) -> &'static Service {
        self.site.rabbitmq().await
    }
    pub async fn redis(&self) -> &'static Service {
        self.site.redis().await
    }
    pub fn vhost(&self) -> &str {
        self.vhost.as_deref().expect("a fleet with a broker")
    }
    pub fn database(&self) -> &str {
        &self.database
    }
    pub async fn db(&self) -> Db {
        Db::postgres(&self.database).await
    }

    /// Tells writers and devices which nodes run.
    pub fn tell(&mut self) {
        let up = self.nodes.iter_mut().filter_map(|n| n.is_running().then(|| n.address())).collect();
        self.up.send_replace(up);
    }
    /// Where nodes are, as writers and devices hear it.
    pub fn addresses(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.up.subscribe()
    }

    pub async fn kill9(&mut self, node: usize) {
        let gone = self.nodes[node].address();
        self.up.send_modify(|up| up.retain(|a| *a != gone));
        self.nodes[node].kill9().await;
    }
    pub async fn revive(&mut self, node: usize) {
        self.nodes[node].launch().await;
        self.tell();
    }

    /// Puts people on the books, each with that many devices.
    pub async fn people(&mut self, users: &[String], devices: usize) {
        for user in users {
            let body = json!({"email": format!("{user}@example.org")});
            let reply = self.nodes[0].api().put(&format!("/api/v1/users/{user}"), &body).await;
            assert!(reply.status < 300, "{}", reply.text);
            for d in 0..devices {
                let device = Device::start(&format!("device {d} of {user}"), user, self.up.subscribe(), &self.record);
                self.devices.push(device);
            }
        }
    }

    pub fn load(&self, work: &Work) -> Load {
        Load::start(work, &self.up.subscribe(), &self.record)
    }

    /// The faults are over: waits until every node says that all is well, and records how long it took.
    pub async fn healthy(&self, fault: &str) {
        let start = Instant::now();
        let asks = self.nodes.iter().enumerate().map(|(n, node)| async move {
            let api = node.api();
            loop {
                let request = api.request("GET", "/readyz").timeout(Duration::from_secs(5));
                if api.try_run(request).await.is_ok_and(|r| r.status == 200 && r.json["degraded"] == json!([])) {
                    return (n, Some(start.elapsed().as_millis() as u64));
                }
                if start.elapsed() > Duration::from_millis(2 * checker::HEALTHY_WITHIN) {
                    return (n, None);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        for (n, healthy_after_ms) in futures_util::future::join_all(asks).await {
            eprintln!("node {n} after {fault}: healthy after {healthy_after_ms:?} ms");
            let node = format!("node {n}");
            let recovery = Recovery { node, fault: fault.to_owned(), healthy_after_ms, restarted: false };
            self.record.with(|h| h.recoveries.push(recovery));
        }
    }

    /// Waits until a message taken by each node reaches a socket on each node at once; says how long that took. A later
    /// heartbeat does not count.
    pub async fn pushes_live(&self) -> Duration {
        let start = Instant::now();
        for (to, node) in self.nodes.iter().enumerate() {
            let user = crate::unique("live");
            let mut socket = Connect::to(node).token(&token::user(&user)).v1().open().await;
            socket.expect("hello").await;
            for (from, taker) in self.nodes.iter().enumerate() {
                while !self.reaches_at_once(&taker.api(), &user, &mut socket).await {
                    assert!(start.elapsed() < DEADLINE * 2, "no push from node {from} reaches a socket on node {to}");
                }
            }
        }
        start.elapsed()
    }

    async fn reaches_at_once(&self, api: &Api, user: &str, socket: &mut Socket) -> bool {
        let Some(id) = self.record.post(api, &crate::unique("push"), user, &["websocket"], &Value::Null).await else {
            return false;
        };
        let id = id.to_string();
        let until = Instant::now() + Duration::from_secs(1);
        while let Some(Got::Text(text)) = socket.next_within(until.saturating_duration_since(Instant::now())).await {
            if text.contains(&id) {
                return true;
            }
        }
        false
    }

    /// Waits until no work is left.
    pub async fn settled(&self) {
        let db = self.db().await;
        until_within(REST, "everything is settled", || async {
            let open =
                db.count("SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending', 'retrying')").await;
            let audiences = db.count("SELECT count(*) FROM audiences WHERE done_at IS NULL").await;
            (open + audiences == 0).then_some(())
        })
        .await;
        db.close().await;
    }

    /// Everything has come to rest and every device has caught up: collects what there is to see and judges it.
    pub async fn judge(mut self, what: &str) -> History {
        for (n, node) in self.nodes.iter_mut().enumerate() {
            assert!(node.is_running(), "node {n} is gone: {}", node.output());
        }
        self.settled().await;
        let db = self.db().await;
        self.tell();
        let users = db.users().await;
        for device in std::mem::take(&mut self.devices) {
            let head = users.iter().find(|u| u.user_id == device.user()).map_or(0, |u| u.head_seq);
            device.finish(head).await;
        }
        for (n, node) in self.nodes.iter().enumerate() {
            for user in users.iter().filter(|user| !user.user_id.starts_with(apps::OTHER)).take(50) {
                let unread = node.me(&user.user_id).unread().await;
                let shown = CountsShown { device: format!("node {n}"), user: user.user_id.clone(), unread };
                self.record.with(|h| h.counts.push(shown));
            }
            let metrics = node.api().get("/metrics").await.text;
            self.record.with(|h| {
                h.output(&format!("the output of node {n}"), node.output());
                h.output(&format!("the metrics of node {n}"), metrics);
            });
            assert!(!node.output().contains("panicked at"), "{}", node.output());
        }
        self.record.mailed(self.relay.received().iter().map(|m| m.message_id()));
        let mut history = self.record.take();
        history.end = Final::read(&db).await;
        db.close().await;
        let refused = history.endings.iter().find(|e| matches!(e.code, 401 | 403 | 4401 | 4403));
        assert!(refused.is_none(), "a good token was refused: {refused:?}");
        let found = checker::check(&history);
        if !found.is_empty() {
            let kept = keep(&history, what);
            panic!("{what}: {}\nThe history is kept in {}", checker::shown(&found), kept.display());
        }
        history
    }
}

/// Writes a history where it can be looked at later.
pub fn keep(history: &History, what: &str) -> PathBuf {
    let folder = crate::host::binary().with_file_name("histories");
    std::fs::create_dir_all(&folder).expect("a folder for histories");
    let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = folder.join(format!("{name}.jsonl"));
    history.save(&path).expect("the history can be written");
    path
}

/// The slowest call of those begun after a moment.
pub fn slowest_since(history: &History, since: u64) -> u64 {
    history.posts.iter().filter(|p| p.invoked >= since).map(|p| p.took_ms).max().unwrap_or(0)
}

async fn create_database(server: &Service, name: &str) {
    use sqlx::Connection as _;
    let mut session = sqlx::PgConnection::connect(server.url()).await.expect("the server takes a session");
    let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(sql).execute(&mut session).await.expect("a database can be made");
    let _ = session.close().await;
}

async fn create_vhost(broker: &Service, name: &str) {
    let made = broker.call("PUT", &format!("vhosts/{name}"), &json!({})).await;
    assert!(made.status < 300, "{}", made.text);
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    let may = broker.call("PUT", &format!("permissions/{name}/campanile"), &all).await;
    assert!(may.status < 300, "{}", may.text);
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Frozen nodes can be killed; frozen servers are woken by who takes the site next.
        self.up.send_replace(Vec::new());
    }
}
