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

#[tokio::test]
async fn a_key_works_from_its_networks_and_its_use_is_kept() {
    let mut host = TestHost::start().await;
    let body = json!({"name": "fenced", "scopes": ["send", "read"], "networks": ["127.0.0.0/8", "::1"]});
    let made = host.api().post("/api/v1/keys", &body).await.expect(201);
    let (id, secret) = (made["key_id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    assert_eq!(made["networks"], json!(["127.0.0.0/8", "::1"]));
    let api = host.api().with_key(&secret);
    api.notify(&unique("u"), "T").await;
    api.send(&json!({"title": "to nobody"})).await.problem(422);

    let elsewhere = json!({"networks": ["203.0.113.0/24"]});
    host.api().put(&format!("/api/v1/keys/{id}/networks"), &elsewhere).await.expect(200);
    let refused = api.send(&json!({"user_id": "u", "title": "T"})).await;
    assert_eq!(refused.problem(403), "address_not_allowed");
    assert!(refused.json["detail"].as_str().unwrap().contains("127.0.0.1"), "{}", refused.text);
    for wrong in [json!({"networks": ["10.0.0.0/33"]}), json!({"networks": ["example.org"]})] {
        let refused = host.api().put(&format!("/api/v1/keys/{id}/networks"), &wrong).await;
        refused.problem(422);
        assert_eq!(refused.json["errors"][0]["field"], "networks");
    }
    host.api().put(&format!("/api/v1/keys/{id}/networks"), &json!({"networks": []})).await.expect(200);
    api.send(&json!({"user_id": "u", "title": "T"})).await.expect(202);

    // What a key did is written down once a minute, and when the host stops.
    host.stop().await;
    host.launch().await;
    let list = host.api().get("/api/v1/keys").await.expect(200);
    let row = list["items"].as_array().unwrap().iter().find(|k| k["key_id"] == *id).unwrap().clone();
    assert_eq!(row["last_used_for"], "POST /api/v1/notifications");
    assert_eq!(row["last_used_from"], "127.0.0.1");
}
