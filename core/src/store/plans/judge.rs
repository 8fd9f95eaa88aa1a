//! The verdict on a plan.

use super::ear::{self, Asked, Explained};
use crate::store::postgres::{
    Settings,
    open::{self, Role},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a statement may look at, for each row or list item that it is about, and besides.
const EACH: f64 = 12.0;
const BESIDES: f64 = 1_500.0;
/// Pages of 8 KiB: for each row looked at or looked for, down an index and the row itself; for each row written, its place in
/// ten indexes; and what a fresh session reads of the catalogue, and rows that the explaining itself has left dead.
const PAGES_EACH: f64 = 6.0;
const PAGES_WRITTEN: f64 = 30.0;
const PAGES_BESIDES: f64 = 1_000.0;

/// Statements that may look at more, and why.
const LONGER: &[(&str, &str)] = &[
    (
        "COUNT(*) FILTER (WHERE next_attempt_at <=",
        "the depth of the queues is what waits, counted in an index once a second",
    ),
    ("COUNT(f.seq) AS total", "the audit counts whole feeds: that is its work"),
    ("SELECT at, node, data FROM minutes", "a week of plots is read once, at the start"),
    ("DELETE FROM minutes WHERE at <", "the exam trims all of it; what a day trims is asked for by itself"),
    ("FROM audiences a JOIN notifications c ON c.id", "an erase looks through the large audiences that are kept"),
    ("error, reason FROM deliveries", "an error is looked for in the newest five thousand that failed"),
    ("ORDER BY next_attempt_at LIMIT $5", "a resume looks through the channel's backlog once"),
    ("AS known,", "people are counted as far as a hundred thousand, in indexes"),
    ("AS newest", "suppressions are counted by what they are for, the newest hundred thousand"),
    ("x.error, x.destination, COUNT(*) AS n", "causes of death are counted over all that is dead, in an index"),
];

/// The figures of one plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Rows that came out, or were written.
    pub rows: f64,
    /// Rows that were read, kept or not.
    pub looked_at: f64,
    /// Times that something was looked for.
    pub looks: f64,
    pub pages: f64,
    pub ms: f64,
    pub writes: bool,
    /// Tables read whole.
    pub whole: Vec<String>,
    /// How it is found: indexes in the order of the plan, tables read whole in capitals.
    pub by: Vec<String>,
}

pub(super) fn figures(plan: &Value) -> Figures {
    let top = &plan["Plan"];
    let mut f = Figures {
        pages: number(top, "Shared Hit Blocks") + number(top, "Shared Read Blocks"),
        ms: number(plan, "Execution Time"),
        rows: number(top, "Actual Rows"),
        writes: top["Node Type"] == "ModifyTable",
        ..Figures::default()
    };
    if let Some(beneath) = top["Plans"].get(0).filter(|_| f.writes) {
        f.rows = f.rows.max(number(beneath, "Actual Rows"));
    }
    walk(top, &mut f);
    f
}

fn number(node: &Value, name: &str) -> f64 {
    node[name].as_f64().unwrap_or(0.0)
}

fn walk(node: &Value, f: &mut Figures) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    // A table read whole is judged by its length.
    if ["Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan"].contains(&kind) {
        let loops = number(node, "Actual Loops");
        let dropped = number(node, "Rows Removed by Filter") + number(node, "Rows Removed by Index Recheck");
        f.looked_at += loops * (number(node, "Actual Rows") + dropped);
        f.looks += loops;
    }
    if kind == "Seq Scan" {
        let table = node["Relation Name"].as_str().unwrap_or_default();
        f.whole.push(table.to_owned());
        f.by.push(table.to_uppercase());
    }
    if let Some(index) = node["Index Name"].as_str() {
        f.by.push(index.to_owned());
    }
    for beneath in node["Plans"].as_array().into_iter().flatten() {
        walk(beneath, f);
    }
}

/// Of statements that ran.
pub(super) fn measured(explained: &[Explained], long: &BTreeMap<String, i64>) -> Vec<String> {
    let mut faults = Vec::new();
    for e in explained {
        let f = figures(&e.plan);
        let about = f.rows.max(e.asked_for as f64);
        if LONGER.iter().any(|(text, _)| e.text.contains(text)) {
            continue;
        }
        let mut wrong = whole(&f, long);
        if let Some(generic) = &e.generic {
            wrong.extend(whole(&figures(generic), long).into_iter().map(|w| format!("planned without values it {w}")));
        }
        let looked = EACH * about + BESIDES;
        if f.looked_at.max(f.looks) > looked {
            wrong.push(format!("looked at {} rows in {} looks, {looked} would do", f.looked_at, f.looks));
        }
        let written = if f.writes { PAGES_WRITTEN * about } else { 0.0 };
        let pages = PAGES_EACH * (f.looked_at + f.looks + about) + written + PAGES_BESIDES;
        if f.pages > pages {
            wrong.push(format!("read {} pages, {pages} would do", f.pages));
        }
        if !wrong.is_empty() {
            faults.push(fault(&e.call, e.text, &wrong, &e.plan));
        }
    }
    faults
}

/// Of statements of the exam: their values mean nothing here, so they are not run.
pub(super) async fn planned(settings: &Settings, asked: Vec<Asked>, long: &BTreeMap<String, i64>) -> Vec<String> {
    let mut conn = open::connect(settings, Role::Writer).await.unwrap();
    let mut faults = Vec::new();
    for Asked { sql, .. } in asked {
        let text = sql.texts().1;
        let plan = match ear::plan(&mut conn, &sql, "FORMAT JSON").await {
            Ok(plan) => plan,
            Err(e) => panic!("{e}: {text}"),
        };
        let wrong = whole(&figures(&plan), long);
        let longer = LONGER.iter().any(|(known, _)| text.contains(known));
        if !longer && !wrong.is_empty() {
            faults.push(fault("the exam", text, &wrong, &plan));
        }
    }
    faults
}

fn whole(f: &Figures, long: &BTreeMap<String, i64>) -> Vec<String> {
    let long = f.whole.iter().filter_map(|table| Some((table, long.get(table)?)));
    long.map(|(table, rows)| format!("reads all {rows} rows of {table}")).collect()
}

fn fault(call: &str, text: &str, wrong: &[String], plan: &Value) -> String {
    format!("{call}: {}\n{text}\n{}", wrong.join("; "), serde_json::to_string_pretty(plan).unwrap_or_default())
}

/// Tables that grow with use. (Tickets live for half a minute.)
const GROWING: [&str; 15] = [
    "notifications",
    "deliveries",
    "attempts",
    "feed",
    "user_state",
    "users",
    "collapses",
    "idempotency",
    "suppressions",
    "address_faults",
    "poison",
    "audit",
    "node_connections",
    "minutes",
    "marks",
];

pub(super) fn on_sqlite(asked: &[Asked]) -> Vec<String> {
    let mut faults = Vec::new();
    for Asked { sql, steps } in asked {
        let text = sql.texts().0;
        let names = names(text);
        let wrong: Vec<String> = steps
            .iter()
            .filter_map(|step| {
                // Nothing but the app, and then sorted: all that an app ever had. What is dead has short indexes of its own.
                let sorted = steps.iter().any(|s| s.starts_with("USE TEMP B-TREE"));
                let search = step.strip_prefix("SEARCH ").and_then(|s| s.split_once(' '));
                if search.is_some_and(|(name, how)| {
                    sorted && names.contains(&name) && how.ends_with("(app=?)") && !how.contains("_dead")
                }) {
                    return Some(step.clone());
                }
                let (name, how) =
                    step.strip_prefix("SCAN ")?.split_once(' ').unwrap_or((step.strip_prefix("SCAN ")?, ""));
                // In the order of the key it ends with the limit.
                let bounded = text.contains("LIMIT") && text.contains("ORDER BY id");
                (names.contains(&name) && how.is_empty() && !bounded).then(|| step.clone())
            })
            .collect();
        if !wrong.is_empty() {
            faults.push(format!("{}\n{text}\n{}", wrong.join("; "), steps.join("\n")));
        }
    }
    faults
}

/// The growing tables of this text, and what it calls them.
fn names(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let mut names = Vec::new();
    for (i, word) in words.iter().enumerate() {
        if GROWING.contains(word) {
            names.push(*word);
            names.extend(words.get(i + 1).filter(|next| next.len() == 1));
        }
    }
    names
}
