//! A client that never reads costs a bounded amount of memory, is closed 4408, and can come back for the rest.

use campanile_tests::{prelude::*, proxy::Mode, token, unique};

/// Three thousand messages of 4 KB, read by `fast` as they come; returns the head.
async fn load(host: &TestHost, user: &str, fast: &mut Socket) -> i64 {
    let message = "x".repeat(3900);
    let item = |n| json!({"user_id": user, "title": format!("n{n}"), "message": message, "channels": ["websocket"]});
    let batch = json!({"notifications": (0..500).map(item).collect::<Vec<_>>()});
    let mut head = 0;
    for _ in 0..6 {
        host.api().post("/api/v1/notifications/batch", &batch).await.expect(202);
        for _ in 0..500 {
            head = fast.wait_for("notification").await["seq"].as_i64().unwrap();
        }
    }
    head
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_resumes() {
    let host = TestHost::builder().text("websocket.write_stall", "3s").start().await;
    let user = unique("slow");
    let mut fast = Connect::to(&host).token(&token::user(&user)).v1().open().await;
    let epoch = fast.expect("hello").await["data"]["epoch"].as_str().unwrap().to_owned();
    // The same load without a slow reader first, until the database's page caches have their size.
    let mut size = host.private_bytes();
    for _ in 0..12 {
        load(&host, &user, &mut fast).await;
        let last = std::mem::replace(&mut size, host.private_bytes());
        if size < last + 1024 * 1024 {
            break;
        }
    }

    let proxy = Proxy::to(host.address()).await;
    let mut slow = Connect::to(&host).via(proxy.address()).token(&token::user(&user)).v1().open().await;
    slow.expect("hello").await;
    proxy.set(Mode::NeverRead);
    // Some 12 MB towards a socket that takes nothing: far more than kernel buffers and the queue of 256 KiB hold.
    let head = load(&host, &user, &mut fast).await;
    let grown = host.private_bytes().saturating_sub(size);
    assert!(grown < 4 * 1024 * 1024, "memory grew by {grown} bytes");

    until("the slow socket is closed", || async {
        let closed = host.api().metrics().await;
        closed
            .iter()
            .any(|(k, v)| k.starts_with("campanile_connections_closed_total") && k.contains("slow") && *v > 0.0)
            .then_some(())
    })
    .await;
    fast.settle().await;
    let mut back = Connect::to(&host).token(&token::user(&user)).v1().resume(&epoch, head - 5).open().await;
    back.expect("hello").await;
    for seq in head - 4..=head {
        assert_eq!(back.expect("notification").await["seq"], seq);
    }
    back.expect("resumed").await;
}

#[tokio::test]
async fn a_slow_client_that_goes_on_reading_gets_everything_in_order() {
    let host = TestHost::shared().await;
    let user = unique("slow");
    let proxy = Proxy::to(host.address()).await;
    proxy.throttle(4_000_000);
    let mut socket = Connect::to(host).via(proxy.address()).token(&token::user(&user)).v1().open().await;
    socket.expect("hello").await;
    let message = "x".repeat(3900);
    let items: Vec<_> = (0..400)
        .map(|n| json!({"user_id": user, "title": format!("n{n}"), "message": message, "channels": ["websocket"]}))
        .collect();
    host.api().post("/api/v1/notifications/batch", &json!({"notifications": items})).await.expect(202);
    // More than the queue holds is read from the feed, and each such reading ends with the counts as they are by then; where
    // the batch comes in several commits there may be several.
    let (mut seq, mut version) = (0, 0);
    while seq < 400 {
        let frame = socket.next_json().await;
        match frame["type"].as_str() {
            Some("notification") => {
                seq += 1;
                assert_eq!(frame["seq"], seq);
            }
            Some("counts") => {
                let newer = frame["data"]["version"].as_i64().unwrap();
                assert!(newer > version, "counts of version {newer} after {version}");
                version = newer;
            }
            _ => panic!("{frame}"),
        }
    }
}
