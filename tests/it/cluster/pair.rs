//! Two nodes on one PostgreSQL database.

use campanile_tests::{Socket, TestHost, proxy::Proxy, socket::Connect, sse::EventStream, token, wait::until};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

/// A node and its peer; a node counts as gone after 4 s of silence.
async fn two() -> [TestHost; 2] {
    let one = TestHost::builder().production().text("queue.url", "embedded").text("cluster.heartbeat", "1s");
    let one = one.start().await;
    let mut other = one.peer();
    other.launch().await;
    [one, other]
}

async fn open(host: &TestHost, user: &str) -> Socket {
    let mut socket = Connect::to(host).token(&token::user(user)).open().await;
    socket.settle().await;
    socket
}

async fn addresses(host: &TestHost) -> BTreeSet<String> {
    let body = host.api().get("/api/v1/nodes").await.expect(200);
    body["items"].as_array().unwrap().iter().map(|n| n["address"].as_str().unwrap().to_owned()).collect()
}

async fn connections(host: &TestHost, query: &str) -> Vec<Value> {
    let body = host.api().get(&format!("/api/v1/connections?{query}")).await.expect(200);
    assert_eq!(body["partial"], false);
    body["items"].as_array().unwrap().clone()
}

async fn users(host: &TestHost, query: &str) -> Vec<String> {
    connections(host, query).await.iter().map(|c| c["user_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_node_answers_for_all() {
    let [one, two] = two().await;
    let (_ada, _bo) = (open(&one, "ada").await, open(&two, "bo").await);
    let _ada_too = open(&two, "ada").await;
    for host in [&one, &two] {
        until("both nodes are known", || async { (addresses(host).await.len() == 2).then_some(()) }).await;
        until("all connections are known", || async { (users(host, "").await.len() == 3).then_some(()) }).await;
        assert_eq!(users(host, "").await, ["ada", "bo", "ada"], "oldest first, whoever holds them");
        assert_eq!(users(host, "user_id=bo").await, ["bo"]);
        let first = host.api().get("/api/v1/connections?limit=2").await.expect(200);
        let rest = format!("after={}", first["next_after"].as_str().unwrap());
        assert_eq!(users(host, &rest).await, ["ada"]);
        until("the total counts both", || async {
            (host.api().get("/api/v1/connections").await.expect(200)["total"] == 3).then_some(())
        })
        .await;
    }
    let ada = connections(&one, "user_id=ada").await;
    assert!(ada[0]["sent_messages"].is_u64() && ada[1]["sent_messages"].is_null(), "only its holder counts: {ada:?}");
    assert_ne!(ada[0]["node_id"], ada[1]["node_id"]);
    let held = connections(&one, &format!("node_id={}", ada[1]["node_id"].as_str().unwrap())).await;
    assert_eq!(held.len(), 2);
}

#[tokio::test]
async fn a_killed_node_vanishes_with_what_it_held() {
    let [mut one, two] = two().await;
    let (ada, _bo) = (open(&one, "ada").await, open(&two, "bo").await);
    until("both connections are known", || async { (users(&two, "").await.len() == 2).then_some(()) }).await;
    one.kill9().await;
    drop(ada);
    assert_eq!(addresses(&two).await.len(), 2, "for a while it might only be slow");
    until("it is out of every answer", || async {
        (addresses(&two).await.len() == 1 && users(&two, "").await == ["bo"]).then_some(())
    })
    .await;
    assert!(addresses(&two).await.contains(&two.address().to_string()));
    let db = two.db().await;
    until("its rows are removed", || async {
        let (nodes, held) =
            (db.count("SELECT COUNT(*) FROM nodes").await, db.count("SELECT COUNT(*) FROM node_connections").await);
        (nodes == 1 && held == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stops_is_forgotten_at_once() {
    let [mut one, two] = two().await;
    let (_ada, _bo) = (open(&one, "ada").await, open(&two, "bo").await);
    until("both connections are known", || async { (users(&two, "").await.len() == 2).then_some(()) }).await;
    one.stop().await;
    assert_eq!(addresses(&two).await, BTreeSet::from([two.address().to_string()]));
    assert_eq!(users(&two, "").await, ["bo"]);
}

#[tokio::test]
async fn a_frozen_node_is_forgotten_and_comes_back_with_all_it_holds() {
    let [one, two] = two().await;
    let mut sockets = Vec::new();
    for i in 0..5 {
        sockets.push(open(&one, &format!("u{i}")).await);
    }
    until("they are known", || async { (users(&two, "").await.len() == 5).then_some(()) }).await;
    one.freeze();
    let db = two.db().await;
    until("the frozen node was removed", || async {
        (db.count("SELECT COUNT(*) FROM node_connections").await == 0).then_some(())
    })
    .await;
    one.thaw();
    until("it is back", || async { (users(&two, "").await.len() == 5).then_some(()) }).await;
}

/// Its database is far away, so that its own look at the feed comes late.
#[tokio::test]
async fn who_sees_its_socket_open_misses_nothing_that_is_sent_from_then_on() {
    let near = TestHost::builder().production().text("websocket.heartbeat", "10m").start().await;
    let database: reqwest::Url = near.engines().database().parse().unwrap();
    let far_away = format!("{}:{}", database.host_str().unwrap(), database.port().unwrap_or(5432));
    let proxy = Proxy::to(tokio::net::lookup_host(far_away).await.unwrap().next().unwrap()).await;
    let mut far = near.peer();
    let through = near.engines().database().replacen(
        &format!("{}:{}", database.host_str().unwrap(), database.port().unwrap_or(5432)),
        &proxy.address().to_string(),
        1,
    );
    far.reconfigure(|b| b.text("database.url", &through));
    far.launch().await;
    // The bus brings what is sent here to the other node.
    let mut first = open(&far, "ada").await;
    near.api().notify("ada", "first").await;
    first.wait_for("notification").await;
    proxy.delay(Duration::from_millis(150));
    let mut late = Connect::to(&far).token(&token::user("ada")).open().await;
    near.api().notify("ada", "to a socket").await;
    assert_eq!(late.wait_for("notification").await["data"]["title"], "to a socket");
    let mut stream =
        EventStream::open(&far.url(&format!("/sse/notifications?token={}", token::user("ada"))), &[]).await.unwrap();
    near.api().notify("ada", "to a stream").await;
    assert_eq!(stream.wait_for("notification").await.data["data"]["title"], "to a stream");
}
