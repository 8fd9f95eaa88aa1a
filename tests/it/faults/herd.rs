//! Two thousand clients that lose their node at once.

use crate::people;
use campanile_tests::{
    fleet::{Carrier, Fleet},
    prelude::*,
    services::Site,
    wait::until_within,
};
use std::time::Instant;

const EACH: usize = 10;
const USERS: usize = 200;

async fn connections(host: &TestHost) -> usize {
    let all = host.api().metrics().await;
    all.iter().filter(|(name, _)| name.starts_with("campanile_connections{")).map(|(_, n)| *n as usize).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_drained_node_come_back_spread_and_miss_nothing() {
    let mut fleet = Fleet::prepare(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    fleet.nodes[0].launch().await;
    fleet.tell();
    let users = people(USERS);
    fleet.people(&users, EACH).await;
    let all = USERS * EACH;
    until_within(Duration::from_mins(1), "all are connected", || async {
        (connections(&fleet.nodes[0]).await == all).then_some(())
    })
    .await;
    fleet.nodes[1].launch().await;
    fleet.tell();
    fleet.nodes[0].term();
    // While they are away something comes for each.
    let api = fleet.nodes[1].api();
    for user in &users {
        fleet.record.post(&api, &format!("for {user}"), user, &["websocket"], &Value::Null).await.expect("accepted");
    }
    assert!(fleet.nodes[0].wait_exit(Duration::from_secs(40)).await.success());
    fleet.tell();
    let (mut first, mut last) = (None, Instant::now());
    let left = Instant::now();
    loop {
        let back = connections(&fleet.nodes[1]).await;
        if back >= all / 20 {
            first.get_or_insert_with(Instant::now);
        }
        if back <= all * 19 / 20 {
            last = Instant::now();
        }
        if back == all {
            break;
        }
        assert!(left.elapsed() < Duration::from_mins(1), "{back} of {all} are back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let spread = last.saturating_duration_since(first.expect("they came back"));
    eprintln!(
        "{all} clients are back {:?} after the node was gone, nine tenths of them within {spread:?}",
        left.elapsed()
    );
    assert!(spread >= Duration::from_secs(5), "they came back within {spread:?}");
    fleet.nodes.remove(0);
    fleet.judge("two thousand clients").await;
}
