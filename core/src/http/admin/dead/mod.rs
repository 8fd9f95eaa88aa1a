//! `/admin/dead`: dead letters by their cause, retried or discarded one, several, a whole group, or all that match; and the
//! messages of a queue that nobody could read.

mod acts;
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
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
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
    AppId, ChannelName, DeliveryId, UserId,
    ports::{DeadWhich, Role, TaskRow},
};
use chrono::TimeDelta;
use std::sync::Arc;

/// Causes shown.
const GROUPS: u32 = 100;
const ROWS: u32 = 50;
/// How far a count goes.
const COUNTED: u64 = 100_000;
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

/// The names of a cause, in addresses and forms.
const CAUSE: [&str; 5] = ["channel", "reason", "error", "destination", "user"];

fn which(get: impl Fn(&str) -> Option<String>) -> DeadWhich {
    DeadWhich {
        app: AppId::default(),
        channel: get("channel").filter(|c| !c.is_empty()).map(ChannelName::from),
        reason: get("reason").filter(|r| !r.is_empty()),
        // An empty error or destination is one: none was given.
        error: get("error"),
        destination: get("destination"),
        user: get("user").filter(|u| !u.is_empty()).map(UserId::from),
    }
}

fn fields(which: &DeadWhich) -> Vec<(String, String)> {
    let value = |key: &str| match key {
        "channel" => which.channel.as_ref().map(ToString::to_string),
        "reason" => which.reason.clone(),
        "error" => which.error.clone(),
        "destination" => which.destination.clone(),
        _ => which.user.as_ref().map(ToString::to_string),
    };
    CAUSE.into_iter().filter_map(|key| value(key).map(|v| (key.to_owned(), v))).collect()
}

/// `email, 550, northwind.example`; `all`.
fn named(which: &DeadWhich) -> String {
    let parts: Vec<String> = fields(which).into_iter().map(|(_, v)| v).filter(|v| !v.is_empty()).collect();
    if parts.is_empty() { "all dead letters".to_owned() } else { parts.join(", ") }
}

/// The page as its address says it.
struct Asked {
    poison: bool,
    /// Items, not groups.
    open: bool,
    which: DeadWhich,
    before: String,
}

impl Asked {
    fn read(query: &Query) -> Self {
        let which = which(|key| query.has(key).then(|| query.get(key).to_owned()));
        let cause =
            which.reason.is_some() || which.error.is_some() || which.destination.is_some() || which.user.is_some();
        Self {
            poison: query.get("tab") == "poison",
            open: cause || query.has("all"),
            which,
            before: query.get("before").to_owned(),
        }
    }

    fn here(&self) -> Here {
        let mut here = Here::new(PATH).put("tab", if self.poison { "poison" } else { "" });
        for (key, value) in fields(&self.which) {
            // An empty value says something here, and an address can't say it but by the key alone.
            here = here.put_even_empty(&key, &value);
        }
        if self.open && fields(&self.which).is_empty() {
            here = here.put("all", "1");
        }
        here.put("before", &self.before)
    }
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let asked = Asked::read(&Query::parse(query.as_deref().unwrap_or_default()));
    let facts = s.console.facts.get(&s).await;
    page(&ui::Dead {
        frame: console_frame(&s, &signed, &headers, &facts, "/admin/queues"),
        here: asked.here(),
        tabs: Part::Well(tabs(&asked, facts.queues.values().map(|q| q.dead).sum())),
        tasks: part(&s, "tasks", "Bulk acts", tasks(&s, &signed, asked.here().url()).await),
        body: body(&s, &signed, &asked).await,
        foot: foot(&s, &facts),
    })
}

pub fn live(query: &Query) -> Box<dyn Live> {
    Box::new(Asked::read(query))
}

#[async_trait]
impl Live for Asked {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let facts = s.console.facts.get(s).await;
        out.part("tabs", Part::Well(tabs(self, facts.queues.values().map(|q| q.dead).sum())));
        out.part("tasks", part(s, "tasks", "Bulk acts", tasks(s, signed, self.here().url()).await));
        match body(s, signed, self).await {
            ui::Body::Groups(p) => out.part("dead", p),
            ui::Body::Items(p) => out.part("dead", p),
            ui::Body::Poison(p) => out.part("dead", p),
        }
        out.put("foot", &foot(s, &facts));
    }
}

fn tabs(asked: &Asked, dead: u64) -> Tabs {
    let tab =
        |label: &str, href: &str, current| Tab { label: label.into(), href: href.into(), current, ..Tab::default() };
    let mut letters = tab("Dead letters", PATH, !asked.poison);
    if dead > 0 {
        (letters.count, letters.tone) = (Some(format::count(dead)), "bad");
    }
    let poison = tab("Unreadable messages", "/admin/dead?tab=poison", asked.poison);
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
    if asked.which != (DeadWhich { app: AppId::default(), ..DeadWhich::default() }) {
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
    let groups = found.into_iter().map(|g| {
        let href = Asked {
            poison: false,
            open: true,
            which: DeadWhich {
                channel: Some(g.channel.clone()),
                reason: Some(g.reason.clone()),
                error: Some(g.error.clone()),
                destination: Some(g.destination.clone()),
                ..asked.which.clone()
            },
            before: String::new(),
        };
        Group {
            href: href.here().url(),
            channel: g.channel.to_string(),
            reason: g.reason,
            said: g.said.filter(|_| content).map(|said| format::said_beside(&g.error, &said).to_owned()),
            error: g.error,
            destination: g.destination,
            count: g.count,
            first: g.first,
            last: g.last,
        }
    });
    Ok(ui::Groups {
        groups: groups.collect(),
        more,
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        empty: nothing(asked),
        back: asked.here().url(),
    })
}

async fn items(s: &Services, signed: &Signed, asked: &Asked) -> ApiResult<ui::Items> {
    let before = asked.before.parse().ok().map(DeliveryId);
    let mut found = s.store.dead_items(&asked.which, before, ROWS + 1).await?;
    let more = found.len() > ROWS as usize;
    found.truncate(ROWS as usize);
    let total =
        if !more && before.is_none() { found.len() as u64 } else { s.store.dead_count(&asked.which, COUNTED).await? };
    let older = found.last().filter(|_| more).map(|d| asked.here().at("before", d.id));
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
    let words =
        if total >= COUNTED { format!("more than {}", format::count(COUNTED)) } else { counted(total, "delivery") };
    Ok(ui::Items {
        fields: fields(&asked.which),
        name: named(&asked.which),
        rows: rows.collect(),
        total,
        pager: Pager { words: words.clone(), newer, older },
        total_words: words,
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        empty: nothing(asked),
        back: asked.here().url(),
        others: others(s, asked.which.channel.as_ref()),
        download: content.then(|| {
            let mut here = Here::new("/admin/dead/export");
            for (key, value) in fields(&asked.which) {
                here = here.put_even_empty(&key, &value);
            }
            here
        }),
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
    let asked = Asked::read(&query);
    let format = export::Format::parse(query.get("as"))
        .ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "as must be csv or ndjson"))?;
    let detail = serde_json::json!({"as": format.as_str()});
    s.store.note(&signed.actor, "dead.export", &named(&asked.which), Some(detail)).await?;
    Ok(export::stream(&s, format, "dead-letters", List { which: asked.which, before: None }))
}

struct List {
    which: DeadWhich,
    before: Option<DeliveryId>,
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
        self.before = found.last().map(|d| d.id).or(self.before);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_s_address_leads_to_that_group() {
        let which = DeadWhich {
            app: AppId::default(),
            channel: Some(ChannelName::email()),
            reason: Some("permanent".into()),
            error: Some(String::new()),
            destination: Some("x.example".into()),
            user: None,
        };
        let here = Asked { poison: false, open: true, which: which.clone(), before: String::new() }.here().url();
        let back = Asked::read(&Query::parse(here.split_once('?').unwrap().1));
        assert_eq!((back.which, back.open), (which.clone(), true), "{here}");
        assert_eq!(named(&which), "email, permanent, x.example");
        assert!(!Asked::read(&Query::parse("channel=email")).open, "a channel's causes are still grouped");
        assert!(Asked::read(&Query::parse("all=1")).open);
    }
}
