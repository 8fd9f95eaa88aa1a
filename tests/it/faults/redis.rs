//! The other bus: killed, and behind a line that swallows; a hint that is lost.

use crate::{more_accepted, people, steady};
use campanile_tests::{
    fleet::{Carrier, Fleet},
    prelude::*,
    services::Site,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_or_swallowed_both_nodes_push_live_again() {
    let site = Site::take().await;
    let proxy = Proxy::to(site.redis().await.address()).await;
    let address = proxy.address();
    let via = move |n: usize, b: HostBuilder| if n == 0 { b.via("bus.url", address) } else { b };
    let mut fleet = Fleet::start(site, 2, Carrier::Redis, via).await;
    let users = people(4);
    fleet.people(&users, 2).await;
    fleet.pushes_live().await;
    let load = fleet.load(&steady("w", &users));
    let redis = fleet.redis().await;
    redis.kill9().await;
    more_accepted(&fleet, 30).await;
    redis.revive().await;
    let took = fleet.pushes_live().await;
    eprintln!("live pushes between both nodes {took:?} after Redis was up");
    proxy.swallow();
    let took = fleet.pushes_live().await;
    eprintln!("live pushes between both nodes {took:?} after connections to Redis were swallowed");
    fleet.healthy("the bus was killed and swallowed").await;
    load.stop().await;
    fleet.judge("bus killed").await;
}

/// The node has not noticed yet that its bus is dead, and the hint is lost for good: the heartbeat's look at the head shows
/// what it was about.
#[tokio::test]
async fn a_lost_hint_is_made_good_by_the_heartbeat() {
    let site = Site::take().await;
    let proxy = Proxy::to(site.redis().await.address()).await;
    let address = proxy.address();
    let change = move |n: usize, b: HostBuilder| {
        let b = b.text("websocket.heartbeat", "2s");
        if n == 0 { b.via("bus.url", address) } else { b }
    };
    let mut fleet = Fleet::start(site, 2, Carrier::Redis, change).await;
    fleet.people(&people(1), 0).await;
    fleet.pushes_live().await;
    let mut socket = Connect::to(&fleet.nodes[0]).token(&token::user("user0")).v1().open().await;
    socket.expect("hello").await;
    proxy.swallow();
    let api = fleet.nodes[1].api();
    let id = fleet.record.post(&api, "hinted", "user0", &["websocket"], &Value::Null).await.expect("accepted");
    let shown = socket.wait_for("notification").await;
    assert_eq!(shown["data"]["notification_id"], id.to_string());
    fleet.judge("hint lost").await;
}
