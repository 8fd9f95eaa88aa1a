//! Instances on two nodes of one database: what one is told, the other follows; a rate is shared.

use campanile_tests::{prelude::*, smtp::SmtpServer};

#[tokio::test]
async fn every_node_follows_and_has_its_share_of_the_rate() {
    let relay = SmtpServer::start().await;
    let one =
        TestHost::builder().production().text("cluster.heartbeat", "1s").text("plugins.secret_key", &"k".repeat(32));
    let one = one.start().await;
    let mut two = one.peer();
    two.launch().await;
    let new = json!({"name": "relay", "plugin": "email", "limits": {"rate": {"limit": 10, "per": "second"}},
        "config": {"url": relay.url(), "from": "Relay <relay@example.org>"}});
    one.api().post("/api/v1/instances", &new).await.expect(201);
    let seen = async |host: &TestHost, what: &str, good: fn(&Value) -> bool| {
        until(what, || async {
            let reply = host.api().get("/api/v1/instances").await.expect(200);
            reply["items"].as_array()?.iter().find(|i| i["name"] == "relay" && good(i)).cloned()
        })
        .await
    };
    for host in [&one, &two] {
        let half = seen(host, "the rate is shared by two", |i| i["rate"]["effective_per_second"] == 5.0).await;
        assert_eq!(
            (&half["rate"]["limit"], &half["rate"]["nodes"], &half["state"]),
            (&json!(10), &json!(2), &json!("running"))
        );
    }
    one.api().post("/api/v1/instances/relay/disable", &json!({})).await.expect(200);
    seen(&two, "the other node has switched it off", |i| i["state"] == "disabled").await;
    two.api().post("/api/v1/instances/relay/enable", &json!({})).await.expect(200);
    seen(&one, "and on again", |i| i["state"] == "running").await;
    let id = one
        .api()
        .accepted(&json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": "T", "channels": ["email"]}))
        .await;
    one.api().state(&id, "email", "sent").await;
    two.stop().await;
    seen(&one, "the whole rate is its own", |i| i["rate"]["effective_per_second"] == 10.0).await;
}
