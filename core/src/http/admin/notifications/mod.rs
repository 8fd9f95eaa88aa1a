//! `/admin/notifications`: the list, its filters, its counts; what is done to several; the list as a file.

mod acts;
mod all;
mod tabs;

pub use acts::{counted, pending, retried};
use tabs::tabs;

use super::{
    Routes, Signed,
    answer::part,
    base_url, console_frame,
    dead::tasks,
    export::{self, Sheet},
    foot,
    gate::{ACT, LOOK, READ},
    live::{Drawn, Live, Query},
    search::{KEYS, Terms, leads_to},
};
use crate::{
    console::rings::Sample,
    http::{
        api::notifications::{Overall, overall},
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use campanile_admin_ui::{
    chart::Scale,
    format,
    pages::{
        notifications::{self as ui, Status},
        overview::TimeAxis,
        range::{Range, Stretch},
    },
    pieces::{Empty, Here, Pager, Part, Pill},
};
use campanile_model::{
    AppId, DeliveryState, NotificationId, Timestamp,
    api::ShownState,
    ports::{Lane, NotificationFilter, NotificationRow, Role},
};
use chrono::TimeDelta;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

/// Rows of a page.
const ROWS: u32 = 50;
/// New ones are counted so far.
const NEW: u32 = 99;
const BARS: usize = 60;
const PATH: &str = "/admin/notifications";

pub fn routes() -> Routes {
    Routes::new().get(PATH, LOOK, show).post(acts::BULK, ACT, acts::several).get(
        "/admin/notifications/export",
        READ,
        export_list,
    )
}

/// A list as its address says it.
struct Asked {
    terms: Terms,
    range: Option<Range>,
    filter: NotificationFilter,
    hint: Option<String>,
    here: Here,
    /// The newest row that the page showed, in its stream.
    top: Option<NotificationId>,
    /// The histogram as numbers.
    table: bool,
}

impl Asked {
    fn read(s: &Services, query: &Query) -> Self {
        let terms = Terms::parse(query.get("q"));
        let range = Range::ALL.into_iter().find(|r| r.as_str() == query.get("range"));
        let now = s.clock.now();
        let (mut filter, hint) = terms.filter(&AppId::default(), now);
        if let Some(range) = range {
            let (bucket, n) = range.buckets();
            let since = now - TimeDelta::seconds(i64::from(bucket) * n as i64);
            filter.since = Some(filter.since.map_or(since, |t| t.max(since)));
        }
        let id = |key: &str| query.get(key).parse().ok().map(NotificationId);
        filter.before = id("before");
        filter.after = if filter.before.is_none() { id("after") } else { None };
        filter.limit = ROWS;
        let range_word = range.map_or("", Range::as_str);
        let table = query.has("table");
        let here = Here::new(PATH)
            .put("q", &terms)
            .put("range", range_word)
            .put("table", if table { "1" } else { "" })
            .put("before", filter.before.map(|id| id.to_string()).unwrap_or_default())
            .put("after", filter.after.map(|id| id.to_string()).unwrap_or_default());
        Self { terms, range, filter, hint, here, top: id("top"), table }
    }

    /// The rows of the page and no newer ones, once it is open.
    fn shown(&self) -> NotificationFilter {
        let mut filter = self.filter.clone();
        if filter.before.is_none() && filter.after.is_none() {
            let next = |NotificationId(id): NotificationId| uuid::Uuid::from_u128(id.as_u128().saturating_add(1));
            filter.before = self.top.map(|top| NotificationId(next(top)));
        }
        filter
    }

    fn is_filtered(&self) -> bool {
        !self.terms.is_empty() || self.range.is_some()
    }
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked::read(&s, &query);
    if asked.terms.wants_a_key() {
        // One rule for a bare word, in whichever box it was typed.
        let to = leads_to(&s, query.get("q")).await?;
        let range = asked.range.filter(|_| to.starts_with("/admin/notifications?"));
        let range = range.map(|range| format!("&range={range}")).unwrap_or_default();
        return Ok(Redirect::to(&format!("{to}{range}")).into_response());
    }
    let facts = s.console.facts.get(&s).await;
    let (rows, top) = rows(&s, &signed, &asked).await;
    let mut frame = console_frame(&s, &signed, &headers, &facts, PATH);
    frame.find = asked.terms.to_string();
    let names: Vec<String> = s.channels.views().iter().map(|v| v.name.to_string()).collect();
    page(&ui::Notifications {
        frame,
        top: top.map(|id| id.to_string()).unwrap_or_default(),
        range: asked.range,
        q: asked.terms.to_string(),
        chips: chips(&asked),
        hint: asked.hint.clone(),
        words: words(&asked.terms, &names),
        tabs: tabs(&s, &asked).await,
        histogram: histogram(&s, &asked),
        rows,
        tasks: part(&s, "tasks", "Bulk acts", tasks(&s, &signed, asked.here.url()).await),
        pill: Pill::default(),
        foot: foot(&s, &facts),
        export: signed.admin.role.may_read_content().then(|| {
            let mut here = Here::new("/admin/notifications/export").put("q", &asked.terms);
            here = here.put("range", asked.range.map_or("", Range::as_str));
            here
        }),
        here: asked.here,
    })
}

pub fn live(query: &Query) -> Box<dyn Live> {
    Box::new(Stream(query.clone()))
}

struct Stream(Query);

#[async_trait]
impl Live for Stream {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let asked = Asked::read(s, &self.0);
        let facts = s.console.facts.get(s).await;
        let (rows, _) = rows(s, signed, &asked).await;
        out.part("rows", rows);
        out.part("tabs", tabs(s, &asked).await);
        out.part("tasks", part(s, "tasks", "Bulk acts", tasks(s, signed, asked.here.url()).await));
        out.put("histogram", &histogram(s, &asked));
        out.put("pill", &pill(s, &asked).await);
        out.put("foot", &foot(s, &facts));
    }
}

async fn pill(s: &Services, asked: &Asked) -> Pill {
    // Deeper in the list nobody waits for what is new.
    if asked.filter.before.is_some() || asked.filter.after.is_some() {
        return Pill::default();
    }
    let mut filter = asked.filter.clone();
    filter.after = asked.top.or(Some(NotificationId(uuid::Uuid::nil())));
    filter.limit = NEW + 1;
    let n = s.store.notifications(&filter).await.map_or(0, |rows| rows.len());
    Pill { count: n.min(NEW as usize) as u64, more: n > NEW as usize, href: asked.here.url() }
}

async fn rows(s: &Services, signed: &Signed, asked: &Asked) -> (Part<ui::Rows>, Option<NotificationId>) {
    let drawn = read_rows(s, signed, asked).await;
    let top = drawn.as_ref().ok().and_then(|(_, top)| *top);
    (part(s, "rows", "The list of notifications", drawn.map(|(rows, _)| rows)), top)
}

async fn read_rows(s: &Services, signed: &Signed, asked: &Asked) -> ApiResult<(ui::Rows, Option<NotificationId>)> {
    let mut filter = asked.shown();
    // One more tells whether there is a next page.
    filter.limit = ROWS + 1;
    let mut found: Vec<NotificationRow> =
        s.store.notifications(&filter).await?.into_iter().map(|(row, _)| row).collect();
    let more = found.len() > ROWS as usize;
    let upwards = filter.after.is_some();
    if more {
        if upwards {
            found.remove(0);
        } else {
            found.truncate(ROWS as usize);
        }
    }
    let ids: Vec<NotificationId> = found.iter().map(|row| row.notification.id).collect();
    let mut lanes = s.store.lanes(&filter.app, &ids).await?;
    let (first, last) = (ids.first().copied(), ids.last().copied());
    let older = last.filter(|_| more || upwards).map(|id| asked.here.at("before", id));
    let deep = asked.filter.before.is_some() || (upwards && more);
    let newer = first.filter(|_| deep).map(|id| asked.here.at("after", id));
    let words = match (found.len(), older.is_some() || newer.is_some()) {
        (0, _) => String::new(),
        (n, false) => format!("All {n}"),
        (n, true) => format!("{n} shown, {}", estimate(s, asked).await),
    };
    let content = signed.admin.role.may_read_content();
    let rows = found.iter().map(|row| draw(row, &lanes.remove(&row.notification.id).unwrap_or_default(), content));
    let rows = ui::Rows {
        rows: rows.collect(),
        pager: Pager { words, newer, older },
        empty: empty(s, asked),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        back: asked.here.url(),
    };
    Ok((rows, first))
}

/// From the minutes that the console remembers: how many were accepted in the range. Filters make it a guess at most.
async fn estimate(s: &Services, asked: &Asked) -> String {
    if asked.terms.is_empty() {
        let week = asked.range.unwrap_or(Range::Days7);
        let total: u64 = samples(s, week).1.iter().flatten().map(|m| m.total(|c| c.accepted)).sum();
        return format!("{} deliveries accepted in the {}", format::about(total), week.words());
    }
    "more match".to_owned()
}

fn overall_of(row: &NotificationRow, lanes: &[Lane]) -> Overall {
    let states: Vec<(ShownState, u64)> = lanes.iter().map(|l| (l.shown, l.count)).collect();
    let expanded = row.audience.is_none_or(|(recipients, expanded)| recipients == expanded);
    overall(&states, expanded, row.cancelled_at.is_some())
}

/// A notification's row.
fn draw(row: &NotificationRow, lanes: &[Lane], content: bool) -> ui::Row {
    let n = &row.notification;
    let word = overall_of(row, lanes);
    ui::Row {
        id: n.id.to_string(),
        at: n.created_at,
        title: content.then(|| n.content.title.clone()),
        kind: n.content.notification_type.clone(),
        recipients: recipients(row, lanes),
        shapes: shapes(lanes),
        status: said(word),
        key: row.idempotency_key.clone(),
    }
}

/// The one person, or how many.
fn recipients(row: &NotificationRow, lanes: &[Lane]) -> String {
    let named = row.request.get("to").and_then(|to| to.as_array()).map(|to| to.len() as u64);
    let mut by_channel: HashMap<&str, u64> = HashMap::new();
    for lane in lanes {
        *by_channel.entry(lane.channel.as_str()).or_default() += lane.count;
    }
    let counted = by_channel.values().copied().max().unwrap_or(0);
    let n = row.audience.map(|(n, _)| u64::from(n)).or(named).unwrap_or(counted).max(counted);
    let first = row.request.get("to").and_then(|to| to.get(0));
    let of_first = first.and_then(|one| one.as_str().or_else(|| one.get("user_id")?.as_str()));
    match (n, row.request.get("user_id").and_then(|u| u.as_str()).or(of_first)) {
        (0 | 1, Some(user)) => user.to_owned(),
        (1, None) => "1 person".to_owned(),
        (n, _) => format!("{} people", format::count(n)),
    }
}

/// Each channel once, by its worst state.
fn shapes(lanes: &[Lane]) -> Vec<ui::Shape> {
    let mut shapes: Vec<ui::Shape> = Vec::new();
    let rank = |tone: &str| ["bad", "warn", "off", "ok"].iter().position(|t| *t == tone);
    for lane in lanes {
        let status = state(lane.shown);
        match shapes.iter_mut().find(|s| s.channel == lane.channel.as_str()) {
            Some(shape) if rank(status.tone) < rank(shape.status.tone) => shape.status = status,
            Some(_) => {}
            None => shapes.push(ui::Shape { channel: lane.channel.to_string(), status }),
        }
    }
    shapes
}

/// A delivery's state as a shape and a word.
pub fn state(shown: ShownState) -> Status {
    use DeliveryState as S;
    let ShownState::Stored(state) = shown else { return Status::new("off", "scheduled") };
    let (tone, word) = match state {
        S::Pending => ("off", "waiting"),
        S::Sending => ("off", "sending"),
        S::Retrying => ("warn", "retrying"),
        S::Sent => ("ok", "sent"),
        S::Delivered => ("ok", "delivered"),
        S::Dead => ("bad", "dead"),
        S::Expired => ("warn", "expired"),
        S::Suppressed => ("off", "suppressed"),
        S::Cancelled => ("off", "cancelled"),
    };
    Status::new(tone, word)
}

/// One word for all of it.
pub fn said(word: Overall) -> Status {
    let (tone, word) = match word {
        Overall::Accepted => ("off", "accepted"),
        Overall::Scheduled => ("off", "scheduled"),
        Overall::Sending => ("off", "sending"),
        Overall::Delivered => ("ok", "delivered"),
        Overall::Partly => ("warn", "partly"),
        Overall::Failed => ("bad", "failed"),
        Overall::Expired => ("warn", "expired"),
        Overall::Cancelled => ("off", "cancelled"),
        Overall::Suppressed => ("off", "suppressed"),
    };
    Status::new(tone, word)
}

fn empty(s: &Services, asked: &Asked) -> Empty {
    if asked.is_filtered() || asked.filter.before.is_some() || asked.filter.after.is_some() {
        return Empty {
            title: "Nothing matches".into(),
            why: "There may be notifications that these filters hide.".into(),
            command: None,
            clear: Some(PATH.into()),
        };
    }
    Empty {
        title: "Nothing yet".into(),
        why: "What applications send appears here, newest first. With an API key in $KEY this sends one:".into(),
        command: Some(format!(
            "curl {}/api/v1/notifications -H \"Authorization: Bearer $KEY\" -H \"Content-Type: application/json\" \
             -d '{{\"user_id\":\"ada\",\"title\":\"Hello\"}}'",
            base_url(s)
        )),
        clear: None,
    }
}

fn chips(asked: &Asked) -> Vec<ui::Chip> {
    let with = |terms: Terms| asked.here.with("q", terms);
    let known = KEYS.iter().filter_map(|key| {
        let value = asked.terms.get(key)?;
        Some(ui::Chip { text: format!("{key}: {value}"), without: with(asked.terms.with(key, "")) })
    });
    known.collect()
}

/// What a word may be completed to: the search as it stands, and one more term.
fn words(terms: &Terms, channels: &[String]) -> Vec<String> {
    let states = [
        "waiting",
        "scheduled",
        "sending",
        "retrying",
        "delivered",
        "partly",
        "failed",
        "dead",
        "expired",
        "suppressed",
        "cancelled",
    ];
    let channels = channels.iter().map(|c| terms.with("channel", c));
    let states = states.iter().map(|s| terms.with("status", s));
    let times = ["1h", "24h", "7d"].iter().map(|t| terms.with("since", t));
    channels.chain(states).chain(times).map(|t| t.to_string()).collect()
}

fn samples(s: &Services, range: Range) -> (Timestamp, Vec<Option<Sample>>) {
    let (bucket, n) = range.buckets();
    s.console.rings.lock().unwrap_or_else(PoisonError::into_inner).read(s.clock.now(), bucket, n)
}

/// From the console's own memory: it costs nothing, and knows channels but no people.
fn histogram(s: &Services, asked: &Asked) -> ui::Histogram {
    let now = s.clock.now();
    let until = asked.filter.until.filter(|until| *until < now);
    let window = asked.filter.since.map(|since| until.unwrap_or(now) - since);
    let span = |range: Range| TimeDelta::seconds(i64::from(range.buckets().0) * range.buckets().1 as i64);
    let range = match (window, asked.range) {
        (_, Some(range)) => range,
        (Some(window), None) => Range::ALL.into_iter().find(|r| span(*r) >= window).unwrap_or(Range::Days7),
        (None, None) => Range::Day1,
    };
    let (bucket_s, n) = Stretch { range, until, from: None }.buckets(now);
    let (start, samples) = {
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.read_until(now, until.unwrap_or(now), bucket_s, n)
    };
    // From the moment that was asked for, as far as the buckets know it.
    let skipped = asked.filter.since.map_or(0, |since| (since - start).num_seconds() / i64::from(bucket_s));
    let skipped = usize::try_from(skipped).unwrap_or(0).min(n.saturating_sub(1));
    let samples = &samples[skipped..];
    let (start, n) = (start + TimeDelta::seconds(i64::from(bucket_s) * skipped as i64), n - skipped);
    let channel = asked.terms.get("channel");
    let of = |sample: &Sample, what: fn(&crate::console::rings::Slot) -> u32| -> f64 {
        let slots = sample.channels.iter().filter(|(name, _)| channel.is_none_or(|c| c == name.as_str()));
        slots.map(|(_, slot)| f64::from(what(slot))).sum()
    };
    let per = n.div_ceil(BARS).max(1);
    let bars = |what: fn(&crate::console::rings::Slot) -> u32| -> Vec<f64> {
        samples.chunks(per).map(|chunk| chunk.iter().flatten().map(|sample| of(sample, what)).sum()).collect()
    };
    let (accepted, failed) = (bars(|slot| slot.accepted), bars(|slot| slot.failed));
    let most = accepted.iter().chain(&failed).copied().fold(0.0, f64::max);
    let step = i64::from(bucket_s) * per as i64;
    let at = |i: usize| start + TimeDelta::seconds(step * i as i64);
    let stretches = (0..accepted.len()).map(|i| {
        let terms = asked.terms.with("since", &format::machine(at(i))).with("until", &format::machine(at(i + 1)));
        asked.here.with("q", terms)
    });
    let total: f64 = accepted.iter().sum();
    ui::Histogram {
        words: said_of(asked, channel, range),
        scale: Scale::low(most),
        axis: TimeAxis::plain(start, i64::from(bucket_s) * 1_000, n, range, 6),
        stretches: stretches.collect(),
        total: format!("{} deliveries", format::about(total as u64)),
        starts: (0..accepted.len()).map(at).collect(),
        as_table: asked.table,
        other: asked.here.clone().put("table", if asked.table { "" } else { "1" }).url(),
        accepted,
        failed,
    }
}

/// What the bars are of. The console's memory knows channels and no more: a filter that it can't follow is said.
fn said_of(asked: &Asked, channel: Option<&str>, range: Range) -> String {
    let timed = ["since", "until"].iter().any(|key| asked.terms.get(key).is_some());
    let mut words = vec![if timed { "the time chosen" } else { range.words() }];
    words.splice(0..0, channel);
    if asked.terms.iter().any(|(key, _)| !["channel", "since", "until"].contains(&key)) {
        words.push("whatever the other filters");
    }
    words.join(", ")
}

// ---------------------------------------------------------------------------------------------------------- files

async fn export_list(State(s): State<Arc<Services>>, signed: Signed, RawQuery(query): RawQuery) -> ApiResult<Response> {
    signed.require(Role::Viewer)?;
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked::read(&s, &query);
    let format = export::Format::parse(query.get("as"))
        .ok_or_else(|| ApiError::new(axum::http::StatusCode::BAD_REQUEST, "bad_request", "as must be csv or ndjson"))?;
    let detail = serde_json::json!({"q": asked.terms.to_string(), "range": asked.range.map(Range::as_str)});
    s.store.note(&signed.actor, "notification.export", format.as_str(), Some(detail)).await?;
    Ok(export::stream(&s, format, "notifications", List { filter: asked.filter, before: None }))
}

struct List {
    filter: NotificationFilter,
    before: Option<NotificationId>,
}

#[async_trait]
impl Sheet for List {
    const COLUMNS: &'static [&'static str] =
        &["notification_id", "accepted_at", "title", "type", "recipients", "status", "idempotency_key"];

    async fn next(&mut self, s: &Services) -> ApiResult<Vec<Vec<String>>> {
        let filter =
            NotificationFilter { before: self.before.or(self.filter.before), limit: 200, ..self.filter.clone() };
        let found = s.store.notifications(&filter).await?;
        self.before = found.last().map(|(row, _)| row.notification.id).or(self.before);
        let ids: Vec<_> = found.iter().map(|(row, _)| row.notification.id).collect();
        let mut lanes = s.store.lanes(&filter.app, &ids).await?;
        Ok(found
            .iter()
            .map(|(row, _)| {
                let drawn = draw(row, &lanes.remove(&row.notification.id).unwrap_or_default(), true);
                vec![
                    drawn.id,
                    format::machine(drawn.at),
                    drawn.title.unwrap_or_default(),
                    drawn.kind,
                    drawn.recipients,
                    drawn.status.word,
                    drawn.key.unwrap_or_default(),
                ]
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_shown_by_its_worst_state() {
        let lane =
            |channel: &str, state, count| Lane { channel: channel.into(), shown: ShownState::Stored(state), count };
        let shapes = shapes(&[
            lane("email", DeliveryState::Sent, 9),
            lane("email", DeliveryState::Dead, 1),
            lane("websocket", DeliveryState::Delivered, 10),
        ]);
        let seen: Vec<_> = shapes.iter().map(|s| (s.channel.as_str(), s.status.word.as_str())).collect();
        assert_eq!(seen, [("email", "dead"), ("websocket", "delivered")]);
    }
}
