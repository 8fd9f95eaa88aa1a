//! The database: who holds it, whether it is whole, whether its schema is this build's.

use super::{
    super::migrate::{self, Place},
    Finding,
};
use crate::config::Config;
use campanile_model::Timestamp;
use rustix::fs::{FlockOperation, flock};
use sqlx::Connection;
use std::{fs::File, path::Path};

const WHAT: &str = "database";

pub async fn check(config: &Config) -> Vec<Finding> {
    let place = Place::of(config);
    let file = match &place {
        Place::File(file) => file,
        Place::Postgres(url) => return server(url, &place).await,
    };
    if !file.exists() {
        return vec![Finding::good(WHAT, format!("{} (made at the first start)", file.display()))];
    }
    let mut found = vec![whole(file).await, schema(&place).await];
    if is_held(file) {
        found.push(Finding::good("lock", "a running server holds the database"));
    }
    found
}

/// When the newest notification was accepted: no clock may say less.
pub async fn newest(config: &Config) -> Option<Timestamp> {
    const NEWEST: &str = "SELECT created_at FROM notifications ORDER BY id DESC LIMIT 1";
    // Only read: nothing is lost by a close that fails.
    let newest: Option<i64> = match Place::of(config) {
        Place::File(file) => {
            let mut db = migrate::connect(&file).await.ok()??;
            let newest = sqlx::query_scalar(NEWEST).fetch_optional(&mut db).await.ok()?;
            let _ = db.close().await;
            newest
        }
        Place::Postgres(url) => {
            let mut db = migrate::connect_postgres(&url).await.ok()?;
            let newest = sqlx::query_scalar(NEWEST).fetch_optional(&mut db).await.ok()?;
            let _ = db.close().await;
            newest
        }
    };
    Timestamp::from_timestamp_millis(newest?)
}

/// Oldest PostgreSQL that the store is tried on.
const OLDEST: i32 = 13;

/// A server: does it answer, is it new enough, has it room for our connections.
async fn server(url: &str, place: &Place) -> Vec<Finding> {
    let shown = place.shown();
    let asked = async {
        let mut db = migrate::connect_postgres(url).await?;
        let said: (i32, i64) = sqlx::query_as(
            "SELECT current_setting('server_version_num')::int / 10000,
                    current_setting('max_connections')::bigint - (SELECT COUNT(*) FROM pg_stat_activity)",
        )
        .fetch_one(&mut db)
        .await?;
        let _ = db.close().await;
        Ok::<_, sqlx::Error>(said)
    };
    match asked.await {
        Err(e) => vec![Finding::wrong(
            WHAT,
            format!("{shown} can't be used: {e}"),
            "start PostgreSQL, create the user and the database, and check database.url",
        )],
        Ok((version, _)) if version < OLDEST => {
            vec![Finding::wrong(WHAT, format!("{shown} is PostgreSQL {version}"), "use PostgreSQL 13 or newer")]
        }
        Ok((version, free)) => {
            let answers = format!("{shown} answers, PostgreSQL {version}");
            let first = if free < ROOM {
                Finding::look(WHAT, format!("{answers}; {free} connections left"), "raise max_connections")
            } else {
                Finding::good(WHAT, answers)
            };
            vec![first, schema(place).await]
        }
    }
}

/// Connections of one node, with some to spare.
const ROOM: i64 = 20;

async fn whole(file: &Path) -> Finding {
    let fix = "stop the server, keep a copy of the file, and restore a backup";
    let shown = file.display();
    let answer = async {
        let mut db = migrate::connect(file).await?;
        let Some(db) = &mut db else { return Ok(String::new()) };
        sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(db).await
    };
    match answer.await {
        Ok(said) if said == "ok" => Finding::good(WHAT, format!("{shown} is whole")),
        Ok(said) => Finding::wrong(WHAT, format!("{shown} is damaged: {said}"), fix),
        Err(e) => Finding::wrong(WHAT, format!("{shown} can't be read: {e}"), fix),
    }
}

async fn schema(place: &Place) -> Finding {
    const WHAT: &str = "schema";
    let all = match migrate::status(place).await {
        Ok(all) => all,
        Err(e) => return Finding::wrong(WHAT, e.why.unwrap_or(e.what), "campanile migrate status"),
    };
    let count = |state| all.iter().filter(|m| m.state == state).count();
    if count(migrate::State::Changed) + count(migrate::State::Unknown) > 0 {
        return Finding::wrong(WHAT, "belongs to another build", "campanile migrate status");
    }
    match count(migrate::State::Missing) {
        0 => Finding::good(WHAT, format!("{} migrations applied", all.len())),
        n => {
            Finding::look(WHAT, format!("{n} migrations missing; the next start applies them"), "campanile migrate up")
        }
    }
}

/// Tries the lock that a running server holds, and lets go at once.
fn is_held(file: &Path) -> bool {
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    File::open(lock).is_ok_and(|f| flock(&f, FlockOperation::NonBlockingLockShared).is_err())
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[tokio::test]
    async fn a_file_that_is_no_database_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::config::defaults().unwrap();
        config.server.data_dir = dir.path().to_owned();
        assert_eq!(check(&config).await[0].verdict, Verdict::Good, "none yet");
        std::fs::write(dir.path().join("campanile.db"), "x".repeat(8192)).unwrap();
        let found = check(&config).await;
        assert!(found.iter().all(|f| f.verdict == Verdict::Wrong), "{found:?}");
        assert_eq!(newest(&config).await, None);
    }

    #[test]
    fn a_held_lock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("campanile.db");
        assert!(!is_held(&db));
        let lock = File::create(dir.path().join("campanile.db.lock")).unwrap();
        assert!(!is_held(&db));
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(is_held(&db));
    }
}
