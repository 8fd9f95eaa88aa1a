//! Nodes killed, and frozen past their lease.

use crate::{more_accepted, people, steady};
use campanile_tests::{
    fleet::{Carrier, Fleet},
    prelude::*,
    services::Site,
    smtp::{Act, Step},
    wait::until_within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_the_other_goes_on_and_nothing_is_lost() {
    let mut fleet =
        Fleet::start(Site::take().await, 2, Carrier::RabbitMq, |_, b| b.text("websocket.heartbeat", "2s")).await;
    let users = people(6);
    fleet.people(&users, 2).await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 20).await;
    for node in [0, 1, 0] {
        fleet.kill9(node).await;
        more_accepted(&fleet, 20).await;
        fleet.revive(node).await;
        fleet.healthy("a node was killed and started again").await;
        more_accepted(&fleet, 10).await;
    }
    load.stop().await;
    fleet.judge("nodes killed").await;
}

/// What a dead node had claimed is done by the other while the first stays dead: only time frees a lease.
#[tokio::test]
async fn a_dead_nodes_claims_are_taken_over() {
    let mut fleet = Fleet::prepare(Site::take().await, 2, Carrier::RabbitMq, |n, b| {
        if n == 0 { b.failpoints("effect.before=3") } else { b }
    })
    .await;
    fleet.nodes[0].launch().await;
    fleet.tell();
    fleet.people(&people(1), 0).await;
    for n in 0..4 {
        fleet.record.post(&fleet.nodes[0].api(), &format!("m{n}"), "user0", &["email"], &Value::Null).await;
    }
    fleet.nodes[0].wait_exit(DEADLINE).await;
    fleet.nodes[1].launch().await;
    let db = fleet.db().await;
    until("the other node has done it all", || async {
        let open = db.count("SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending', 'retrying')").await;
        (open == 0).then_some(())
    })
    .await;
    let lost = db.attempts().await.into_iter().filter(|a| a.outcome == "lost").count();
    assert!(lost >= 1, "no lost attempt is on record");
    fleet.nodes[0].disarm();
    fleet.nodes[0].launch().await;
    fleet.tell();
    fleet.judge("claims taken over").await;
}

/// A worker that stands still while the relay takes its mail, longer than its lease: the other node sends it again, and
/// what the first says when it wakes changes nothing.
#[tokio::test]
async fn frozen_past_its_lease_a_worker_is_fenced() {
    let mut fleet = Fleet::prepare(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    fleet.nodes[0].launch().await;
    fleet.tell();
    fleet.people(&people(1), 0).await;
    // The first answer to a final dot comes when the worker is frozen already.
    fleet.relay.script(Step::Dot, [Act::Late(Duration::from_secs(1), "250 2.0.0 taken".into())]);
    let api = fleet.nodes[0].api();
    let id = fleet.record.post(&api, "slow", "user0", &["email"], &Value::Null).await.expect("accepted").to_string();
    fleet.relay.wait_for_command("DATA", 1).await;
    fleet.nodes[0].freeze();
    fleet.nodes[1].launch().await;
    let other = fleet.nodes[1].api();
    let sent = until_within(Duration::from_mins(1), "the other node has sent it", || async {
        let detail = other.notification(&id).await;
        detail["deliveries"].as_array()?.iter().find(|d| d["state"] == "sent").cloned()
    })
    .await;
    fleet.relay.wait_for(2).await;
    fleet.nodes[0].thaw();
    fleet.tell();
    fleet.healthy("a worker was frozen past its lease").await;
    // Awake, the first one finishes an attempt that is not its own any more; a later mail shows that it has gone on.
    fleet.record.post(&api, "later", "user0", &["email"], &Value::Null).await.expect("accepted");
    fleet.relay.wait_for(3).await;
    let after = other.notification(&id).await["deliveries"][0].clone();
    let attempts = |d: &Value| d["attempts"].as_array().map_or(0, Vec::len);
    assert_eq!((&after["state"], attempts(&after)), (&sent["state"], attempts(&sent)), "{after}");
    let attempts = after["attempts"].as_array().unwrap();
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["uncertain"]), (&json!("lost"), &json!(true)), "{after}");
    assert_eq!(attempts[1]["outcome"], "ok", "{after}");
    let history = fleet.judge("worker frozen").await;
    let twice = history.mails.iter().filter(|m| m.message_id == history.mails[0].message_id).count();
    assert_eq!(twice, 2, "the relay took it from both");
}
