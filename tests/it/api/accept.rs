//! `POST /notifications`, `GET /notifications` and `GET /notifications/{id}`.

use campanile_tests::{api::id_of, prelude::*, unique};

#[tokio::test]
async fn the_documented_body_is_accepted_and_answered_as_documented() {
    let host = TestHost::shared().await;
    let user = unique("ada");
    let body = json!({
        "user_id": user, "title": "New message from John", "message": "John: Hello there...",
        "notification_type": "new_message", "channels": ["websocket"],
        "data": {"room_id": "r1", "sender_id": "s1"}, "priority": "normal",
        "send_at": null, "expires_at": null, "collapse_key": null, "persist": true
    });
    let answer = host.api().send(&body).await.expect(202);
    assert_eq!(answer["status"], "accepted");
    let deliveries = answer["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0]["user_id"], user.as_str());
    assert_eq!(deliveries[0]["channel"], "websocket");
    assert_eq!(deliveries[0]["state"], "sent");
    assert_eq!(deliveries[0]["reason"], Value::Null);
    let id = id_of(&answer);
    assert_eq!(id.len(), 36, "ids are plain UUIDs: {id}");

    let detail = host.api().notification(&id).await;
    assert_eq!(detail["notification_id"], id.as_str());
    assert_eq!(detail["title"], "New message from John");
    assert_eq!(detail["data"]["room_id"], "r1");
    assert_eq!(detail["deliveries"][0]["channel"], "websocket");
    assert!(detail["summary"].is_object(), "{detail}");
    let events = detail["events"].as_array().expect("events");
    assert!(!events.is_empty(), "{detail}");
}

#[tokio::test]
async fn the_shortest_body_takes_the_defaults() {
    let host = TestHost::shared().await;
    let user = unique("bo");
    let id = host.api().accepted(&json!({"user_id": user, "title": "T"})).await;
    let item = host.me(&user).feed().await.remove(0);
    assert_eq!(item["notification_id"], id.as_str());
    assert_eq!((&item["message"], &item["notification_type"]), (&json!(""), &json!("general")));
    assert_eq!(item["data"], json!({}));
    assert!(item["timestamp"].as_str().unwrap().ends_with('Z'), "{item}");
}

#[tokio::test]
async fn a_user_named_twice_counts_once() {
    let host = TestHost::shared().await;
    let (a, b) = (unique("a"), unique("b"));
    let body = json!({"to": [a, {"user_id": b}, a, b], "title": "T", "channels": ["websocket"]});
    let answer = host.api().send(&body).await.expect(202);
    assert_eq!(answer["deliveries"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(host.me(&a).feed().await.len(), 1);
}

#[tokio::test]
async fn text_of_every_kind_arrives_unchanged() {
    let host = TestHost::shared().await;
    let user = unique("text");
    let title = "Ünïcødé \"quoted\" 🎉 <img onerror=x> {{7*7}}";
    let message = "line one\nline two\ttab \\ \u{2028} עברית";
    host.api()
        .accepted(&json!({"user_id": user, "title": title, "message": message, "data": {"k": [1, 2.5, null]}}))
        .await;
    let item = host.me(&user).feed().await.remove(0);
    assert_eq!((&item["title"], &item["message"]), (&json!(title), &json!(message)));
    assert_eq!(item["data"], json!({"k": [1, 2.5, null]}));
}

#[tokio::test]
async fn lists_filter_and_page_with_a_cursor() {
    let host = TestHost::shared().await;
    let (user, kind) = (unique("lists"), unique("kind"));
    let mut sent = Vec::new();
    for n in 0..7 {
        let body =
            json!({"user_id": user, "title": format!("n{n}"), "notification_type": kind, "channels": ["websocket"]});
        sent.push(host.api().accepted(&body).await);
    }
    sent.reverse();
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/notifications?notification_type={kind}&limit=3{cursor}");
        let page = host.api().get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}")).clone();
        assert!(items.len() <= 3);
        listed.extend(items.iter().map(id_of));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, sent);
    let by_user = host.api().get(&format!("/api/v1/notifications?user_id={user}&limit=100")).await.expect(200);
    assert_eq!(by_user["items"].as_array().unwrap().len(), 7);
    let later =
        json!({"user_id": user, "title": "later", "notification_type": kind, "send_at": "2099-01-01T00:00:00Z"});
    let later = host.api().accepted(&later).await;
    let shown = host.api().get(&format!("/api/v1/notifications?notification_type={kind}&state=scheduled")).await;
    let shown: Vec<_> = shown.expect(200)["items"].as_array().unwrap().iter().map(id_of).collect();
    assert_eq!(shown, [later]);
}

#[tokio::test]
async fn an_unknown_notification_is_404() {
    let host = TestHost::shared().await;
    let unknown = uuid::Uuid::now_v7();
    assert_eq!(host.api().get(&format!("/api/v1/notifications/{unknown}")).await.problem(404), "not_found");
    let cancel = host.api().post(&format!("/api/v1/notifications/{unknown}/cancel"), &json!({})).await;
    assert_eq!(cancel.problem(404), "not_found");
}
