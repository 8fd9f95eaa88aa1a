//! What only PostgreSQL has: several nodes on one database, a server that goes silent; and how fast it is.
//!
//! Each runs where `CAMPANILE_TEST_ENGINES` names postgres, as the exam does.

use super::{Settings, start};
use crate::{
    observe::Metrics,
    store::{
        exam::{LEASE, Recorder, actor, engines, ids, mail, note, user},
        sql::SqlStore,
    },
};
use campanile_model::{
    AppId, ChannelName, NodeId, UserId,
    feed::{FeedFilter, MarkAs},
    ports::{
        AcceptError, AcceptStore, AuditStore, FeedStore, OperatorStore, StoreError, SystemStore, UserStore, WorkStore,
    },
    work::ClaimOutcome,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Runs a case on a fresh database, when PostgreSQL is asked for.
pub(super) async fn on_postgres(case: impl AsyncFnOnce(Settings)) {
    if engines::all().any(|engine| matches!(engine, engines::Engine::Postgres)) {
        let (settings, _database) = engines::database().await;
        case(settings).await;
    }
}

pub(super) async fn node(settings: &Settings) -> Arc<SqlStore> {
    start(settings.clone(), Arc::new(Recorder::default()), Arc::new(Metrics::new())).await.unwrap()
}

async fn tamper(settings: &Settings, sql: &'static str) {
    let mut conn = PgConnection::connect_with(&settings.options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_migrate_once() {
    on_postgres(async |settings| {
        let nodes = futures_util::future::join_all((0..6).map(|_| node(&settings))).await;
        let epochs: BTreeSet<&str> = nodes.iter().map(|n| n.epoch()).collect();
        assert_eq!(epochs.len(), 1);
        nodes[0].accept(note("ada").item()).await.unwrap();
        assert_eq!(nodes[5].feed_state(&user("ada")).await.unwrap().head_seq, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_leave_no_gap_in_seq_and_no_wrong_count() {
    on_postgres(async |settings| {
        let nodes = [node(&settings).await, node(&settings).await];
        let names = ["ada", "bo", "cy", "di"];
        let mut tasks = Vec::new();
        for i in 0..200usize {
            let store = nodes[i % 2].clone();
            // Everyone to everyone, named in another order each time.
            let mut sent = note(names[i % 4]);
            for step in [3, 1, 2] {
                sent = sent.also(names[(i + step) % 4], &["websocket"]);
            }
            tasks.push(tokio::spawn(async move {
                let id = sent.notification.id;
                store.accept(sent.item()).await.unwrap();
                store.mark(&user(names[(i + 1) % 4]), ids(&[id]), MarkAs::Read).await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for name in names {
            let state = nodes[0].feed_state(&user(name)).await.unwrap();
            assert_eq!((state.head_seq, state.counts.total, state.counts.unread), (200, 200, 150), "{name}");
            assert_eq!(nodes[1].feed_page(&user(name), None, 500, FeedFilter::Unread).await.unwrap().items.len(), 150);
        }
        assert_eq!(nodes[0].audit_counts(None, 10).await.unwrap().1, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_claimed_by_one_node() {
    on_postgres(async |settings| {
        let nodes = [node(&settings).await, node(&settings).await];
        let mut deliveries = Vec::new();
        for _ in 0..50 {
            let accepted = nodes[0].accept(mail("ada").item()).await.unwrap();
            deliveries.push(accepted.body.deliveries.unwrap()[0].delivery_id);
        }
        let claims = nodes.iter().flat_map(|store| {
            deliveries.chunks(10).map(move |chunk| async move {
                let outcomes = store.claim(chunk, NodeId::new(), LEASE).await.unwrap();
                outcomes.into_iter().filter(|o| matches!(o, ClaimOutcome::Claimed(_))).count()
            })
        });
        let claimed: usize = futures_util::future::join_all(claims).await.into_iter().sum();
        assert_eq!(claimed, 50);
        let (a, b) = tokio::join!(nodes[0].relay_due(100, &[]), nodes[1].relay_due(100, &[]));
        assert_eq!(a.unwrap().len() + b.unwrap().len(), 0, "claimed rows are not relayed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_at_two_nodes_is_one_notification() {
    on_postgres(async |settings| {
        let nodes = [node(&settings).await, node(&settings).await];
        let tasks = (0..40).map(|i| {
            let store = nodes[i % 2].clone();
            tokio::spawn(async move { store.accept(note("ada").keyed("k", 1).item()).await.unwrap() })
        });
        let answers: Vec<_> = futures_util::future::join_all(tasks).await;
        let fresh = answers.iter().filter(|a| !a.as_ref().unwrap().replayed).count();
        assert_eq!(fresh, 1);
        assert_eq!(nodes[0].feed_state(&user("ada")).await.unwrap().head_seq, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_stays_busy_is_said_to_be() {
    on_postgres(async |settings| {
        let store = node(&settings).await;
        let mut other = PgConnection::connect_with(&settings.options).await.unwrap();
        let mut held = other.begin().await.unwrap();
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('default' || chr(31) || 'k', 0))")
            .execute(&mut *held)
            .await
            .unwrap();
        let busy = tokio::spawn({
            let store = store.clone();
            async move { store.accept(note("ada").keyed("k", 1).item()).await }
        });
        // Others go on meanwhile.
        store.accept(note("ada").keyed("l", 1).item()).await.unwrap();
        assert!(matches!(busy.await.unwrap(), Err(AcceptError::KeyBusy)));
        held.rollback().await.unwrap();
        assert!(!store.accept(note("ada").keyed("k", 1).item()).await.unwrap().replayed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_row_is_named_drift_is_repaired_and_a_broken_chain_shows() {
    on_postgres(async |settings| {
        let store = node(&settings).await;
        let note = note("ada");
        let id = note.notification.id;
        store.accept(note.item()).await.unwrap();
        for name in ["a", "b", "c"] {
            store.pause(&ChannelName::from(name), None, None, &actor()).await.unwrap();
        }
        assert_eq!(store.check_audit(None, 100).await.unwrap().broken, None);
        tamper(&settings, "UPDATE user_state SET unread = 7; UPDATE audit SET target = 'x' WHERE id = 2").await;
        assert_eq!(store.audit_counts(None, 10).await.unwrap().1, 1);
        let counts = store.feed_state(&user("ada")).await.unwrap().counts;
        assert_eq!((counts.unread, counts.version), (1, 2));
        assert_eq!(store.check_audit(None, 100).await.unwrap().broken, Some(2));
        tamper(&settings, "UPDATE notifications SET data = 'nonsense'").await;
        match store.feed_page(&user("ada"), None, 10, FeedFilter::All).await {
            Err(StoreError::Row { table: "notifications", column: "data", row, .. }) => assert_eq!(row, id.to_string()),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erases_of_one_audience_at_once_all_hold() {
    on_postgres(async |settings| {
        let nodes = [node(&settings).await, node(&settings).await];
        let names: Vec<String> = (0..8).map(|i| format!("u{i}")).collect();
        let mut sent = note("stays").keyed("k", 1);
        for name in &names {
            sent = sent.also(name, &["websocket"]);
        }
        sent.request = serde_json::json!({"to": names.iter().map(String::as_str).chain(["stays"]).collect::<Vec<_>>()});
        let again = sent.clone();
        let id = sent.notification.id;
        nodes[0].accept(sent.item()).await.unwrap();
        let erases = names.iter().enumerate().map(|(i, name)| {
            let store = nodes[i % 2].clone();
            let user = user(name);
            tokio::spawn(async move { store.erase_user(&user, &actor()).await.unwrap().unwrap() })
        });
        for erased in futures_util::future::join_all(erases).await {
            assert_eq!(erased.unwrap().feed_items, 1);
        }
        let detail = nodes[0].notification(&AppId::default(), id, None).await.unwrap().unwrap();
        assert_eq!(detail.row.request, serde_json::json!({"to": ["stays"]}));
        let kept = nodes[1].accept(again.item()).await.unwrap();
        assert!(kept.replayed);
        assert_eq!(kept.body.deliveries.unwrap().len(), 1, "no name is left in the stored answer");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_merges_at_once_wait_for_each_other_and_lose_nothing() {
    on_postgres(async |settings| {
        let nodes = [node(&settings).await, node(&settings).await];
        let names = ["ada", "bo"];
        let mut sent = 0;
        for round in 0..20 {
            for name in names {
                let generation =
                    nodes[0].resolve(&AppId::default(), &[UserId::from(name)]).await.unwrap()[0].generation;
                nodes[0].accept(note(name).generation(generation).item()).await.unwrap();
                nodes[1].accept(mail(name).generation(generation).item()).await.unwrap();
                sent += 1;
            }
            let merges = [(0, 1), (1, 0)].map(|(from, into)| {
                let (store, from, into) = (nodes[from].clone(), user(names[from]), user(names[into]));
                tokio::spawn(async move { store.merge_users(&from, &into, &actor()).await })
            });
            for merged in futures_util::future::join_all(merges).await {
                merged.unwrap().unwrap_or_else(|e| panic!("round {round}: {e:?}"));
            }
        }
        let mut total = 0;
        for name in names {
            total += nodes[0].feed_page(&user(name), None, 500, FeedFilter::All).await.unwrap().items.len();
        }
        assert_eq!(total, sent, "every item is in one of the two feeds");
        assert_eq!(nodes[0].audit_counts(None, 10).await.unwrap().1, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_in_app_delivery_that_becomes_somebody_elses_meanwhile_is_left_for_the_next_round() {
    on_postgres(async |settings| {
        let store = node(&settings).await;
        let held = ChannelName::websocket();
        store.pause(&held, None, None, &actor()).await.unwrap();
        let mut due = Vec::new();
        for name in ["ada", "bo"] {
            due.push(store.accept(note(name).item()).await.unwrap().body.deliveries.unwrap()[0].delivery_id);
        }
        store.resume(&held, &actor()).await.unwrap();
        // A merge has the feed states, and will have moved the delivery when it lets go of them.
        let mut other = PgConnection::connect_with(&settings.options).await.unwrap();
        let mut merge = other.begin().await.unwrap();
        sqlx::query("SELECT 1 FROM user_state WHERE user_id = 'ada' FOR UPDATE").execute(&mut *merge).await.unwrap();
        let completing = tokio::spawn({
            let (store, due) = (store.clone(), due.clone());
            async move { store.complete_in_app(&due).await }
        });
        let mut look = PgConnection::connect_with(&settings.options).await.unwrap();
        let blocked = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
                                      WHERE datname = current_database() AND wait_event_type = 'Lock')";
        while !sqlx::query_as::<_, (bool,)>(blocked).fetch_one(&mut look).await.unwrap().0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sqlx::query("UPDATE deliveries SET user_id = 'cy' WHERE user_id = 'ada'").execute(&mut *merge).await.unwrap();
        merge.commit().await.unwrap();
        assert_eq!(completing.await.unwrap().unwrap(), 1, "the others of the batch are done");
        assert_eq!(store.complete_in_app(&due).await.unwrap(), 1, "and this one at the next time");
        for (name, items) in [("ada", 0), ("bo", 1), ("cy", 1)] {
            assert_eq!(store.feed_state(&user(name)).await.unwrap().counts.total, items, "{name}");
        }
    })
    .await;
}

/// A TCP proxy that can fall silent: it neither passes a byte on nor closes.
pub(super) async fn silenceable(to: (String, u16)) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (silence, silent) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect((to.0.as_str(), to.1)).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_in, far_out, silent.clone()));
            tokio::spawn(pass(far_in, near_out, silent.clone()));
        }
    });
    (port, silence)
}

async fn pass(
    from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut silent: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        if from.readable().await.is_err() || silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        match from.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(n) if to.write_all(&bytes[..n]).await.is_err() => return,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_costs_an_answer_and_no_permit() {
    on_postgres(async |mut settings| {
        let (port, silence) = silenceable((settings.options.get_host().to_owned(), settings.options.get_port())).await;
        settings.options = settings.options.host("127.0.0.1").port(port);
        let store = node(&settings).await;
        store.accept(note("ada").item()).await.unwrap();
        let reads = || {
            futures_util::future::join_all((0..20).map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.feed_page(&user("ada"), None, 10, FeedFilter::All).await })
            }))
        };
        assert!(reads().await.into_iter().all(|r| r.unwrap().is_ok()), "every connection is open");
        silence.send(true).unwrap();
        let refused = store.accept(note("ada").item()).await;
        assert!(
            matches!(refused, Err(AcceptError::Store(StoreError::CommitUnknown(_) | StoreError::Unavailable(_)))),
            "{refused:?}"
        );
        // More callers than connections, and one that leaves before its time.
        let left = tokio::time::timeout(Duration::from_millis(100), store.feed_state(&user("ada"))).await;
        assert!(left.is_err());
        for read in reads().await {
            assert!(matches!(read.unwrap(), Err(StoreError::Unavailable(_))));
        }
        assert!(store.ping().await.is_err());
        silence.send(false).unwrap();
        assert!(reads().await.into_iter().all(|r| r.unwrap().is_ok()), "every permit is back");
        // On their way back they are asked once more whether they live.
        while store.facts().connections_in_use > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.accept(note("ada").item()).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_every_session_is_found_again() {
    on_postgres(async |settings| {
        let store = node(&settings).await;
        store.accept(note("ada").item()).await.unwrap();
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
            settings.options.get_database().unwrap()
        );
        let mut conn = PgConnection::connect_with(&settings.options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(end)).execute(&mut conn).await.unwrap();
        let mut accepted = false;
        // Each writer and each idle reader finds its own connection gone once.
        for _ in 0..20 {
            accepted |= store.accept(note("ada").item()).await.is_ok();
            let _ = store.feed_state(&user("ada")).await;
        }
        assert!(accepted);
        store.accept(note("ada").item()).await.unwrap();
        store.feed_state(&user("ada")).await.unwrap();
    })
    .await;
}

/// `CAMPANILE_TEST_ENGINES=postgres cargo test -p campanile-core --lib -- --ignored --nocapture measure_accepts_on`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
#[expect(clippy::print_stdout, reason = "it prints what it measured")]
async fn measure_accepts_on_postgres() {
    on_postgres(async |settings| {
        let store = node(&settings).await;
        for callers in [1, 32, 256] {
            let each = if callers == 1 { 500 } else { 8_000 / callers };
            let started = Instant::now();
            let tasks: Vec<_> = (0..callers)
                .map(|caller| {
                    let store = store.clone();
                    tokio::spawn(async move {
                        for _ in 0..each {
                            store.accept(note(&format!("u{caller}")).item()).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let rate = f64::from(callers * each) / started.elapsed().as_secs_f64();
            println!("{callers} callers: {rate:.0} notifications/s, each one in-app user, durable, feed row written");
        }
    })
    .await;
}
