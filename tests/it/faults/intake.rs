//! Notifications that come by RabbitMQ, with a crash between what is committed and what the broker is told.

use crate::people;
use campanile_tests::{
    fleet::{Carrier, Fleet},
    history::{Outcome, Post},
    prelude::*,
    services::Site,
};

/// Publishes as an application would; what became of it only the rows can say.
async fn publish(fleet: &Fleet, key: &str, payload: &str) {
    let body = json!({
        "properties": {"delivery_mode": 2, "message_id": key}, "routing_key": "any",
        "payload": payload, "payload_encoding": "string"
    });
    let path = format!("exchanges/{}/notifications/publish", fleet.vhost());
    let reply = fleet.broker().await.call("POST", &path, &body).await;
    assert_eq!(reply.json["routed"], true, "{}", reply.text);
}

async fn send(fleet: &Fleet, key: &str) {
    let channels = ["websocket", "email"].map(str::to_owned).to_vec();
    publish(fleet, key, &json!({"user_id": "user0", "title": key, "channels": channels}).to_string()).await;
    fleet.record.with(|h| {
        let (invoked, returned) = (h.moment(), h.moment());
        h.posts.push(Post {
            invoked,
            returned,
            key: key.into(),
            user: "user0".into(),
            channels,
            outcome: Outcome::Info,
            id: None,
            scheduled: false,
            took_ms: 0,
        });
    });
}

async fn dies_and_comes_back(fleet: &mut Fleet) {
    fleet.nodes[0].wait_exit(DEADLINE).await;
    fleet.nodes[0].disarm();
    fleet.nodes[0].launch().await;
    fleet.tell();
}

async fn is_stored(fleet: &Fleet, n: usize) {
    let db = fleet.db().await;
    until("all that was published is stored", || async { (db.titles().await.len() >= n).then_some(()) }).await;
}

#[tokio::test]
async fn a_crash_after_the_commit_takes_nothing_twice() {
    let arm = |_, b: HostBuilder| b.failpoints("intake.after_commit=2");
    let mut fleet = Fleet::start(Site::take().await, 1, Carrier::RabbitMq, arm).await;
    fleet.people(&people(1), 1).await;
    for n in 0..6 {
        send(&fleet, &format!("k{n}")).await;
    }
    dies_and_comes_back(&mut fleet).await;
    is_stored(&fleet, 6).await;
    let (broker, queue) = (fleet.broker().await, format!("queues/{}/campanile.ingest", fleet.vhost()));
    until("the broker has nothing left", || async {
        (broker.call("GET", &queue, &Value::Null).await.json["messages"] == 0).then_some(())
    })
    .await;
    let history = fleet.judge("crash after the intake's commit").await;
    assert_eq!((history.end.notifications.len(), history.end.feed.len()), (6, 6));
}

#[tokio::test]
async fn rubbish_is_written_down_once_although_the_crash_came_before_the_ack() {
    let arm = |_, b: HostBuilder| b.failpoints("intake.poison_before_ack");
    let mut fleet = Fleet::start(Site::take().await, 1, Carrier::RabbitMq, arm).await;
    fleet.people(&people(1), 1).await;
    publish(&fleet, "rubbish", "no JSON at all").await;
    dies_and_comes_back(&mut fleet).await;
    send(&fleet, "behind").await;
    is_stored(&fleet, 1).await;
    let list = fleet.nodes[0].api().get("/api/v1/poison").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    fleet.judge("crash before the poison's ack").await;
}
