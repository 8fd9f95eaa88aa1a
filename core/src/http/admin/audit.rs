//! `/admin/audit`: the audit log, filtered by its address, and as a file.

use super::{
    Routes, Signed,
    answer::part,
    console_frame,
    gate::{LOOK, READ},
    live::{self, Drawn, Live},
    search::moment,
    segment,
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
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use campanile_admin_ui::{
    pages::{audit as ui, notifications::Chip},
    pieces::{Empty, Footer, Here, Pager, Part, Pill},
};
use campanile_model::{
    Timestamp,
    ports::{AuditFilter, AuditRow, AuditSource},
};
use futures_util::stream;
use serde_json::json;
use std::{convert::Infallible, sync::Arc};
use uuid::Uuid;

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

/// The names of what is asked for in the address, and what people call them.
const ASKED: [(&str, &str); 8] = [
    ("actor", "who"),
    ("action", "action"),
    ("target", "target"),
    ("source", "by"),
    ("address", "from"),
    ("request", "request"),
    ("since", "since"),
    ("until", "until"),
];

/// The page as its address says it, in the order of [`ASKED`].
#[derive(Clone, Debug, Default)]
struct Asked {
    texts: [String; 8],
    before: Option<i64>,
    /// The newest entry that the page shows.
    top: i64,
}

impl Asked {
    fn read(query: &live::Query) -> Self {
        Self {
            texts: ASKED.map(|(key, _)| query.get(key).trim().chars().take(300).collect()),
            before: query.get("before").parse().ok(),
            top: query.get("top").parse().unwrap_or_default(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, &'static str, &String)> {
        ASKED.into_iter().zip(&self.texts).map(|((key, name), text)| (key, name, text))
    }

    fn text(&self, key: &str) -> &str {
        self.pairs().find(|(k, ..)| *k == key).map_or("", |(.., text)| text)
    }

    fn here(&self, path: &str) -> Here {
        let here = self.pairs().fold(Here::new(path), |here, (key, _, text)| here.put(key, text));
        here.put("before", self.before.map(|b| b.to_string()).unwrap_or_default())
    }

    fn is_filtered(&self) -> bool {
        self.texts.iter().any(|t| !t.is_empty())
    }

    fn filter(&self, now: Timestamp, limit: u32) -> AuditFilter {
        let given = |key| Some(self.text(key).to_owned()).filter(|t| !t.is_empty());
        AuditFilter {
            actor: given("actor").map(|who| whole_name(&who)),
            action: given("action"),
            target: given("target"),
            address: given("address"),
            request_id: given("request"),
            source: AuditSource::parse(self.text("source")),
            since: moment(self.text("since"), now),
            until: moment(self.text("until"), now),
            before: self.before,
            limit,
        }
    }

    /// What of it means nothing; the list is shown without it.
    fn hint(&self, now: Timestamp) -> Option<String> {
        let filter = self.filter(now, 1);
        let unread = [
            ("source", filter.source.is_none(), "no place that acts come from"),
            ("since", filter.since.is_none(), "no time: write 30m, 1h, 2d or 2026-11-03"),
            ("until", filter.until.is_none(), "no time: write 30m, 1h, 2d or 2026-11-03"),
        ];
        let wrong = unread.into_iter().find(|(key, unread, _)| *unread && !self.text(key).is_empty());
        wrong.map(|(key, _, why)| format!("“{}” is {why}.", self.text(key)))
    }

    fn chips(&self, here: &Here) -> Vec<Chip> {
        let given = self.pairs().filter(|(.., text)| !text.is_empty());
        given
            .map(|(key, name, text)| {
                let text = match AuditSource::parse(text) {
                    Some(source) if key == "source" => ui::source_words(source),
                    _ => text,
                };
                Chip { text: format!("{name}: {text}"), without: here.without(key) }
            })
            .collect()
    }
}

/// As the log names them: people leave out what all members' names begin with.
fn whole_name(who: &str) -> String {
    let whole = who.contains(':') || ["operator", "system", "stranger"].contains(&who);
    if whole { who.to_owned() } else { format!("admin:{who}") }
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let query = live::Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked::read(&query);
    if query.has("f") {
        // Without what was left empty: an address that can be copied.
        return Ok(Redirect::to(&asked.here(PATH).without("before")).into_response());
    }
    let facts = s.console.facts.get(&s).await;
    let here = asked.here(PATH);
    let list = list(&s, &asked).await;
    let top = list.well().and_then(|l| l.rows.first()).map_or(0, |r| r.id);
    let text = |key| asked.text(key).to_owned();
    page(&ui::Audit {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        top,
        chain: chain(&s).await,
        pill: Pill { href: here.without("before"), ..Pill::default() },
        hint: asked.hint(s.clock.now()),
        sift: ui::Sift {
            actor: text("actor"),
            action: text("action"),
            target: text("target"),
            source: text("source"),
            address: text("address"),
            request: text("request"),
            since: text("since"),
            until: text("until"),
            chips: asked.chips(&here),
        },
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
        source: AuditSource::of(&r.actor, &r.request_id),
        refused: r.action == "console.refused" || r.action == "admin.sign_in_failed",
        detail: ui::changes(r.detail.as_ref()),
        page: page_of(&r.action, &r.target),
        id: r.id,
        at: r.at,
        actor: r.actor,
        action: r.action,
        target: r.target,
        address: r.address.unwrap_or_default(),
        request_id: r.request_id,
    }
}

/// Where what was acted on is shown; what has no page of its own leads nowhere.
fn page_of(action: &str, target: &str) -> Option<String> {
    let (what, verb) = action.split_once('.')?;
    let is_id = target.parse::<Uuid>().is_ok();
    let page = match what {
        "key" if is_id => format!("/admin/keys#k-{target}"),
        "notification" if is_id => format!("/admin/notifications/{target}"),
        // The search knows which notification a delivery belongs to.
        "delivery" if is_id => Here::new("/admin/search").put("q", target).url(),
        "delivery" | "dead" | "task" => "/admin/dead".to_owned(),
        "poison" => "/admin/dead?tab=poison".to_owned(),
        "connection" if is_id => format!("/admin/connections/{target}"),
        "user" if verb != "erase" => format!("/admin/users/{}", segment(target)),
        "channel" if verb == "order" => "/admin/channels".to_owned(),
        "channel" | "instance" if !target.is_empty() => format!("/admin/channels/{}", segment(target)),
        "plugin" => "/admin/plugins".to_owned(),
        "suppression" => "/admin/users".to_owned(),
        "admin" => "/admin/settings?tab=members".to_owned(),
        "node" => "/admin/settings?tab=nodes".to_owned(),
        _ => return None,
    };
    Some(page)
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
    use chrono::TimeDelta;

    fn asked(query: &str) -> Asked {
        Asked::read(&live::Query::parse(query))
    }

    #[test]
    fn the_address_says_what_is_asked_for() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let all = "actor=dana&action=key.create&target=k1&source=web&address=10.0.0.1&request=r1&since=7d&until=1h";
        let filter = asked(all).filter(now, 9);
        assert_eq!(filter.actor.as_deref(), Some("admin:dana"), "a member's short name");
        assert_eq!((filter.address.as_deref(), filter.request_id.as_deref()), (Some("10.0.0.1"), Some("r1")));
        assert_eq!(filter.source, Some(AuditSource::Web));
        assert_eq!((filter.since, filter.until), (Some(now - TimeDelta::days(7)), Some(now - TimeDelta::hours(1))));
        assert_eq!(asked(all).here(PATH).url(), format!("{PATH}?{all}"), "whole and in order");
        assert_eq!(asked(all).hint(now), None);
        for name in ["system", "operator", "stranger", "key:1", "user:ada"] {
            assert_eq!(whole_name(name), name);
        }
        let chips: Vec<_> = asked("source=cli&until=1h").chips(&Here::new(PATH)).into_iter().map(|c| c.text).collect();
        assert_eq!(chips, ["by: command line", "until: 1h"]);
        for wrong in ["since=yesterday", "until=-1h", "source=moon"] {
            let (key, text) = wrong.split_once('=').unwrap();
            let asked = asked(wrong);
            assert!(asked.hint(now).unwrap().contains(text) && asked.here(PATH).url().contains(key), "{wrong}");
        }
        assert!(!asked("f=1&actor=&since=").is_filtered());
    }

    #[test]
    fn a_target_leads_to_its_page_and_nothing_else_does() {
        let id = "0192a3b4-0000-7000-8000-000000000001";
        for (action, target, page) in [
            ("key.rotate", id, format!("/admin/keys#k-{id}")),
            ("notification.reveal", id, format!("/admin/notifications/{id}")),
            ("delivery.edit", id, format!("/admin/search?q={id}")),
            ("user.edit", "mia/\u{1f514}", "/admin/users/mia%2F%F0%9F%94%94".to_owned()),
            ("channel.pause", "e mail", "/admin/channels/e%20mail".to_owned()),
            ("poison.discard", "7", "/admin/dead?tab=poison".to_owned()),
        ] {
            assert_eq!(page_of(action, target).as_deref(), Some(page.as_str()), "{action}");
        }
        for (action, target) in [
            ("console.refused", "/admin/keys"),
            ("notification.export", "csv"),
            ("key.create", "javascript:alert(1)"),
            ("connection.close", "//evil.example"),
            ("user.erase", "ada"),
            ("install", "campanile"),
        ] {
            assert_eq!(page_of(action, target), None, "{action}");
        }
    }
}
