//! The engines under exam: `CAMPANILE_TEST_ENGINES=sqlite,postgres`, and SQLite alone when nobody says.
//!
//! PostgreSQL is found at `CAMPANILE_TEST_POSTGRES`, a URL whose user may create databases; each case gets its own.

use super::hall::Sitting;
use crate::{
    observe::Metrics,
    store::{postgres, sqlite},
};
use campanile_model::ports::EffectSink;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) fn all() -> impl Iterator<Item = Engine> {
    let asked = std::env::var("CAMPANILE_TEST_ENGINES").unwrap_or_else(|_| "sqlite".to_owned());
    let engine = |name: &str| match name {
        "sqlite" => Engine::Sqlite,
        "postgres" => Engine::Postgres,
        other => panic!("CAMPANILE_TEST_ENGINES names {other:?}; it knows sqlite and postgres"),
    };
    asked.split(',').map(str::trim).filter(|name| !name.is_empty()).map(engine).collect::<Vec<_>>().into_iter()
}

pub(crate) fn sqlite_settings(folder: &std::path::Path) -> sqlite::Settings {
    sqlite::Settings {
        path: folder.join("exam.db"),
        readers: 2,
        busy_timeout: Duration::from_secs(5),
        max_waiting: 10_000,
        idempotency_ttl: Duration::from_hours(24),
    }
}

/// The server that `CAMPANILE_TEST_POSTGRES` names.
fn server() -> PgConnectOptions {
    let url = std::env::var("CAMPANILE_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!(
            "CAMPANILE_TEST_POSTGRES names no server; scripts/services/postgres start prints one that it has started"
        )
    });
    postgres::open::options(&url).unwrap()
}

/// A new database of that server, dropped with the guard.
pub(crate) async fn database() -> (postgres::Settings, Database) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("exam_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut conn = PgConnection::connect_with(&server()).await.unwrap();
    // The name is our own; a database can't be a parameter.
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let settings = postgres::Settings {
        options: server().database(&name),
        readers: 4,
        writers: postgres::open::WRITERS,
        lock_timeout: Duration::from_secs(5),
        answer: postgres::ANSWER,
        max_waiting: 10_000,
        idempotency_ttl: Duration::from_hours(24),
    };
    (settings, Database(name))
}

pub(crate) struct Database(String);

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.0);
        // A case ends in its own runtime, which is on its way out.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut conn = PgConnection::connect_with(&server()).await.map_err(std::io::Error::other)?;
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut conn).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(())
            })
        });
        // A failed case has more to say than its leftovers.
        let _ = dropped.join();
    }
}

pub(crate) async fn open(engine: Engine, sink: Arc<dyn EffectSink>) -> Sitting {
    let metrics = Arc::new(Metrics::new());
    match engine {
        Engine::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let store = sqlite::start(sqlite_settings(folder.path()), sink, metrics).await.unwrap();
            let clock = store.clone();
            Sitting { store, set_clock: Box::new(move |ms| clock.set_clock_offset(ms)), _place: Box::new(folder) }
        }
        Engine::Postgres => {
            let (mut settings, database) = database().await;
            // What is asked here is right or wrong, not quick: a busy machine gets its time.
            settings.answer = Duration::from_secs(30);
            let store = postgres::start(settings, sink, metrics).await.unwrap();
            let clock = store.clone();
            Sitting { store, set_clock: Box::new(move |ms| clock.set_clock_offset(ms)), _place: Box::new(database) }
        }
    }
}
