//! A broker that goes, that is silent, that was never there.

use super::*;
use crate::connection::bus::{NodeBus, outgoing::Limits};
use campanile_model::ports::Bus;
use std::{net::SocketAddr, time::Duration};

async fn a_cut_link_comes_back_and_asks_for_a_catch_up_once(place: Place) {
    let (a, proxy) = (place.node().await, place.proxy().await);
    let b = place.node_at(proxy.address()).await;
    proxy.set(Mode::Cut);
    b.is(false).await;
    a.publish(named("nobody there"));
    // While the broker is away, publishing is what it always is: immediate, and heard here.
    let names: Vec<_> = (0..1000).map(|n| format!("b{n}")).collect();
    for name in &names {
        b.publish(named(name));
    }
    assert_eq!(b.ear.names(), names);
    proxy.set(Mode::Pass);
    b.is(true).await;
    a.publish(named("back"));
    b.ear.hears("back").await;
    // What was said meanwhile is not stale yet.
    a.ear.hears("b999").await;
    assert_eq!(a.ear.names().iter().filter(|n| n.starts_with('b') && *n != "back").count(), 1000);
    b.ear.until("the return is told", |ear| ear.missed() >= 2).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(b.ear.missed(), 2, "the first connection and the second");
    assert!(!b.ear.names().contains(&"nobody there".to_owned()));
}

async fn a_link_that_is_silent_is_a_dead_one(place: Place) {
    let (a, proxy) = (place.node().await, place.proxy().await);
    let b = place.node_at(proxy.address()).await;
    proxy.set(Mode::BlackHole);
    // Nothing is said by anybody here: the link is tried by itself.
    b.is(false).await;
    let why = b.health().unwrap_err().to_string();
    assert!(why.contains("did not come back"), "{why}");
    proxy.set(Mode::Pass);
    b.is(true).await;
    a.publish(named("again"));
    b.ear.hears("again").await;
    b.ear.until("the return is told", |ear| ear.missed() == 2).await;
}

async fn what_was_dropped_is_noticed_by_the_others(place: Place) {
    let (a, proxy) = (place.node().await, place.proxy().await);
    let limits = Limits { signals: 10, ..Limits::default() };
    let b = Node::over(place.transport(proxy.address()), limits).up().await;
    b.publish(named("known"));
    a.ear.hears("known").await;
    proxy.set(Mode::Cut);
    b.is(false).await;
    (0..25).for_each(|n| b.publish(named(n.to_string())));
    assert_eq!(a.ear.missed(), 1);
    proxy.set(Mode::Pass);
    a.ear.hears("24").await;
    a.ear.until("the loss is told", |ear| ear.missed() == 2).await;
    assert_eq!(b.dropped("overflow"), 15);
    assert!(a.dropped("lost") >= 1);
    assert_eq!(a.ear.names().len(), 11);
}

async fn a_broker_that_is_not_there_hinders_nobody(place: Place) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere: SocketAddr = free.local_addr().unwrap();
    drop(free);
    let node = Node::over(place.transport(nowhere), Limits::default());
    node.publish(named("x"));
    assert_eq!(node.ear.names(), ["x"]);
    node.is(false).await;
    node.close().await;
}

exam![
    a_cut_link_comes_back_and_asks_for_a_catch_up_once,
    a_link_that_is_silent_is_a_dead_one,
    what_was_dropped_is_noticed_by_the_others,
    a_broker_that_is_not_there_hinders_nobody,
];
