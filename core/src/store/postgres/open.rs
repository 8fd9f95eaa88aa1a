//! Opening the database: URL, limits of every session, migrations under a lock, connections.

use super::Named;
use crate::{
    config::Config,
    store::sql::error::{failed, statement},
};
use campanile_model::ports::StoreResult;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use std::{str::FromStr as _, time::Duration};

pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/postgres");

/// Writers of one node. Commits wait for the disk, so a few at a time fill it; more would only share locks.
pub const WRITERS: usize = 4;

/// Held while migrations run, so that of several nodes that start at once one migrates and the others wait.
const MIGRATING: i64 = 0x0043_616d_7061_6e69;

#[derive(Clone, Debug)]
pub struct Settings {
    pub options: PgConnectOptions,
    /// Connections that read.
    pub readers: u32,
    pub writers: usize,
    /// How long a statement waits for a row lock.
    pub lock_timeout: Duration,
    /// How soon an API caller hears of a silent database.
    pub answer: Duration,
    pub max_waiting: usize,
    pub idempotency_ttl: Duration,
}

/// What a connection is for; it decides how long the server lets a statement run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Reader,
    Writer,
    /// A new index on a large table takes the time it takes.
    Migration,
}

impl Settings {
    pub fn from_config(config: &Config, url: &str) -> StoreResult<Self> {
        Ok(Self {
            options: options(url).map_err(|why| statement("database.url", why))?,
            readers: config.database.readers.max(1),
            writers: WRITERS,
            lock_timeout: *config.database.busy_timeout,
            answer: super::ANSWER,
            max_waiting: config.database.max_waiting.max(1),
            idempotency_ttl: *config.ingest.idempotency_ttl,
        })
    }
}

pub fn is_postgres(url: &str) -> bool {
    ["postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme))
}

/// Reads a URL; what it says of a fault never holds the password.
pub fn options(url: &str) -> Result<PgConnectOptions, String> {
    let options = PgConnectOptions::from_str(url).map_err(|e| match e {
        sqlx::Error::Configuration(e) => format!("{e}; write postgres://user:password@host:5432/database"),
        _ => "can't be read; write postgres://user:password@host:5432/database".to_owned(),
    })?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err("names no database; write postgres://user:password@host:5432/database".to_owned());
    }
    // Statements are measured by group; sqlx's own log of each would carry bound text.
    Ok(options.application_name("campanile").statement_cache_capacity(256).disable_statement_logging())
}

fn for_role(settings: &Settings, role: Role) -> PgConnectOptions {
    let statement_timeout = match role {
        Role::Reader => "9s",
        Role::Writer => "8s",
        Role::Migration => "0",
    };
    // Lists are filtered by whatever is asked for, and one plan for all values suits none. What writes is the same each time:
    // to plan it anew would only cost.
    let plans = if role == Role::Reader { "force_custom_plan" } else { "auto" };
    settings.options.clone().options([
        ("statement_timeout", statement_timeout.to_owned()),
        ("lock_timeout", format!("{}ms", settings.lock_timeout.as_millis())),
        // A node that froze in the middle of a transaction must not hold its locks.
        ("idle_in_transaction_session_timeout", "15s".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        // A commit is durable when it is answered, whatever the server's default is.
        ("synchronous_commit", "on".to_owned()),
        ("timezone", "UTC".to_owned()),
        // Made for reports: where a guess is high it compiles for half a second what runs in a few milliseconds.
        ("jit", "off".to_owned()),
        // The default is for disks that seek: it leaves an index aside for a walk over the table too soon.
        ("random_page_cost", "1.1".to_owned()),
        ("plan_cache_mode", plans.to_owned()),
        // Notices such as "already exists, skipping" would stand in our log as if an operator should know.
        ("client_min_messages", "warning".to_owned()),
    ])
}

pub async fn connect(settings: &Settings, role: Role) -> sqlx::Result<PgConnection> {
    for_role(settings, role).connect().await
}

pub fn readers(settings: &Settings) -> PgPool {
    PgPoolOptions::new()
        .max_connections(settings.readers)
        .min_connections(0)
        // The longest patience; whoever has less leaves by itself.
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // A connection that died while idle is found by its statement; a ping before each would double the round trips.
        .test_before_acquire(false)
        .connect_lazy_with(for_role(settings, Role::Reader))
}

/// Applies what is missing. Nodes that start at once take turns.
pub async fn migrate(settings: &Settings) -> StoreResult<Named> {
    let mut conn = connect(settings, Role::Migration).await.map_err(failed("connecting to the database"))?;
    // Of the session, and so given back by the close below or by the end of this process, whatever happens between.
    sqlx::query("SET lock_timeout = 0").execute(&mut conn).await.map_err(failed("migrating the database"))?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(MIGRATING)
        .execute(&mut conn)
        .await
        .map_err(failed("waiting for another node's migration"))?;
    MIGRATIONS.run_direct(None, &mut conn, false).await.map_err(|e| match e {
        sqlx::migrate::MigrateError::VersionMissing(version) => statement(
            "migrating the database",
            format!("it holds migration {version}, which this build does not know; start the newer build"),
        ),
        sqlx::migrate::MigrateError::VersionMismatch(version) => statement(
            "migrating the database",
            format!("migration {version} was applied with other contents; this database belongs to another build"),
        ),
        other => statement("migrating the database", other),
    })?;
    let epoch: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'epoch'")
        .fetch_one(&mut conn)
        .await
        .map_err(failed("reading the database's epoch"))?;
    let size = size(&mut conn).await.map_err(failed("reading the database's size"))?;
    // The lock goes with the session.
    let _ = conn.close().await;
    Ok(Named { epoch, size })
}

pub async fn size(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(conn).await?;
    Ok(bytes.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_or_refused_without_its_password() {
        let read = options("postgres://ada:secret@db.example:6000/tower?sslmode=require").unwrap();
        assert_eq!((read.get_host(), read.get_port(), read.get_database()), ("db.example", 6000, Some("tower")));
        for url in ["postgres://ada:secret@db/", "postgres://ada:secret@db", "postgres://ada:secret@db:x/tower"] {
            let why = options(url).unwrap_err();
            assert!(why.contains("postgres://user:password@host") && !why.contains("secret"), "{url}: {why}");
        }
        assert!(is_postgres("postgresql://h/d") && !is_postgres("sqlite:///x.db"));
    }
}
