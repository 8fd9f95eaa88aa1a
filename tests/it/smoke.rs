//! The shortest way through: it starts, accepts, shows, stops.

use campanile_tests::prelude::*;

#[tokio::test]
async fn a_host_starts_takes_a_notification_and_stops() {
    let mut host = TestHost::start().await;
    let user = campanile_tests::unique("ada");
    let id = host.api().notify(&user, "Hello").await;
    host.api().delivery_until(&id, "websocket", "sent", |d| d["state"] == "sent" || d["state"] == "delivered").await;
    let feed = host.me(&user).feed().await;
    assert_eq!(feed.len(), 1);
    assert_eq!(feed[0]["title"], "Hello");
    host.stop().await;
}
