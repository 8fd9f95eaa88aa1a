//! A rolling restart of both nodes behind each balancer, under load: nothing lost, nothing doubled, everybody back.

use super::balance::{in_front, logs_no_token, nodes};
use campanile_tests::{
    balancer::{Balancer, Kind},
    checker,
    device::Device,
    history::Final,
    host::API_KEY,
    load::Recorder,
    prelude::*,
    socket::Got,
};
use std::{net::SocketAddr, time::Instant};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const USERS: usize = 8;
const WRITERS: usize = 4;

/// An application that repeats a call, with its key, until it hears 202.
fn writer(n: usize, balancer: &Balancer, record: &Recorder, stop: &CancellationToken) -> JoinHandle<()> {
    let api = Api::new(&balancer.url(""), API_KEY);
    let (record, stop) = (record.clone(), stop.clone());
    tokio::spawn(async move {
        for post in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let (key, user) = (format!("w{n}-{post}"), format!("u{}", (post + n) % USERS));
            record.post_until_accepted(|| Some(api.clone()), &key, &user, &["websocket"], &Value::Null).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// A page that keeps a socket open and comes back as often as it is told to; returns how it was told.
fn page(at: SocketAddr, stop: &CancellationToken) -> JoinHandle<Vec<u16>> {
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut codes = Vec::new();
        while !stop.is_cancelled() {
            let Ok(mut socket) = Connect::at(at).token(&token::user("page")).v1().try_open().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            loop {
                tokio::select! {
                    got = socket.next_within(Duration::from_hours(1)) => if let Some(Got::Closed(closed)) = got {
                        codes.push(closed.code);
                        break;
                    },
                    () = stop.cancelled() => return codes,
                }
            }
        }
        codes
    })
}

/// Stops a node as a supervisor would and starts it again on its address; returns when the balancer uses it.
async fn restart(node: &mut TestHost) {
    node.stop().await;
    node.launch().await;
    until("the balancer uses the node again", || async {
        let metrics = node.api().metrics().await;
        let calls = metrics.iter().filter(|(series, _)| {
            series.starts_with("campanile_http_requests_total") && series.contains("route=\"/api/v1/notifications\"")
        });
        (calls.map(|(_, n)| n).sum::<f64>() > 0.0).then_some(())
    })
    .await;
}

async fn rolling_restart(kind: Kind, drain_delay: &str) {
    let mut nodes = nodes(|b| b.text("server.drain_spread", "1s").text("server.drain_delay", drain_delay)).await;
    let balancer = in_front(kind, &nodes).await;
    let (record, stop) = (Recorder::default(), CancellationToken::new());
    let (_address, address) = watch::channel(vec![balancer.address()]);
    let devices: Vec<_> = (0..USERS)
        .map(|n| {
            let user = format!("u{n}");
            (Device::start(&format!("phone of {user}"), &user, address.clone(), &record), user)
        })
        .collect();
    let pages: Vec<_> = (0..6).map(|_| page(balancer.address(), &stop)).collect();
    let writers: Vec<_> = (0..WRITERS).map(|n| writer(n, &balancer, &record, &stop)).collect();
    until("there is load", || async { (record.with(|h| h.posts.len()) > 100).then_some(()) }).await;
    for node in &mut nodes {
        restart(node).await;
    }
    stop.cancel();
    for writer in writers {
        writer.await.unwrap();
    }
    for page in pages {
        let codes = page.await.unwrap();
        // Wherever it was, that node was restarted.
        assert!(!codes.is_empty(), "a socket was never closed");
        assert!(codes.iter().all(|code| *code == 1012), "closed with {codes:?}");
    }
    let (stopped, db) = (Instant::now(), nodes[0].db().await);
    let heads = Final::read(&db).await.users;
    for (device, user) in devices {
        let head = heads.iter().find(|u| u.user_id == user).map_or(0, |u| u.head_seq);
        device.finish(head).await;
    }
    let shown = stopped.elapsed();
    let mut history = record.take();
    history.end = Final::read(&db).await;
    checker::assert_holds(&history);
    let accepted = history.posts.iter().filter(|p| p.id.is_some()).count();
    let repeated = history.posts.len() - accepted;
    let frames = history.arrivals.len();
    eprintln!("{kind:?}: {accepted} accepted, {repeated} repeated, {frames} frames, all shown after {shown:?}");
    assert!(accepted > 100);
    if kind == Kind::Haproxy {
        // It asks /readyz, so it had looked elsewhere before a port was closed.
        assert_eq!(repeated, 0, "callers saw the restart");
    }
    logs_no_token(&balancer, &token::user("u0")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_haproxy_is_not_noticed() {
    rolling_restart(Kind::Haproxy, "3s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_nginx_loses_nothing() {
    rolling_restart(Kind::Nginx, "0s").await;
}
