//! The documents about the host against the host: OpenAPI, metrics, health.

use campanile_tests::{prelude::*, unique};
use std::collections::BTreeSet;

#[tokio::test]
async fn every_documented_call_exists_and_asks_for_a_credential() {
    let host = TestHost::shared().await;
    let document = host.api().anonymous().get("/api/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().unwrap() {
            if !["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                continue;
            }
            calls += 1;
            assert!(operation["responses"].is_object(), "{method} {path} documents no answers");
            // A real id in place of each parameter: without a credential nothing behind it may answer.
            let concrete: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { uuid::Uuid::now_v7().to_string() } else { part.to_owned() })
                .collect::<Vec<_>>()
                .join("/");
            let api = host.api().anonymous();
            let reply = api.run(api.request(&method.to_uppercase(), &concrete).json(&json!({}))).await;
            if path.starts_with("/api/v1/") {
                assert_eq!(reply.status, 401, "{method} {path}: {}", reply.text);
            } else {
                assert!(!matches!(reply.status, 404 | 405), "{method} {path} is documented and absent");
            }
        }
    }
    assert!(calls >= 25, "only {calls} calls are documented");
}

#[tokio::test]
async fn the_contracts_calls_are_all_documented() {
    let host = TestHost::shared().await;
    let document = host.api().anonymous().get("/api/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().unwrap();
    for (method, path) in [
        ("post", "/api/v1/notifications"),
        ("get", "/api/v1/notifications"),
        ("post", "/api/v1/notifications/batch"),
        ("get", "/api/v1/notifications/{id}"),
        ("post", "/api/v1/notifications/{id}/cancel"),
        ("put", "/api/v1/users/{user_id}"),
        ("get", "/api/v1/users/{user_id}"),
        ("delete", "/api/v1/users/{user_id}"),
        ("post", "/api/v1/users/{user_id}/merge"),
        ("get", "/api/v1/me/notifications"),
        ("get", "/api/v1/me/unread_count"),
        ("post", "/api/v1/me/notifications/{id}/read"),
        ("post", "/api/v1/me/notifications/read_all"),
        ("post", "/api/v1/me/notifications/mark"),
        ("post", "/api/v1/me/ws-tickets"),
        ("get", "/api/v1/channels"),
        ("get", "/api/v1/queues"),
        ("get", "/api/v1/nodes"),
        ("get", "/api/v1/connections"),
        ("get", "/api/v1/dead_letters"),
        ("get", "/api/v1/poison"),
    ] {
        let shape = |p: &str| -> String {
            p.split('/').map(|s| if s.starts_with('{') { "{}" } else { s }).collect::<Vec<_>>().join("/")
        };
        let found = paths.iter().any(|(p, item)| shape(p) == shape(path) && item[method].is_object());
        assert!(found, "{method} {path} is not documented");
    }
}

#[tokio::test]
async fn answers_have_the_documented_fields() {
    let host = TestHost::shared().await;
    let document = host.api().anonymous().get("/api/openapi.json").await.expect(200);
    let user = unique("schema");
    let answer = host.api().send(&json!({"user_id": user, "title": "T", "channels": ["websocket"]})).await.expect(202);
    let schema = &document["paths"]["/api/v1/notifications"]["post"]["responses"]["202"]["content"]["application/json"]
        ["schema"];
    let known = properties(&document, schema);
    for name in answer.as_object().unwrap().keys() {
        assert!(known.contains(name), "{name} is answered and not documented: {known:?}");
    }
    let problem = host.api().send(&json!({})).await;
    assert_eq!(problem.status, 422);
    let schema = &document["components"]["schemas"]["Problem"];
    let known = properties(&document, schema);
    for name in problem.json.as_object().unwrap().keys() {
        assert!(known.contains(name), "{name} of a problem is not documented: {known:?}");
    }
}

/// Property names of a schema, references followed.
fn properties(document: &Value, schema: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Some(reference) = schema["$ref"].as_str() {
        names.extend(properties(document, document.pointer(reference.trim_start_matches('#')).expect("a schema")));
    }
    for part in ["oneOf", "anyOf", "allOf"] {
        for one in schema[part].as_array().into_iter().flatten() {
            names.extend(properties(document, one));
        }
    }
    names.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    names
}

#[tokio::test]
async fn metrics_have_their_names_and_no_names_of_people() {
    let host = TestHost::start().await;
    let user = unique("very-private-person");
    let mut socket = Connect::to(&host).token(&token::user(&user)).v1().open().await;
    let id = host.api().notify(&user, "a very private title").await;
    socket.wait_for("notification").await;
    socket.send(&json!({"type": "mark", "ids": [id], "as": "read"})).await;
    socket.wait_for("marked").await;
    host.api().send(&json!({"user_id": user})).await.problem(422);
    host.api().state(&id, "websocket", "delivered").await;
    let text = host.api().anonymous().get("/metrics").await.text;
    for name in [
        "campanile_build_info",
        "campanile_notifications_accepted_total",
        "campanile_notifications_rejected_total",
        "campanile_deliveries_total",
        "campanile_delivery_latency_seconds",
        "campanile_queue_depth",
        "campanile_workers",
        "campanile_connections",
        "campanile_connected_users",
        "campanile_connections_opened_total",
        "campanile_connection_messages_sent_total",
        "campanile_connection_sent_bytes_total",
        "campanile_fanout_duration_seconds",
        "campanile_inbox_events_total",
        "campanile_channel_up",
        "campanile_channel_paused",
        "campanile_http_requests_total",
        "campanile_http_request_duration_seconds",
        "campanile_db_pool_connections",
        "campanile_db_query_duration_seconds",
        "campanile_outbox_pending",
    ] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name} is missing");
    }
    assert!(text.trim_end().ends_with("# EOF"));
    assert!(!text.contains(&user) && !text.contains(&id) && !text.contains("very private"));
    let series = text.lines().filter(|l| !l.starts_with('#')).count();
    assert!(series < 2000, "{series} series");
    let accepted = host.api().metrics().await;
    let one = accepted.iter().find(|(k, _)| k.starts_with("campanile_notifications_accepted_total")).unwrap();
    assert!((one.1 - 1.0).abs() < f64::EPSILON, "{one:?}");
}

#[tokio::test]
async fn metrics_can_be_guarded_and_moved() {
    let host = TestHost::builder().text("metrics.token", "a-token-for-scrapers").start().await;
    assert_eq!(host.api().anonymous().get("/metrics").await.status, 401);
    assert_eq!(host.api().with_key("a-token-for-scrapers").get("/metrics").await.status, 200);
}

#[tokio::test]
async fn health_needs_no_credential() {
    let host = TestHost::shared().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(host.api().anonymous().get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn whatever_a_stranger_sends_makes_no_series_of_its_own() {
    let host = TestHost::start().await;
    let api = host.api();
    let hostile = |n: u32| format!("zz{n}\"}} 1\n\\{n}<b>");
    let round = async |from: u32| {
        for n in from..from + 15 {
            let word = hostile(n);
            let plain = format!("zz{n}");
            let anonymous = api.anonymous();
            anonymous.get(&format!("/{plain}/{plain}")).await;
            anonymous.get(&format!("/api/v1/notifications/{plain}")).await;
            anonymous.get(&format!("/assets/{plain}.css")).await;
            api.run(api.request(&format!("ZZ{n}"), "/api/v1/notifications")).await;
            api.send(&json!({"user_id": plain, "title": word, "notification_type": word, "priority": word, "channels": [word]})).await;
            api.send(&json!({"user_id": plain, "title": word, "notification_type": plain, "channels": ["websocket"]}))
                .await;
            api.post(&format!("/api/v1/channels/{plain}/pause"), &json!({"reason": word})).await;
            Connect::to(&host).token(&plain).refused().await;
        }
    };
    let series = async || {
        let text = api.get("/metrics").await.text;
        let found: BTreeSet<String> = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.rsplit_once(' '))
            .map(|(s, _)| s.to_owned())
            .collect();
        found
    };
    // The page counts itself, too.
    series().await;
    round(0).await;
    let first = series().await;
    round(100).await;
    let second = series().await;
    // Statements are named by the code, and what runs once a minute may run first between the two rounds.
    let own = |s: &str| s.contains("_bucket{") || s.starts_with("campanile_db_query_");
    let fresh: Vec<_> = second.difference(&first).filter(|s| !own(s)).collect();
    assert!(fresh.is_empty(), "the second round made {fresh:?}");
    assert!(second.iter().all(|s| !s.to_lowercase().contains("zz")), "a stranger's word is a label");
    assert!(second.len() <= 2_000, "{} series", second.len());
}
