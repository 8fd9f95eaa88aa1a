//! API keys: made, scoped, revoked.

use campanile_tests::{api::id_of, prelude::*, unique};

async fn key(host: &TestHost, scopes: &[&str]) -> (String, String) {
    let made = host.api().post("/api/v1/keys", &json!({"name": unique("key"), "scopes": scopes})).await.expect(201);
    let id = made["key_id"].as_str().or(made["id"].as_str()).unwrap_or_else(|| panic!("no id in {made}")).to_owned();
    (id, made["key"].as_str().unwrap_or_else(|| panic!("no key in {made}")).to_owned())
}

#[tokio::test]
async fn a_scope_allows_its_own_calls_only() {
    let host = TestHost::shared().await;
    let sender = host.api().with_key(&key(host, &["send"]).await.1);
    let reader = host.api().with_key(&key(host, &["read"]).await.1);
    let manager = host.api().with_key(&key(host, &["manage"]).await.1);
    let user = unique("u");
    let id = id_of(&sender.send(&json!({"user_id": user, "title": "T", "channels": ["websocket"]})).await.expect(202));
    for (api, name) in [(&reader, "read"), (&manager, "manage")] {
        api.send(&json!({"user_id": user, "title": "T"})).await.problem(403);
        assert!(host.me(&user).feed().await.len() == 1, "{name} sent something");
    }
    reader.notification(&id).await;
    sender.get(&format!("/api/v1/notifications/{id}")).await.problem(403);
    sender.post("/api/v1/keys", &json!({"name": "x", "scopes": ["manage"]})).await.problem(403);
    reader.post("/api/v1/keys", &json!({"name": "x", "scopes": ["manage"]})).await.problem(403);
}

#[tokio::test]
async fn a_revoked_key_stops_at_once() {
    let host = TestHost::shared().await;
    let (id, secret) = key(host, &["send", "read"]).await;
    let api = host.api().with_key(&secret);
    api.notify(&unique("u"), "T").await;
    let reply = host.api().delete(&format!("/api/v1/keys/{id}")).await;
    assert!(matches!(reply.status, 200 | 204), "{}", reply.text);
    until("the key is refused", || async {
        (api.send(&json!({"user_id": "u", "title": "T"})).await.status == 401).then_some(())
    })
    .await;
    let list = host.api().get("/api/v1/keys").await.expect(200).to_string();
    assert!(!list.contains(secret.splitn(3, '_').nth(2).unwrap()), "a list shows a secret");
}

#[tokio::test]
async fn keys_survive_a_restart_and_half_of_one_is_none() {
    let mut host = TestHost::start().await;
    let (_, secret) = key(&host, &["send"]).await;
    host.restart().await;
    host.api().with_key(&secret).notify(&unique("u"), "T").await;
    let mut broken = secret.clone();
    broken.pop();
    host.api().with_key(&broken).send(&json!({"user_id": "u", "title": "T"})).await.problem(401);
}
