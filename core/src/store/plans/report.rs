//! The plans as a table for people.

use super::{ear::Explained, judge::figures};
use std::fmt::Write as _;

const HEAD: &str = "# Plans

How PostgreSQL finds what each statement asks for. The table was written by the check itself, on a database of thirty days with {n}
deliveries and all that goes with them (`core/src/store/plans/fill.sql`): one user has a tenth of all feed items, a channel is paused
and a fiftieth of all mail waits behind it. It fails when a statement reads a long table whole, or looks at more than what
it was asked for explains.

    eval \"$(scripts/services/postgres start)\"
    CAMPANILE_TEST_ENGINES=postgres CAMPANILE_TEST_DELIVERIES=1000000 CAMPANILE_PLANS_TO=$PWD/docs/plans.md \\
        cargo test -p campanile-core --features failpoints --lib plans::every
    scripts/services/postgres stop

The suite asks the same of 50,000 deliveries in every run.

*Rows* came out or were written, *looked at* were read for them, *pages* of 8 KiB were touched; *ms* is the server's own time, on
two busy cores. A name in capitals is a (short) table that is read whole. Statements of one call stand in the order in which they ran.

| call | statement | found by | rows | looked at | pages | ms |
|---|---|---|---:|---:|---:|---:|
";

pub(super) fn write(path: &str, deliveries: u64, explained: &[Explained]) {
    let mut out = HEAD.replace("{n}", &grouped(deliveries));
    let mut last = "";
    for e in explained {
        // Each transaction begins so.
        if e.text.contains("FROM channel_pauses WHERE ended IS NULL) AS paused")
            || e.text.contains("AS paused") && e.text.contains("json_agg")
        {
            continue;
        }
        let f = figures(&e.plan);
        let call = if e.call == last { "" } else { &e.call };
        let by = if f.by.is_empty() { "nothing to find".to_owned() } else { by(&f.by) };
        let _ = writeln!(
            out,
            "| {call} | {} | {by} | {:.0} | {:.0} | {:.0} | {:.1} |",
            short(e.text),
            f.rows,
            f.looked_at,
            f.pages,
            f.ms
        );
        last = &e.call;
    }
    std::fs::write(path, out).unwrap_or_else(|e| panic!("{path}: {e}"));
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let lead = digits.len() % 3;
    let mut out = digits[..lead].to_owned();
    for (i, digit) in digits[lead..].chars().enumerate() {
        if i % 3 == 0 && !out.is_empty() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn by(names: &[String]) -> String {
    let mut out: Vec<&str> = Vec::new();
    for name in names {
        if !out.contains(&name.as_str()) {
            out.push(name);
        }
    }
    out.join(", ")
}

/// Its verb and its table.
fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied();
    let table = |name: &str| name.trim_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned();
    match words.first().copied().unwrap_or_default() {
        "INSERT" => format!("insert {}", after("INTO").map(table).unwrap_or_default()),
        "UPDATE" => format!("update {}", after("UPDATE").map(table).unwrap_or_default()),
        "DELETE" => format!("delete {}", after("FROM").map(table).unwrap_or_default()),
        _ if text.contains("FOR UPDATE") => "select, lock".to_owned(),
        _ => "select".to_owned(),
    }
}
