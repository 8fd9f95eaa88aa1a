//! The database: who holds it, whether it is whole, whether its schema is this build's.

use super::{super::migrate, Finding};
use crate::config::Config;
use campanile_model::Timestamp;
use rustix::fs::{FlockOperation, flock};
use sqlx::Connection;
use std::{fs::File, path::Path};

const WHAT: &str = "database";

pub async fn check(config: &Config) -> Vec<Finding> {
    let file = migrate::file(config);
    if !file.exists() {
        return vec![Finding::good(WHAT, format!("{} (made at the first start)", file.display()))];
    }
    let mut found = vec![whole(&file).await, schema(&file).await];
    if is_held(&file) {
        found.push(Finding::good("lock", "a running server holds the database"));
    }
    found
}

/// When the newest notification was accepted: no clock may say less.
pub async fn newest(config: &Config) -> Option<Timestamp> {
    let mut db = migrate::connect(&migrate::file(config)).await.ok()??;
    let newest: Option<i64> = sqlx::query_scalar("SELECT created_at FROM notifications ORDER BY id DESC LIMIT 1")
        .fetch_optional(&mut db)
        .await
        .ok()?;
    // Read only: nothing is lost by a close that fails.
    let _ = db.close().await;
    Timestamp::from_timestamp_millis(newest?)
}

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

async fn schema(file: &Path) -> Finding {
    const WHAT: &str = "schema";
    let all = match migrate::status(file).await {
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
