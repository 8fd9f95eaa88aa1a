//! The classic messages, exactly as the first clients know them.

use campanile_tests::{prelude::*, token, unique};

async fn connect(user: &str) -> Socket {
    Connect::to(TestHost::shared().await).token(&token::user(user)).open().await
}

#[tokio::test]
async fn ping_and_bare_ping() {
    let mut socket = connect(&unique("u")).await;
    socket.send_text(r#"{ "type": "ping" }"#).await;
    assert_eq!(socket.next_json().await, json!({"type": "pong"}));
    socket.send_text("ping").await;
    assert_eq!(socket.next_text().await, "pong");
}

#[tokio::test]
async fn the_unread_count_on_request() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let mut socket = connect(&user).await;
    socket.send(&json!({"type": "get_unread_count"})).await;
    assert_eq!(socket.next_json().await, json!({"type": "unread_count", "data": {"count": 0}}));
    host.api().notify(&user, "one").await;
    socket.expect("notification").await;
    socket.send(&json!({"type": "get_unread_count"})).await;
    assert_eq!(socket.next_json().await, json!({"type": "unread_count", "data": {"count": 1}}));
}

#[tokio::test]
async fn a_notification_has_the_keys_of_its_data_beside_its_own() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let mut socket = connect(&user).await;
    let body = json!({
        "user_id": user, "title": "New message from John", "message": "John: Hello there...",
        "notification_type": "new_message", "channels": ["websocket"],
        "data": {"room_id": "room-uuid", "sender_id": "user-uuid", "title": "not this one"}
    });
    let id = host.api().accepted(&body).await;
    let mut frame = socket.next_json().await;
    let timestamp = frame["data"].as_object_mut().unwrap().remove("timestamp").unwrap();
    assert_eq!(
        frame,
        json!({"type": "notification", "data": {
            "notification_id": id, "title": "New message from John", "message": "John: Hello there...",
            "notification_type": "new_message", "room_id": "room-uuid", "sender_id": "user-uuid"
        }})
    );
    let timestamp = timestamp.as_str().unwrap();
    assert!(timestamp.ends_with('Z'), "{timestamp}");
    chrono::DateTime::parse_from_rfc3339(timestamp).unwrap();
}

#[tokio::test]
async fn a_read_is_told_as_an_update_then_a_count() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let mut socket = connect(&user).await;
    let id = host.api().notify(&user, "one").await;
    socket.expect("notification").await;
    socket.send(&json!({"type": "mark_read", "notification_id": id})).await;
    let update = socket.next_json().await;
    assert_eq!(update, json!({"type": "notification_update", "data": {"notification_id": id, "status": "read"}}));
    assert_eq!(socket.next_json().await, json!({"type": "unread_count", "data": {"count": 0}}));
    // Again: harmless, and the count stays.
    socket.send(&json!({"type": "mark_read", "notification_id": id})).await;
    socket.settle().await;
    socket.send(&json!({"type": "get_unread_count"})).await;
    assert_eq!(socket.wait_for("unread_count").await["data"]["count"], 0);
}

#[tokio::test]
async fn mistakes_get_an_error_and_the_socket_goes_on() {
    let host = TestHost::shared().await;
    let (user, other) = (unique("u"), unique("other"));
    let foreign = host.api().notify(&other, "private").await;
    let mut socket = connect(&user).await;
    for (text, code) in [
        (json!({"type": "mark_read", "notification_id": foreign}).to_string(), Some("not_found")),
        (
            json!({"type": "mark_read", "notification_id": uuid::Uuid::now_v7().to_string()}).to_string(),
            Some("not_found"),
        ),
        ("{".to_owned(), None),
        (json!({"type": "mark_read"}).to_string(), None),
        (json!({"type": "dance"}).to_string(), None),
    ] {
        socket.send_text(&text).await;
        let error = socket.expect("error").await;
        assert!(error["data"]["message"].is_string(), "{error}");
        match code {
            Some(code) => assert_eq!(error["data"]["code"], code, "{text}"),
            None => assert!(error["data"]["code"].is_string(), "{text}: {error}"),
        }
    }
    assert!(socket.settle().await.is_empty());
}

#[tokio::test]
async fn a_classic_socket_hears_no_other_type() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let mut socket = connect(&user).await;
    let mut v1 = Connect::to(host).token(&token::user(&user)).v1().open().await;
    let first = host.api().notify(&user, "one").await;
    host.api().notify(&user, "two").await;
    let me = host.me(&user);
    // Each change, and what a classic socket hears of it.
    let mark = async |body: Value| me.post("/api/v1/me/notifications/mark", &body).await.expect(200);
    let mut heard = Vec::new();
    heard.extend(socket.settle().await);
    mark(json!({"ids": [first], "as": "seen"})).await;
    mark(json!({"ids": [first], "as": "archived"})).await;
    mark(json!({"ids": [first], "as": "unarchived"})).await;
    me.post("/api/v1/me/notifications/read_all", &json!({"up_to_seq": 2})).await.expect(200);
    // The v1 socket has heard it all; then so has the classic one, after its own pong.
    v1.wait_until("unread 0", |f| f["type"] == "counts" && f["data"]["unread"] == 0).await;
    heard.push(socket.wait_until("count 0", |f| f["type"] == "unread_count" && f["data"]["count"] == 0).await);
    heard.extend(socket.settle().await);
    let known = ["notification", "unread_count", "notification_update", "pong", "error"];
    for frame in &heard {
        assert!(known.contains(&frame["type"].as_str().unwrap()), "{frame}");
        assert!(frame.get("seq").is_none(), "{frame}");
    }
}

#[tokio::test]
async fn nothing_comes_unasked_at_the_start() {
    let user = unique("u");
    TestHost::shared().await.api().notify(&user, "before").await;
    let mut socket = connect(&user).await;
    assert!(socket.settle().await.is_empty());
}
