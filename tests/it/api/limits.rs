//! Rates and loads: too much is refused before anything is written, and says when to come back.

use campanile_tests::{prelude::*, unique};

#[tokio::test]
async fn a_key_over_its_rate_gets_429_with_retry_after() {
    let host = TestHost::builder().set("auth.key_rate", "1").set("auth.key_burst", "5").start().await;
    let user = unique("fast");
    let mut accepted = 0;
    let mut refused = None;
    for n in 0..12 {
        let reply =
            host.api().send(&json!({"user_id": user, "title": format!("n{n}"), "channels": ["websocket"]})).await;
        match reply.status {
            202 => accepted += 1,
            _ => refused = Some(reply),
        }
    }
    let refused = refused.expect("the rate was never enforced");
    refused.problem(429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!((5..12).contains(&accepted), "{accepted} were accepted");
    assert_eq!(host.me(&user).feed().await.len(), accepted, "a refused one left a trace");
}

#[tokio::test]
async fn a_backlog_over_the_limit_is_503_before_anything_is_written() {
    let host = TestHost::builder().set("ingest.max_backlog", "3").start().await;
    let user = unique("backlog");
    let later = json!({"user_id": user, "title": "T", "channels": ["websocket"], "send_at": "2099-01-01T00:00:00Z"});
    let refused = until("the backlog is full", || async {
        let reply = host.api().send(&later).await;
        (reply.status != 202).then_some(reply)
    })
    .await;
    assert!(matches!(refused.status, 429 | 503), "{}", refused.text);
    refused.problem(refused.status);
    assert!(!refused.header("retry-after").is_empty());
}
