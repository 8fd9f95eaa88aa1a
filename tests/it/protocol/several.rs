//! Several sockets of one user, and their limit.

use campanile_tests::{prelude::*, token, unique};

#[tokio::test]
async fn a_read_on_one_device_is_seen_on_the_others_and_by_nobody_else() {
    let host = TestHost::shared().await;
    let (user, other) = (unique("u"), unique("other"));
    let mut phone = Connect::to(host).token(&token::user(&user)).open().await;
    let mut desk = Connect::to(host).token(&token::user(&user)).open().await;
    let mut tablet = Connect::to(host).token(&token::user(&user)).v1().open().await;
    let mut stranger = Connect::to(host).token(&token::user(&other)).open().await;
    tablet.expect("hello").await;
    let id = host.api().notify(&user, "one").await;
    phone.expect("notification").await;
    phone.send(&json!({"type": "mark_read", "notification_id": id})).await;
    for socket in [&mut phone, &mut desk] {
        assert_eq!(
            socket.wait_for("notification_update").await["data"],
            json!({"notification_id": id, "status": "read"})
        );
        assert_eq!(socket.expect("unread_count").await["data"]["count"], 0);
    }
    assert_eq!(tablet.wait_for("marked").await["data"]["ids"], json!([id]));
    assert!(stranger.settle().await.is_empty());
}

#[tokio::test]
async fn the_eleventh_socket_closes_the_oldest_so_that_it_stays_away() {
    let host = TestHost::shared().await;
    for (v1, code) in [(true, 4409), (false, 1000)] {
        let user = unique("tabs");
        let connect = || {
            let connect = Connect::to(host).token(&token::user(&user));
            if v1 { connect.v1() } else { connect }
        };
        let mut oldest = connect().open().await;
        let mut others = Vec::new();
        for _ in 0..9 {
            others.push(connect().open().await);
        }
        if v1 {
            oldest.expect("hello").await;
        }
        oldest.settle().await;
        let mut eleventh = connect().open().await;
        assert_eq!(oldest.closed().await.code, code);
        // The ten that are left all hear the next one.
        host.api().notify(&user, "one").await;
        for socket in &mut others {
            socket.wait_for("notification").await;
        }
        eleventh.wait_for("notification").await;
    }
}

#[tokio::test]
async fn connections_are_listed_and_counted() {
    let host = TestHost::start().await;
    let user = unique("u");
    let mut socket = Connect::to(&host).token(&token::user(&user)).open().await;
    socket.settle().await;
    let list = host.api().get("/api/v1/connections").await.expect(200);
    assert!(list.to_string().contains(&user), "{list}");
    let metrics = host.api().metrics().await;
    let open: f64 = metrics.iter().filter(|(k, _)| k.starts_with("campanile_connections{")).map(|(_, v)| v).sum();
    assert!((open - 1.0).abs() < f64::EPSILON, "{open}");
    socket.close().await;
    until("the socket is gone from the list", || async {
        let list = host.api().get("/api/v1/connections").await.expect(200);
        (!list.to_string().contains(&user)).then_some(())
    })
    .await;
}
