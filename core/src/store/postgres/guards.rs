//! What guards a node against its own database: limits of time, a pool that has lost its permits.
//!
//! Each runs where `CAMPANILE_TEST_ENGINES` names postgres, as the exam does.

use super::{
    Settings, Watchdog, open,
    open::Role,
    pool::{self, Patience},
    tests::{node, on_postgres, silenceable},
};
use crate::{
    observe::Metrics,
    store::exam::{note, user},
};
use campanile_model::ports::{AcceptStore, FeedStore, StoreError};
use sqlx::{Connection as _, PgConnection};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

fn watchdog(settings: &Settings, pool: &pool::Pool, metrics: &Arc<Metrics>) -> Watchdog {
    Watchdog {
        settings: settings.clone(),
        pool: pool.clone(),
        size: Arc::new(AtomicU64::new(0)),
        metrics: metrics.clone(),
        lost: Duration::from_millis(1),
    }
}

async fn through_a_proxy(settings: &mut Settings) -> tokio::sync::watch::Sender<bool> {
    let (port, silence) = silenceable((settings.options.get_host().to_owned(), settings.options.get_port())).await;
    settings.options = settings.options.clone().host("127.0.0.1").port(port);
    silence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_replaced_when_its_permits_are_lost_and_not_when_the_server_is() {
    on_postgres(async |mut settings| {
        let silence = through_a_proxy(&mut settings).await;
        let (pool, metrics) = (pool::Pool::new(settings.clone()), Arc::new(Metrics::new()));
        let watchdog = watchdog(&settings, &pool, &metrics);
        drop(pool.lease(Patience::Api).await.unwrap());
        watchdog.look().await;
        assert_eq!(metrics.db_pool_replaced.get(), 0, "all is well");

        // Nobody gives these back: what a leak of the library would do.
        let mut leaked = Vec::new();
        for _ in 0..settings.readers {
            leaked.push(pool.lease(Patience::Api).await.unwrap());
        }
        silence.send(true).unwrap();
        assert!(pool.lease(Patience::Api).await.is_err());
        while pool.failing_for() < watchdog.lost {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        watchdog.look().await;
        assert_eq!(metrics.db_pool_replaced.get(), 0, "a silent server is not the pool's fault");

        silence.send(false).unwrap();
        watchdog.look().await;
        assert_eq!(metrics.db_pool_replaced.get(), 1);
        let mut lease = pool.lease(Patience::Api).await.unwrap();
        lease
            .run("asking", async |conn| conn.execute(crate::store::sql::statement::sql("SELECT 1")).await)
            .await
            .unwrap();
        watchdog.look().await;
        assert_eq!(metrics.db_pool_replaced.get(), 1, "once is enough");
        drop(leaked);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_leaves_before_a_job_does() {
    on_postgres(async |settings| {
        let pool = pool::Pool::new(settings.clone());
        let mut all = Vec::new();
        for _ in 0..settings.readers {
            all.push(pool.lease(Patience::Api).await.unwrap());
        }
        let job = tokio::spawn({
            let pool = pool.clone();
            async move { pool.lease(Patience::Job).await.map(drop) }
        });
        assert!(matches!(pool.lease(Patience::Api).await, Err(StoreError::Unavailable(_))));
        assert!(!job.is_finished(), "the job has more patience");
        drop(all);
        job.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_its_limits() {
    on_postgres(async |mut settings| {
        settings.lock_timeout = Duration::from_millis(1_234);
        for (role, statement) in [(Role::Reader, "9s"), (Role::Writer, "8s"), (Role::Migration, "0")] {
            let mut conn = open::connect(&settings, role).await.unwrap();
            let show = async |conn: &mut PgConnection, what: &'static str| -> String {
                sqlx::query_scalar(what).fetch_one(conn).await.unwrap()
            };
            assert_eq!(show(&mut conn, "SHOW statement_timeout").await, statement, "{role:?}");
            assert_eq!(show(&mut conn, "SHOW lock_timeout").await, "1234ms");
            assert_eq!(show(&mut conn, "SHOW idle_in_transaction_session_timeout").await, "15s");
            assert_eq!(show(&mut conn, "SHOW synchronous_commit").await, "on");
            assert_eq!(show(&mut conn, "SHOW jit").await, "off");
            assert_eq!(show(&mut conn, "SHOW random_page_cost").await, "1.1");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_stays_locked_costs_its_callers_an_answer_and_nobody_else() {
    on_postgres(async |mut settings| {
        settings.lock_timeout = Duration::from_millis(200);
        let store = node(&settings).await;
        store.accept(note("ada").item()).await.unwrap();
        let mut other = PgConnection::connect_with(&settings.options).await.unwrap();
        let mut held = other.begin().await.unwrap();
        sqlx::query("SELECT 1 FROM user_state WHERE user_id = 'ada' FOR UPDATE").execute(&mut *held).await.unwrap();
        let stuck = tokio::spawn({
            let store = store.clone();
            async move { store.accept(note("ada").item()).await }
        });
        // The other writers go on meanwhile.
        for _ in 0..20 {
            store.accept(note("bo").item()).await.unwrap();
        }
        assert!(stuck.await.unwrap().is_err(), "the caller hears of it");
        held.rollback().await.unwrap();
        store.accept(note("ada").item()).await.unwrap();
        assert_eq!(store.feed_state(&user("bo")).await.unwrap().head_seq, 20);
        let ada = store.feed_state(&user("ada")).await.unwrap();
        assert_eq!(ada.head_seq, ada.counts.total, "what was refused left nothing");
    })
    .await;
}
