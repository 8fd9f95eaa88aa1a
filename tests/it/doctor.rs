//! `campanile doctor` before things that are really broken: each fault has its own line and its own remedy.

use campanile_tests::prelude::*;
use reqwest::Method;
use serde_json::Value;
use std::{collections::BTreeMap, net::TcpListener};

/// Findings by what they are about. Where one thing has several, the worst counts.
struct Report {
    code: i32,
    found: BTreeMap<String, Value>,
}

impl Report {
    fn of(&self, what: &str) -> (&str, &str, &str) {
        let finding = self.found.get(what).unwrap_or_else(|| panic!("nothing about {what}: {:?}", self.found));
        let text = |name: &str| finding[name].as_str().unwrap_or_default();
        (text("verdict"), text("text"), text("fix"))
    }

    #[track_caller]
    fn wrong(&self, what: &str, about: &str, fix: &str) {
        let said = self.of(what);
        assert!(said.0 == "wrong" && said.1.contains(about) && said.2.contains(fix), "{said:?}");
        assert_eq!(self.code, 3);
    }

    #[track_caller]
    fn good(&self, what: &str) {
        assert_eq!(self.of(what).0, "good", "{:?}", self.of(what));
    }
}

async fn doctor(host: &TestHost, settings: &[(&str, &str)]) -> Report {
    let mut command = host.command();
    command.args(["doctor", "--json"]).env("CAMPANILE_SERVER__DATA_DIR", host.data_dir());
    command.env("CAMPANILE_SERVER__LISTEN", "127.0.0.1:0");
    command.envs(settings.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all: Vec<Value> = serde_json::from_str(&said)
        .unwrap_or_else(|e| panic!("{e}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let mut found = BTreeMap::new();
    for finding in all {
        let verdict = |f: &Value| ["good", "look", "wrong"].iter().position(|v| f["verdict"] == *v).unwrap();
        assert!(verdict(&finding) == 0 || finding["fix"].is_string(), "what is not good has a remedy: {finding}");
        let entry = found.entry(finding["what"].as_str().unwrap().to_owned()).or_insert_with(|| finding.clone());
        if verdict(&finding) > verdict(entry) {
            *entry = finding;
        }
    }
    Report { code: output.status.code().unwrap(), found }
}

fn embedded() -> TestHost {
    TestHost::builder().embedded().prepare()
}

fn production() -> TestHost {
    TestHost::builder().production().prepare()
}

/// An address that nothing listens on.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

const DATABASE: &str = "CAMPANILE_DATABASE__URL";
const QUEUE: &str = "CAMPANILE_QUEUE__URL";
const BUS: &str = "CAMPANILE_BUS__URL";

#[tokio::test]
async fn a_machine_without_anything_is_well() {
    let report = doctor(&embedded(), &[]).await;
    assert_eq!(report.code, 0, "{:?}", report.found);
    for what in ["configuration", "data folder", "database", "clock", "port", "templates", "broker", "nodes", "plugins"]
    {
        report.good(what);
    }
}

#[tokio::test]
async fn production_is_well_before_and_after_the_first_start() {
    let mut host = TestHost::builder().production().prepare();
    let (database, queue) = (host.engines().database(), host.engines().queue());
    let settings = [(DATABASE, database.as_str()), (QUEUE, queue.as_str())];
    for _ in 0..2 {
        let report = doctor(&host, &settings).await;
        assert_eq!(report.code, 0, "{:?}", report.found);
        for what in ["schema", "latency", "clock", "broker", "queues", "round trip", "nodes"] {
            report.good(what);
        }
        assert!(report.of("broker").1.contains("RabbitMQ "), "its version is shown: {:?}", report.of("broker"));
        let all: String = report.found.values().map(ToString::to_string).collect();
        assert!(!all.contains(":campanile@"), "a password is shown: {all}");
        if !host.is_running() {
            host.launch().await;
        }
    }
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_the_command_that_explains() {
    let report = doctor(&embedded(), &[("CAMPANILE_WORKER__LEASE", "1ms")]).await;
    report.wrong("configuration", "worker.lease", "config check");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_apart_from_one_that_does_not_answer() {
    let host = production();
    let nowhere = format!("postgres://postgres@{}/x", closed());
    doctor(&host, &[(DATABASE, &nowhere)]).await.wrong("database", "can't be used", "start PostgreSQL");
    let database = host.engines().database();
    let missing = database.replace(host.engines().vhost(), "campanile_no_such_database");
    doctor(&host, &[(DATABASE, &missing)]).await.wrong("database", "does not exist", "createdb");
}

#[tokio::test]
async fn a_damaged_file_is_no_database() {
    let host = embedded();
    std::fs::create_dir_all(host.data_dir()).unwrap();
    std::fs::write(host.data_dir().join("campanile.db"), "x".repeat(8192)).unwrap();
    doctor(&host, &[]).await.wrong("database", "campanile.db", "backup");
}

#[tokio::test]
async fn a_broker_that_is_down_or_lets_nobody_in_is_told() {
    let host = production();
    let (queue, vhost) = (host.engines().queue(), host.engines().vhost());
    let nowhere = format!("amqp://guest:secret@{}/x", closed());
    let report = doctor(&host, &[(QUEUE, &nowhere)]).await;
    report.wrong("broker", "can't be used", "start RabbitMQ");
    assert!(!report.of("broker").1.contains("secret"));
    let (scheme, place) = (queue.split("//").next().unwrap(), queue.rsplit_once('@').unwrap().1);
    let stranger = format!("{scheme}//campanile:wrong-password@{place}");
    doctor(&host, &[(QUEUE, &stranger)]).await.wrong("broker", "refused user \"campanile\"", "authenticate_user");
    let elsewhere = queue.replace(vhost, "no-such-vhost");
    doctor(&host, &[(QUEUE, &elsewhere)]).await.wrong("broker", "vhost \"no-such-vhost\"", "list_permissions");
}

#[tokio::test]
async fn a_queue_with_other_settings_is_told_and_left_alone() {
    let host = production();
    let engines = host.engines();
    let path = format!("queues/{}/campanile.work.email", engines.vhost());
    let classic = json!({"durable": true, "auto_delete": false, "arguments": {}});
    engines.broker(Method::PUT, &path, Some(classic)).await;
    let report = doctor(&host, &[(QUEUE, &engines.queue())]).await;
    report.wrong("queues", "campanile.work.email", "delete_queue");
    report.good("round trip");
    let after = engines.broker(Method::GET, &path, None).await;
    assert_eq!(after["type"], "classic", "{after}");
    let queues = engines.broker(Method::GET, &format!("queues/{}", engines.vhost()), None).await;
    assert_eq!(queues.as_array().unwrap().len(), 1, "it makes none: {queues}");
}

#[tokio::test]
async fn a_user_without_rights_is_told() {
    let host = production();
    let engines = host.engines();
    let (vhost, user) = (engines.vhost(), format!("looker_{}", engines.vhost()));
    engines.broker(Method::PUT, &format!("users/{user}"), Some(json!({"password": "p", "tags": ""}))).await;
    let none = json!({"configure": "^$", "write": "^$", "read": "^$"});
    engines.broker(Method::PUT, &format!("permissions/{vhost}/{user}"), Some(none)).await;
    let queue = engines.queue();
    let url = format!("amqp://{user}:p@{}", queue.rsplit_once('@').unwrap().1);
    let report = doctor(&host, &[(QUEUE, &url)]).await;
    engines.broker(Method::DELETE, &format!("users/{user}"), None).await;
    report.wrong("round trip", "access", "set_permissions");
}

#[tokio::test]
async fn a_redis_that_is_down_is_told() {
    let host = embedded();
    let nowhere = format!("redis://:secret@{}", closed());
    let report = doctor(&host, &[(BUS, &nowhere)]).await;
    report.wrong("bus", "redis://", "start Redis");
    assert!(!report.of("bus").1.contains("secret"));
    let url = std::env::var("CAMPANILE_TEST_REDIS").expect("`scripts/services/redis start` starts one and prints it");
    doctor(&host, &[(BUS, &url)]).await.good("bus");
}

#[tokio::test]
async fn several_nodes_without_a_bus_are_warned_of() {
    let host = production();
    let report = doctor(&host, &[(DATABASE, &host.engines().database())]).await;
    assert_eq!(report.of("nodes").0, "look", "{:?}", report.of("nodes"));
}

#[tokio::test]
async fn a_port_in_foreign_hands_is_told_and_our_own_is_fine() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = |address: &str| [("CAMPANILE_SERVER__LISTEN", address.to_owned())];
    let at = |address: String| async move {
        let settings = listen(&address);
        doctor(&embedded(), &[(settings[0].0, settings[0].1.as_str())]).await
    };
    at(address).await.wrong("port", "in use by another program", "server.listen");
    drop(taken);
    let host = TestHost::builder().embedded().start().await;
    let report = at(host.address().to_string()).await;
    assert!(report.of("port").1.contains("served by Campanile"), "{:?}", report.of("port"));
}

#[tokio::test]
async fn a_relay_that_does_not_answer_is_told() {
    let url = format!("smtp://{}", closed());
    let settings = [("CAMPANILE_EMAIL__URL", url.as_str()), ("CAMPANILE_EMAIL__FROM", "a@example.org")];
    doctor(&embedded(), &settings).await.wrong("mail relay", "refused", "email.url");
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_told() {
    let host = embedded();
    std::fs::write(host.data_dir(), "").unwrap();
    doctor(&host, &[]).await.wrong("data folder", "not a folder", "server.data_dir");
}
