//! `/admin/dead`: dead letters by their cause, retried or discarded one, several, a whole group, or all that match; and the
//! messages of a queue that nobody could read.

mod acts;
mod asked;
mod edit;
mod poison;

use super::{
    Routes, Signed,
    answer::part,
    console_frame,
    export::{self, Sheet},
    foot,
    gate::{ACT, LOOK, READ},
    live::{Drawn, Live, Query},
    notifications::counted,
};
use crate::{
    console::Facts,
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use asked::{Asked, named};
use async_trait::async_trait;
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use campanile_admin_ui::{
    format,
    pages::{
        dead::{self as ui, Group, Item, Task},
        notifications::Status,
    },
    pieces::{Empty, Here, Pager, Part, Tab, Tabs},
};
use campanile_model::{
    ChannelName, Timestamp,
    ports::{DeadPlace, DeadWhich, Role, TaskRow},
};
use chrono::TimeDelta;
use std::sync::Arc;

/// Causes shown.
const GROUPS: u32 = 100;
const ROWS: u32 = 50;
/// How far a page counts, and how far a question does, which says how many it is about.
const COUNTED: u64 = 100_000;
const EXACT: u64 = 2_000_000;
const POISON_COUNTED: u32 = 1_000;
/// A bulk act whose node gave no sign for so long is over.
const SILENT_S: i64 = 60;
const PATH: &str = "/admin/dead";

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, show)
        .get("/admin/dead/export", READ, export_list)
        .post("/admin/dead/retry", ACT, acts::retry)
        .post("/admin/dead/discard", ACT, acts::discard)
        .post("/admin/dead/move", ACT, acts::move_by)
        .post("/admin/dead/edit", ACT, edit::open)
        .post("/admin/dead/edit/send", ACT, edit::send)
        .post("/admin/dead/recall", ACT, acts::recall)
        .post("/admin/dead/stop", ACT, acts::stop)
        .post("/admin/dead/poison/{id}/{verb}", ACT, poison::act)
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked::read(&query, s.clock.now());
    if query.has("f") {
        // Without what was left empty: an address that can be copied.
        return Ok(Redirect::to(&asked.here().url()).into_response());
    }
    let facts = s.console.facts.get(&s).await;
    page(&ui::Dead {
        frame: console_frame(&s, &signed, &headers, &facts, "/admin/queues"),
        here: asked.here(),
        tabs: Part::Well(tabs(&s, &asked, &facts).await),
        sift: (!asked.poison).then(|| asked.sift(&s)),
        tasks: part(&s, "tasks", "Bulk acts", tasks(&s, &signed, asked.here().url()).await),
        body: body(&s, &signed, &asked).await,
        foot: foot(&s, &facts),
    })
}

pub fn live(query: &Query) -> Box<dyn Live> {
    // Drawn at its own time, frame by frame.
    Box::new(Asked::read(query, Timestamp::UNIX_EPOCH))
}

#[async_trait]
impl Live for Asked {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let (asked, facts) = (self.clone().at(s.clock.now()), s.console.facts.get(s).await);
        out.part("tabs", Part::Well(tabs(s, &asked, &facts).await));
        out.part("tasks", part(s, "tasks", "Bulk acts", tasks(s, signed, asked.here().url()).await));
        match body(s, signed, &asked).await {
            ui::Body::Groups(p) => out.part("dead", p),
            ui::Body::Items(p) => out.part("dead", p),
            ui::Body::Poison(p) => out.part("dead", p),
        }
        out.put("foot", &foot(s, &facts));
    }
}

async fn tabs(s: &Services, asked: &Asked, facts: &Facts) -> Tabs {
    let tab =
        |label: &str, href: &str, current| Tab { label: label.into(), href: href.into(), current, ..Tab::default() };
    let mut letters = tab("Dead letters", PATH, !asked.poison);
    let dead: u64 = facts.queues.values().map(|q| q.dead).sum();
    if dead > 0 {
        (letters.count, letters.tone) = (Some(format::count(dead)), "bad");
    }
    let mut poison = tab("Unreadable messages", "/admin/dead?tab=poison", asked.poison);
    // A database that is away is said by the list.
    let unread = s.store.poison_count(POISON_COUNTED).await.unwrap_or(0);
    if unread > 0 {
        let more = if unread >= u64::from(POISON_COUNTED) { "+" } else { "" };
        (poison.count, poison.tone) = (Some(format!("{}{more}", format::count(unread))), "warn");
    }
    Tabs { id: "tabs", label: "Queues", tabs: vec![tab("Waiting", "/admin/queues", false), letters, poison] }
}

async fn body(s: &Services, signed: &Signed, asked: &Asked) -> ui::Body {
    if asked.poison {
        return ui::Body::Poison(part(s, "dead", "Unreadable messages", poison::draw(s, signed, asked).await));
    }
    if asked.open {
        return ui::Body::Items(part(s, "dead", "Dead letters", items(s, signed, asked).await));
    }
    ui::Body::Groups(part(s, "dead", "Dead letters", groups(s, signed, asked).await))
}

fn nothing(asked: &Asked) -> Empty {
    if asked.is_filtered() {
        return Empty {
            title: "Nothing matches".into(),
            why: "What was here is retried, discarded, or has never been.".into(),
            command: None,
            clear: Some(PATH.into()),
        };
    }
    Empty {
        title: "Nothing has been given up on".into(),
        why: "After the last try of the schedule a delivery lands here. Those that are tried again are listed under \
              Notifications with the status retrying."
            .into(),
        ..Empty::default()
    }
}

async fn groups(s: &Services, signed: &Signed, asked: &Asked) -> ApiResult<ui::Groups> {
    let mut found = s.store.dead_groups(&asked.which, GROUPS + 1).await?;
    let more = found.len() > GROUPS as usize;
    found.truncate(GROUPS as usize);
    let content = signed.admin.role.may_read_content();
    let total =
        if more { s.store.dead_count(&asked.which, COUNTED).await? } else { found.iter().map(|g| g.count).sum() };
    let groups = found.into_iter().map(|g| Group {
        href: asked.group(&g).here().url(),
        channel: g.channel.to_string(),
        reason: g.reason,
        said: g.said.filter(|_| content).map(|said| format::said_beside(&g.error, &said).to_owned()),
        error: g.error,
        destination: g.destination,
        count: g.count,
        first: g.first,
        last: g.last,
    });
    Ok(ui::Groups {
        groups: groups.collect(),
        more,
        beside: asked.beside(),
        all: all(s, signed, asked, total),
        items: asked.one_by_one().here().url(),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        empty: nothing(asked),
        back: asked.here().url(),
        download: download(signed, asked),
    })
}

/// As far as it was counted.
fn words(total: u64) -> String {
    if total >= COUNTED { format!("more than {}", format::count(COUNTED)) } else { counted(total, "delivery") }
}

/// What can be done with all that match.
fn all(s: &Services, signed: &Signed, asked: &Asked, total: u64) -> Option<ui::All> {
    (signed.admin.role.may_act() && total > 0).then(|| ui::All {
        fields: asked.fields(),
        filtered: asked.is_filtered(),
        total,
        total_words: words(total),
        others: others(s, asked.which.channel.as_ref()),
        csrf: signed.csrf.clone(),
        back: asked.here().url(),
    })
}

fn download(signed: &Signed, asked: &Asked) -> Option<Here> {
    signed.admin.role.may_read_content().then(|| asked.on("/admin/dead/export"))
}

async fn items(s: &Services, signed: &Signed, asked: &Asked) -> ApiResult<ui::Items> {
    let before = asked.place();
    let mut found = s.store.dead_items(&asked.which, before, ROWS + 1).await?;
    let more = found.len() > ROWS as usize;
    found.truncate(ROWS as usize);
    let total =
        if !more && before.is_none() { found.len() as u64 } else { s.store.dead_count(&asked.which, COUNTED).await? };
    let older = found.last().filter(|_| more).map(|d| asked.behind(DeadPlace::of(d)));
    let newer = before.map(|_| asked.here().at("before", ""));
    let content = signed.admin.role.may_read_content();
    let rows = found.iter().map(|d| Item {
        id: d.id.to_string(),
        notification: d.notification_id.to_string(),
        user: d.user_id.to_string(),
        address: d.recipient.as_deref().map(format::masked).unwrap_or_default(),
        channel: d.channel.to_string(),
        reason: d.reason.clone().unwrap_or_default(),
        error: if d.error.is_empty() { "–".to_owned() } else { d.error.clone() },
        // Its code stands beside it.
        said: d
            .attempts
            .last()
            .and_then(|a| a.message.as_deref())
            .filter(|_| content)
            .map_or_else(String::new, |said| format::said_beside(&d.error, said).to_owned()),
        attempts: d.attempt,
        at: d.settled_at.unwrap_or(d.created_at),
    });
    Ok(ui::Items {
        name: asked.name(),
        rows: rows.collect(),
        pager: Pager { words: words(total), newer, older },
        total_words: words(total),
        all: all(s, signed, asked, total),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        empty: nothing(asked),
        back: asked.here().url(),
        others: others(s, asked.which.channel.as_ref()),
        download: download(signed, asked),
    })
}

/// Channels that are on, for those who would rather send by another one.
pub fn others(s: &Services, but: Option<&ChannelName>) -> Vec<String> {
    let on = s.channels.guards().into_iter().filter(|g| g.enabled());
    on.map(|g| g.name().clone()).filter(|name| Some(name) != but).map(|name| name.to_string()).collect()
}

/// Bulk acts, for whichever page shows them.
pub async fn tasks(s: &Services, signed: &Signed, back: String) -> ApiResult<ui::Tasks> {
    let now = s.clock.now();
    let drawn = |t: TaskRow| {
        let verb = match t.what.as_str() {
            "replay" => "Retrying",
            "move" => "Moving",
            "retry" => "Retrying what is dead of",
            "cancel" => "Cancelling what waits of",
            _ => "Discarding",
        };
        let silent = t.ended_at.is_none() && now - t.beat_at > TimeDelta::seconds(SILENT_S);
        let (tone, word) = match (t.ended_at, &t.stopped_by) {
            (Some(_), Some(who)) => ("off", format!("stopped by {}", who.trim_start_matches("admin:"))),
            (Some(_), None) => ("ok", "done".to_owned()),
            (None, Some(_)) => ("off", "stopping".to_owned()),
            (None, None) if silent => ("warn", "its node went away".to_owned()),
            (None, None) => ("off", "under way".to_owned()),
        };
        Task {
            id: t.id.to_string(),
            words: format!("{verb} {}, by {}", t.subject, t.actor.trim_start_matches("admin:")),
            status: Status::new(tone, word),
            done: t.done,
            total: t.total,
            skipped: t.skipped,
            running: t.ended_at.is_none() && t.stopped_by.is_none() && !silent,
        }
    };
    Ok(ui::Tasks {
        tasks: s.store.tasks().await?.into_iter().map(drawn).collect(),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        back,
    })
}

// ---------------------------------------------------------------------------------------------------------- files

async fn export_list(State(s): State<Arc<Services>>, signed: Signed, RawQuery(query): RawQuery) -> ApiResult<Response> {
    signed.require(Role::Viewer)?;
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked::read(&query, s.clock.now());
    let format = export::Format::parse(query.get("as"))
        .ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "as must be csv or ndjson"))?;
    let detail = serde_json::json!({"as": format.as_str()});
    s.store.note(&signed.actor, "dead.export", &named(&asked.which), Some(detail)).await?;
    Ok(export::stream(&s, format, "dead-letters", List { which: asked.which, before: None }))
}

struct List {
    which: DeadWhich,
    before: Option<DeadPlace>,
}

#[async_trait]
impl Sheet for List {
    const COLUMNS: &'static [&'static str] = &[
        "delivery_id",
        "notification_id",
        "user_id",
        "channel",
        "address",
        "reason",
        "error",
        "destination",
        "attempts",
        "given_up_at",
        "answer",
    ];

    async fn next(&mut self, s: &Services) -> ApiResult<Vec<Vec<String>>> {
        let found = s.store.dead_items(&self.which, self.before, 200).await?;
        self.before = found.last().map(DeadPlace::of).or(self.before);
        Ok(found
            .iter()
            .map(|d| {
                vec![
                    d.id.to_string(),
                    d.notification_id.to_string(),
                    d.user_id.to_string(),
                    d.channel.to_string(),
                    // Masked here as on the page: a file goes further than a page.
                    d.recipient.as_deref().map(format::masked).unwrap_or_default(),
                    d.reason.clone().unwrap_or_default(),
                    d.error.clone(),
                    d.destination.clone(),
                    d.attempt.to_string(),
                    d.settled_at.map(format::machine).unwrap_or_default(),
                    d.attempts.last().and_then(|a| a.message.clone()).unwrap_or_default(),
                ]
            })
            .collect())
    }
}
