//! The shape of refusals: problem+json, the right status, a credential challenge.

use campanile_tests::{prelude::*, unique};

const PATH: &str = "/api/v1/notifications";

async fn raw(body: &'static [u8], media: &str) -> Reply {
    let api = TestHost::shared().await.api();
    api.run(api.request("POST", PATH).header("content-type", media).body(body)).await
}

#[tokio::test]
async fn malformed_json_is_400_and_names_the_place() {
    let reply = raw(b"{\"title\": ", "application/json").await;
    reply.problem(400);
    assert!(reply.text.contains("line") || reply.text.contains("column"), "{}", reply.text);
    raw(b"\xff\xfe{}", "application/json").await.problem(400);
    raw(b"", "application/json").await.problem(400);
}

#[tokio::test]
async fn json_of_another_shape_is_422() {
    for body in [&b"[]"[..], b"\"x\"", b"null", b"7"] {
        let api = TestHost::shared().await.api();
        let reply = api.run(api.request("POST", PATH).header("content-type", "application/json").body(body)).await;
        assert!(matches!(reply.status, 400 | 422), "{}: {}", reply.status, reply.text);
        reply.problem(reply.status);
    }
}

#[tokio::test]
async fn another_media_type_is_415() {
    raw(b"title=T", "application/x-www-form-urlencoded").await.problem(415);
    raw(b"{}", "text/plain").await.problem(415);
}

#[tokio::test]
async fn a_large_body_is_413() {
    let api = TestHost::shared().await.api();
    let body = json!({"user_id": "u", "title": "T", "message": "x".repeat(300 * 1024)});
    let refused = api.send(&body).await;
    refused.problem(413);
    assert_eq!(refused.header("connection"), "close", "the rest of the body is never read");
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems_too() {
    let api = TestHost::shared().await.api();
    api.get("/api/v1/nothing/here").await.problem(404);
    let reply = api.delete(PATH).await;
    reply.problem(405);
    assert!(reply.header("allow").contains("POST"), "{:?}", reply.headers);
}

#[tokio::test]
async fn without_a_good_credential_nothing_happens() {
    let host = TestHost::shared().await;
    let body = json!({"user_id": unique("u"), "title": "T"});
    let reply = host.api().anonymous().send(&body).await;
    reply.problem(401);
    assert!(reply.header("www-authenticate").starts_with("Bearer"), "{:?}", reply.headers);
    for key in ["nonsense", "cmp_0_0", "cmp_00000000-0000-7000-8000-000000000000_secret", ""] {
        host.api().with_key(key).send(&body).await.problem(401);
    }
    // An end user's token is a known credential in the wrong place.
    host.me("ada").send(&body).await.problem(403);
    // And an application is no end user.
    let reply = host.api().get("/api/v1/me/unread_count").await;
    assert!(matches!(reply.status, 401 | 403), "{}", reply.text);
    let expired = Claims::of("ada").expiring_in(-60).sign();
    host.api().with_key(&expired).get("/api/v1/me/unread_count").await.problem(401);
}

#[tokio::test]
async fn every_answer_carries_a_request_id() {
    let host = TestHost::shared().await;
    let reply = host.api().get("/api/v1/notifications/not-a-uuid").await;
    assert!(matches!(reply.status, 400 | 404 | 422), "{}", reply.text);
    assert_eq!(reply.header("x-request-id"), reply.json["request_id"].as_str().unwrap());
}
