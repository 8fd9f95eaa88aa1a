//! What becomes of a message.

use super::{publishers::run, *};
use campanile_tests::token;
use futures_util::StreamExt;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_message_is_a_frame_on_the_socket_and_an_item_of_the_feed() {
    let host = TestHost::builder().production().start().await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).open().await;
    let body = json!({"user_id": "ada", "title": "Paid", "message": "Thank you.", "notification_type": "order.paid",
                      "data": {"order": 17}});
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let headers = json!({"traceparent": format!("00-{trace}-b7ad6b7169203331-00")});
    publish(&host, &body, json!({"content_type": "application/json", "headers": headers})).await;
    let frame = socket.expect("notification").await;
    assert_eq!((&frame["data"]["title"], &frame["data"]["order"]), (&json!("Paid"), &json!(17)));
    assert_eq!(titles_until(&host, "ada", 1).await, ["Paid"]);
    let id = frame["data"]["notification_id"].as_str().unwrap();
    let seen = host.api().notification(id).await;
    assert_eq!((&seen["source"], &seen["sent_by"], &seen["trace_id"]), (&json!("amqp"), &json!("amqp"), &json!(trace)));
    let accepted = host.api().metrics().await;
    let series = r#"campanile_notifications_accepted_total{priority="normal",source="amqp"}"#;
    assert_eq!(accepted.get(series), Some(&1.0), "{accepted:?}");
    empty(&host).await;
}

#[tokio::test]
async fn five_hundred_arrive_once_each() {
    let host = TestHost::builder().production().start().await;
    let wanted: BTreeSet<_> = (0..500).map(|n| format!("n{n}")).collect();
    let publishing = wanted.iter().map(|title| {
        let (host, user) = (&host, format!("u{}", title.len()));
        async move { publish(host, &to(&user, title), json!({"message_id": title})).await }
    });
    // The management API serves few callers at once.
    futures_util::stream::iter(publishing).buffer_unordered(8).collect::<Vec<_>>().await;
    let all = until("all are in the feeds", async || {
        let mut all = Vec::new();
        for user in ["u2", "u3", "u4"] {
            all.extend(titles(&host, user).await);
        }
        (all.len() >= wanted.len()).then_some(all)
    })
    .await;
    assert_eq!(all.len(), wanted.len(), "one came twice");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), wanted);
    empty(&host).await;
}

#[tokio::test]
async fn one_message_id_is_one_notification() {
    let host = TestHost::builder().production().start().await;
    for _ in 0..3 {
        publish(&host, &to("ada", "once"), json!({"message_id": "m1"})).await;
    }
    // The key is the same as over HTTP.
    let over_http = host.api().send_with_key("m1", &to("ada", "once")).await;
    assert_eq!(over_http.status, 202, "{}", over_http.text);
    publish(&host, &to("ada", "last"), json!({})).await;
    assert_eq!(titles_until(&host, "ada", 2).await, ["once", "last"]);
    publish(&host, &to("ada", "another body"), json!({"message_id": "m1"})).await;
    let poison = poison_until(&host, 1).await;
    let reason = poison[0]["reason"].as_str().unwrap();
    assert!(reason.contains("\"m1\" was used with another body"), "{reason}");
    empty(&host).await;
    assert_eq!(titles(&host, "ada").await.len(), 2);
}

#[tokio::test]
async fn what_can_not_be_taken_is_shown_with_its_reason() {
    let host = TestHost::builder().production().start().await;
    let none = || json!({});
    publish_text(&host, "{nonsense", none()).await;
    publish(&host, &json!({"user_id": 7, "title": "x"}), none()).await;
    publish(&host, &json!({"user_id": "ada", "titel": "x"}), json!({"headers": {"authorization": "Bearer secret"}}))
        .await;
    publish(&host, &to("ada", "x"), json!({"headers": {"x-app": "nowhere"}})).await;
    publish(&host, &to("ada", "x"), json!({"content_type": "text/plain"})).await;
    publish(&host, &json!({"notifications": [to("ada", "x")]}), none()).await;
    publish(&host, &json!({"user_id": "ada", "title": "x".repeat(300_000)}), none()).await;
    // Behind all of them one that is fine: nothing was held up.
    publish(&host, &to("ada", "fine"), none()).await;
    assert_eq!(titles_until(&host, "ada", 1).await, ["fine"]);
    let poison = poison_until(&host, 7).await;
    let about = [
        "the body is not JSON",
        "user_id: must be a string",
        "did you mean \"title\"?",
        "there is no app \"nowhere\"",
        "content_type",
        "a batch is for HTTP",
        "at most 262144 are taken",
    ];
    // Groups are put aside together, in whatever order the groups come to their end.
    let said = |about: &str| {
        let item = poison.iter().find(|item| item["reason"].as_str().unwrap().contains(about));
        item.unwrap_or_else(|| panic!("nothing says {about:?}: {poison:?}"))
    };
    for item in about.map(said) {
        assert_eq!(item["source"], "amqp");
        assert!(item["headers"].as_str().unwrap().contains("\"routing_key\":\"test.sent\""), "{item}");
    }
    assert!(!said("did you mean").to_string().contains("secret"), "{poison:?}");
    assert_eq!(said("the body is not JSON")["raw"], "{nonsense");
    empty(&host).await;
    let metrics = host.api().metrics().await;
    let counted: f64 =
        metrics.iter().filter(|(k, _)| k.starts_with("campanile_poison_messages_total")).map(|(_, v)| v).sum();
    assert!((counted - 7.0).abs() < 0.5, "{counted}");
}

#[tokio::test]
async fn the_app_header_keeps_apps_apart() {
    let host = TestHost::builder().production().start().await;
    // Apps have no page of their own yet.
    let made =
        "WITH made AS (INSERT INTO apps (app, created_at) VALUES ('shop', 0) RETURNING 1) SELECT COUNT(*) FROM made";
    assert_eq!(host.db().await.count(made).await, 1);
    publish(&host, &to("ada", "of the shop"), json!({"headers": {"x-app": "shop"}, "message_id": "m1"})).await;
    publish(&host, &to("ada", "ours"), json!({"message_id": "m1"})).await;
    empty(&host).await;
    assert_eq!(titles_until(&host, "ada", 1).await, ["ours"]);
    let of_the_shop = "SELECT COUNT(*) FROM notifications WHERE app = 'shop' AND title = 'of the shop'";
    assert_eq!(host.db().await.count(of_the_shop).await, 1);
}

#[tokio::test]
async fn what_is_not_stored_reaches_open_sockets_and_needs_no_key() {
    let host = TestHost::builder().production().start().await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).open().await;
    let typing = json!({"user_id": "ada", "title": "Bo is typing", "persist": false});
    for _ in 0..2 {
        publish(&host, &typing, json!({"message_id": "always the same"})).await;
        assert_eq!(socket.expect("notification").await["data"]["title"], "Bo is typing");
    }
    empty(&host).await;
    assert!(titles(&host, "ada").await.is_empty());
    assert!(host.api().get("/api/v1/poison").await.expect(200)["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_only_serves_takes_nothing_and_its_peer_does() {
    let host = TestHost::builder().production().set("worker.start_paused", "true").start().await;
    let mut peer = host.peer();
    peer.reconfigure(|b| b.set("worker.start_paused", "false"));
    peer.launch().await;
    publish(&host, &to("ada", "by the peer"), json!({})).await;
    assert_eq!(titles_until(&host, "ada", 1).await, ["by the peer"]);
    peer.stop().await;
    publish(&host, &to("ada", "waits"), json!({})).await;
    until("the message waits in the broker", async || (waiting(&host).await == (1, 0)).then_some(())).await;
    assert_eq!(titles(&host, "ada").await, ["by the peer"]);
    peer.launch().await;
    titles_until(&host, "ada", 2).await;
}

/// RabbitMQ takes these from anybody, and the client library ends its connection over each of them.
#[tokio::test]
async fn properties_that_are_no_text_are_put_aside_and_stop_nobody() {
    const PUBLISH: &str = r#"
import json, os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()
def publish(title, key="test", **properties):
    body = json.dumps({"user_id": "ada", "title": title, "channels": ["websocket"]})
    channel.basic_publish("notifications", key, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)
publish("first", message_id="m1")
publish("bad id", message_id=b"\xff\xfe")
publish("second", message_id="m2")
publish("bad key", key=b"k\xff")
publish("bad header", headers={b"h\xff": "x"})
publish("third", message_id="m3")
connection.close()
"#;
    let host = TestHost::builder().production().start().await;
    run("python3", "-c", PUBLISH.to_owned(), host.engines().queue()).await;
    assert_eq!(titles_until(&host, "ada", 3).await, ["first", "second", "third"]);
    let poison = poison_until(&host, 3).await;
    assert_eq!(poison.len(), 3);
    for (item, title) in poison.iter().zip(["bad id", "bad key", "bad header"]) {
        assert!(item["reason"].as_str().unwrap().contains("UTF-8"), "{item}");
        assert!(item["raw"].as_str().unwrap().contains(title), "{item}");
    }
    empty(&host).await;
    assert_eq!(titles(&host, "ada").await.len(), 3);
}
