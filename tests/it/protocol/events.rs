//! `/sse/notifications`: the same messages where WebSockets are blocked.

use campanile_tests::{prelude::*, token, unique};

async fn open(host: &TestHost, user: &str, query: &str, extra: &[(&str, &str)]) -> EventStream {
    let bearer = format!("Bearer {}", token::user(user));
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend_from_slice(extra);
    EventStream::open(&host.url(&format!("/sse/notifications{query}")), &headers).await.expect("the stream opens")
}

#[tokio::test]
async fn classic_and_v1_streams_carry_the_same_messages() {
    let host = TestHost::shared().await;
    let user = unique("sse");
    let mut classic = open(host, &user, "", &[]).await;
    let mut v1 = open(host, &user, "?v=1", &[]).await;
    let hello = v1.next().await.unwrap();
    assert_eq!(hello.data["type"], "hello");
    let epoch = hello.data["data"]["epoch"].as_str().unwrap();
    let id = host.api().notify(&user, "one").await;
    let event = v1.wait_for("notification").await;
    assert_eq!((&event.data["seq"], event.id.as_deref()), (&json!(1), Some(format!("{epoch}:1").as_str())));
    let event = classic.wait_for("notification").await;
    assert_eq!(event.data["data"]["notification_id"], id.as_str());
    assert!(event.data.get("seq").is_none());
    host.me(&user).post(&format!("/api/v1/me/notifications/{id}/read"), &json!({})).await.expect(200);
    assert_eq!(classic.wait_for("notification_update").await.data["data"]["status"], "read");
    assert_eq!(v1.wait_for("marked").await.data["data"]["as"], "read");
}

#[tokio::test]
async fn last_event_id_resumes() {
    let host = TestHost::shared().await;
    let user = unique("sse");
    let mut stream = open(host, &user, "?v=1", &[]).await;
    stream.wait_for("hello").await;
    host.api().notify(&user, "one").await;
    let last = stream.wait_for("notification").await.id.unwrap();
    drop(stream);
    for n in 2..=4 {
        host.api().notify(&user, &format!("n{n}")).await;
    }
    let mut stream = open(host, &user, "?v=1", &[("last-event-id", &last)]).await;
    stream.wait_for("hello").await;
    for seq in 2..=4 {
        assert_eq!(stream.wait_for("notification").await.data["seq"], seq);
    }
    stream.wait_for("resumed").await;
}

#[tokio::test]
async fn what_reached_a_stream_is_delivered() {
    let host = TestHost::shared().await;
    let user = unique("sse");
    let mut stream = open(host, &user, "", &[]).await;
    let id = host.api().notify(&user, "one").await;
    stream.wait_for("notification").await;
    host.api().state(&id, "websocket", "delivered").await;
}

#[tokio::test]
async fn a_bad_credential_is_401() {
    let host = TestHost::shared().await;
    let url = host.url("/sse/notifications");
    for (path, header) in [
        ("", None),
        ("", Some("Bearer nonsense")),
        ("?v=1", Some("Bearer nonsense")),
        ("?ticket=spent", None),
        ("?token=nonsense", None),
    ] {
        let headers: Vec<_> = header.iter().map(|h| ("authorization", *h)).collect();
        assert_eq!(EventStream::open(&format!("{url}{path}"), &headers).await.err(), Some(401), "{path} {header:?}");
    }
}
