//! One channel with several instances: failover, order, versions, secrets, on the real binary with real relays.

use campanile_tests::{
    host::{HostBuilder, binary},
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};
use std::net::{SocketAddr, TcpListener};

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn host(first: SocketAddr) -> HostBuilder {
    TestHost::builder()
        .mail_to(first)
        .text("plugins.secret_key", &"k".repeat(32))
        .set("retry.schedule", "[\"50ms\", \"50ms\", \"50ms\"]")
}

fn mail(title: &str) -> Value {
    json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": title, "channels": ["email"]})
}

fn backup(relay: &SmtpServer) -> Value {
    json!({"name": "backup", "plugin": "email", "channel": "email",
        "config": {"url": relay.url(), "from": "Backup <backup@example.org>"}})
}

async fn instance(host: &TestHost, name: &str) -> Value {
    host.api().get(&format!("/api/v1/instances/{name}")).await.expect(200)
}

async fn order(host: &TestHost, names: &[&str]) {
    host.api().put("/api/v1/channels/email/order", &json!({ "instances": names })).await.expect(200);
}

fn made_by(delivery: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or("nobody").to_owned();
    let attempts = delivery["attempts"].as_array().unwrap();
    attempts.iter().map(|a| (text(&a["outcome"]), text(&a["instance"]))).collect()
}

fn one(outcome: &str, instance: &str) -> Vec<(String, String)> {
    vec![(outcome.to_owned(), instance.to_owned())]
}

#[tokio::test]
async fn when_the_first_relay_is_down_the_second_delivers_and_the_record_says_so() {
    let relay = SmtpServer::start().await;
    let host = host(nowhere()).set("retry.breaker_failures", "2").start().await;
    let made = host.api().post("/api/v1/instances", &backup(&relay)).await.expect(201);
    assert_eq!(
        (&made["state"], &made["version"], &made["breaker"]["state"]),
        (&json!("running"), &json!(1), &json!("closed"))
    );
    for n in 0..3 {
        let id = host.api().accepted(&mail(&format!("m{n}"))).await;
        let delivery = host.api().state(&id, "email", "sent").await;
        // One attempt, nothing spent: the first relay has certainly not taken it.
        assert_eq!(made_by(&delivery), one("ok", "backup"), "{delivery}");
        if n < 2 {
            let told = delivery["attempts"][0]["message"].as_str().unwrap();
            assert!(told.starts_with("nothing was sent by email: connect_failed"), "{told}");
        }
    }
    assert!(relay.received().iter().all(|m| m.from == "backup@example.org"));
    let channels = host.api().get("/api/v1/channels").await.expect(200);
    let email = channels["items"].as_array().unwrap().iter().find(|c| c["name"] == "email").unwrap();
    assert_eq!((&email["breaker"]["state"], &email["health"]), (&json!("closed"), &json!("degraded")));
    assert!(email["health_detail"].as_str().unwrap().starts_with("backup sends in place of email"), "{email}");
    let states: Vec<_> =
        email["instances"].as_array().unwrap().iter().map(|i| (&i["name"], &i["breaker"]["state"])).collect();
    assert_eq!(states, [(&json!("email"), &json!("open")), (&json!("backup"), &json!("closed"))]);
    let id = host.api().accepted(&mail("straight")).await;
    let delivery = host.api().state(&id, "email", "sent").await;
    assert!(delivery["attempts"][0]["message"].is_null(), "an open breaker is not knocked at: {delivery}");

    let mut list = host.command();
    list.args(["channel", "list", "--server", &host.url(""), "--key", campanile_tests::host::API_KEY]);
    let said = tokio::task::spawn_blocking(move || list.output().unwrap()).await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("backup") && said.contains("open"), "{said} {}", binary().display());
}

#[tokio::test]
async fn a_mail_in_doubt_is_not_sent_by_the_other_relay_in_the_same_attempt() {
    let (first, second) = (SmtpServer::start().await, SmtpServer::start().await);
    let host = host(first.address).start().await;
    host.api().post("/api/v1/instances", &backup(&second)).await.expect(201);
    first.script(Step::Dot, [Act::TakeAndDrop]);
    let id = host.api().accepted(&mail("doubt")).await;
    let delivery = host.api().state(&id, "email", "sent").await;
    let wanted = [one("retry", "email"), one("ok", "email")].concat();
    assert_eq!(made_by(&delivery), wanted, "the same relay may know it again: {delivery}");
    assert_eq!(delivery["attempts"][0]["uncertain"], true);
    assert!(second.received().is_empty());
}

#[tokio::test]
async fn order_switch_pause_and_roll_back_take_hold_at_once() {
    let (first, second) = (SmtpServer::start().await, SmtpServer::start().await);
    let host = host(first.address).start().await;
    host.api().post("/api/v1/instances", &backup(&second)).await.expect(201);
    let sent = async |title: &str| {
        let id = host.api().accepted(&mail(title)).await;
        made_by(&host.api().state(&id, "email", "sent").await)
    };
    assert_eq!(sent("by the first").await, one("ok", "email"));
    order(&host, &["backup", "email"]).await;
    assert_eq!(sent("by the second").await, one("ok", "backup"));
    let wrong = host.api().put("/api/v1/channels/email/order", &json!({"instances": ["backup"]})).await;
    assert_eq!((wrong.problem(422), wrong.fields()), ("invalid", vec!["instances".to_owned()]));

    let off = host.api().post("/api/v1/instances/backup/disable", &json!({})).await.expect(200);
    assert_eq!((&off["state"], &off["version"]), (&json!("disabled"), &json!(2)));
    assert_eq!(sent("switched off").await, one("ok", "email"));
    host.api().post("/api/v1/instances/backup/enable", &json!({})).await.expect(200);
    assert_eq!(sent("switched on").await, one("ok", "backup"));

    let mut to = json!({"version": 3, "config": {"url": {"$secret": "sealed"}, "from": "Other <other@example.org>"}});
    let changed = host.api().put("/api/v1/instances/backup", &to).await.expect(200);
    assert_eq!((&changed["version"], &changed["state"]), (&json!(4), &json!("running")));
    assert_eq!(sent("changed").await, one("ok", "backup"));
    assert_eq!(second.received().last().unwrap().from, "other@example.org");
    let stale = host.api().put("/api/v1/instances/backup", &to).await;
    assert_eq!(stale.problem(409), "version_changed");

    // What can't run is refused before it is saved, with its place, and changes nothing.
    to["config"] = json!({"url": {"$secret": "sealed"}, "from": "nobody", "max_connections": "x"});
    to["version"] = json!(4);
    let refused = host.api().put("/api/v1/instances/backup", &to).await;
    assert_eq!((refused.problem(422), refused.fields()), ("invalid", vec!["/config/max_connections".to_owned()]));
    to["config"]["max_connections"] = json!(1);
    let refused = host.api().put("/api/v1/instances/backup", &to).await;
    assert_eq!(refused.fields(), ["/config/from"]);
    assert_eq!(instance(&host, "backup").await["version"], 4);

    let back = host.api().post("/api/v1/instances/backup/roll_back", &json!({"version": 1})).await.expect(200);
    assert_eq!((&back["version"], &back["config"]["from"]), (&json!(5), &json!("Backup <backup@example.org>")));
    assert_eq!(sent("as it was").await, one("ok", "backup"));
    assert_eq!(second.received().last().unwrap().from, "backup@example.org");
    let versions = host.api().get("/api/v1/instances/backup/versions").await.expect(200);
    let numbers: Vec<_> =
        versions["items"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);

    host.api().post("/api/v1/channels/email/pause", &json!({})).await.expect(200);
    let held = host.api().accepted(&mail("held")).await;
    let before = (first.received().len(), second.received().len());
    host.api().delete("/api/v1/instances/backup").await.expect(204);
    assert_eq!((first.received().len(), second.received().len()), before, "a pause is the whole channel's");
    host.api().post("/api/v1/channels/email/resume", &json!({})).await.expect(200);
    assert_eq!(made_by(&host.api().state(&held, "email", "sent").await), one("ok", "email"));
    assert_eq!(host.api().get("/api/v1/instances/backup").await.problem(404), "not_found");
}

#[tokio::test]
async fn secrets_go_to_the_relay_and_nowhere_else() {
    let relay = SmtpServer::builder().auth("ada", "hunter2-typed", "PLAIN").start_tls().start().await;
    let mut host = host(nowhere()).env("RELAY_URL", "smtps://u:hunter2-env@localhost:1").start().await;
    let port = relay.address.port();
    let url = format!("smtp://ada:hunter2-typed@localhost:{port}?tls=required&ca={}", relay.ca().display());
    let mut new = backup(&relay);
    new["config"]["url"] = json!(url);
    let made = host.api().post("/api/v1/instances", &new).await.expect(201);
    assert_eq!(made["config"]["url"], json!({"$secret": "sealed"}));
    new["name"] = json!("by-handle");
    new["config"]["url"] = json!({"$secret": "env:RELAY_URL"});
    let made = host.api().post("/api/v1/instances", &new).await.expect(201);
    assert_eq!(made["config"]["url"], json!({"$secret": "env:RELAY_URL"}));
    for stolen in ["env:CAMPANILE_SERVER__DATA_DIR", "file:/etc/passwd", "file:../../../../../etc/passwd"] {
        new["name"] = json!("thief");
        new["config"]["url"] = json!({ "$secret": stolen });
        let refused = host.api().post("/api/v1/instances", &new).await;
        assert_eq!((refused.problem(422), refused.fields()), ("invalid", vec!["/config/url".to_owned()]), "{stolen}");
    }
    let id = host.api().accepted(&mail("sealed")).await;
    assert_eq!(made_by(&host.api().state(&id, "email", "sent").await), one("ok", "backup"));
    // It is still there after a restart, opened with the same key.
    host.restart().await;
    let id = host.api().accepted(&mail("sealed still")).await;
    assert_eq!(made_by(&host.api().state(&id, "email", "sent").await), one("ok", "backup"));

    let mut said = host.output();
    for path in ["instances", "instances/backup", "instances/backup/versions", "channels", "plugins", "audit?limit=100"]
    {
        said += &host.api().get(&format!("/api/v1/{path}")).await.expect(200).to_string();
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("instance.create"), "and every change is in the audit log");
}

#[tokio::test]
async fn a_test_message_gets_the_providers_own_answer() {
    let relay = SmtpServer::start().await;
    let host = host(relay.address).start().await;
    let to = json!({"address": "ada@example.org", "title": "Hello"});
    let answer = host.api().post("/api/v1/instances/email/test", &to).await.expect(200);
    assert_eq!((&answer["ok"], &answer["outcome"]), (&json!(true), &json!("ok")));
    assert!(answer["detail"]["reply"].as_str().unwrap().starts_with("250"), "{answer}");
    assert!(answer["duration_ms"].is_u64() && relay.received()[0].header("Subject").unwrap().contains("Hello"));
    relay.script(Step::Rcpt, [Act::say("550 5.1.1 <ada@example.org> no such user here")]);
    let answer = host.api().post("/api/v1/instances/email/test", &to).await.expect(200);
    assert_eq!((&answer["ok"], &answer["outcome"]), (&json!(false), &json!("recipient_gone")));
    assert!(answer["message"].as_str().unwrap().contains("no such user here"), "{answer}");
    let refused = host.api().post("/api/v1/instances/email/test", &json!({"address": "nobody"})).await;
    assert_eq!((refused.problem(422), refused.fields()), ("invalid", vec!["address".to_owned()]));
    assert_eq!(host.api().post("/api/v1/instances/none/test", &to).await.problem(404), "not_found");
    assert_eq!(host.api().post("/api/v1/instances/websocket/test", &to).await.problem(409), "not_now");
    let suppressed = host.api().get("/api/v1/suppressions").await.expect(200);
    assert_eq!(suppressed["items"], json!([]), "a test leaves no trace but the audit log's");
}

#[tokio::test]
async fn a_channel_appears_and_vanishes_while_the_host_runs() {
    let (relay, letters) = (SmtpServer::start().await, SmtpServer::start().await);
    let host = host(relay.address).start().await;
    host.api().put("/api/v1/users/bo", &json!({"email": "bo@example.org"})).await.expect(200);
    let note = json!({"user_id": "bo", "title": "T", "channels": ["letters"]});
    assert_eq!(host.api().send(&note).await.problem(422), "invalid", "nobody knows the channel");
    let mut new = backup(&letters);
    new["name"] = json!("post");
    new["channel"] = json!("letters");
    host.api().post("/api/v1/instances/validate", &new).await.expect(200);
    assert_eq!(host.api().get("/api/v1/instances/post").await.problem(404), "not_found", "a check saves nothing");
    host.api().post("/api/v1/instances", &new).await.expect(201);
    host.api().put("/api/v1/users/bo", &json!({"addresses": {"letters": "bo@letters.example.org"}})).await.expect(200);
    let id = host.api().accepted(&note).await;
    host.api().state(&id, "letters", "sent").await;
    assert_eq!(letters.wait_for(1).await[0].to, ["bo@letters.example.org"]);
    host.api().delete("/api/v1/instances/post").await.expect(204);
    assert_eq!(host.api().send(&note).await.problem(422), "invalid");
    let names = host.api().get("/api/v1/channels").await.expect(200);
    assert!(!names.to_string().contains("letters"), "{names}");
}

#[tokio::test]
async fn instances_of_the_file_run_and_only_the_file_changes_them() {
    let relay = SmtpServer::start().await;
    let list = "[{ name = \"second\", plugin = \"email\", rate = { limit = 90, per = \"minute\" }, \
                config = { url = { \"$secret\" = \"env:SECOND\" }, from = \"Second <second@example.org>\" } }]";
    let host = host(nowhere()).set("instances", list).env("SECOND", relay.url()).start().await;
    let id = host.api().accepted(&mail("by the file's second")).await;
    assert_eq!(made_by(&host.api().state(&id, "email", "sent").await), one("ok", "second"));
    let seen = instance(&host, "second").await;
    assert_eq!((&seen["origin"], &seen["config"]["url"]), (&json!("file"), &json!({"$secret": "env:SECOND"})));
    assert_eq!((&seen["rate"]["limit"], &seen["rate"]["effective_per_second"]), (&json!(90), &json!(1.5)));
    for change in ["disable", "roll_back"] {
        let body = if change == "roll_back" { json!({"version": 1}) } else { json!({}) };
        let refused = host.api().post(&format!("/api/v1/instances/second/{change}"), &body).await;
        assert_eq!(refused.problem(409), "read_only");
    }
    assert_eq!(host.api().delete("/api/v1/instances/email").await.problem(409), "read_only");
    let mut taken = backup(&relay);
    taken["name"] = json!("second");
    assert_eq!(host.api().post("/api/v1/instances", &taken).await.problem(409), "instance_exists");
    host.api().post("/api/v1/instances/second/restart", &json!({})).await.expect(200);
    host.api().post("/api/v1/instances/second/reset", &json!({})).await.expect(200);
    let built_in = host.api().post("/api/v1/plugins/email/reload", &json!({})).await;
    assert_eq!(built_in.problem(422), "plugin_refused");
    let plugins = host.api().get("/api/v1/plugins").await.expect(200);
    let email = plugins["items"].as_array().unwrap().iter().find(|p| p["name"] == "email").unwrap();
    assert_eq!((&email["origin"]["isolation"], &email["instances"]), (&json!("built-in"), &json!(["email", "second"])));
    assert_eq!(email["config_schema"]["properties"]["url"]["x-campanile-secret"], true);
}

#[tokio::test]
async fn changes_under_load_lose_and_double_no_mail() {
    const ALL: usize = 60;
    let relay = SmtpServer::start().await;
    let host = host(relay.address).start().await;
    host.api().post("/api/v1/instances", &backup(&relay)).await.expect(201);
    order(&host, &["backup", "email"]).await;
    let mut ids = Vec::new();
    for n in 0..ALL {
        ids.push(host.api().accepted(&mail(&format!("m{n}"))).await);
        if n % 10 == 5 {
            let from = format!("Backup <backup{n}@example.org>");
            let to = json!({"config": {"url": {"$secret": "sealed"}, "from": from}});
            let changed = host.api().put("/api/v1/instances/backup", &to).await.expect(200);
            assert_eq!(changed["failure"], Value::Null);
        }
    }
    for id in &ids {
        let delivery = host.api().state(id, "email", "sent").await;
        assert_eq!(made_by(&delivery), one("ok", "backup"), "{delivery}");
    }
    let mut got: Vec<_> = relay.received().iter().map(|m| m.message_id()).collect();
    got.sort();
    got.dedup();
    assert_eq!((relay.received().len(), got.len()), (ALL, ALL));
}
