//! `campanile migrate`: the state of the database's schema. A start applies what is missing by itself; this shows it, or
//! does it beforehand.

use super::{
    Global,
    exit::{Code, Failure, Outcome},
    output::{Output, Tone},
    settings,
};
use crate::{
    config::Config,
    observe::Metrics,
    store::{
        self,
        postgres::{self, open::is_postgres},
        sqlite::{self, open::database_path},
    },
};
use async_trait::async_trait;
use campanile_model::{
    effects::Effects,
    ports::{EffectSink, StoreError},
};
use serde::Serialize;
use sqlx::{
    Connection, PgConnection, Row, SqliteConnection, postgres::PgRow, sqlite::SqliteConnectOptions, sqlite::SqliteRow,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

#[derive(clap::Subcommand, Clone, Copy, Debug)]
pub enum Command {
    /// Show which migrations are applied.
    Status,
    /// Apply those that are missing; no server may run on a SQLite file meanwhile.
    Up,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Migration {
    pub version: i64,
    pub description: String,
    pub state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Applied,
    Missing,
    /// Applied with other contents: this file belongs to another build.
    Changed,
    /// Applied, but not known to this build: the database is newer.
    Unknown,
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let config = settings::load(global, &[])?.config;
    if matches!(command, Command::Up) {
        up(&config).await?;
    }
    let all = status(&Place::of(&config)).await?;
    out.show(&all, |out| draw(out, &all));
    if all.iter().any(|m| matches!(m.state, State::Changed | State::Unknown)) {
        return Err(Failure::new(Code::Unhealthy, "this database belongs to another build")
            .why("see the migrations above")
            .next("start the build that made it"));
    }
    Ok(())
}

/// The file of the configured database.
pub fn file(config: &Config) -> PathBuf {
    let named = config.database.url.as_deref().and_then(|url| database_path(url).ok());
    named.unwrap_or_else(|| config.server.data_dir.join("campanile.db"))
}

/// Opens for reading only; a file that is not there holds no migration.
pub async fn connect(file: &Path) -> Result<Option<SqliteConnection>, sqlx::Error> {
    if !file.exists() {
        return Ok(None);
    }
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file).read_only(true)).await.map(Some)
}

/// Where the configured database is.
pub enum Place {
    File(PathBuf),
    /// Its URL; it may hold a password.
    Postgres(String),
}

impl Place {
    pub fn of(config: &Config) -> Self {
        match config.database.url.as_deref().filter(|url| is_postgres(url)) {
            Some(url) => Self::Postgres(url.to_owned()),
            None => Self::File(file(config)),
        }
    }

    /// For people to read.
    pub fn shown(&self) -> String {
        match self {
            Self::File(file) => file.display().to_string(),
            Self::Postgres(url) => crate::config::load::mask_password(url),
        }
    }
}

/// How long a server that may be down is asked.
const ASKED: Duration = Duration::from_secs(5);

pub async fn connect_postgres(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options = postgres::open::options(url).map_err(|e| sqlx::Error::Configuration(e.into()))?;
    let no_answer = |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 5 s"));
    tokio::time::timeout(ASKED, PgConnection::connect_with(&options)).await.map_err(no_answer)?
}

type AppliedRows = BTreeMap<i64, (String, Vec<u8>)>;

async fn applied(place: &Place) -> Result<AppliedRows, sqlx::Error> {
    const APPLIED: &str = "SELECT version, description, checksum FROM _sqlx_migrations WHERE success";
    match place {
        Place::File(file) => {
            let Some(mut db) = connect(file).await? else { return Ok(AppliedRows::new()) };
            let known = sqlx::query("SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations'");
            let mut rows = Vec::new();
            if known.fetch_optional(&mut db).await?.is_some() {
                rows = sqlx::query(APPLIED).fetch_all(&mut db).await?;
            }
            // Nothing was written, so nothing can be lost by a close that fails.
            let _ = db.close().await;
            rows.into_iter().map(|r: SqliteRow| Ok((r.try_get(0)?, (r.try_get(1)?, r.try_get(2)?)))).collect()
        }
        Place::Postgres(url) => {
            let mut db = connect_postgres(url).await?;
            let known = sqlx::query("SELECT 1 WHERE to_regclass('_sqlx_migrations') IS NOT NULL");
            let mut rows = Vec::new();
            if known.fetch_optional(&mut db).await?.is_some() {
                rows = sqlx::query(APPLIED).fetch_all(&mut db).await?;
            }
            let _ = db.close().await;
            rows.into_iter().map(|r: PgRow| Ok((r.try_get(0)?, (r.try_get(1)?, r.try_get(2)?)))).collect()
        }
    }
}

pub async fn status(place: &Place) -> Outcome<Vec<Migration>> {
    let mut applied = applied(place).await.map_err(|e| {
        Failure::new(Code::Unhealthy, format!("{} can't be read", place.shown())).why(e).next("campanile doctor")
    })?;
    let migrations = match place {
        Place::File(_) => &sqlite::MIGRATIONS,
        Place::Postgres(_) => &postgres::MIGRATIONS,
    };
    let mut all: Vec<_> = migrations
        .iter()
        .map(|m| {
            let state = match applied.remove(&m.version) {
                None => State::Missing,
                Some((_, sum)) if sum == *m.checksum => State::Applied,
                Some(_) => State::Changed,
            };
            Migration { version: m.version, description: m.description.to_string(), state }
        })
        .collect();
    let unknown = |(version, (description, _))| Migration { version, description, state: State::Unknown };
    all.extend(applied.into_iter().map(unknown));
    Ok(all)
}

/// The store's own way of opening: on SQLite it takes the file's lock, so a running server is never migrated under its feet;
/// on PostgreSQL it waits for its turn.
async fn up(config: &Config) -> Outcome {
    let store = store::open(config, Arc::new(Nobody), Arc::new(Metrics::new())).await.map_err(|e| {
        let code = if matches!(e, StoreError::Unavailable(_)) { Code::Unhealthy } else { Code::Failed };
        Failure::new(code, "the database was not migrated").why(e).next("campanile doctor")
    })?;
    store.close().await;
    Ok(())
}

/// Migrating moves no delivery.
struct Nobody;

#[async_trait]
impl EffectSink for Nobody {
    async fn committed(&self, _: Effects) {}
}

fn draw(out: &Output, all: &[Migration]) {
    for m in all {
        let (mark, tone, word) = match m.state {
            State::Applied => ("✓", Tone::Good, "applied"),
            State::Missing => ("·", Tone::Dim, "missing"),
            State::Changed => ("✗", Tone::Bad, "applied with other contents"),
            State::Unknown => ("✗", Tone::Bad, "not known to this build"),
        };
        out.line(format!("{} {:04} {:<20} {word}", out.paint(tone, mark), m.version, m.description));
    }
}
