//! Coming back: everything missed, in order, once, or an explicit reset; never a silent gap.

use campanile_tests::{prelude::*, proxy::Mode, token, unique};

struct Here {
    user: String,
    epoch: String,
    head: i64,
}

async fn hello(host: &TestHost, user: &str) -> Here {
    let mut socket = Connect::to(host).token(&token::user(user)).v1().open().await;
    let hello = socket.expect("hello").await["data"].clone();
    Here {
        user: user.to_owned(),
        epoch: hello["epoch"].as_str().unwrap().to_owned(),
        head: hello["head_seq"].as_i64().unwrap(),
    }
}

/// seqs of the notifications up to the first other frame, and that frame.
async fn replayed(socket: &mut Socket) -> (Vec<i64>, Value) {
    let mut seqs = Vec::new();
    loop {
        let frame = socket.next_json().await;
        if frame["type"] != "notification" {
            return (seqs, frame);
        }
        seqs.push(frame["seq"].as_i64().unwrap());
    }
}

#[tokio::test]
async fn five_hundred_missed_come_in_order_by_url_and_by_frame() {
    let host = TestHost::shared().await;
    let here = hello(host, &unique("away")).await;
    let items: Vec<_> =
        (0..500).map(|n| json!({"user_id": here.user, "title": format!("n{n}"), "channels": ["websocket"]})).collect();
    host.api().post("/api/v1/notifications/batch", &json!({"notifications": items})).await.expect(202);
    let expected: Vec<i64> = (1..=500).collect();

    let token = token::user(&here.user);
    let mut socket = Connect::to(host).token(&token).v1().resume(&here.epoch, here.head).open().await;
    assert_eq!(socket.expect("hello").await["data"]["head_seq"], 500);
    let (seqs, end) = replayed(&mut socket).await;
    assert_eq!(seqs, expected);
    assert_eq!(end, json!({"type": "resumed", "data": {"from": end["data"]["from"], "to": 500}}));

    let mut socket = Connect::to(host).token(&token).v1().open().await;
    socket.expect("hello").await;
    socket.send(&json!({"type": "resume", "epoch": here.epoch, "since": 497})).await;
    let (seqs, end) = replayed(&mut socket).await;
    assert_eq!((seqs, &end["type"]), (vec![498, 499, 500], &json!("resumed")));
    // Once only.
    socket.send(&json!({"type": "resume", "epoch": here.epoch, "since": 0})).await;
    assert_eq!(socket.next_json().await["type"], "error");
}

#[tokio::test]
async fn live_ones_wait_behind_the_replay() {
    let host = TestHost::shared().await;
    let here = hello(host, &unique("mixed")).await;
    for n in 0..30 {
        host.api().notify(&here.user, &format!("old{n}")).await;
    }
    let writer = {
        let (api, user) = (host.api(), here.user.clone());
        tokio::spawn(async move {
            for n in 0..30 {
                api.notify(&user, &format!("new{n}")).await;
            }
        })
    };
    let mut socket = Connect::to(host).token(&token::user(&here.user)).v1().resume(&here.epoch, here.head).open().await;
    let head = socket.expect("hello").await["data"]["head_seq"].as_i64().unwrap();
    let (seqs, end) = replayed(&mut socket).await;
    assert_eq!(seqs, (1..=head).collect::<Vec<_>>());
    assert_eq!((&end["type"], &end["data"]["to"]), (&json!("resumed"), &json!(head)));
    writer.await.unwrap();
    for seq in head + 1..=60 {
        assert_eq!(socket.wait_for("notification").await["seq"], seq);
    }
}

#[tokio::test]
async fn archived_ones_are_skipped_and_covered() {
    let host = TestHost::shared().await;
    let here = hello(host, &unique("holes")).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(host.api().notify(&here.user, &format!("n{n}")).await);
    }
    let body = json!({"ids": [ids[1], ids[3]], "as": "archived"});
    host.me(&here.user).post("/api/v1/me/notifications/mark", &body).await.expect(200);
    let mut socket = Connect::to(host).token(&token::user(&here.user)).v1().resume(&here.epoch, 0).open().await;
    socket.expect("hello").await;
    let (seqs, end) = replayed(&mut socket).await;
    assert_eq!((seqs, &end["data"]["to"]), (vec![1, 3], &json!(4)));
}

#[tokio::test]
async fn what_cannot_be_resumed_is_reset() {
    let host = TestHost::builder().set("websocket.resume_max", "10").start().await;
    let here = hello(&host, &unique("lost")).await;
    for n in 0..11 {
        host.api().notify(&here.user, &format!("n{n}")).await;
    }
    for (what, epoch, since) in [
        ("too many", here.epoch.as_str(), 0),
        ("a foreign epoch", "other", 5),
        ("beyond the head", &here.epoch, 12),
        ("below zero", &here.epoch, -1),
    ] {
        let mut socket = Connect::to(&host).token(&token::user(&here.user)).v1().resume(epoch, since).open().await;
        let hello = socket.expect("hello").await;
        let reset = socket.next_json().await;
        assert_eq!(reset["type"], "reset", "{what}: {reset}");
        assert!(reset["data"]["reason"].is_string(), "{what}: {reset}");
        assert_eq!((&reset["data"]["epoch"], &reset["data"]["head_seq"]), (&hello["data"]["epoch"], &json!(11)));
        assert_eq!(reset["data"]["counts"]["unread"], 11);
        assert!(socket.settle().await.is_empty(), "all or nothing: {what}");
    }
    let mut socket = Connect::to(&host).token(&token::user(&here.user)).v1().resume(&here.epoch, 1).open().await;
    socket.expect("hello").await;
    assert_eq!(replayed(&mut socket).await.0.len(), 10);
}

#[tokio::test]
async fn a_cursor_survives_a_restart() {
    let mut host = TestHost::start().await;
    let here = hello(&host, &unique("restart")).await;
    host.api().notify(&here.user, "one").await;
    host.restart().await;
    host.api().notify(&here.user, "two").await;
    let mut socket = Connect::to(&host).token(&token::user(&here.user)).v1().resume(&here.epoch, 0).open().await;
    socket.expect("hello").await;
    assert_eq!(replayed(&mut socket).await.0, [1, 2]);
}

#[tokio::test]
async fn a_socket_that_was_cut_off_gets_the_rest_by_itself() {
    // Everything that the proxy holds back arrives once it opens, in order and without a second copy.
    let host = TestHost::shared().await;
    let user = unique("cut");
    let proxy = Proxy::to(host.address()).await;
    let mut socket = Connect::to(host).via(proxy.address()).token(&token::user(&user)).v1().open().await;
    socket.expect("hello").await;
    proxy.set(Mode::BlackHole);
    for n in 0..20 {
        host.api().notify(&user, &format!("n{n}")).await;
    }
    proxy.set(Mode::Pass);
    for seq in 1..=20 {
        assert_eq!(socket.expect("notification").await["seq"], seq);
    }
    assert!(socket.settle().await.is_empty());
}
