//! How sockets end: sizes, rates, expiry, silence.

use campanile_tests::{prelude::*, proxy::Mode, socket::Got, token, token::Claims, unique};
use tokio_tungstenite::tungstenite::Message;

async fn v1(host: &TestHost) -> Socket {
    let mut socket = Connect::to(host).token(&token::user(&unique("u"))).v1().open().await;
    socket.expect("hello").await;
    socket
}

#[tokio::test]
async fn a_message_over_sixteen_kib_is_1009() {
    let mut socket = v1(TestHost::shared().await).await;
    let _ = socket.try_send(Message::text("x".repeat(17 * 1024))).await;
    assert_eq!(socket.closed().await.code, 1009);
}

#[tokio::test]
async fn a_binary_message_is_1003() {
    let mut socket = v1(TestHost::shared().await).await;
    socket.send_message(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(socket.closed().await.code, 1003);
}

#[tokio::test]
async fn forty_frames_pass_at_once_and_more_are_4429() {
    let mut socket = v1(TestHost::shared().await).await;
    let mut sent = 0;
    // Frames refill at 20 a second while we send: more than the burst must be in before the first second is over.
    for _ in 0..120 {
        if socket.feed(Message::text("ping")).await.is_err() {
            break;
        }
        sent += 1;
    }
    let _ = socket.flush().await;
    let mut pongs = 0;
    let closed = loop {
        match socket.next().await {
            Got::Text(_) => pongs += 1,
            Got::Closed(closed) => break closed,
        }
    };
    assert_eq!(closed.code, 4429, "{sent} sent, {pongs} answered");
    assert!(closed.json()["retry_ms"].as_i64().unwrap() > 0, "{closed:?}");
    assert!((40..120).contains(&pongs), "{pongs} frames passed");
}

#[tokio::test]
async fn five_malformed_messages_are_1008() {
    let mut socket = v1(TestHost::shared().await).await;
    for _ in 0..5 {
        let _ = socket.try_send(Message::text("{")).await;
    }
    assert_eq!(socket.closed().await.code, 1008);
}

#[tokio::test]
async fn a_token_that_ends_on_a_live_socket_closes_it_unless_it_is_renewed() {
    let host = TestHost::builder().text("websocket.expiry_grace", "500ms").start().await;
    let user = unique("u");
    let short = Claims::of(&user).expiring_in(2).sign();
    let mut left = Connect::to(&host).token(&short).v1().open().await;
    let mut classic = Connect::to(&host).token(&short).open().await;
    let mut renewed = Connect::to(&host).token(&short).v1().open().await;
    let mut swapped = Connect::to(&host).token(&short).v1().open().await;
    for socket in [&mut left, &mut renewed, &mut swapped] {
        socket.expect("hello").await;
    }
    renewed.send(&json!({"type": "auth", "token": token::user(&user)})).await;
    swapped.send(&json!({"type": "auth", "token": token::user("someone-else")})).await;
    assert_eq!(swapped.closed().await.code, 4403, "a token of somebody else");
    let closed = left.closed().await;
    assert_eq!((closed.code, &closed.json()["code"]), (4401, &json!("token_expired")), "{closed:?}");
    // A classic client comes back on 4401 and is then refused before the upgrade, which ends its tries.
    assert_eq!(classic.closed().await.code, 4401);
    assert!(renewed.settle().await.iter().all(|f| f["type"] != "error"));
    host.api().notify(&user, "still here").await;
    renewed.wait_for("notification").await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_dropped() {
    let host = TestHost::builder()
        .text("websocket.ping_interval", "300ms")
        .text("websocket.pong_timeout", "300ms")
        .start()
        .await;
    let proxy = Proxy::to(host.address()).await;
    let user = unique("silent");
    let mut socket = Connect::to(&host).via(proxy.address()).token(&token::user(&user)).v1().open().await;
    socket.expect("hello").await;
    proxy.set(Mode::BlackHole);
    until("the silent socket is gone", || async {
        let list = host.api().get("/api/v1/connections").await.expect(200);
        (!list.to_string().contains(&user)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_disabled_user_is_closed_for_good() {
    let host = TestHost::shared().await;
    let user = unique("disabled");
    host.api().put(&format!("/api/v1/users/{user}"), &json!({})).await;
    let mut v1 = Connect::to(host).token(&token::user(&user)).v1().open().await;
    let mut classic = Connect::to(host).token(&token::user(&user)).open().await;
    v1.expect("hello").await;
    classic.settle().await;
    let reply = host.api().post(&format!("/api/v1/users/{user}/disable"), &json!({})).await;
    assert!(matches!(reply.status, 200 | 204), "{}", reply.text);
    assert_eq!(v1.closed().await.code, 4403);
    assert_eq!(classic.closed().await.code, 1000);
}

#[tokio::test]
async fn what_an_operator_closes_stands_in_the_audit_log() {
    let host = TestHost::shared().await;
    let user = unique("closed");
    let mut one = Connect::to(host).token(&token::user(&user)).v1().open().await;
    let id = one.expect("hello").await["data"]["conn_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/connections/{id}?why=revoked");
    assert_eq!(host.api().delete(&path).await.status, 200);
    assert_eq!(one.closed().await.code, 4401);
    host.api().delete(&path).await.problem(404);
    let mut two = Connect::to(host).token(&token::user(&user)).v1().open().await;
    two.expect("hello").await;
    host.api().post(&format!("/api/v1/users/{user}/disconnect"), &json!({})).await.expect(200);
    assert_eq!(two.closed().await.code, 1012);
    let log = host.api().get("/api/v1/audit?limit=100").await.expect(200);
    let entry = |action: &str, target: &str| {
        let items = log["items"].as_array().unwrap();
        items.iter().filter(|e| e["action"] == action && e["target"] == target).cloned().collect::<Vec<_>>()
    };
    let closed = entry("connection.close", &id);
    assert_eq!((closed.len(), &closed[0]["detail"]), (1, &json!({"user_id": user, "why": "revoked"})));
    assert_eq!(entry("user.disconnect", &user).len(), 1);
}
