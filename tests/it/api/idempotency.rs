//! One key, one notification: repeats, races and misuse.

use super::terms::in_ms;
use campanile_tests::{api::id_of, prelude::*, unique};
use std::collections::BTreeSet;

#[tokio::test]
async fn a_repeat_gets_the_stored_answer() {
    let host = TestHost::shared().await;
    let (key, user) = (unique("key"), unique("u"));
    let body = json!({"user_id": user, "title": "once", "channels": ["websocket"]});
    let first = host.api().send_with_key(&key, &body).await;
    assert_eq!(first.header("idempotency-replayed"), "");
    let again = host.api().send_with_key(&key, &body).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(202), first.expect(202));
    // Equality is of the parsed request: spaces and the order of names don't matter.
    let text = format!("{{ \"channels\":[\"websocket\"],\n \"title\":\"once\", \"user_id\":\"{user}\" }}");
    let request = host.api().request("POST", "/api/v1/notifications").header("idempotency-key", &key);
    let reply = host.api().run(request.header("content-type", "application/json").body(text)).await;
    assert_eq!((reply.status, reply.header("idempotency-replayed")), (202, "true"));
    assert_eq!(host.me(&user).feed().await.len(), 1);
}

#[tokio::test]
async fn a_repeat_that_would_be_refused_by_now_still_gets_the_stored_answer() {
    let host = TestHost::shared().await;
    let (key, user) = (unique("key"), unique("u"));
    let body = json!({"user_id": user, "title": "short", "channels": ["websocket"], "expires_at": in_ms(1500)});
    let first = host.api().send_with_key(&key, &body).await.expect(202);
    // The feed drops it when it expires, and from then on the body alone is not valid any more.
    until("the item expires", async || host.me(&user).feed().await.is_empty().then_some(())).await;
    host.api().send(&body).await.problem(422);
    let again = host.api().send_with_key(&key, &body).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(202), first);
    let mut other = body;
    other["title"] = "changed".into();
    host.api().send_with_key(&key, &other).await.problem(422);
}

#[tokio::test]
async fn twenty_parallel_posts_make_one_notification() {
    let host = TestHost::shared().await;
    let (key, user) = (unique("key"), unique("u"));
    let body = json!({"user_id": user, "title": "once", "channels": ["websocket"]});
    let posts: Vec<_> = (0..20)
        .map(|_| {
            let (api, key, body) = (host.api(), key.clone(), body.clone());
            tokio::spawn(async move { api.send_with_key(&key, &body).await })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for post in posts {
        let reply = post.await.unwrap();
        if reply.status == 409 {
            reply.problem(409);
            continue;
        }
        ids.insert(id_of(&reply.expect(202)));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(host.me(&user).feed().await.len(), 1);
    assert_eq!(host.me(&user).unread().await, 1);
}

#[tokio::test]
async fn the_same_key_with_another_body_is_422_and_stores_nothing() {
    let host = TestHost::shared().await;
    let (key, user) = (unique("key"), unique("u"));
    host.api().send_with_key(&key, &json!({"user_id": user, "title": "one"})).await.expect(202);
    let reply = host.api().send_with_key(&key, &json!({"user_id": user, "title": "two"})).await;
    assert_eq!(reply.problem(422), "idempotency_key_reused");
    assert_eq!(host.me(&user).feed().await.len(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let host = TestHost::shared().await;
    let (key, user) = (unique("key"), unique("u"));
    host.api().send_with_key(&key, &json!({"user_id": user, "title": ""})).await.problem(422);
    host.api().send_with_key(&key, &json!({"user_id": user, "title": "good"})).await.expect(202);
}

#[tokio::test]
async fn a_key_has_its_limits() {
    let host = TestHost::shared().await;
    let body = json!({"user_id": unique("u"), "title": "T"});
    host.api().send_with_key(&"k".repeat(255), &body).await.expect(202);
    host.api().send_with_key(&"k".repeat(256), &body).await.problem(422);
    host.api().send_with_key("", &body).await.problem(422);
}
