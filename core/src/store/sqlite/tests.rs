//! What only SQLite has: the file, the lock, the writer's own faults; and how fast it is.

use super::super::sql::{
    SqlStore,
    group::{Operation, Work},
    relay::MoveOn,
    statement::{Row, sql},
    tx::Tx,
};
use crate::{
    observe::Metrics,
    store::exam::{Exam, Recorder, actor, engines::sqlite_settings, mail, note, user},
};
use async_trait::async_trait;
use campanile_model::{
    ChannelName, NodeId,
    effects::Effects,
    feed::FeedFilter,
    ports::{
        AcceptError, AcceptStore, AuditStore, EffectSink, FeedStore, OperatorStore, StoreError, StoreResult,
        SystemStore, WorkStore,
    },
    work::ClaimOutcome,
};
use sqlx::Row as _;
use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Instant};

async fn open(folder: &std::path::Path) -> StoreResult<Arc<SqlStore>> {
    super::start(sqlite_settings(folder), Arc::new(Recorder::default()), Arc::new(Metrics::new())).await
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_lock_goes_with_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let refused = open(folder.path()).await.err().unwrap().to_string();
    assert!(refused.contains("in use by another process") && refused.contains("exam.db"), "{refused}");
    let sent = note("ada").item();
    store.accept(sent).await.unwrap();
    let epoch = store.epoch().to_owned();
    store.close().await;
    drop(store);
    let again = open(folder.path()).await.unwrap();
    assert_eq!(again.feed_state(&user("ada")).await.unwrap().head_seq, 1);
    assert_eq!(again.epoch(), epoch);
}

#[tokio::test]
async fn files_belong_to_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.accept(note("ada").item()).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_bad_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let note = note("ada");
    let id = note.notification.id;
    store.accept(note.item()).await.unwrap();
    store.close().await;
    drop(store);
    tamper(folder.path(), "UPDATE notifications SET data = 'nonsense'").await;
    let store = open(folder.path()).await.unwrap();
    match store.feed_page(&user("ada"), None, 10, FeedFilter::All).await {
        Err(StoreError::Row { table: "notifications", column: "data", row, .. }) => assert_eq!(row, id.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn drifted_counts_are_repaired_and_a_broken_audit_chain_shows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.accept(note("ada").item()).await.unwrap();
    for name in ["a", "b", "c"] {
        store.pause(&ChannelName::from(name), None, None, &actor()).await.unwrap();
    }
    assert_eq!(store.check_audit(None, 100).await.unwrap().broken, None);
    store.close().await;
    drop(store);
    tamper(folder.path(), "UPDATE user_state SET unread = 7; UPDATE audit SET target = 'x' WHERE id = 2").await;
    let store = open(folder.path()).await.unwrap();
    assert_eq!(store.audit_counts(None, 10).await.unwrap().1, 1);
    let counts = store.feed_state(&user("ada")).await.unwrap().counts;
    assert_eq!((counts.unread, counts.version), (1, 2));
    assert_eq!(store.check_audit(None, 100).await.unwrap().broken, Some(2));
}

async fn tamper(folder: &std::path::Path, sql: &'static str) {
    let mut conn = super::open::writer(&sqlite_settings(folder)).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    super::open::close(conn).await;
}

struct Panics;

#[async_trait]
impl Operation for Panics {
    type Output = ();
    const NAME: &'static str = "panics";
    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        tx.exec("writing", sql("INSERT INTO meta (key, value) VALUES ('half', 'done')")).await?;
        panic!("as tested");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_survives_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let (bad, good) = tokio::join!(store.write(Panics), store.accept(note("ada").item()));
    assert!(matches!(bad, Err(StoreError::Statement { .. })), "{bad:?}");
    assert!(!good.unwrap().replayed);
    store.accept(note("ada").item()).await.unwrap();
    assert_eq!(store.feed_state(&user("ada")).await.unwrap().counts.total, 2);
    let half = store.reads.fetch("test", sql("SELECT 1 FROM meta WHERE key = 'half'")).await.unwrap();
    assert!(half.is_empty(), "what it had written was rolled back");
    let page = store.reads.metrics.render();
    assert!(page.contains("campanile_panics_total{reason=\"store_writer\"}"), "{page}");
}

struct Holds(std::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>>);

#[async_trait]
impl Operation for Holds {
    type Output = ();
    const NAME: &'static str = "holds";
    async fn run(&self, _tx: &mut Tx<'_>) -> StoreResult<()> {
        let gate = self.0.lock().unwrap().take();
        if let Some(gate) = gate {
            let _ = gate.await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_waiting_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = super::Settings { max_waiting: 4, ..sqlite_settings(folder.path()) };
    let store = super::start(settings, Arc::new(Recorder::default()), Arc::new(Metrics::new())).await.unwrap();
    let (open_gate, gate) = tokio::sync::oneshot::channel();
    let (work, held) = Work::operation(Holds(std::sync::Mutex::new(Some(gate))));
    store.writes.offer(work).unwrap();
    while store.facts().writes_waiting > 0 {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.accept(note("ada").item()).await })
        })
        .collect();
    while store.facts().writes_waiting < 4 {
        tokio::task::yield_now().await;
    }
    let refused = store.accept(note("ada").item()).await;
    assert!(matches!(refused, Err(AcceptError::Store(StoreError::Overloaded))));
    open_gate.send(()).unwrap();
    held.await.unwrap().unwrap();
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.feed_state(&user("ada")).await.unwrap().head_seq, 4);
}

struct Pragmas;

#[async_trait]
impl Operation for Pragmas {
    type Output = Vec<String>;
    const NAME: &'static str = "pragmas";
    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<String>> {
        let mut said = Vec::new();
        for pragma in ["PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys"] {
            let row = tx.fetch_opt("asking SQLite", sql(pragma)).await?.unwrap();
            let Row::Sqlite(row) = row else { panic!("this is SQLite") };
            let text = row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string()));
            said.push(text.unwrap());
        }
        Ok(said)
    }
}

/// What "accepted" means when the power goes: the log is synced at every commit (2 is FULL).
#[tokio::test]
async fn every_commit_is_synced_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    assert_eq!(store.write(Pragmas).await.unwrap(), ["wal", "2", "1"]);
}

/// A transaction that begins with a read and writes later would fail at once when another had written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_holds_the_lock_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let settings = super::Settings { busy_timeout: std::time::Duration::ZERO, ..sqlite_settings(folder.path()) };
    let mut other = super::open::writer(&settings).await.unwrap();
    let (open_gate, gate) = tokio::sync::oneshot::channel();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (work, held) = Work::operation(Reads(std::sync::Mutex::new(Some((begun, gate)))));
    store.writes.offer(work).unwrap();
    has_begun.await.unwrap();
    let refused = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("locked")), "somebody else could write in between");
    open_gate.send(()).unwrap();
    held.await.unwrap().unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut other).await.unwrap();
}

type Gates = (tokio::sync::oneshot::Sender<()>, tokio::sync::oneshot::Receiver<()>);

/// Has begun and read, and written nothing yet.
struct Reads(std::sync::Mutex<Option<Gates>>);

#[async_trait]
impl Operation for Reads {
    type Output = ();
    const NAME: &'static str = "reads";
    async fn run(&self, _tx: &mut Tx<'_>) -> StoreResult<()> {
        let gates = self.0.lock().unwrap().take();
        if let Some((begun, gate)) = gates {
            let _ = begun.send(());
            let _ = gate.await;
        }
        Ok(())
    }
}

/// Looks into the database at the moment it is told of a commit.
#[derive(Default)]
struct Looks {
    store: std::sync::OnceLock<Arc<SqlStore>>,
    /// What it was told, what it saw.
    seen: std::sync::Mutex<Vec<(i64, i64)>>,
}

#[async_trait]
impl EffectSink for Looks {
    async fn committed(&self, effects: Effects) {
        for push in effects.pushes.iter().flat_map(|batch| &batch.users) {
            let head = self.store.get().unwrap().feed_state(&push.user).await.unwrap().head_seq;
            self.seen.lock().unwrap().push((push.seq, head));
        }
    }
}

/// A push that ran ahead of its commit would show what a crash then takes away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_that_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Arc::new(Looks::default());
    let store = super::start(sqlite_settings(folder.path()), sink.clone(), Arc::new(Metrics::new())).await.unwrap();
    sink.store.set(store.clone()).ok().unwrap();
    for _ in 0..3 {
        store.accept(note("ada").item()).await.unwrap();
    }
    assert_eq!(*sink.seen.lock().unwrap(), [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test]
async fn a_pause_after_the_look_still_holds_the_relay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.accept(mail("ada").item()).await.unwrap();
    let ids = store.reads.relay_candidates(10, &[]).await.unwrap();
    assert_eq!(ids.len(), 1);
    store.pause(&ChannelName::email(), None, None, &actor()).await.unwrap();
    assert!(store.write(MoveOn { ids: ids.clone() }).await.unwrap().is_empty());
    store.resume(&ChannelName::email(), &actor()).await.unwrap();
    assert_eq!(store.write(MoveOn { ids }).await.unwrap().len(), 1);
}

/// Cancel and collapse settle waiting rows themselves; a row that they did not see is stopped where it would be sent.
#[tokio::test]
async fn a_row_that_a_cancel_has_missed_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let soon = store.now().await.unwrap() + std::time::Duration::from_secs(5);
    let mut ids = Vec::new();
    for note in [mail("ada"), note("bo"), note("cy").collapse("k")] {
        let sent = store.accept(note.at(soon).item()).await.unwrap();
        ids.push(sent.body.deliveries.unwrap()[0].delivery_id);
    }
    store.close().await;
    drop(store);
    tamper(
        folder.path(),
        "UPDATE notifications SET cancelled_at = 1 WHERE collapse_key IS NULL;
         UPDATE collapses SET notification_id = unhex('ffffffffffffffffffffffffffffffff')",
    )
    .await;
    let store = open(folder.path()).await.unwrap();
    store.set_clock_offset(10_000);
    let claim = store.claim(&ids[..1], NodeId::new(), std::time::Duration::from_mins(1)).await.unwrap();
    assert!(matches!(claim[0], ClaimOutcome::NotOurs(_)), "{claim:?}");
    assert_eq!(store.complete_in_app(&ids[1..]).await.unwrap(), 0);
    for who in ["bo", "cy"] {
        assert_eq!(store.feed_state(&user(who)).await.unwrap().head_seq, 0, "{who}");
    }
}

/// `cargo test -p campanile-core --lib -- --ignored --nocapture measure_`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
#[expect(clippy::print_stdout, reason = "it prints what it measured")]
async fn measure_accepts_of_32_callers() {
    for callers in [1, 32, 256] {
        let exam = Exam::on(crate::store::exam::Engine::Sqlite).await;
        let store = exam.shared();
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
}
