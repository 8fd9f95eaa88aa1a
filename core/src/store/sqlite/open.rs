//! Opening the file: URL, folder, OS lock, mode 600, migrations, connections.

use crate::{
    config::Config,
    store::sql::error::{failed, statement},
};
use campanile_model::ports::{StoreError, StoreResult};
use rustix::fs::{FlockOperation, flock};
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/sqlite");

/// How long a caller waits for a connection that reads.
const ACQUIRE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Settings {
    pub path: PathBuf,
    pub readers: u32,
    pub busy_timeout: Duration,
    pub max_waiting: usize,
    pub idempotency_ttl: Duration,
}

impl Settings {
    pub fn from_config(config: &Config) -> StoreResult<Self> {
        let path = match &config.database.url {
            Some(url) => database_path(url).map_err(|why| statement("database.url", why))?,
            None => config.server.data_dir.join("campanile.db"),
        };
        Ok(Self {
            path,
            readers: config.database.readers.max(1),
            busy_timeout: *config.database.busy_timeout,
            max_waiting: config.database.max_waiting.max(1),
            idempotency_ttl: *config.ingest.idempotency_ttl,
        })
    }
}

/// `sqlite://PATH`: everything after the two slashes is the path, absolute with a third one.
pub fn database_path(url: &str) -> Result<PathBuf, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("{url:?} is not a database URL; write sqlite:///path/to/file.db"));
    };
    match scheme {
        "sqlite" => {}
        // The rest may hold a password: only the scheme is repeated.
        other => {
            return Err(format!(
                "unknown scheme {other:?}; write sqlite:///path/to/file.db or postgres://user@host/database"
            ));
        }
    }
    if rest.contains('?') {
        return Err("takes no parameters after the path; busy_timeout and readers are keys of their own".to_owned());
    }
    if rest.is_empty() || rest.ends_with('/') {
        return Err(format!("{url:?} names no file; write sqlite:///path/to/file.db"));
    }
    if rest.contains(":memory:") {
        return Err("a database in memory would lose what was accepted; name a file".to_owned());
    }
    Ok(PathBuf::from(rest))
}

/// Held as long as the store lives: no second process may open the file.
#[derive(Debug)]
pub struct OsLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

/// Makes the folder and the file (mode 600) and takes the lock.
pub fn prepare(path: &Path) -> StoreResult<OsLock> {
    let what = "opening the database file";
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|e| StoreError::Unavailable(format!("can't make the folder {}: {e}", folder.display()).into()))?;
    }
    let own =
        |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock = own(&lock_path)
        .map_err(|e| StoreError::Unavailable(format!("can't open {}: {e}", lock_path.display()).into()))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(statement(
            what,
            format!(
                "{} is in use by another process (it holds {}); stop that one, or give this one its own server.data_dir",
                path.display(),
                lock_path.display()
            ),
        ));
    }
    let file = own(path).map_err(|e| StoreError::Unavailable(format!("can't open {}: {e}", path.display()).into()))?;
    // A file from a restored backup may have a wider mode; WAL and shared memory files take this one's.
    file.set_permissions(PermissionsExt::from_mode(0o600))
        .map_err(|e| statement(what, format!("can't set the mode of {}: {e}", path.display())))?;
    Ok(OsLock(lock))
}

fn options(settings: &Settings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&settings.path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL may lose committed work when the power goes.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(settings.busy_timeout)
        .pragma("temp_store", "memory")
        .pragma("cache_size", "-16000")
        .pragma("journal_size_limit", "67108864")
        .statement_cache_capacity(256)
        // A whole page of rows crosses from SQLite's thread at once.
        .row_buffer_size(512)
        // Statements are measured by group; sqlx's own log of each would carry bound text.
        .disable_statement_logging()
}

/// The one connection that writes.
pub async fn writer(settings: &Settings) -> StoreResult<SqliteConnection> {
    options(settings)
        .thread_name(|_| "sqlite-writer".to_owned())
        // 16 MiB: fewer, larger checkpoints under load.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-64000")
        .connect()
        .await
        .map_err(failed("connecting to the database"))
}

pub async fn readers(settings: &Settings) -> StoreResult<SqlitePool> {
    SqlitePoolOptions::new()
        .max_connections(settings.readers)
        .min_connections(1)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options(settings).read_only(true).pragma("query_only", "on"))
        .await
        .map_err(failed("connecting to the database"))
}

/// Applies what is missing.
pub async fn migrate(conn: &mut SqliteConnection) -> StoreResult<()> {
    MIGRATIONS.run_direct(None, conn, false).await.map_err(|e| match e {
        sqlx::migrate::MigrateError::VersionMissing(version) => statement(
            "migrating the database",
            format!("it holds migration {version}, which this build does not know; start the newer build"),
        ),
        sqlx::migrate::MigrateError::VersionMismatch(version) => statement(
            "migrating the database",
            format!("migration {version} was applied with other contents; this file belongs to another build"),
        ),
        other => statement("migrating the database", other),
    })
}

/// Copies the log into the file and closes.
pub async fn close(mut conn: SqliteConnection) {
    // Either may fail on a sick disk; the log is replayed at the next start.
    let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await;
    let _ = conn.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_or_refused_with_the_remedy() {
        assert_eq!(database_path("sqlite:///var/c.db").unwrap(), PathBuf::from("/var/c.db"));
        assert_eq!(database_path("sqlite://data/c.db").unwrap(), PathBuf::from("data/c.db"));
        for (url, word) in [
            ("mysql://u:secret@h/db", "unknown scheme"),
            ("data/c.db", "not a database URL"),
            ("sqlite://", "names no file"),
            ("sqlite:///x/", "names no file"),
            ("sqlite://:memory:", "in memory"),
            ("sqlite:///x.db?mode=ro", "no parameters"),
        ] {
            let why = database_path(url).unwrap_err();
            assert!(why.contains(word), "{url}: {why}");
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
