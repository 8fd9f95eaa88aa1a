//! One node on its own file.

use campanile_tests::{TestHost, socket::Connect, sse::EventStream, token, unique, wait::until};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

async fn nodes(host: &TestHost) -> Vec<Value> {
    host.api().get("/api/v1/nodes").await.expect(200)["items"].as_array().unwrap().clone()
}

/// Rows of the two tables, as they stand in the file.
async fn written(host: &TestHost) -> (i64, i64) {
    let db = host.db().await;
    (db.count("SELECT COUNT(*) FROM nodes").await, db.count("SELECT COUNT(*) FROM node_connections").await)
}

async fn start() -> TestHost {
    TestHost::builder().embedded().text("cluster.heartbeat", "200ms").start().await
}

#[tokio::test]
async fn a_node_says_what_it_is_and_holds() {
    let host = start().await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).open().await;
    socket.settle().await;
    let url = host.url(&format!("/sse/notifications?v=1&token={}", token::user("ada")));
    let _stream = EventStream::open(&url, &[]).await.unwrap();
    let node = until("the node has counted them", || async {
        let node = nodes(&host).await.into_iter().next()?;
        (node["connections"] == 2).then_some(node)
    })
    .await;
    assert_eq!((&node["event_streams"], &node["users"]), (&1.into(), &1.into()));
    assert_eq!((&node["answering"], &node["draining"]), (&true.into(), &false.into()));
    assert_eq!(node["address"], host.address().to_string());
    assert!(node["degraded"].as_array().unwrap().is_empty() && node["memory_bytes"].as_u64().unwrap() > 0, "{node}");

    let list = async |query: &str| {
        let body = host.api().get(&format!("/api/v1/connections?{query}")).await.expect(200);
        body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["transport"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["websocket", "sse"], "oldest first");
    assert_eq!(list("transport=sse").await, ["sse"]);
    assert_eq!(list("user_id=bo").await, [""; 0]);
    assert_eq!(list(&format!("node_id={}", node["node_id"].as_str().unwrap())).await.len(), 2);
    assert_eq!(list(&format!("node_id={}", uuid::Uuid::nil())).await.len(), 0);
    let first = host.api().get("/api/v1/connections?limit=1").await.expect(200);
    assert_eq!((&first["total"], &first["partial"]), (&2.into(), &false.into()));
    assert_eq!(list(&format!("after={}", first["next_after"].as_str().unwrap())).await, ["sse"]);
    for bad in ["transport=pigeon", "node_id=x", "after=x", "limit=0"] {
        assert_eq!(host.api().get(&format!("/api/v1/connections?{bad}")).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn connections_are_written_down_and_taken_off() {
    let mut host = start().await;
    let mut sockets = Vec::new();
    for i in 0..20 {
        sockets.push(Connect::to(&host).token(&token::user(&unique(&format!("u{i}")))).open().await);
    }
    until("all are written down", || async { (written(&host).await == (1, 20)).then_some(()) }).await;
    for socket in sockets.drain(..15) {
        socket.close().await;
    }
    until("those that went are taken off", || async { (written(&host).await == (1, 5)).then_some(()) }).await;
    // What a killed host has left is nobody's.
    host.kill9().await;
    assert_eq!(written(&host).await, (1, 5));
    host.launch().await;
    until("the file is its own again", || async { (written(&host).await == (1, 0)).then_some(()) }).await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).open().await;
    socket.settle().await;
    until("it is written down", || async { (written(&host).await == (1, 1)).then_some(()) }).await;
    host.stop().await;
    assert_eq!(written(&host).await, (0, 0), "a clean goodbye");
}

#[tokio::test]
async fn a_lost_row_is_written_again() {
    let host = start().await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).open().await;
    socket.settle().await;
    until("it is written down", || async { (written(&host).await == (1, 1)).then_some(()) }).await;
    let file = SqliteConnectOptions::new().filename(host.data_dir().join("campanile.db"));
    let mut conn = SqliteConnection::connect_with(&file).await.unwrap();
    // As if this node had been frozen and the others had buried it.
    sqlx::query("PRAGMA foreign_keys = on").execute(&mut conn).await.unwrap();
    sqlx::query("DELETE FROM nodes").execute(&mut conn).await.unwrap();
    until("the node and what it holds are back", || async { (written(&host).await == (1, 1)).then_some(()) }).await;
    // As if a write had been lost.
    sqlx::query("DELETE FROM node_connections").execute(&mut conn).await.unwrap();
    until("what was lost is back", || async { (written(&host).await == (1, 1)).then_some(()) }).await;
}
