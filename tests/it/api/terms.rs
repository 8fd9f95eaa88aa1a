//! When and how: `send_at`, `expires_at`, `collapse_key`, `persist: false`.

use campanile_tests::{api::id_of, prelude::*, token, unique};

pub(super) fn in_ms(ms: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the wire carries wall-clock times")]
    let at = chrono::Utc::now() + chrono::TimeDelta::milliseconds(ms);
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[tokio::test]
async fn a_scheduled_one_waits_then_arrives() {
    let host = TestHost::shared().await;
    let user = unique("later");
    let mut socket = Connect::to(host).token(&token::user(&user)).open().await;
    let body = json!({"user_id": user, "title": "later", "channels": ["websocket"], "send_at": in_ms(1500)});
    let answer = host.api().send(&body).await.expect(202);
    assert_eq!(answer["deliveries"][0]["state"], "scheduled");
    assert!(host.me(&user).feed().await.is_empty(), "it came too early");
    let frame = socket.wait_for("notification").await;
    assert_eq!(frame["data"]["notification_id"], answer["notification_id"]);
    assert_eq!(host.me(&user).feed().await.len(), 1);
}

#[tokio::test]
async fn a_past_send_at_means_now() {
    let host = TestHost::shared().await;
    let body =
        json!({"user_id": unique("u"), "title": "T", "channels": ["websocket"], "send_at": "2020-01-01T00:00:00Z"});
    assert_eq!(host.api().send(&body).await.expect(202)["deliveries"][0]["state"], "sent");
}

#[tokio::test]
async fn an_expired_item_leaves_the_feed_and_the_counts() {
    let host = TestHost::shared().await;
    let user = unique("fleeting");
    let mut socket = Connect::to(host).token(&token::user(&user)).v1().open().await;
    socket.expect("hello").await;
    host.api().notify(&user, "stays").await;
    let body = json!({"user_id": user, "title": "goes", "channels": ["websocket"], "expires_at": in_ms(1200)});
    let id = host.api().accepted(&body).await;
    let marked = socket.wait_for("marked").await;
    assert_eq!(marked["data"]["as"], "archived", "{marked}");
    assert_eq!(marked["data"]["ids"], json!([id]));
    let counts = socket.wait_for("counts").await;
    assert_eq!(counts["data"]["unread"], 1);
    let feed = host.me(&user).feed().await;
    assert_eq!(feed.len(), 1);
    assert_eq!(feed[0]["title"], "stays");
    assert_eq!(host.me(&user).unread().await, 1);
}

#[tokio::test]
async fn a_newer_one_with_the_same_key_takes_the_place_of_the_older() {
    let host = TestHost::shared().await;
    let user = unique("collapse");
    let body = |title: &str| json!({"user_id": user, "title": title, "channels": ["websocket"], "collapse_key": "build-7", "notification_type": "ci"});
    let first = host.api().accepted(&body("running")).await;
    let other_type = json!({"user_id": user, "title": "other", "channels": ["websocket"], "collapse_key": "build-7", "notification_type": "x"});
    host.api().accepted(&other_type).await;
    let mut socket = Connect::to(host).token(&token::user(&user)).v1().open().await;
    assert_eq!(socket.expect("hello").await["data"]["counts"]["unread"], 2);
    let second = host.api().accepted(&body("passed")).await;
    let frame = socket.wait_for("notification").await;
    assert_eq!((&frame["data"]["notification_id"], &frame["seq"]), (&json!(second), &json!(3)));
    let marked = socket.wait_for("marked").await;
    assert_eq!(marked["data"]["ids"], json!([first]));
    let titles: Vec<_> = host.me(&user).feed().await.iter().map(|i| i["title"].clone()).collect();
    assert_eq!(titles, ["passed", "other"]);
    assert_eq!(host.me(&user).unread().await, 2);
}

#[tokio::test]
async fn collapsing_takes_back_what_was_not_sent_yet() {
    let host = TestHost::shared().await;
    let user = unique("collapse");
    let later = json!({"user_id": user, "title": "later", "channels": ["websocket"], "collapse_key": "k", "send_at": "2099-01-01T00:00:00Z"});
    let first = host.api().accepted(&later).await;
    host.api()
        .accepted(&json!({"user_id": user, "title": "now", "channels": ["websocket"], "collapse_key": "k"}))
        .await;
    let delivery = host.api().state(&first, "websocket", "cancelled").await;
    assert_eq!(delivery["reason"], "collapsed");
}

#[tokio::test]
async fn a_read_item_is_not_archived_by_collapse() {
    let host = TestHost::shared().await;
    let user = unique("collapse");
    let body = |title: &str| json!({"user_id": user, "title": title, "channels": ["websocket"], "collapse_key": "k"});
    let first = host.api().accepted(&body("one")).await;
    host.me(&user).post(&format!("/api/v1/me/notifications/{first}/read"), &json!({})).await.expect(200);
    host.api().accepted(&body("two")).await;
    assert_eq!(host.me(&user).feed().await.len(), 2);
    assert_eq!(host.me(&user).unread().await, 1);
}

#[tokio::test]
async fn an_ephemeral_one_reaches_open_sockets_and_leaves_no_trace() {
    let host = TestHost::shared().await;
    let user = unique("typing");
    let mut classic = Connect::to(host).token(&token::user(&user)).open().await;
    let mut v1 = Connect::to(host).token(&token::user(&user)).v1().open().await;
    v1.expect("hello").await;
    classic.settle().await;
    let answer = host.api().send(&json!({"user_id": user, "title": "typing", "persist": false})).await.expect(200);
    assert_eq!(answer["status"], "pushed");
    let id = id_of(&answer);
    for socket in [&mut classic, &mut v1] {
        let frame = socket.wait_for("notification").await;
        assert_eq!(frame["data"]["notification_id"], id.as_str());
        assert!(frame.get("seq").is_none_or(Value::is_null), "{frame}");
    }
    assert!(host.me(&user).feed().await.is_empty());
    host.api().get(&format!("/api/v1/notifications/{id}")).await.problem(404);
    classic.send(&json!({"type": "mark_read", "notification_id": id})).await;
    assert_eq!(classic.expect("error").await["data"]["code"], "not_found");
}
