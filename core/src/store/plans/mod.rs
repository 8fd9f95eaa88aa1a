//! How the engines find what a statement asks for, and whether that stays flat when the tables are long.
//!
//! On PostgreSQL every call of `asked` runs against a database of thirty days (`fill.sql`: 50,000 deliveries, or as many as
//! `CAMPANILE_TEST_DELIVERIES` says), and each statement it sends is first explained where it stands, in its own session and
//! transaction, with its own values: no long table is read from one end to the other, and what is looked at is bounded by
//! what is asked for. Then every statement of the whole exam, on both engines: SQLite's plan does not depend on the data,
//! and PostgreSQL's is asked of the long tables. So a new statement is judged as soon as it has its case in the exam; one
//! that belongs to a list or to the path of a delivery gets a line in `asked` too.
//!
//! `CAMPANILE_PLANS_TO=docs/plans.md` writes the plans down; `docs/plans.md` says how to ask for a million.

mod asked;
mod ear;
mod judge;
mod report;

pub(crate) use ear::hear;

use super::{
    exam::{Recorder, engines},
    postgres,
};
use crate::observe::Metrics;
use ear::Ear;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Tables with fewer rows than this may be read whole.
const LONG: i64 = 5_000;

fn deliveries() -> u64 {
    std::env::var("CAMPANILE_TEST_DELIVERIES")
        .map_or(50_000, |n| n.parse().expect("CAMPANILE_TEST_DELIVERIES is a number"))
}

/// A runtime whose threads are heard: the writers' and the pool's tasks run there.
fn heard(ear: &Arc<Ear>, work: impl Future<Output = ()>) {
    let on_threads = ear.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || ear::listen(Some(on_threads.clone())))
        .enable_all()
        .build()
        .unwrap();
    ear::listen(Some(ear.clone()));
    runtime.block_on(work);
    ear::listen(None);
}

async fn fill(settings: &postgres::Settings) {
    let mut conn = PgConnection::connect_with(&settings.options).await.unwrap();
    let script = include_str!("fill.sql").replace("{n}", &deliveries().to_string());
    // One by one: together they would be one transaction, and VACUUM is none.
    for statement in script.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut conn)
            .await
            .unwrap_or_else(|e| panic!("{e}: {statement}"));
    }
    conn.close().await.unwrap();
}

async fn long_tables(settings: &postgres::Settings) -> BTreeMap<String, i64> {
    let mut conn = PgConnection::connect_with(&settings.options).await.unwrap();
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT relname::text, reltuples::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    rows.into_iter().filter(|(_, n)| *n >= LONG).collect()
}

#[test]
fn every_statement_finds_its_rows_by_an_index() {
    if !engines::all().any(|engine| matches!(engine, engines::Engine::Postgres)) {
        return;
    }
    let ear = Arc::new(Ear::default());
    heard(&ear, async {
        let (mut settings, _database) = engines::database().await;
        // Each statement is explained, too, and the machine may be busy.
        settings.answer = Duration::from_mins(2);
        postgres::open::migrate(&settings).await.unwrap();
        fill(&settings).await;
        let long = long_tables(&settings).await;
        let store =
            postgres::start(settings.clone(), Arc::new(Recorder::default()), Arc::new(Metrics::new())).await.unwrap();
        ear.begin();
        asked::everything(&store, &settings, &ear).await;
        campanile_model::ports::SystemStore::close(&*store).await;
        let explained = ear.take_explained();
        let mut faults = judge::measured(&explained, &long);
        if let Ok(path) = std::env::var("CAMPANILE_PLANS_TO") {
            report::write(&path, deliveries(), &explained);
        }
        super::exam::every_case().await;
        faults.extend(judge::planned(&settings, ear.take_asked(), &long).await);
        assert!(faults.is_empty(), "{} statements:\n\n{}", faults.len(), faults.join("\n\n"));
    });
}

#[test]
fn sqlite_finds_the_rows_of_every_statement_by_an_index() {
    let ear = Arc::new(Ear::default());
    heard(&ear, async {
        ear.begin();
        super::exam::every_case().await;
    });
    let faults = judge::on_sqlite(&ear.take_asked());
    assert!(faults.is_empty(), "{} statements:\n\n{}", faults.len(), faults.join("\n\n"));
}
