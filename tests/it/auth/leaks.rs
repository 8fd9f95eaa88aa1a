//! No piece of a token in anything the host prints or answers.

use campanile_tests::{prelude::*, token::Claims, unique};

#[tokio::test]
async fn no_output_metric_or_error_holds_twelve_characters_of_a_token() {
    let host = TestHost::builder().text("log.level", "trace").start().await;
    let user = unique("u");
    let good = Claims::of(&user).sign();
    let expired = Claims::of(&user).expiring_in(-60).sign();
    let mut bad = good.clone();
    bad.replace_range(bad.len() - 12.., "AAAAAAAAAAAA");
    let mut said = String::new();

    let mut socket = Connect::to(&host).token(&good).open().await;
    socket.send(&json!({"type": "auth", "token": bad})).await;
    socket.settle().await;
    let mut v1 = Connect::to(&host).token(&good).v1().open().await;
    v1.send(&json!({"type": "auth", "token": bad})).await;
    said.push_str(&v1.closed().await.reason);
    for token in [&bad, &expired] {
        said.push_str(&Connect::to(&host).token(token).refused().await.body);
        said.push_str(&Connect::to(&host).bearer(token).refused().await.body);
        said.push_str(&Connect::to(&host).token(token).v1().open().await.closed().await.reason);
        said.push_str(&host.api().with_key(token).get("/api/v1/me/unread_count").await.text);
        said.push_str(&host.api().with_key(token).send(&json!({})).await.text);
        said.push_str(&host.api().anonymous().get(&format!("/api/v1/me/unread_count?token={token}")).await.text);
        said.push_str(&host.api().anonymous().get(&format!("/no/such/page?token={token}")).await.text);
        said.push_str(&host.api().anonymous().get(&format!("/ws/notifications?token={token}")).await.text);
        said.push_str(&host.api().anonymous().get(&format!("/sse/notifications?token={token}")).await.text);
    }
    let ticket = host.me(&user).post("/api/v1/me/ws-tickets", &json!({})).await.expect(201)["ticket"].clone();
    let ticket = ticket.as_str().unwrap().to_owned();
    Connect::to(&host).ticket(&ticket).open().await.settle().await;
    said.push_str(&host.api().get("/metrics").await.text);
    said.push_str(&host.api().get("/api/v1/connections").await.text);
    said.push_str(&host.output());
    assert!(said.contains("/ws/notifications"), "the log names paths at this level");

    let operator = campanile_tests::host::API_KEY.to_owned();
    for secret in [good, bad, expired, ticket, operator] {
        // A JWT's header is the same for everyone; pieces of it prove nothing.
        let from = secret.find('.').map_or(0, |dot| dot + 1);
        for start in from..secret.len() - 12 {
            let piece = &secret[start..start + 12];
            assert!(!said.contains(piece), "{piece:?} of a secret is in what the host said");
        }
    }
}
