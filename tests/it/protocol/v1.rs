//! What the subprotocol `campanile.v1` adds.

use campanile_tests::{prelude::*, token, unique};

async fn connect(user: &str) -> (Socket, Value) {
    let mut socket = Connect::to(TestHost::shared().await).token(&token::user(user)).v1().open().await;
    let hello = socket.expect("hello").await["data"].clone();
    (socket, hello)
}

#[tokio::test]
async fn hello_comes_first_with_all_its_fields() {
    let host = TestHost::shared().await;
    let user = unique("u");
    host.api().notify(&user, "one").await;
    let (_, hello) = connect(&user).await;
    assert!(hello["conn_id"].is_string() && hello["epoch"].is_string(), "{hello}");
    assert_eq!(hello["head_seq"], 1);
    for (name, expected) in [("unseen", 1), ("unread", 1), ("total", 1)] {
        assert_eq!(hello["counts"][name], expected, "{hello}");
    }
    assert!(hello["counts"]["version"].as_i64().unwrap() > 0);
    assert_eq!(hello["heartbeat_ms"], 30_000);
    let expires = hello["expires_in"].as_i64().unwrap();
    assert!((3500..=3600).contains(&expires), "{expires}");
}

#[tokio::test]
async fn the_subprotocol_is_chosen_and_the_token_is_not_echoed() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let mut socket = Connect::to(host).bearer_protocol(&token::user(&user)).open().await;
    assert_eq!(socket.protocol.as_deref(), Some("campanile.v1"));
    socket.expect("hello").await;
    let mut socket = Connect::to(host).bearer(&token::user(&user)).protocol("campanile.v1").open().await;
    assert_eq!(socket.protocol.as_deref(), Some("campanile.v1"));
    socket.expect("hello").await;
    let mut classic = Connect::to(host).bearer(&token::user(&user)).open().await;
    assert_eq!(classic.protocol, None);
    assert!(classic.settle().await.is_empty());
}

#[tokio::test]
async fn notifications_carry_seq_and_unread_before_the_shared_data() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let (mut socket, _) = connect(&user).await;
    let mut classic = Connect::to(host).token(&token::user(&user)).open().await;
    classic.settle().await;
    host.api().notify(&user, "one").await;
    host.api().notify(&user, "two").await;
    for n in 1..=2 {
        let text = socket.next_text().await;
        assert!(text.starts_with(&format!(r#"{{"type":"notification","seq":{n},"unread":{n},"data":{{"#)), "{text}");
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(classic.expect("notification").await["data"], frame["data"]);
    }
}

#[tokio::test]
async fn marks_are_told_as_marked_and_counts_and_the_classic_pair() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let ids = [host.api().notify(&user, "one").await, host.api().notify(&user, "two").await];
    let (mut socket, hello) = connect(&user).await;
    let version = hello["counts"]["version"].as_i64().unwrap();
    socket.send(&json!({"type": "mark", "ids": [ids[0]], "as": "read"})).await;
    let mut kinds = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let frame = socket.next_json().await;
        kinds.insert(frame["type"].as_str().unwrap().to_owned(), frame["data"].clone());
    }
    assert_eq!(kinds["marked"], json!({"ids": [ids[0]], "as": "read"}));
    assert_eq!((&kinds["counts"]["unread"], &kinds["counts"]["unseen"]), (&json!(1), &json!(1)));
    assert!(kinds["counts"]["version"].as_i64().unwrap() > version);
    assert_eq!(kinds["notification_update"], json!({"notification_id": ids[0], "status": "read"}));
    assert_eq!(kinds["unread_count"], json!({"count": 1}));

    socket.send(&json!({"type": "mark", "up_to_seq": 2, "as": "read"})).await;
    // A bulk read has no single update, only the count.
    let mut frames = Vec::new();
    while frames.last().is_none_or(|f: &Value| f["type"] != "counts") {
        frames.push(socket.next_json().await);
    }
    assert!(frames.contains(&json!({"type": "marked", "data": {"up_to_seq": 2, "as": "read"}})), "{frames:?}");
    assert!(frames.contains(&json!({"type": "unread_count", "data": {"count": 0}})), "{frames:?}");
    assert!(frames.iter().all(|f| f["type"] != "notification_update"), "{frames:?}");
}

#[tokio::test]
async fn every_mark_by_every_way_is_told_to_the_other_socket() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let id = host.api().notify(&user, "one").await;
    let (mut phone, _) = connect(&user).await;
    let (mut desk, _) = connect(&user).await;
    for (mark, unread, total) in
        [("seen", 1, 1), ("read", 0, 1), ("unread", 1, 1), ("archived", 0, 0), ("unarchived", 1, 1)]
    {
        phone.send(&json!({"type": "mark", "ids": [id], "as": mark})).await;
        let marked = desk.wait_for("marked").await;
        assert_eq!(marked["data"], json!({"ids": [id], "as": mark}));
        let counts = desk.wait_for("counts").await;
        assert_eq!((&counts["data"]["unread"], &counts["data"]["total"]), (&json!(unread), &json!(total)), "{mark}");
    }
    host.me(&user).post(&format!("/api/v1/me/notifications/{id}/read"), &json!({})).await.expect(200);
    assert_eq!(desk.wait_for("marked").await["data"], json!({"ids": [id], "as": "read"}));
}

#[tokio::test]
async fn bad_v1_frames_get_errors() {
    let (mut socket, _) = connect(&unique("u")).await;
    for frame in [
        json!({"type": "mark", "ids": ["x"], "as": "read"}),
        json!({"type": "mark", "ids": [], "up_to_seq": 1, "as": "read"}),
        json!({"type": "mark", "up_to_seq": 1, "as": "burnt"}),
        json!({"type": "list", "limit": "many"}),
    ] {
        socket.send(&frame).await;
        assert_eq!(socket.next_json().await["type"], "error", "{frame}");
    }
}

#[tokio::test]
async fn what_reached_a_socket_becomes_delivered_and_an_ack_does_too() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let (mut socket, _) = connect(&user).await;
    let live = host.api().notify(&user, "live").await;
    socket.expect("notification").await;
    host.api().state(&live, "websocket", "delivered").await;

    let user = unique("u");
    let fetched = host.api().notify(&user, "fetched").await;
    let (mut socket, _) = connect(&user).await;
    socket.send(&json!({"type": "ack", "seq": 1})).await;
    host.api().state(&fetched, "websocket", "delivered").await;
    assert!(socket.settle().await.is_empty(), "an ack has no answer");
}

#[tokio::test]
async fn the_heartbeat_carries_the_head() {
    let host = TestHost::builder().text("websocket.heartbeat", "300ms").start().await;
    let user = unique("u");
    let mut socket = Connect::to(&host).token(&token::user(&user)).v1().open().await;
    assert_eq!(socket.expect("hello").await["data"]["heartbeat_ms"], 300);
    assert_eq!(socket.wait_for("heartbeat").await["data"]["head_seq"], 0);
    host.api().notify(&user, "one").await;
    socket.wait_until("heartbeat 1", |f| f["type"] == "heartbeat" && f["data"]["head_seq"] == 1).await;
}
