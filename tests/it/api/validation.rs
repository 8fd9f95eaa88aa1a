//! What is refused, and that the answer names every bad field at once.

use campanile_tests::{prelude::*, unique};

/// The fields that a 422 for this body names.
async fn fields(body: Value) -> Vec<String> {
    let host = TestHost::shared().await;
    let reply = host.api().send(&body).await;
    reply.problem(422);
    for error in reply.json["errors"].as_array().expect("errors") {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error} has no message");
    }
    reply.fields()
}

#[tokio::test]
async fn every_bad_field_is_named_in_one_answer() {
    let named = fields(json!({
        "title": "", "priority": "urgent", "channels": ["pigeon"], "data": [], "colour": "red",
        "send_at": "tomorrow", "to": []
    }))
    .await;
    for field in ["title", "priority", "channels[0]", "data", "colour", "send_at", "to"] {
        assert!(named.iter().any(|n| n == field), "{field} is not among {named:?}");
    }
}

#[tokio::test]
async fn required_fields() {
    assert_eq!(fields(json!({"user_id": "u"})).await, ["title"]);
    assert!(!fields(json!({"title": "T"})).await.is_empty());
    assert_eq!(fields(json!({"user_id": "u", "title": ""})).await, ["title"]);
    assert_eq!(fields(json!({"user_id": "", "title": "T"})).await, ["user_id"]);
    assert_eq!(fields(json!({"to": [], "title": "T"})).await, ["to"]);
    assert!(!fields(json!({"user_id": "u", "to": ["u"], "title": "T"})).await.is_empty());
}

#[tokio::test]
async fn lengths_are_counted_in_characters() {
    let host = TestHost::shared().await;
    let user = unique("len");
    let fits = json!({"user_id": user, "title": "é".repeat(200), "message": "é".repeat(4000)});
    host.api().send(&fits).await.expect(202);
    assert_eq!(fields(json!({"user_id": user, "title": "é".repeat(201)})).await, ["title"]);
    assert_eq!(fields(json!({"user_id": user, "title": "T", "message": "é".repeat(4001)})).await, ["message"]);
    assert_eq!(fields(json!({"user_id": "u".repeat(256), "title": "T"})).await, ["user_id"]);
    assert_eq!(fields(json!({"user_id": user, "title": "T", "data": {"k": "x".repeat(17_000)}})).await, ["data"]);
}

#[tokio::test]
async fn control_characters_are_refused_where_a_header_could_be_made_of_them() {
    for bad in ["x\r\nBcc: a@b", "x\ny", "x\u{0}y"] {
        assert_eq!(fields(json!({"user_id": "u", "title": bad})).await, ["title"]);
        assert_eq!(
            fields(json!({"user_id": "u", "title": "T", "notification_type": bad})).await,
            ["notification_type"]
        );
        assert_eq!(fields(json!({"user_id": bad, "title": "T"})).await, ["user_id"]);
        let named = fields(json!({"to": ["ok", {"user_id": "u", "email": bad}], "title": "T"})).await;
        assert_eq!(named, ["to[1].email"]);
    }
}

#[tokio::test]
async fn known_names_are_listed_for_unknown_ones() {
    let host = TestHost::shared().await;
    let reply = host.api().send(&json!({"user_id": "u", "title": "T", "channels": ["emial"]})).await;
    reply.problem(422);
    assert!(reply.text.contains("email") && reply.text.contains("websocket"), "{}", reply.text);
    let reply = host.api().send(&json!({"user_id": "u", "title": "T", "priority": "urgent"})).await;
    reply.problem(422);
    assert!(["low", "normal", "high"].iter().all(|p| reply.text.contains(p)), "{}", reply.text);
    let reply = host.api().send(&json!({"user_id": "u", "title": "T", "tittle": "T"})).await;
    reply.problem(422);
    assert!(reply.text.contains("title"), "{}", reply.text);
}

#[tokio::test]
async fn a_disabled_channel_says_so() {
    // The shared host has no relay, so its e-mail channel is known and off.
    let host = TestHost::shared().await;
    let reply = host.api().send(&json!({"user_id": "u", "title": "T", "channels": ["email"]})).await;
    assert_eq!(reply.problem(422), "channel_disabled");
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused() {
    let past = "2020-01-01T00:00:00Z";
    assert_eq!(fields(json!({"user_id": "u", "title": "T", "expires_at": past})).await, ["expires_at"]);
    let named = fields(json!({
        "user_id": "u", "title": "T", "send_at": "2099-01-02T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"
    }))
    .await;
    assert_eq!(named, ["expires_at"]);
}

#[tokio::test]
async fn ephemeral_ones_take_no_terms() {
    let base = json!({"user_id": "u", "title": "T", "persist": false});
    for (field, value) in [
        ("send_at", json!("2099-01-01T00:00:00Z")),
        ("expires_at", json!("2099-01-01T00:00:00Z")),
        ("collapse_key", json!("k")),
        ("channels", json!(["websocket", "email"])),
    ] {
        let mut body = base.clone();
        body[field] = value;
        let host = TestHost::shared().await;
        let reply = host.api().send(&body).await;
        assert_eq!(reply.status, 422, "{field}: {}", reply.text);
    }
    let host = TestHost::shared().await;
    assert_eq!(host.api().send_with_key(&unique("k"), &base).await.status, 422);
}

#[tokio::test]
async fn a_refused_request_leaves_nothing() {
    let host = TestHost::shared().await;
    let user = unique("nothing");
    host.api().send(&json!({"user_id": user, "title": "", "channels": ["websocket"]})).await.problem(422);
    assert_eq!(host.api().get(&format!("/api/v1/users/{user}")).await.problem(404), "not_found");
    assert!(host.me(&user).feed().await.is_empty());
}
