//! The database: who holds it, whether it is whole, whether its schema is this build's.

use super::{Finding, Verdict, postgres};
use crate::cli::migrate::{self, Place};
use crate::{
    config::Config,
    store::sql::{audit, statement::Conn},
};
use campanile_model::{Timestamp, ports::ChainCheck};
use rustix::fs::{FlockOperation, flock};
use sqlx::Connection;
use std::{fs::File, path::Path};

pub const WHAT: &str = "database";
/// Entries of the audit log that are followed at a time.
const AUDIT_PAGE: u32 = 1_000;

pub async fn check(config: &Config) -> Vec<Finding> {
    let place = Place::of(config);
    let file = match &place {
        Place::File(file) => file,
        Place::Postgres(url) => return postgres::check(url, &place).await,
    };
    if !file.exists() {
        return vec![Finding::good(WHAT, format!("{} (made at the first start)", file.display()))];
    }
    let mut found = vec![whole(file).await, schema(&place).await];
    if found.iter().all(|f| f.verdict == Verdict::Good)
        && let Ok(Some(mut db)) = migrate::connect(file).await
    {
        found.push(audit_log(&mut Conn::Sqlite(&mut db)).await);
        let _ = db.close().await;
    }
    if is_held(file) {
        found.push(Finding::good("lock", "a running server holds the database"));
    }
    found
}

/// What another clock says, to compare ours with.
pub enum Witness {
    /// When the newest notification was accepted: no clock may say less. SQLite's own clock is this machine's.
    Newest(Timestamp),
    /// The database server's clock, asked at this moment by ours.
    Server { ours: Timestamp, theirs: Timestamp },
}

pub async fn witness(config: &Config) -> Option<Witness> {
    let file = match Place::of(config) {
        Place::Postgres(url) => return postgres::clock(&url).await,
        Place::File(file) => file,
    };
    let mut db = migrate::connect(&file).await.ok()??;
    let newest = sqlx::query_scalar("SELECT created_at FROM notifications ORDER BY id DESC LIMIT 1");
    let newest: Option<i64> = newest.fetch_optional(&mut db).await.ok()?;
    // Only read: nothing is lost by a close that fails.
    let _ = db.close().await;
    Timestamp::from_timestamp_millis(newest?).map(Witness::Newest)
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

pub(super) async fn schema(place: &Place) -> Finding {
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

/// Follows the whole chain of the audit log.
pub(super) async fn audit_log(conn: &mut Conn<'_>) -> Finding {
    const WHAT: &str = "audit log";
    let (mut from, mut followed) = (None, 0);
    loop {
        match audit::check_on(conn, from.as_ref(), AUDIT_PAGE).await {
            Err(e) => return Finding::wrong(WHAT, format!("can't be read: {e}"), "campanile migrate status"),
            Ok(ChainCheck { broken: Some(id), .. }) => {
                let text = format!("entry {id} was changed, or one before it was removed");
                return Finding::wrong(WHAT, text, "compare with a backup: campanile does not change entries");
            }
            Ok(check) => {
                followed += check.followed;
                if check.done {
                    return Finding::good(WHAT, format!("verified up to entry {}, {followed} in all", check.mark.id));
                }
                from = Some(check.mark);
            }
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
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_database_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::config::defaults().unwrap();
        config.server.data_dir = dir.path().to_owned();
        assert_eq!(check(&config).await[0].verdict, Verdict::Good, "none yet");
        std::fs::write(dir.path().join("campanile.db"), "x".repeat(8192)).unwrap();
        let found = check(&config).await;
        assert!(found.iter().all(|f| f.verdict == Verdict::Wrong), "{found:?}");
        assert!(witness(&config).await.is_none());
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
