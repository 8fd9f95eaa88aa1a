//! Messages outlive the database, the broker's connections and the node.

use super::*;
use campanile_tests::proxy::Mode;
use reqwest::StatusCode;
use std::net::SocketAddr;

/// The address in a URL of an engine, and the URL with another address in its place.
fn address(url: &str) -> SocketAddr {
    let after = url.rsplit_once('@').map_or_else(|| url.split_once("://").unwrap().1, |(_, after)| after);
    after.split('/').next().unwrap().parse().unwrap()
}

async fn through(url: &str) -> (Proxy, String) {
    let proxy = Proxy::to(address(url)).await;
    let moved = url.replacen(&address(url).to_string(), &proxy.address().to_string(), 1);
    (proxy, moved)
}

#[tokio::test]
async fn without_a_database_messages_wait_in_the_broker() {
    let mut host = TestHost::builder().production().prepare();
    let (proxy, url) = through(&host.engines().database()).await;
    host.reconfigure(|b| b.text("database.url", &url));
    host.launch().await;
    publish(&host, &to("ada", "before"), json!({"message_id": "m0"})).await;
    titles_until(&host, "ada", 1).await;

    proxy.set(Mode::Cut);
    for n in 1..=20 {
        publish(&host, &to("ada", &format!("n{n}")), json!({"message_id": format!("m{n}")})).await;
    }
    publish_text(&host, "{nonsense", json!({})).await;
    until("they wait in the broker, held by nobody", async || (waiting(&host).await == (21, 0)).then_some(())).await;

    proxy.set(Mode::Pass);
    let titles = titles_until(&host, "ada", 21).await;
    assert_eq!(titles[0], "before");
    poison_until(&host, 1).await;
    empty(&host).await;
    // Each came back at most a few times: nobody asked for them in a loop.
    assert_eq!(titles_until(&host, "ada", 21).await.len(), 21);
}

#[tokio::test]
async fn a_database_that_is_silent_for_a_while_costs_nothing() {
    let mut host = TestHost::builder().production().prepare();
    let (proxy, url) = through(&host.engines().database()).await;
    host.reconfigure(|b| b.text("database.url", &url));
    host.launch().await;
    publish(&host, &to("ada", "before"), json!({"message_id": "m0"})).await;
    titles_until(&host, "ada", 1).await;
    proxy.set(Mode::BlackHole);
    for n in 1..=5 {
        publish(&host, &to("ada", &format!("n{n}")), json!({"message_id": format!("m{n}")})).await;
    }
    until("the consumer has let go", async || (waiting(&host).await == (5, 0)).then_some(())).await;
    proxy.set(Mode::Pass);
    titles_until(&host, "ada", 6).await;
    empty(&host).await;
}

#[tokio::test]
async fn a_lost_connection_to_the_broker_is_made_again() {
    let mut host = TestHost::builder().production().prepare();
    let (proxy, url) = through(&host.engines().queue()).await;
    host.reconfigure(|b| b.text("queue.url", &url));
    host.launch().await;
    publish(&host, &to("ada", "before"), json!({"message_id": "m0"})).await;
    titles_until(&host, "ada", 1).await;
    proxy.set(Mode::Reset);
    for n in 1..=20 {
        publish(&host, &to("ada", &format!("n{n}")), json!({"message_id": format!("m{n}")})).await;
    }
    proxy.set(Mode::Pass);
    titles_until(&host, "ada", 21).await;
    empty(&host).await;
}

#[tokio::test]
async fn a_deleted_queue_is_declared_and_consumed_again() {
    let host = TestHost::builder().production().start().await;
    publish(&host, &to("ada", "before"), json!({})).await;
    titles_until(&host, "ada", 1).await;
    let path = format!("queues/{}/campanile.ingest", host.engines().vhost());
    host.engines().broker(Method::DELETE, &path, None).await;
    until("the queue is there again", async || {
        let bindings = format!("exchanges/{}/notifications/bindings/source", host.engines().vhost());
        let bindings = host.engines().broker(Method::GET, &bindings, None).await;
        (!bindings.as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    publish(&host, &to("ada", "after"), json!({})).await;
    titles_until(&host, "ada", 2).await;
}

/// The crash table's rows 18 and 19: the message comes again, and what it led to stands once.
#[tokio::test]
async fn a_crash_before_the_ack_takes_nothing_twice() {
    for (point, body) in
        [("intake.after_commit", to("ada", "once").to_string()), ("intake.poison_before_ack", "{nonsense".to_owned())]
    {
        let mut host = TestHost::builder().production().failpoints(point).start().await;
        publish_text(&host, &body, json!({"message_id": "m1"})).await;
        host.wait_exit(DEADLINE).await;
        host.disarm();
        host.launch().await;
        empty(&host).await;
        let feed = titles(&host, "ada").await.len();
        let poison = host.api().get("/api/v1/poison").await.expect(200)["items"].as_array().unwrap().len();
        let wanted = if point == "intake.after_commit" { (1, 0) } else { (0, 1) };
        assert_eq!((feed, poison), wanted, "{point}");
    }
}

#[tokio::test]
async fn a_drain_acknowledges_what_it_took() {
    let mut host = TestHost::builder().production().start().await;
    for n in 0..40 {
        // No message_id: whatever comes twice would be seen twice.
        publish(&host, &to("ada", &format!("n{n}")), json!({})).await;
    }
    host.stop().await;
    host.launch().await;
    titles_until(&host, "ada", 40).await;
    empty(&host).await;
    titles_until(&host, "ada", 40).await;
}

/// The work queues stand on another connection, which this does not touch.
#[tokio::test]
async fn a_queue_of_notifications_that_somebody_changed_is_told() {
    let host = TestHost::builder().production().start().await;
    publish(&host, &to("ada", "before"), json!({"message_id": "m0"})).await;
    titles_until(&host, "ada", 1).await;
    let queue = format!("queues/{}/campanile.ingest", host.engines().vhost());
    let other = json!({"durable": true, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 7}});
    until("the queue is another one", || async {
        // The node declares it too; who comes first is open.
        host.engines().try_broker(Method::DELETE, &queue, None).await;
        let made = host.engines().try_broker(Method::PUT, &queue, Some(other.clone())).await;
        (made == StatusCode::CREATED).then_some(())
    })
    .await;
    until("the node says so", async || {
        (host.api().get("/readyz").await.expect(200)["degraded"] == json!(["ingest"])).then_some(())
    })
    .await;
    assert!(host.engines().try_broker(Method::DELETE, &queue, None).await.is_success());
    until("it is well again", async || {
        (host.api().get("/readyz").await.expect(200)["degraded"] == json!([])).then_some(())
    })
    .await;
    publish(&host, &to("ada", "after"), json!({"message_id": "m1"})).await;
    titles_until(&host, "ada", 2).await;
}
