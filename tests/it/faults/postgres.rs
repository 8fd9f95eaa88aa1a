//! The database killed, and frozen.

use crate::{ended_since, more_accepted, people, steady};
use campanile_tests::{
    fleet::{Carrier, Fleet, slowest_since},
    history::{History, Outcome},
    prelude::*,
    proxy::Mode,
    services::Site,
};
use sqlx::{Connection as _, PgConnection};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_back_sockets_stay_open_and_nothing_is_lost() {
    let mut fleet = Fleet::start(Site::take().await, 2, Carrier::None, |_, b| b).await;
    let users = people(6);
    fleet.people(&users, 1).await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 30).await;
    let since = fleet.record.with(History::moment);
    let postgres = fleet.postgres().await;
    for _ in 0..2 {
        postgres.kill9().await;
        // Callers meet the outage before it ends.
        until("calls are refused", || async {
            fleet.record.with(|h| h.posts.last().is_some_and(|p| p.outcome == Outcome::Info)).then_some(())
        })
        .await;
        postgres.revive().await;
        fleet.healthy("the database was killed").await;
        more_accepted(&fleet, 20).await;
    }
    load.stop().await;
    assert_eq!(ended_since(&fleet.record.take(), since), [""; 0], "sockets were closed");
    fleet.judge("database killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_calls_fail_soon_and_every_connection_of_the_pool_works_again() {
    const READERS: usize = 4;
    let mut fleet =
        Fleet::start(Site::take().await, 1, Carrier::None, |_, b| b.set("database.readers", READERS.to_string())).await;
    let users = people(6);
    fleet.people(&users, 1).await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 30).await;
    let since = fleet.record.with(History::moment);
    let postgres = fleet.postgres().await;
    postgres.freeze();
    let start = Instant::now();
    // More readers than the pool has connections, all the time: each permit is in a silent statement when it is taken back.
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(20) {
        let me = fleet.nodes[0].me(&users[0]);
        let calls = (0..READERS * 2).map(|_| me.get("/api/v1/me/notifications?limit=5"));
        for reply in futures_util::future::join_all(calls).await {
            assert!(matches!(reply.status, 500..=599), "{}: {}", reply.status, reply.text);
            slowest = slowest.max(reply.took);
        }
    }
    let posted = fleet.record.with(|h| slowest_since(h, since));
    postgres.thaw();
    eprintln!("frozen: the slowest read took {slowest:?}, the slowest post {posted} ms");
    // The limit is 3 s; a busy machine may add its own.
    assert!(
        slowest < Duration::from_millis(3_900) && posted < 3_900,
        "reads took up to {slowest:?}, posts {posted} ms"
    );
    fleet.healthy("the database was frozen").await;
    load.stop().await;
    all_readers_work(&fleet, &users[0], READERS).await;
    assert_eq!(ended_since(&fleet.record.take(), since), [""; 0], "sockets were closed");
    fleet.judge("database frozen").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swallowed_connections_are_left_for_new_ones() {
    let site = Site::take().await;
    let proxy = Proxy::to(site.postgres().await.address()).await;
    let address = proxy.address();
    let mut fleet =
        Fleet::start(site, 2, Carrier::None, |n, b| if n == 0 { b.via("database.url", address) } else { b }).await;
    let users = people(4);
    fleet.people(&users, 1).await;
    let load = fleet.load(&steady("w", &users));
    more_accepted(&fleet, 20).await;
    let since = fleet.record.with(History::moment);
    // What is open stays open and never says a word again: nothing but time tells.
    proxy.swallow();
    fleet.healthy("connections to the database were swallowed").await;
    more_accepted(&fleet, 40).await;
    // A network that takes everything in, then one that answers no.
    for mode in [Mode::BlackHole, Mode::Reset] {
        proxy.set(mode);
        until("node 0 notices", || async { (fleet.nodes[0].api().get("/readyz").await.status == 503).then_some(()) })
            .await;
        more_accepted(&fleet, 10).await;
        proxy.set(Mode::Pass);
        fleet.healthy("the way to the database was closed").await;
    }
    load.stop().await;
    assert_eq!(ended_since(&fleet.record.take(), since), [""; 0], "sockets were closed");
    fleet.judge("database swallowed").await;
}

/// Readers wait for a lock that we hold, so all of the pool's connections are out at once, and all come back.
async fn all_readers_work(fleet: &Fleet, user: &str, readers: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !all_wait_then_answer(fleet, user, readers).await {
        assert!(Instant::now() < deadline, "not every connection of the pool works");
    }
}

async fn all_wait_then_answer(fleet: &Fleet, user: &str, readers: usize) -> bool {
    let mut ours = PgConnection::connect(fleet.database()).await.unwrap();
    let mut lock = PgConnection::connect(fleet.database()).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE feed IN ACCESS EXCLUSIVE MODE").execute(&mut lock).await.unwrap();
    let me = fleet.nodes[0].me(user);
    let call = |me: Api| async move { me.get("/api/v1/me/notifications?limit=5").await.status };
    let calls: Vec<_> = (0..readers).map(|_| tokio::spawn(call(me.clone()))).collect();
    let mut most = 0;
    for _ in 0..20 {
        let waiting = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'campanile'
                AND wait_event_type = 'Lock' AND query LIKE 'SELECT%FROM feed%'",
        );
        most = most.max(waiting.fetch_one(&mut ours).await.unwrap() as usize);
        if most == readers {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lock.close().await.unwrap();
    let mut good = 0;
    for call in calls {
        good += usize::from(call.await.unwrap() == 200);
    }
    eprintln!("{most} of {readers} readers waited at once, {good} answered");
    most == readers && good == readers
}
