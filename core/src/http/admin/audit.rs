//! `/admin/audit`: the audit log, filtered by its address, and as a file.

use super::{
    Routes, Signed,
    answer::part,
    console_frame,
    gate::{LOOK, READ},
    live::{self, Drawn, Live},
};
use crate::{
    http::{page::page, problem::ApiResult},
    services::Services,
};
use async_trait::async_trait;
use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use campanile_admin_ui::{
    pages::audit as ui,
    pieces::{Empty, Footer, Here, Pager, Part, Pill},
};
use campanile_model::{
    Timestamp,
    ports::{AuditFilter, AuditRow},
};
use chrono::TimeDelta;
use futures_util::stream;
use serde_json::json;
use std::{convert::Infallible, sync::Arc};

const PATH: &str = "/admin/audit";
const ROWS: u32 = 50;
/// What one look counts at most for the pill.
const NEW_MOST: u32 = 99;
/// A file's entries at most, and how many are read at a time.
const EXPORT_MOST: usize = 100_000;
const EXPORT_PAGE: u32 = 500;

pub fn routes() -> Routes {
    Routes::new().get(PATH, LOOK, show).get("/admin/audit/export", READ, export)
}

#[derive(Clone, Debug, Default)]
struct Asked {
    actor: String,
    action: String,
    target: String,
    since: String,
    before: Option<i64>,
    /// The newest entry that the page shows.
    top: i64,
}

impl Asked {
    fn read(query: &live::Query) -> Self {
        let text = |key| query.get(key).trim().chars().take(300).collect::<String>();
        Self {
            actor: text("actor"),
            action: text("action"),
            target: text("target"),
            since: text("since"),
            before: query.get("before").parse().ok(),
            top: query.get("top").parse().unwrap_or_default(),
        }
    }

    fn here(&self, path: &str) -> Here {
        let before = self.before.map(|b| b.to_string()).unwrap_or_default();
        Here::new(path)
            .put("actor", &self.actor)
            .put("action", &self.action)
            .put("target", &self.target)
            .put("since", &self.since)
            .put("before", before)
    }

    fn is_filtered(&self) -> bool {
        [&self.actor, &self.action, &self.target, &self.since].iter().any(|t| !t.is_empty())
    }

    fn filter(&self, now: Timestamp, limit: u32) -> AuditFilter {
        let given = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        AuditFilter {
            actor: given(&self.actor),
            action: given(&self.action),
            target: given(&self.target),
            since: since(&self.since, now),
            before: self.before,
            limit,
        }
    }
}

/// `24h`, `7d`, or a moment; anything else is any time.
fn since(text: &str, now: Timestamp) -> Option<Timestamp> {
    let number = |unit: char| text.strip_suffix(unit)?.parse::<i64>().ok().filter(|n| (1..=10_000).contains(n));
    if let Some(h) = number('h') {
        return Some(now - TimeDelta::hours(h));
    }
    if let Some(d) = number('d') {
        return Some(now - TimeDelta::days(d));
    }
    text.parse().ok()
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let asked = Asked::read(&live::Query::parse(query.as_deref().unwrap_or_default()));
    let facts = s.console.facts.get(&s).await;
    let here = asked.here(PATH);
    let list = list(&s, &asked).await;
    let top = list.well().and_then(|l| l.rows.first()).map_or(0, |r| r.id);
    let chip = |name, key, value: &String| ui::Chip { name, value: value.clone(), without: here.without(key) };
    let chips =
        [("who", "actor", &asked.actor), ("action", "action", &asked.action), ("target", "target", &asked.target)];
    page(&ui::Audit {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        top,
        chain: chain(&s).await,
        pill: Pill { href: here.without("before"), ..Pill::default() },
        chips: chips.into_iter().filter(|(_, _, v)| !v.is_empty()).map(|(n, k, v)| chip(n, k, v)).collect(),
        since: asked.since.clone(),
        list,
        export: if signed.admin.role.may_read_content() {
            asked.here("/admin/audit/export").without("before")
        } else {
            String::new()
        },
        foot: foot(&s),
        here,
    })
}

pub fn live(query: &live::Query) -> Box<dyn Live> {
    Box::new(Asked::read(query))
}

#[async_trait]
impl Live for Asked {
    async fn draw(&self, s: &Arc<Services>, _: &Signed, out: &mut Drawn) {
        out.put("chain", &chain(s).await);
        // Older pages don't move, and nothing new belongs on them.
        if self.before.is_none() {
            let newest = s.store.find_audit(&self.filter(s.clock.now(), NEW_MOST)).await.unwrap_or_default();
            let count = newest.iter().take_while(|r| r.id > self.top).count() as u64;
            let href = self.here(PATH).url();
            out.put("pill", &Pill { count, more: count >= u64::from(NEW_MOST), href });
        }
        out.put("foot", &foot(s));
    }
}

fn foot(s: &Services) -> Footer {
    Footer { at: s.clock.now(), note: None }
}

async fn chain(s: &Services) -> ui::Chain {
    match s.console.chain.advance(s.store.as_ref(), s.clock.now()).await {
        Ok(view) => {
            ui::Chain { up_to: view.up_to, at: view.at, broken: view.broken, under_way: !view.whole, unknown: false }
        }
        Err(e) => {
            tracing::warn!(error = &e as &dyn std::error::Error, "The audit log could not be followed");
            ui::Chain { unknown: true, ..ui::Chain::default() }
        }
    }
}

async fn list(s: &Services, asked: &Asked) -> Part<ui::List> {
    let here = asked.here(PATH);
    let found = s.store.find_audit(&asked.filter(s.clock.now(), ROWS + 1)).await;
    part(
        s,
        "list",
        "The audit log",
        found.map(|mut found| {
            let more = found.len() > ROWS as usize;
            found.truncate(ROWS as usize);
            let older = found.last().filter(|_| more).map(|r| here.at("before", r.id));
            let rows: Vec<_> = found.into_iter().map(row).collect();
            let empty = rows.is_empty().then(|| Empty {
                title: "No entry fits these filters".to_owned(),
                why: "The log is never empty: its first entry is the install itself.".to_owned(),
                command: None,
                clear: asked.is_filtered().then(|| PATH.to_owned()),
            });
            let words = format!("{} shown, newest first", rows.len());
            let newer = asked.before.is_some().then(|| here.without("before"));
            ui::List { here: here.clone(), rows, pager: Pager { words, newer, older }, empty }
        }),
    )
}

fn row(r: AuditRow) -> ui::Row {
    ui::Row {
        source: source(&r.actor, &r.request_id),
        refused: r.action == "console.refused" || r.action == "admin.sign_in_failed",
        detail: ui::changes(r.detail.as_ref()),
        id: r.id,
        at: r.at,
        actor: r.actor,
        action: r.action,
        target: r.target,
        address: r.address.unwrap_or_default(),
        request_id: r.request_id,
    }
}

fn source(actor: &str, request_id: &str) -> &'static str {
    match actor {
        a if a.starts_with("admin:") || a == "stranger" => "web",
        a if a.starts_with("key:") => "API",
        a if a.starts_with("user:") => "link in a mail",
        "operator" if request_id.is_empty() => "command line",
        "operator" => "API",
        "system" => "system",
        _ => "command line",
    }
}

/// The filtered entries, a JSON object per line, newest first.
async fn export(State(s): State<Arc<Services>>, signed: Signed, RawQuery(query): RawQuery) -> ApiResult<Response> {
    let asked = Asked::read(&live::Query::parse(query.as_deref().unwrap_or_default()));
    let filter = asked.filter(s.clock.now(), EXPORT_PAGE);
    s.store.note(&signed.actor, "audit.export", "audit", Some(json!({"filter": asked.here(PATH).url()}))).await?;
    let pages = stream::unfold(Some((s, filter, 0usize)), |state| async move {
        let (s, filter, written) = state?;
        let rows = match s.store.find_audit(&filter).await {
            Ok(rows) => rows,
            Err(e) => {
                tracing::warn!(error = &e as &dyn std::error::Error, "An export of the audit log ended early");
                return Some((
                    Ok::<_, Infallible>(Bytes::from_static(b"{\"error\":\"the database does not answer\"}\n")),
                    None,
                ));
            }
        };
        let mut out = Vec::with_capacity(rows.len() * 200);
        for row in &rows {
            // Of our own types: it can't fail.
            let _ = serde_json::to_writer(&mut out, row);
            out.push(b'\n');
        }
        let written = written + rows.len();
        let next = (rows.len() == EXPORT_PAGE as usize && written < EXPORT_MOST)
            .then(|| (s, AuditFilter { before: rows.last().map(|r| r.id), ..filter }, written));
        Some((Ok(Bytes::from(out)), next))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"campanile-audit.ndjson\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_moment() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        assert_eq!(since("24h", now), Some(now - TimeDelta::hours(24)));
        assert_eq!(since("7d", now), Some(now - TimeDelta::days(7)));
        assert_eq!(since("2026-11-01T00:00:00Z", now), "2026-11-01T00:00:00Z".parse().ok());
        for strange in ["", "h", "-1h", "99999999999999999999d", "yesterday", "é"] {
            assert_eq!(since(strange, now), None, "{strange}");
        }
    }

    #[test]
    fn an_entry_says_where_it_came_from() {
        assert_eq!(source("admin:dana", "r"), "web");
        assert_eq!(source("key:1", "r"), "API");
        assert_eq!(source("system", ""), "system");
    }
}
