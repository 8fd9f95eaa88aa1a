//! Notifications that come in by RabbitMQ, on real engines.

mod intake;
mod outages;
mod publishers;

use campanile_tests::prelude::*;
use reqwest::Method;
use serde_json::Value;

/// Publishes one message to the exchange that applications use, and requires that a queue took it.
async fn publish(host: &TestHost, body: &Value, properties: Value) {
    publish_text(host, &body.to_string(), properties).await;
}

pub async fn publish_text(host: &TestHost, body: &str, mut properties: Value) {
    properties["delivery_mode"] = json!(2);
    let engines = host.engines();
    let message =
        json!({"routing_key": "test.sent", "payload": body, "payload_encoding": "string", "properties": properties});
    let path = format!("exchanges/{}/notifications/publish", engines.vhost());
    let answer = engines.broker(Method::POST, &path, Some(message)).await;
    assert_eq!(answer["routed"], true, "no queue is bound: {answer}");
}

/// A notification for one person's feed.
fn to(user: &str, title: &str) -> Value {
    json!({"user_id": user, "title": title, "channels": ["websocket"]})
}

/// Waits until the feed holds this many, oldest first.
async fn titles_until(host: &TestHost, user: &str, count: usize) -> Vec<String> {
    let titles = until(&format!("{count} notifications are in the feed of {user}"), async || {
        let mut titles = titles(host, user).await;
        titles.reverse();
        (titles.len() >= count).then_some(titles)
    })
    .await;
    assert_eq!(titles.len(), count, "{titles:?}");
    titles
}

/// Newest first.
async fn titles(host: &TestHost, user: &str) -> Vec<String> {
    let feed = host.me(user).feed().await;
    feed.iter().map(|i| i["title"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the poison list has this many, and returns them oldest first.
async fn poison_until(host: &TestHost, count: usize) -> Vec<Value> {
    until(&format!("{count} messages are on the poison list"), async || {
        let mut items = host.api().get("/api/v1/poison").await.expect(200)["items"].as_array().unwrap().clone();
        items.reverse();
        (items.len() >= count).then_some(items)
    })
    .await
}

/// Messages in the ingest queue: (ready, delivered and not acknowledged).
///
/// Asked by a declaration that changes nothing would be exact; the broker's own statistics are seconds old.
async fn waiting(host: &TestHost) -> (i64, i64) {
    let engines = host.engines();
    let path = format!("queues/{}/campanile.ingest", engines.vhost());
    let queue = engines.broker(Method::GET, &path, None).await;
    (queue["messages_ready"].as_i64().unwrap_or(-1), queue["messages_unacknowledged"].as_i64().unwrap_or(-1))
}

/// Waits until the broker holds nothing any more: every message was acknowledged.
async fn empty(host: &TestHost) {
    until("the ingest queue is empty", async || (waiting(host).await == (0, 0)).then_some(())).await;
}
