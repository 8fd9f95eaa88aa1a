//! Channels that ship with the product, from files, on the real binary: webhook against a scripted provider, and e-mail in
//! the place of the one that is linked in.

use super::{
    files_author::{plugin, point},
    files_kit::{BOTH, House, children, email, note, outcomes, said, webhook, websocket},
    provider::Provider,
};
use campanile_tests::{prelude::*, smtp::SmtpServer};
use std::fs;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn hook(name: &str, url: &str) -> Value {
    json!({"name": name, "plugin": "webhook", "channel": name, "config": {"url": url, "secret": SECRET}})
}

#[tokio::test]
async fn webhook_delivers_by_the_host_s_requests_in_both_isolation_levels() {
    for isolation in BOTH {
        let provider = Provider::start().await;
        let mut house = House::new(|b| b.set("retry.schedule", "[\"50ms\", \"50ms\", \"50ms\"]"));
        house.add(webhook(), &["--private-host", "127.0.0.1", "--isolation", isolation]).await;
        house.host.launch().await;
        assert_eq!(house.known("webhook").await["origin"]["isolation"], isolation);
        house.create(&hook("shop", &provider.url())).await;
        let workers = children(house.host.pid());
        assert_eq!(workers.len(), usize::from(isolation == "process"), "{workers:?}");

        provider.next("503 Not now");
        provider.next("429 Slower\nretry-after: 0\r\n");
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let call = house.host.api().request("POST", "/api/v1/notifications").json(&note("shop", "till-1"));
        let call = call.header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
        let id = house.host.api().run(call).await.expect(202)["notification_id"].as_str().unwrap().to_owned();
        let delivery = house.host.api().state(&id, "shop", "sent").await;
        assert_eq!(outcomes(&delivery), ["retry", "throttled", "ok"], "{delivery}");
        let seen = provider.seen();
        assert_eq!(seen.len(), 3);
        let hook_id = |request: &String| request.lines().find(|l| l.starts_with("webhook-id: ")).unwrap().to_owned();
        assert!(seen.iter().all(|r| hook_id(r) == hook_id(&seen[0])), "the same id in every attempt: {seen:?}");
        let span = |request: &String| {
            let parent = request.lines().find_map(|l| l.strip_prefix("traceparent: ")).unwrap().to_owned();
            assert!(parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-01"), "{parent}");
            parent
        };
        let spans: std::collections::BTreeSet<String> = seen.iter().map(span).collect();
        assert_eq!(spans.len(), 3, "each attempt is a span of the caller's trace: {spans:?}");
        assert_eq!(house.host.api().notification(&id).await["trace_id"], trace);
        assert!(
            seen[2].contains("webhook-signature: v1,") && seen[2].contains("\"recipient\":\"till-1\""),
            "{}",
            seen[2]
        );
        // Nobody repeats a refusal of the message.
        provider.next("422 No");
        let refused = house.send("shop", "till-2").await;
        let delivery = house.host.api().state(&refused, "shop", "dead").await;
        assert_eq!(outcomes(&delivery), ["permanent"], "{delivery}");

        // The secret is typed in once and comes out nowhere.
        let shown = house.instance("shop").await.to_string();
        assert!(shown.contains("sealed"), "{shown}");
        let mut places = vec![shown, house.host.output()];
        for path in [
            "/api/v1/plugins",
            "/api/v1/audit",
            "/metrics",
            "/api/v1/instances/shop/logs",
            "/api/v1/instances/shop/versions",
        ] {
            places.push(house.host.api().get(path).await.text);
        }
        for pid in workers {
            places.extend(
                ["environ", "cmdline"].map(|f| fs::read_to_string(format!("/proc/{pid}/{f}")).unwrap_or_default()),
            );
        }
        for place in &places {
            assert!(!place.contains(&SECRET["whsec_".len()..]), "{place}");
        }
        house.host.stop().await;
    }
}

#[tokio::test]
async fn a_plugin_s_request_reaches_no_host_that_it_may_not_call() {
    let provider = Provider::start().await;
    let mut house = House::new(|b| b);
    // Every public host; none in our own network.
    house.add(webhook(), &["--allow-host", "*"]).await;
    house.host.launch().await;
    let inside = provider.address.port();
    let places = [
        ("loopback", format!("https://127.0.0.1:{inside}/")),
        ("metadata", "https://169.254.169.254/latest/meta-data/".to_owned()),
        ("mapped", format!("https://[::ffff:127.0.0.1]:{inside}/")),
        ("by-name", format!("https://localhost:{inside}/")),
        ("clear-text", "http://example.org/".to_owned()),
    ];
    for (name, url) in &places {
        house.create(&hook(name, url)).await;
        let id = house.send(name, "x").await;
        let delivery = house.host.api().state(&id, name, "dead").await;
        assert_eq!(outcomes(&delivery), ["permanent"], "{name}: {delivery}");
    }
    assert!(provider.seen().is_empty(), "{:?}", provider.seen());
    let metrics = house.host.api().metrics().await;
    let refused = "campanile_plugin_http_requests_total{plugin=\"webhook\",outcome=\"refused\"}";
    assert_eq!(metrics.get(refused), Some(&(places.len() as f64)), "{metrics:?}");
    // One host, by name.
    house.add(webhook(), &["--allow-host", "hooks.example.org"]).await;
    assert!(house.reload("webhook").await.status.success());
    house.create(&hook("elsewhere", "https://example.org/")).await;
    let id = house.send("elsewhere", "x").await;
    let delivery = house.host.api().state(&id, "elsewhere", "dead").await;
    assert!(delivery["attempts"][0]["message"].as_str().unwrap().contains("allowed_hosts"), "{delivery}");
    house.host.stop().await;
}

#[tokio::test]
async fn e_mail_from_a_file_takes_the_place_of_the_one_that_is_linked_in() {
    for isolation in BOTH {
        let relay = SmtpServer::start().await;
        let mut house = House::new(|b| b.mail_to(relay.address));
        let shown = house.add(&email(), &["--isolation", isolation]).await;
        assert!(shown.contains("email "), "{shown}");
        house.host.launch().await;
        let known = house.known("email").await;
        assert_eq!((&known["origin"]["isolation"], &known["refusal"]), (&json!(isolation), &Value::Null), "{known}");
        assert_eq!(children(house.host.pid()).len(), usize::from(isolation == "process"));
        let mail = json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": "Ding", "message": "Dong.",
            "channels": ["email"]});
        let id = house.host.api().accepted(&mail).await;
        let delivery = house.host.api().state(&id, "email", "sent").await;
        assert_eq!(outcomes(&delivery), ["ok"], "{delivery}");
        let received = relay.wait_for(1).await;
        assert_eq!(
            (received[0].from.as_str(), received[0].to.as_slice()),
            ("notify@example.org", &["ada@example.org".to_owned()][..])
        );
        assert_eq!(received[0].message_id(), format!("<{}@example.org>", delivery["delivery_id"].as_str().unwrap()));
        // Off the list, the one that is linked in goes on in its place.
        assert!(house.plugin(&["remove", "email"]).await.status.success());
        assert!(house.reload("email").await.status.success());
        assert_eq!(house.known("email").await["origin"]["isolation"], "built-in");
        let id = house.host.api().accepted(&mail).await;
        house.host.api().state(&id, "email", "sent").await;
        relay.wait_for(2).await;
        house.host.stop().await;
    }
}

#[tokio::test]
async fn websocket_as_a_file_leaves_the_sockets_to_the_host() {
    let checked = plugin("check", &websocket(), &["--json"]).await;
    assert_eq!(point(&checked, "file", "describes itself").0, "ok", "{}", said(&checked));
    let (result, sentence) = point(&checked, "process", "starts");
    assert_eq!(result, "failed", "{sentence}");
    assert!(sentence.contains("only inside the host that owns the sockets"), "{sentence}");
    // Listed all the same, it takes nobody's place.
    let mut house = House::new(|b| b);
    house.add(&websocket(), &[]).await;
    house.host.launch().await;
    assert!(house.host.output().contains("is a part of the host"), "{}", house.host.output());
    let id = house.host.api().accepted(&json!({"to": ["ada"], "title": "Doors open", "channels": ["websocket"]})).await;
    assert_eq!(
        house.host.me("ada").get("/api/v1/me/notifications").await.expect(200)["items"][0]["notification_id"],
        id
    );
    house.host.stop().await;
}

#[tokio::test]
async fn a_message_to_nobody_is_no_plugin_s_business() {
    let mut house = House::new(|b| b);
    house.add(webhook(), &["--allow-host", "*"]).await;
    house.host.launch().await;
    let nobody = house.host.api().send(&note("webhook", "x")).await;
    assert_eq!(nobody.status, 422, "a plugin without an instance is no channel: {}", nobody.text);
    house.host.stop().await;
}
