//! SIGTERM under load: everything accepted is kept, sockets are told to come back, the exit is clean and in time.

use campanile_tests::{checker, history::Final, load::Recorder, prelude::*, token, unique};
use std::time::Instant;

#[tokio::test]
async fn a_drain_under_load_loses_nothing() {
    let mut host = TestHost::builder().text("server.drain_spread", "2s").start().await;
    let record = Recorder::default();
    let mut sockets = Vec::new();
    for n in 0..30 {
        let mut socket = Connect::to(&host).token(&token::user(&format!("u{n}"))).v1().open().await;
        socket.expect("hello").await;
        sockets.push(socket);
    }
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (api, record) = (host.api(), record.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("w{writer}-{n}");
                    let user = format!("u{}", n % 30);
                    if record.post(&api, &key, &user, &["websocket"], &Value::Null).await.is_none() {
                        return;
                    }
                }
            })
        })
        .collect();
    until("there is load", || async { (record.take().posts.len() > 50).then_some(()) }).await;
    let start = Instant::now();
    host.term();
    let closings: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            tokio::spawn(async move {
                let closed = socket.closed().await;
                (closed.code, start.elapsed())
            })
        })
        .collect();
    let mut times = Vec::new();
    for closing in closings {
        let (code, at) = closing.await.unwrap();
        assert_eq!(code, 1012);
        times.push(at);
    }
    times.sort();
    let spread = times[times.len() - 1].saturating_sub(times[0]);
    assert!(spread >= Duration::from_millis(500), "thirty sockets were closed within {spread:?}");
    let status = host.wait_exit(Duration::from_secs(35)).await;
    assert!(status.success(), "{status}: {}", host.output());
    assert!(start.elapsed() < Duration::from_secs(30));
    for writer in writers {
        writer.await.unwrap();
    }
    let db = host.db().await;
    assert_eq!(db.count("SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL").await, 0, "a lease is left");
    let mut history = record.take();
    history.end = Final::read(&db).await;
    checker::assert_holds(&history);
}

#[tokio::test]
async fn v1_sockets_hear_bye_and_readiness_goes_off() {
    let mut host = TestHost::builder().text("server.drain_spread", "3s").start().await;
    assert_eq!(host.api().get("/readyz").await.status, 200);
    let mut socket = Connect::to(&host).token(&token::user(&unique("u"))).v1().open().await;
    socket.expect("hello").await;
    // A connection from before: the listener may be closed already when the drain has begun.
    let api = host.api();
    host.term();
    let bye = socket.wait_for("bye").await;
    assert!(bye["data"]["after_ms"].is_i64() && bye["data"]["spread_ms"].is_i64(), "{bye}");
    if let Ok(reply) = api.try_run(api.request("GET", "/readyz")).await {
        assert_eq!(reply.status, 503);
    }
    assert_eq!(socket.closed().await.code, 1012);
    assert!(host.wait_exit(Duration::from_secs(35)).await.success());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut host = TestHost::builder().text("server.drain_spread", "20s").start().await;
    let mut socket = Connect::to(&host).token(&token::user(&unique("u"))).v1().open().await;
    socket.expect("hello").await;
    let id = host.api().notify("ada", "kept").await;
    host.term();
    socket.wait_for("bye").await;
    let start = Instant::now();
    host.term();
    host.wait_exit(Duration::from_secs(5)).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    host.launch().await;
    assert_eq!(host.me("ada").feed().await[0]["notification_id"], id.as_str());
}

#[tokio::test]
async fn an_idle_host_stops_quickly() {
    let mut host = TestHost::start().await;
    let start = Instant::now();
    host.stop().await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
