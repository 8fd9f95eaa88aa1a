//! The Prometheus rules and the Grafana dashboard: checked by Prometheus itself, while it watches a running server.

use super::{root, text, tool};
use campanile_tests::{
    balancer::{free_address, under_shell},
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

fn promtool(words: &[&str]) {
    let ran = Command::new(tool("promtool")).args(words).current_dir(root()).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "promtool {words:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn promtool_is_content() {
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"]);
    promtool(&["check", "rules", "deploy/prometheus/rules.yml"]);
}

#[test]
fn alerts_fire_in_trouble_and_only_then() {
    promtool(&["test", "rules", "tests/fixtures/prometheus/rules_test.yml"]);
    let tested = text("tests/fixtures/prometheus/rules_test.yml");
    for alert in text("deploy/prometheus/rules.yml").lines().filter_map(|l| l.trim().strip_prefix("- alert: ")) {
        assert!(tested.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
}

/// Prometheus with the shipped files; only the address of the node and the pace are ours.
struct Prometheus {
    shell: Child,
    api: Api,
    _folder: TempDir,
}

impl Prometheus {
    fn watching(host: &TestHost) -> Self {
        let folder = tempfile::Builder::new().prefix("campanile-prometheus-").tempdir().unwrap();
        let mut config = text("deploy/prometheus/prometheus.yml");
        for (from, to) in [
            ("campanile-1:8000", host.address().to_string()),
            ("          - campanile-2:8000\n", String::new()),
            ("          - rabbitmq:15692\n", String::new()),
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
        ] {
            assert_eq!(config.matches(from).count(), 1, "{from:?} stands once in prometheus.yml");
            config = config.replace(from, &to);
        }
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let rules = text("deploy/prometheus/rules.yml").replace("interval: 30s", "interval: 1s");
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let address = free_address();
        let mut command = under_shell(tool("prometheus").to_str().unwrap());
        command
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        Self {
            shell: command.spawn().unwrap(),
            api: Api::new(&format!("http://{address}"), "nobody").anonymous(),
            _folder: folder,
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let query = reqwest::Url::parse_with_params("http://x/", query).unwrap();
        let path = format!("/api/v1/{path}?{}", query.query().unwrap_or_default());
        let reply = self.api.try_run(self.api.request("GET", &path)).await.ok()?;
        Some(reply.json)
    }

    /// The number of series a query has now; panics when it is not understood.
    async fn series(&self, query: &str) -> usize {
        let answer = self.get("query", &[("query", query)]).await.expect("Prometheus answers");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().len()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/grafana/campanile.json")).expect("the dashboard is JSON")
}

/// Every query of the dashboard with the name of its place.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap().iter().filter(|a| a["expr"].is_string()) {
        found.push((annotation["name"].as_str().unwrap().to_owned(), annotation["expr"].as_str().unwrap().to_owned()));
    }
    found
}

/// As Grafana fills the variables in when everything is chosen.
fn filled(query: &str) -> String {
    query.replace("$channel", ".*").replace("$node", ".*").replace("$__rate_interval", "10s")
}

/// What a healthy server never counts.
const FAULTS: [&str; 4] =
    ["campanile_panics", "campanile_template_render_errors", "campanile_poison_messages", "campanile_bus_dropped"];

/// Something of everything: a mail that is sent and one that is refused, sockets that come and go, marks, errors.
async fn traffic(host: &TestHost, relay: &SmtpServer) {
    let api = host.api();
    relay.script(Step::Rcpt, [Act::say("550 5.2.1 mailbox disabled")]);
    for n in 0..5 {
        let body = json!({"to": [{"user_id": format!("u{n}"), "email": format!("u{n}@example.org")}], "title": "T"});
        let id = api.accepted(&body).await;
        api.delivery_until(&id, "email", "settled", |d| d["state"] == "sent" || d["state"] == "dead").await;
    }
    let mut socket = Connect::to(host).token(&token::user("u0")).v1().open().await;
    let hello = socket.expect("hello").await;
    let id = api.notify("u0", "live").await;
    socket.wait_for("notification").await;
    socket.send(&json!({"type": "mark", "ids": [id], "as": "read"})).await;
    socket.wait_for("marked").await;
    // Reading answers a ping.
    while !host.api().get("/metrics").await.text.contains("\ncampanile_connection_ping_seconds_count") {
        socket.next_within(Duration::from_millis(50)).await;
    }
    socket.close().await;
    let epoch = hello["data"]["epoch"].as_str().unwrap();
    let mut socket = Connect::to(host).token(&token::user("u0")).v1().resume(epoch, 0).open().await;
    socket.wait_for("resumed").await;
    socket.close().await;
    Connect::to(host).token("nonsense").refused().await;
    api.send(&json!({})).await.problem(422);
    for _ in 0..2 {
        api.send_with_key("the same", &json!({"user_id": "u1", "title": "T", "channels": ["websocket"]})).await;
    }
    api.send(&json!({"user_id": "nobody", "title": "T", "channels": ["email"]})).await.expect(202);
}

#[tokio::test]
async fn every_panel_and_every_rule_works_on_a_running_server() {
    let relay = SmtpServer::start().await;
    let host =
        TestHost::builder().production().mail_to(relay.address).text("websocket.ping_interval", "200ms").start().await;
    let prometheus = Prometheus::watching(&host);
    until("Prometheus has read the page twice", || async {
        let counted = prometheus.get("query", &[("query", "count_over_time(up[1m])")]).await?;
        let up = prometheus.get("query", &[("query", "up == 1")]).await?;
        let n: u32 = counted["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
        (n >= 2 && up["data"]["result"].as_array()?.len() == 1).then_some(())
    })
    .await;
    traffic(&host, &relay).await;
    traffic(&host, &relay).await;

    let dashboard = dashboard();
    // A counter that has never counted has no series, so neither have these in a healthy run.
    let quiet = [
        "campanile_panics_total",
        "campanile_template_render_errors_total",
        "campanile_connection_send_buffer_bytes",
        "campanile_poison_messages_total",
        "campanile_bus_dropped_total",
        "status_class=\"5xx\"",
        "campanile_build_info offset",
        "changes(",
        "campanile_channel_paused{channel=~\".*\"}) == 1",
    ];
    for (place, query) in queries(&dashboard) {
        let query = filled(&query);
        if quiet.iter().any(|q| query.contains(q)) {
            prometheus.series(&query).await;
            continue;
        }
        until(&format!("{place} shows something: {query}"), || async {
            (prometheus.series(&query).await > 0).then_some(())
        })
        .await;
    }
    let rules = until("every rule was evaluated", || async {
        let rules = prometheus.get("rules", &[]).await?;
        let rules: Vec<Value> = rules["data"]["groups"]
            .as_array()?
            .iter()
            .flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default())
            .collect();
        (!rules.is_empty() && rules.iter().all(|r| r["health"] != "unknown")).then_some(rules)
    })
    .await;
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }

    // Names: of the page itself. Labels: of the source, since a family without series shows none.
    let page = host.api().get("/metrics").await.text;
    let declared = declared_labels();
    let rules = rules.iter().map(|r| (r["name"].as_str().unwrap().to_owned(), r["query"].as_str().unwrap().to_owned()));
    let mut checked = BTreeSet::new();
    for (place, query) in queries(&dashboard).into_iter().chain(rules) {
        let mut labels = BTreeSet::from(["instance", "job", "le"].map(str::to_owned));
        for name in metrics_in(&query) {
            // A family without a series is not on the page. What only a fault makes is looked up where it is declared.
            let known =
                |f: &&str| page.contains(&format!("# TYPE {f} ")) || (FAULTS.contains(f) && declared.contains_key(*f));
            let family =
                family_of(&name, known).unwrap_or_else(|| panic!("{place} asks for {name}, which is not on the page"));
            if let Some(own) = declared.get(&family) {
                labels.extend(own.iter().cloned());
            } else {
                assert!(family.starts_with("process_") || family == "up", "{family} is declared nowhere");
            }
            checked.insert(family);
        }
        // `label_replace` makes one of another.
        if query.contains("label_replace(") {
            labels.insert("queue".into());
        }
        for label in labels_in(&query) {
            assert!(
                labels.contains(&label),
                "{place} asks for the label {label}, which its metrics don't have: {query}"
            );
        }
    }
    assert!(checked.len() > 40, "only {} families are shown or watched", checked.len());
    the_contract_is_kept(&page, &declared);
}

/// Every metric that is promised: name as in OpenMetrics' type lines, type, labels.
const PROMISED: [(&str, &str, &[&str]); 54] = [
    ("campanile_build_info", "gauge", &["version", "commit"]),
    ("campanile_notifications_accepted", "counter", &["priority", "source"]),
    ("campanile_notifications_rejected", "counter", &["reason"]),
    ("campanile_notifications_deduplicated", "counter", &["reason"]),
    ("campanile_notifications_suppressed", "counter", &["reason"]),
    ("campanile_deliveries", "counter", &["channel", "outcome"]),
    ("campanile_delivery_attempts", "counter", &["channel", "outcome"]),
    ("campanile_delivery_failures", "counter", &["channel", "reason"]),
    ("campanile_delivery_attempt_duration_seconds", "histogram", &["channel"]),
    ("campanile_delivery_latency_seconds", "histogram", &["channel", "priority"]),
    ("campanile_queue_wait_seconds", "histogram", &["queue"]),
    ("campanile_queue_depth", "gauge", &["queue", "state"]),
    ("campanile_queue_oldest_age_seconds", "gauge", &["queue"]),
    ("campanile_dead_letters", "gauge", &["channel"]),
    ("campanile_dead_letters_total", "unknown", &["channel"]),
    ("campanile_workers_busy", "gauge", &["queue"]),
    ("campanile_workers", "gauge", &["queue"]),
    ("campanile_connections", "gauge", &["transport"]),
    ("campanile_connected_users", "gauge", &["transport"]),
    ("campanile_connections_opened", "counter", &["transport"]),
    ("campanile_connections_closed", "counter", &["transport", "reason"]),
    ("campanile_connection_resumes", "counter", &["outcome"]),
    ("campanile_connection_replayed_messages", "counter", &[]),
    ("campanile_connection_messages_sent", "counter", &["transport"]),
    ("campanile_connection_sent_bytes", "counter", &["transport"]),
    ("campanile_connection_send_buffer_bytes", "histogram", &[]),
    ("campanile_connection_ping_seconds", "histogram", &["transport"]),
    ("campanile_fanout_duration_seconds", "histogram", &[]),
    ("campanile_inbox_events", "counter", &["event"]),
    ("campanile_channel_up", "gauge", &["channel"]),
    ("campanile_channel_paused", "gauge", &["channel"]),
    ("campanile_breaker_state", "gauge", &["channel"]),
    ("campanile_plugin_restarts", "counter", &["plugin"]),
    ("campanile_plugin_call_duration_seconds", "histogram", &["plugin"]),
    ("campanile_plugin_memory_bytes", "gauge", &["plugin"]),
    ("campanile_template_render_duration_seconds", "histogram", &["channel"]),
    ("campanile_template_render_errors", "counter", &["channel"]),
    ("campanile_http_requests", "counter", &["method", "route", "status_class"]),
    ("campanile_http_request_duration_seconds", "histogram", &["method", "route"]),
    ("campanile_db_pool_connections", "gauge", &["state"]),
    ("campanile_db_query_duration_seconds", "histogram", &["query"]),
    ("campanile_broker_connected", "gauge", &["role"]),
    ("campanile_broker_publish_confirm_seconds", "histogram", &[]),
    ("campanile_scheduler_lag_seconds", "gauge", &[]),
    ("campanile_outbox_pending", "gauge", &[]),
    ("campanile_bus_connected", "gauge", &[]),
    ("campanile_handshakes_refused", "counter", &["reason"]),
    ("campanile_poison_messages", "counter", &["reason"]),
    ("campanile_panics", "counter", &["reason"]),
    ("process_cpu_seconds", "counter", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
    ("process_start_time_seconds", "gauge", &[]),
];

/// Of a plugin in a process of its own: a server without one has no series of these.
const OF_PLUGINS: [&str; 2] = ["campanile_plugin_restarts", "campanile_plugin_memory_bytes"];

fn the_contract_is_kept(page: &str, declared: &BTreeMap<String, Vec<String>>) {
    for (name, kind, labels) in PROMISED {
        if let Some(own) = declared.get(name) {
            assert_eq!(own, labels, "labels of {name}");
        } else {
            assert!(name.starts_with("process_"), "{name} is declared nowhere");
        }
        let absent = FAULTS.contains(&name) || OF_PLUGINS.contains(&name);
        let typed = page.contains(&format!("# TYPE {name} {kind}\n"));
        assert!(typed || (absent && !page.contains(&format!("# TYPE {name} "))), "{name} is no {kind} on the page");
    }
    let bounds = |name: &str| -> Vec<f64> {
        let start = page.lines().filter(|l| l.starts_with(&format!("{name}_bucket{{")));
        let bound = |l: &str| l.split("le=\"").nth(1)?.split('"').next()?.parse::<f64>().ok();
        let mut all: Vec<f64> = start.filter_map(bound).filter(|b| b.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    };
    for (name, least, most) in [
        ("campanile_delivery_attempt_duration_seconds", 0.005, 30.0),
        ("campanile_delivery_latency_seconds", 0.01, 3_600.0),
        ("campanile_fanout_duration_seconds", 0.0005, 1.0),
    ] {
        let bounds = bounds(name);
        assert_eq!((bounds.first(), bounds.last()), (Some(&least), Some(&most)), "{name}: {bounds:?}");
    }
    let series = page.lines().filter(|l| !l.starts_with('#')).count();
    assert!(series <= 2_000, "{series} series");
}

/// Family → labels, as `observe/metrics.rs` declares them.
fn declared_labels() -> BTreeMap<String, Vec<String>> {
    let source = text("core/src/observe/metrics.rs");
    let mut sets = BTreeMap::new();
    for line in source.lines().filter_map(|l| l.strip_prefix("labels!(")) {
        let (name, fields) = line.split_once('{').unwrap();
        let fields: Vec<_> = fields.split_once('}').unwrap().0.split(',').map(|f| f.trim().to_owned()).collect();
        sets.insert(name.trim().to_owned(), fields);
    }
    let mut families = BTreeMap::new();
    for line in source.lines().filter(|l| l.contains("= \"campanile_")) {
        let name = line.split('"').nth(1).unwrap().to_owned();
        let kind = line.split_once(": ").unwrap().1.split_once(" = ").unwrap().0;
        let labels = sets.iter().find(|(set, _)| kind.contains(&format!("<{set}"))).map(|(_, l)| l.clone());
        families.insert(name, labels.unwrap_or_default());
    }
    assert!(families.len() > 40);
    families
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Names of metrics in a query; what a rule records is its own.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let words = query
        .split(|c| !is_word(c))
        .filter(|w| *w == "up" || (w.starts_with("campanile_") && !w.contains(':')) || w.starts_with("process_"));
    words.map(str::to_owned).collect()
}

/// Names of labels in selectors, `by (…)`, `on (…)`.
fn labels_in(query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |text: &str| {
        for part in text.split(',') {
            let name = part.trim().split(['=', '!']).next().unwrap_or_default().trim();
            if !name.is_empty() && name.chars().all(is_word) {
                found.insert(name.to_owned());
            }
        }
    };
    for selector in query.split('{').skip(1) {
        add(selector.split('}').next().unwrap());
    }
    for word in ["by (", "on (", "by(", "on("] {
        for list in query.split(word).skip(1) {
            add(list.split(')').next().unwrap());
        }
    }
    found
}

/// `x_total`, `x_bucket` → `x`, when such a family is known.
fn family_of(name: &str, known: impl Fn(&&str) -> bool) -> Option<String> {
    if name == "up" {
        return Some(name.to_owned());
    }
    let shorter = ["_total", "_bucket", "_count", "_sum"].iter().filter_map(|end| name.strip_suffix(end));
    std::iter::once(name).chain(shorter).find(known).map(str::to_owned)
}

#[test]
fn the_dashboard_has_its_rows_variables_and_a_fixed_name() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "campanile");
    assert!(dashboard.get("id").is_none_or(Value::is_null), "an id belongs to one Grafana");
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> = panels.iter().filter(|p| p["type"] == "row").map(|p| p["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["Overview", "Delivery", "Queues", "Realtime", "Plugins", "API", "Process"]);
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "channel", "node"]);
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the id {}", panel["id"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let provisioned = text("deploy/grafana/provisioning/dashboards/campanile.yml");
    let compose = text("docker-compose.yml");
    let folder = provisioned.lines().find_map(|l| l.trim().strip_prefix("path: ")).unwrap();
    assert!(compose.contains(&format!("campanile.json:{folder}/campanile.json")));
}
