//! The broker killed, absent, choked, robbed of its queues, fed with rubbish, and behind a line that swallows.

use crate::{more_accepted, people, steady};
use campanile_tests::{
    fleet::{Carrier, Fleet},
    prelude::*,
    proxy::Mode,
    services::Site,
    wait::until_within,
};
use std::time::Instant;

const MAIL: &str = "campanile.work.email";

async fn is_degraded(host: &TestHost) -> bool {
    let ready = host.api().get("/readyz").await;
    assert_eq!(ready.status, 200, "a node without its broker still accepts: {}", ready.text);
    ready.json["degraded"].as_array().is_some_and(|d| !d.is_empty())
}

/// Puts a message into a queue by hand.
async fn inject(fleet: &Fleet, queue: &str, payload: &str) {
    let body = json!({"properties": {"delivery_mode": 2}, "routing_key": queue, "payload": payload, "payload_encoding": "string"});
    let path = format!("exchanges/{}/amq.default/publish", fleet.vhost());
    let reply = fleet.broker().await.call("POST", &path, &body).await;
    assert_eq!(reply.json["routed"], true, "{}", reply.text);
}

async fn delivery_of(fleet: &Fleet, key: &str) -> campanile_tests::db::Delivery {
    let db = fleet.db().await;
    let id = db.titles().await.into_iter().find(|(_, title)| title == key).map(|(id, _)| id).expect("it is stored");
    db.deliveries().await.into_iter().find(|d| d.notification_id == id && d.channel == "email").expect("a mail")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_back_under_load_both_nodes_push_live_again() {
    let mut fleet = Fleet::start(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    let users = people(6);
    fleet.people(&users, 2).await;
    fleet.pushes_live().await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 30).await;
    let broker = fleet.broker().await;
    broker.kill9().await;
    until("both nodes notice", || async {
        (is_degraded(&fleet.nodes[0]).await && is_degraded(&fleet.nodes[1]).await).then_some(())
    })
    .await;
    more_accepted(&fleet, 60).await;
    broker.revive().await;
    let took = fleet.pushes_live().await;
    eprintln!("live pushes between both nodes {took:?} after the broker was up");
    fleet.healthy("the broker was killed").await;
    more_accepted(&fleet, 30).await;
    load.stop().await;
    fleet.judge("broker killed").await;
}

/// Tries go on for as long as it takes; here for ten seconds, in a long run of `scripts/chaos` for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_at_start_nodes_take_and_keep_and_deliver_later() {
    let site = Site::take().await;
    let mut fleet = Fleet::prepare(site, 2, Carrier::RabbitMq, |_, b| b).await;
    let broker = fleet.broker().await;
    broker.kill9().await;
    for node in &mut fleet.nodes {
        node.launch().await;
    }
    fleet.tell();
    let users = people(4);
    fleet.people(&users, 1).await;
    let load = fleet.load(&steady("w", &users));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        more_accepted(&fleet, 20).await;
        assert!(is_degraded(&fleet.nodes[0]).await && is_degraded(&fleet.nodes[1]).await);
    }
    broker.revive().await;
    fleet.healthy("the broker was absent at start").await;
    fleet.pushes_live().await;
    load.stop().await;
    fleet.judge("broker absent at start").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_of_memory_it_blocks_publishers_and_ingest_goes_on() {
    let mut fleet = Fleet::start(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    let users = people(6);
    fleet.people(&users, 2).await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 20).await;
    let broker = fleet.broker().await;
    broker.alarm(true).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        more_accepted(&fleet, 20).await;
    }
    broker.alarm(false).await;
    fleet.healthy("the broker's memory alarm").await;
    let took = fleet.pushes_live().await;
    eprintln!("live pushes between both nodes {took:?} after the alarm");
    load.stop().await;
    fleet.judge("memory alarm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_work_queue_is_declared_again_and_nothing_is_lost() {
    let mut fleet = Fleet::start(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    let users = people(4);
    fleet.people(&users, 1).await;
    let load = fleet.load(&steady("w", &users));
    let (broker, queue) = (fleet.broker().await, format!("queues/{}/{MAIL}", fleet.vhost()));
    for _ in 0..2 {
        more_accepted(&fleet, 30).await;
        let gone = broker.call("DELETE", &queue, &Value::Null).await;
        assert_eq!(gone.status, 204, "{}", gone.text);
        until_within(Duration::from_mins(1), "the queue is there again", || async {
            (broker.call("GET", &queue, &Value::Null).await.status == 200).then_some(())
        })
        .await;
    }
    more_accepted(&fleet, 30).await;
    load.stop().await;
    fleet.healthy("the work queue was deleted").await;
    let history = fleet.judge("work queue deleted").await;
    assert!(history.mails.len() > 10, "few mails: {}", history.mails.len());
}

#[tokio::test]
async fn a_purged_work_queue_is_filled_again_from_the_rows() {
    let mut fleet =
        Fleet::start(Site::take().await, 1, Carrier::RabbitMq, |_, b| b.set("worker.start_paused", "true")).await;
    fleet.people(&people(1), 0).await;
    for n in 0..30 {
        fleet.record.post(&fleet.nodes[0].api(), &format!("m{n}"), "user0", &["email"], &Value::Null).await;
    }
    let (broker, queue) = (fleet.broker().await, format!("queues/{}/{MAIL}", fleet.vhost()));
    let purged = broker.call("DELETE", &format!("{queue}/contents"), &Value::Null).await;
    assert_eq!(purged.status, 204, "{}", purged.text);
    fleet.nodes[0].reconfigure(|b| b.unset("worker.start_paused"));
    fleet.nodes[0].restart().await;
    fleet.tell();
    let history = fleet.judge("work queue purged").await;
    assert_eq!(history.mails.len(), 30);
}

#[tokio::test]
async fn a_message_that_comes_three_times_has_one_effect_and_rubbish_is_put_aside() {
    let mut fleet = Fleet::start(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    fleet.people(&people(1), 0).await;
    let api = fleet.nodes[0].api();
    fleet.record.post(&api, "early", "user0", &["email"], &Value::Null).await.expect("accepted");
    fleet.relay.wait_for(1).await;
    let id = delivery_of(&fleet, "early").await.id;
    for _ in 0..3 {
        inject(&fleet, MAIL, &json!({"v": 1, "delivery_id": id}).to_string()).await;
    }
    for rubbish in ["hello", r#"{"v":1,"delivery_id":"of nobody"}"#, r#"{"v":99}"#] {
        inject(&fleet, MAIL, rubbish).await;
    }
    // What comes behind it is done.
    fleet.record.post(&api, "behind", "user0", &["email"], &Value::Null).await.expect("accepted");
    fleet.relay.wait_for(2).await;
    let aside = until("the rubbish is on the list", || async {
        let list = api.get("/api/v1/poison").await.expect(200);
        let items = list["items"].as_array()?.clone();
        (items.len() == 3).then_some(items)
    })
    .await;
    assert!(aside.iter().all(|item| item["reason"].as_str().is_some_and(|r| !r.is_empty())), "{aside:?}");
    let (broker, queue) = (fleet.broker().await, format!("queues/{}/{MAIL}", fleet.vhost()));
    until("the queue is empty", || async {
        let depth = broker.call("GET", &queue, &Value::Null).await.json;
        (depth["messages"] == 0).then_some(())
    })
    .await;
    let history = fleet.judge("a message three times").await;
    assert_eq!(history.mails.len(), 2);
    assert_eq!(history.end.attempts.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_line_is_noticed_and_left() {
    let site = Site::take().await;
    let proxy = Proxy::to(site.rabbitmq().await.address()).await;
    let address = proxy.address();
    let via = move |n: usize, b: HostBuilder| if n == 0 { b.via("queue.url", address) } else { b };
    let mut fleet = Fleet::start(site, 2, Carrier::RabbitMq, via).await;
    let users = people(4);
    fleet.people(&users, 2).await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 20).await;
    proxy.swallow();
    let took = fleet.pushes_live().await;
    eprintln!("live pushes between both nodes {took:?} after connections to the broker were swallowed");
    proxy.set(Mode::Reset);
    until("node 0 notices", || async { is_degraded(&fleet.nodes[0]).await.then_some(()) }).await;
    more_accepted(&fleet, 20).await;
    proxy.set(Mode::Pass);
    fleet.pushes_live().await;
    fleet.healthy("the way to the broker was closed").await;
    load.stop().await;
    fleet.judge("broker swallowed").await;
}
