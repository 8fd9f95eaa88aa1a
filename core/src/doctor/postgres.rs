//! A PostgreSQL server: does it answer, is it one that the store works on, has it room for us, is it near.

use super::{
    Finding, Verdict,
    database::{WHAT, Witness, audit_log, schema},
};
use crate::cli::migrate::{self, Place};
use crate::store::sql::statement::Conn;
use campanile_model::{Clock, Timestamp, clock::SystemClock};
use sqlx::{Connection, FromRow, PgConnection, error::DatabaseError};
use std::time::{Duration, Instant};

/// Oldest PostgreSQL that the store is tried on.
const OLDEST: i32 = 13;
/// Connections of one node, with some to spare.
const ROOM: i64 = 20;
/// A commit is some ten round trips: with more than this each, every accept takes a tenth of a second.
const NEAR: Duration = Duration::from_millis(10);
/// Round trips that are measured; the quickest counts, since a busy machine only adds to them.
const ASKED: u32 = 5;

/// What the server says of itself.
#[derive(Clone, Debug, FromRow)]
struct Facts {
    version: i32,
    /// Connections that are left for us.
    free: i64,
    fsync: bool,
    standby: bool,
    /// The user may make tables where ours are, or would be.
    may_create: bool,
}

const FACTS: &str = "
    SELECT current_setting('server_version_num')::int / 10000 AS version,
           current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
             - (SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS free,
           current_setting('fsync')::bool AND current_setting('full_page_writes')::bool AS fsync,
           pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS standby,
           COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create";

pub async fn check(url: &str, place: &Place) -> Vec<Finding> {
    let shown = place.shown();
    let asked = async {
        let mut db = migrate::connect_postgres(url).await?;
        let facts: Facts = sqlx::query_as(FACTS).fetch_one(&mut db).await?;
        let near = round_trip(&mut db).await?;
        let _ = db.close().await;
        Ok::<_, sqlx::Error>((facts, near))
    };
    match asked.await {
        Err(e) => vec![unusable(&shown, &e)],
        Ok((facts, near)) => {
            let first = judge(&shown, &facts);
            let mut found = vec![first, latency(near)];
            if facts.version >= OLDEST {
                let schema = may_migrate(schema(place).await, &facts);
                let fits = schema.verdict == Verdict::Good;
                found.push(schema);
                if fits && let Ok(mut db) = migrate::connect_postgres(url).await {
                    found.push(audit_log(&mut Conn::Postgres(&mut db)).await);
                    let _ = db.close().await;
                }
            }
            found
        }
    }
}

/// Says what kept us out, and whose turn it is.
fn unusable(shown: &str, e: &sqlx::Error) -> Finding {
    let code = e.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
    let fix = match code.as_str() {
        "28P01" | "28000" => "correct user and password in database.url, or pg_hba.conf on the server",
        "3D000" => "create the database: createdb NAME, or correct database.url",
        "53300" => "raise max_connections, or end idle connections",
        "57P03" => "wait until PostgreSQL has started",
        _ => "start PostgreSQL, check host, port and firewall, and database.url",
    };
    Finding::wrong(WHAT, format!("{shown} can't be used: {e}"), fix)
}

fn judge(shown: &str, facts: &Facts) -> Finding {
    let Facts { version, free, fsync, standby, .. } = *facts;
    let answers = format!("{shown} answers, PostgreSQL {version}");
    if version < OLDEST {
        return Finding::wrong(WHAT, answers, format!("use PostgreSQL {OLDEST} or newer"));
    }
    if standby {
        return Finding::wrong(WHAT, format!("{answers}; it is read-only"), "name the primary in database.url");
    }
    if !fsync {
        let text = format!("{answers}; fsync or full_page_writes is off, so a power cut loses what was accepted");
        return Finding::look(WHAT, text, "set fsync = on and full_page_writes = on in postgresql.conf");
    }
    if free < ROOM {
        return Finding::look(WHAT, format!("{answers}; {free} connections left"), "raise max_connections");
    }
    Finding::good(WHAT, answers)
}

/// Where something is missing, the user must be able to make it; a user that only works on tables is fine otherwise.
fn may_migrate(schema: Finding, facts: &Facts) -> Finding {
    if schema.verdict == Verdict::Look && !facts.may_create {
        let text = format!("{}; but the user may not create tables", schema.text);
        let fix = "GRANT CREATE ON SCHEMA public TO the user, or run campanile migrate up as another one";
        return Finding::wrong(schema.what, text, fix);
    }
    schema
}

async fn round_trip(db: &mut PgConnection) -> Result<Duration, sqlx::Error> {
    let mut quickest = Duration::MAX;
    for _ in 0..ASKED {
        let start = Instant::now();
        sqlx::query("SELECT 1").execute(&mut *db).await?;
        quickest = quickest.min(start.elapsed());
    }
    Ok(quickest)
}

fn latency(round_trip: Duration) -> Finding {
    const WHAT: &str = "latency";
    let text = format!("{:.1} ms to the database and back", round_trip.as_secs_f64() * 1000.0);
    if round_trip > NEAR {
        return Finding::look(
            WHAT,
            text,
            "run the nodes near the database: every accept waits for several round trips",
        );
    }
    Finding::good(WHAT, text)
}

pub async fn clock(url: &str) -> Option<Witness> {
    let mut db = migrate::connect_postgres(url).await.ok()?;
    // Asked once before, so that what is measured is a round trip and nothing else.
    const NOW: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint";
    let mut theirs = 0_i64;
    let mut ours = SystemClock.now();
    for _ in 0..2 {
        let (before, start) = (SystemClock.now(), Instant::now());
        theirs = sqlx::query_scalar(NOW).fetch_one(&mut db).await.ok()?;
        ours = before + start.elapsed() / 2;
    }
    let _ = db.close().await;
    Timestamp::from_timestamp_millis(theirs).map(|theirs| Witness::Server { ours, theirs })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts { version: 15, free: 90, fsync: true, standby: false, may_create: true };

    #[test]
    fn each_fault_of_a_server_has_its_own_remedy() {
        let of = |facts: Facts| {
            let f = judge("postgres://h/d", &facts);
            (f.verdict, f.fix.unwrap_or_default())
        };
        assert_eq!(of(WELL).0, Verdict::Good);
        assert_eq!(of(Facts { version: 12, ..WELL }), (Verdict::Wrong, "use PostgreSQL 13 or newer".to_owned()));
        assert_eq!(of(Facts { standby: true, ..WELL }).0, Verdict::Wrong);
        assert!(of(Facts { fsync: false, ..WELL }).1.contains("fsync = on"));
        assert_eq!(of(Facts { free: 3, ..WELL }), (Verdict::Look, "raise max_connections".to_owned()));
    }

    #[test]
    fn only_a_migration_needs_the_right_to_create() {
        let reader = Facts { may_create: false, ..WELL };
        let missing = Finding::look("schema", "2 migrations missing", "campanile migrate up");
        assert_eq!(may_migrate(missing.clone(), &reader).verdict, Verdict::Wrong);
        assert_eq!(may_migrate(missing.clone(), &WELL), missing);
        let whole = Finding::good("schema", "9 migrations applied");
        assert_eq!(may_migrate(whole.clone(), &reader), whole);
    }

    #[test]
    fn a_far_database_is_worth_a_word() {
        assert_eq!(latency(Duration::from_millis(2)).verdict, Verdict::Good);
        let far = latency(Duration::from_millis(40));
        assert_eq!((far.verdict, far.text.as_str()), (Verdict::Look, "40.0 ms to the database and back"));
    }
}
