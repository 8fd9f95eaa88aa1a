//! Hears the statements that are sent from the threads of one test, and explains each before it runs.

use crate::store::sql::statement::{Conn, Sql};
use serde_json::Value;
use sqlx::{Executor as _, PgConnection, Row as _, SqliteConnection, postgres::PgRow};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

thread_local! {
    static EAR: RefCell<Option<Arc<Ear>>> = const { RefCell::new(None) };
}

/// What is sent from this thread is heard from now on.
pub(super) fn listen(ear: Option<Arc<Ear>>) {
    EAR.set(ear);
}

/// A statement as PostgreSQL ran it.
pub(super) struct Explained {
    /// The call that sent it.
    pub call: String,
    pub text: &'static str,
    /// Items of the longest list it was given, or its limit.
    pub asked_for: usize,
    pub plan: Value,
    /// As planned without its values, where the session may come to that.
    pub generic: Option<Value>,
}

/// A statement as SQLite would run it.
pub(super) struct Asked {
    pub sql: Sql<'static>,
    pub steps: Vec<String>,
}

#[derive(Default)]
pub(super) struct Ear(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    on: bool,
    call: String,
    explained: Vec<Explained>,
    /// By both texts.
    asked: BTreeMap<(&'static str, &'static str), Asked>,
}

impl Ear {
    pub fn begin(&self) {
        self.0.lock().unwrap().on = true;
    }
    /// What follows belongs to this call.
    pub fn about(&self, call: &str) {
        call.clone_into(&mut self.0.lock().unwrap().call);
    }
    pub fn take_explained(&self) -> Vec<Explained> {
        std::mem::take(&mut self.0.lock().unwrap().explained)
    }
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.lock().unwrap().asked).into_values().collect()
    }
}

/// Called with every statement before it runs.
pub(crate) async fn hear(conn: &mut Conn<'_>, sql: &Sql<'_>) -> sqlx::Result<()> {
    let ear = EAR.with_borrow(Clone::clone).filter(|ear| ear.0.lock().unwrap().on);
    let Some(ear) = ear else { return Ok(()) };
    match conn {
        Conn::Sqlite(conn) => {
            if ear.0.lock().unwrap().asked.contains_key(&sql.texts()) {
                return Ok(());
            }
            let asked = Asked { sql: sql.clone().into_owned(), steps: steps(conn, sql).await? };
            ear.0.lock().unwrap().asked.insert(sql.texts(), asked);
        }
        Conn::Postgres(conn) => {
            let plan = run(conn, sql).await?;
            let generic = generic(conn, sql).await?;
            let mut heard = ear.0.lock().unwrap();
            let call = heard.call.clone();
            heard.explained.push(Explained { call, text: sql.texts().1, asked_for: sql.asked_for(), plan, generic });
        }
    }
    Ok(())
}

async fn steps(conn: &mut SqliteConnection, sql: &Sql<'_>) -> sqlx::Result<Vec<String>> {
    let text = format!("EXPLAIN QUERY PLAN {}", sql.texts().0).leak();
    let rows = sql.about_on_sqlite(text).persistent(false).fetch_all(conn).await?;
    rows.iter().map(|row| row.try_get("detail")).collect()
}

/// Runs it where it stands and takes back what it did.
async fn run(conn: &mut PgConnection, sql: &Sql<'_>) -> sqlx::Result<Value> {
    let text = sql.texts().1;
    let writes = ["INSERT", "UPDATE", "DELETE"].iter().any(|verb| text.trim_start().starts_with(verb))
        || text.contains("RETURNING");
    if writes {
        conn.execute("SAVEPOINT explained").await?;
    }
    let plan = plan(conn, sql, "ANALYZE, BUFFERS, FORMAT JSON").await?;
    if writes {
        conn.execute("ROLLBACK TO SAVEPOINT explained").await?;
    }
    Ok(plan)
}

/// A statement that is sent often enough may be planned once for all values.
async fn generic(conn: &mut PgConnection, sql: &Sql<'_>) -> sqlx::Result<Option<Value>> {
    let mode: String = sqlx::query_scalar("SHOW plan_cache_mode").fetch_one(&mut *conn).await?;
    if mode == "force_custom_plan" {
        return Ok(None);
    }
    let (types, values) = sql.spelled_for_postgres();
    let types = if types.is_empty() { types } else { format!("({types})") };
    let values = if values.is_empty() { values } else { format!("({values})") };
    let ask = |text: String| sqlx::raw_sql(sqlx::AssertSqlSafe(text));
    ask(format!("PREPARE asked {types} AS {}", sql.texts().1)).execute(&mut *conn).await?;
    ask("SET plan_cache_mode = force_generic_plan".to_owned()).execute(&mut *conn).await?;
    let row = ask(format!("EXPLAIN (FORMAT JSON) EXECUTE asked {values}")).fetch_one(&mut *conn).await?;
    ask(format!("SET plan_cache_mode = {mode}; DEALLOCATE asked")).execute(&mut *conn).await?;
    decoded(&row).map(Some)
}

fn decoded(row: &PgRow) -> sqlx::Result<Value> {
    let bytes = row.try_get_raw(0)?.as_bytes().map_err(sqlx::Error::Decode)?;
    let plans: Value = serde_json::from_slice(bytes).map_err(|e| sqlx::Error::Decode(e.into()))?;
    Ok(plans[0].clone())
}

/// What PostgreSQL says of it.
pub(super) async fn plan(conn: &mut PgConnection, sql: &Sql<'_>, options: &str) -> sqlx::Result<Value> {
    let text = format!("EXPLAIN ({options}) {}", sql.texts().1).leak();
    let row = sql.about_on_postgres(text).persistent(false).fetch_one(conn).await?;
    decoded(&row)
}
