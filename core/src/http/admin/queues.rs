//! `/admin/queues`: what waits by channel, in and out, and when it will be done.

use super::{
    Routes, Signed, console_frame, foot,
    gate::LOOK,
    live::{Drawn, Live, Query},
    overview,
};
use crate::{
    channel::ChannelView,
    console::{
        Facts,
        rings::{Sample, Slot},
        standing::{self, TARGET_MS},
    },
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    chart::Scale,
    format,
    pages::{
        notifications::Status,
        overview::{Mark, TimeAxis},
        queues::{self as ui, Drain},
        range::Range,
    },
    pieces::{Empty, Footer, Here, Part},
    sentence::Rest,
};
use campanile_model::ports::QueueStats;
use std::sync::{Arc, PoisonError};

/// Rates are of the last half minute: the newest ten seconds jump too much to promise a time by.
const RATE_S: usize = 30;

pub fn routes() -> Routes {
    Routes::new().get("/admin/queues", LOOK, list).get("/admin/queues/{channel}", LOOK, one)
}

async fn list(State(s): State<Arc<Services>>, signed: Signed, headers: HeaderMap) -> ApiResult<Response> {
    let facts = s.console.facts.get(&s).await;
    page(&ui::Queues {
        frame: console_frame(&s, &signed, &headers, &facts, "/admin/queues"),
        here: Here::new("/admin/queues"),
        rows: Part::Well(rows(&s, &signed, &facts)),
        foot: queue_foot(&s, &facts),
    })
}

pub fn live(_: &Query) -> Box<dyn Live> {
    Box::new(All)
}

struct All;

#[async_trait]
impl Live for All {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let facts = s.console.facts.get(s).await;
        out.put("queues", &rows(s, signed, &facts));
        out.put("foot", &queue_foot(s, &facts));
    }
}

/// Counts come from the rows, so they hold when the broker is away.
fn queue_foot(s: &Services, facts: &Facts) -> Footer {
    let mut foot = foot(s, facts);
    if foot.note.is_none() && s.queue.health().is_err() {
        foot.note = Some("The broker is away; counts are from the database".to_owned());
    }
    foot
}

fn rows(s: &Services, signed: &Signed, facts: &Facts) -> ui::Rows {
    let (rates, standing) = (rates(s), standing::of(s, facts));
    let suffers = |v: &ChannelView| standing.iter().any(|c| c.name == v.name.as_str() && c.suffers());
    let rows = s.channels.views().into_iter().filter(|v| v.enabled || facts.queues.contains_key(v.name.as_str()));
    ui::Rows {
        rows: rows.map(|v| row(&v, suffers(&v), facts, &rates)).collect(),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        empty: Empty {
            title: "No channel is enabled".into(),
            why: "Each enabled channel has a queue of its own.".into(),
            ..Empty::default()
        },
    }
}

/// The last half minute, by channel.
fn rates(s: &Services) -> Sample {
    let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, samples) = rings.read(s.clock.now(), 10, RATE_S / 10 + 1);
    // The newest bucket has only begun.
    let whole = samples.len().saturating_sub(1);
    samples.into_iter().take(whole).flatten().fold(Sample::default(), |mut sum, s| {
        sum.merge(&s);
        sum
    })
}

fn row(v: &ChannelView, suffers: bool, facts: &Facts, rates: &Sample) -> ui::Row {
    let name = v.name.to_string();
    let q = facts.queues.get(&name).cloned().unwrap_or_default();
    let slot = rates.channels.get(&name).cloned().unwrap_or_default();
    let per_second = |n: u32| f64::from(n) / RATE_S as f64;
    let (incoming, outgoing) = (per_second(slot.accepted), per_second(slot.sent + slot.failed));
    let (health, word) = overview::health(v, suffers, facts);
    let pause = facts.pauses.iter().find(|p| p.channel == v.name);
    let due = q.ready + q.in_flight + q.held;
    ui::Row {
        status: Status::new(health.class(), if v.paused { "Paused".to_owned() } else { word }),
        pause: pause.map(|p| {
            let reason = p.reason.as_ref().map(|r| format!(", {r}")).unwrap_or_default();
            let text = Rest::of(format!("by {}{reason}", p.actor.trim_start_matches("admin:")));
            match p.until {
                Some(until) => text.say(", until ").at(until, false),
                None => text,
            }
        }),
        ready: format::count(q.ready),
        scheduled: format::count(q.scheduled),
        in_flight: format::count(q.in_flight),
        retrying: format::count(q.retrying),
        held: format::count(q.held),
        dead: q.dead,
        oldest: format::duration_or_dash(q.oldest_age_ms),
        late: !v.paused && q.oldest_age_ms.is_some_and(|ms| ms > TARGET_MS),
        incoming: format::rate(incoming),
        outgoing: format::rate(outgoing),
        drain: Drain::of(due, q.retrying, incoming, outgoing, v.paused),
        busy: v.busy,
        // In-app is written by the commit itself.
        workers: if v.in_app { 0 } else { v.allowed },
        paused: v.paused,
        name,
    }
}

/// A queue's page as its address says it.
struct Asked {
    channel: String,
    range: Range,
    table: bool,
}

impl Asked {
    fn read(channel: &str, query: &Query) -> Self {
        Self { channel: channel.to_owned(), range: Range::parse(query.get("range")), table: query.has("table") }
    }
    fn here(&self) -> Here {
        let mut path = String::from("/admin/queues/");
        path.push_str(&url::form_urlencoded::byte_serialize(self.channel.as_bytes()).collect::<String>());
        Here::new(path).put("range", self.range).put("table", if self.table { "1" } else { "" })
    }
    fn view(&self, s: &Services) -> Option<ChannelView> {
        s.channels.views().into_iter().find(|v| v.name.as_str() == self.channel)
    }
}

async fn one(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let asked = Asked::read(&channel, &Query::parse(query.as_deref().unwrap_or_default()));
    let view = asked.view(&s).ok_or_else(|| ApiError::not_found("channel"))?;
    let facts = s.console.facts.get(&s).await;
    let (depth, flow) = plots(&s, &asked).await;
    page(&ui::Queue {
        frame: console_frame(&s, &signed, &headers, &facts, "/admin/queues"),
        here: asked.here(),
        name: channel.clone(),
        range: asked.range,
        head: Part::Well(head(&s, &view, &facts)),
        depth,
        flow,
        pauses: pause_form(&signed, &asked, &view, &facts),
        foot: queue_foot(&s, &facts),
    })
}

pub fn live_one(query: &Query) -> Box<dyn Live> {
    Box::new(One(Asked::read(query.get("channel"), query)))
}

struct One(Asked);

#[async_trait]
impl Live for One {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let Some(view) = self.0.view(s) else { return out.settled() };
        let facts = s.console.facts.get(s).await;
        let (depth, flow) = plots(s, &self.0).await;
        out.put("head", &head(s, &view, &facts));
        out.put("depth", &depth);
        out.put("flow", &flow);
        out.put("pause", &pause_form(signed, &self.0, &view, &facts));
        out.put("foot", &queue_foot(s, &facts));
    }
}

fn head(s: &Services, v: &ChannelView, facts: &Facts) -> ui::QueueHead {
    let row = row(v, overview::suffers(s, facts, v), facts, &rates(s));
    let q: QueueStats = facts.queues.get(v.name.as_str()).cloned().unwrap_or_default();
    let tone = |n: u64, tone| if n > 0 { tone } else { "" };
    let name = super::segment(v.name.as_str());
    let those = |status: &str| format!("/admin/notifications?q=channel:{name}%20status:{status}");
    let nowhere = String::new;
    let mut figures = vec![
        ("Ready", row.ready.clone(), "", those("waiting")),
        ("Scheduled", row.scheduled.clone(), "", those("scheduled")),
        ("In flight", row.in_flight.clone(), "", those("sending")),
        ("Retrying", row.retrying.clone(), tone(q.retrying, "warn"), those("retrying")),
        ("Held", row.held.clone(), tone(q.held, "warn"), those("waiting")),
        ("Dead", format::count(q.dead), tone(q.dead, "bad"), format!("/admin/dead?channel={name}")),
        ("Oldest", row.oldest.clone(), if row.late { "warn" } else { "" }, nowhere()),
        ("In", format!("{} /s", row.incoming), "", nowhere()),
        ("Out", format!("{} /s", row.outgoing), "", nowhere()),
    ];
    if row.workers > 0 {
        let busy = format!("{} of {}", row.busy, row.workers);
        figures.push(("Workers here", busy, "", format!("/admin/channels/{name}?tab=config")));
        figures.push(("Prefetch", s.config.worker.prefetch.to_string(), "", nowhere()));
    }
    ui::QueueHead { row, facts: figures }
}

fn pause_form(signed: &Signed, asked: &Asked, v: &ChannelView, facts: &Facts) -> ui::PauseForm {
    let pause = facts.pauses.iter().find(|p| p.channel == v.name);
    ui::PauseForm {
        name: asked.channel.clone(),
        paused: v.paused,
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        back: asked.here().url(),
        why: pause.map(|p| {
            let reason = p.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            let text = Rest::of("Since ").on(p.since).say(format!(" by {}", p.actor.trim_start_matches("admin:")));
            match p.until {
                Some(until) => text.say(", until ").on(until).say(format!("{reason}.")),
                None => text.say(format!("{reason}.")),
            }
        }),
    }
}

async fn plots(s: &Services, asked: &Asked) -> (ui::Plot, ui::Plot) {
    let (bucket_s, n) = asked.range.buckets();
    let (start, samples) =
        s.console.rings.lock().unwrap_or_else(PoisonError::into_inner).read(s.clock.now(), bucket_s, n);
    let of = |what: &dyn Fn(&Slot) -> f64| -> Vec<Option<f64>> {
        samples
            .iter()
            .map(|sample| sample.as_ref().map(|sample| sample.channels.get(&asked.channel).map_or(0.0, what)))
            .collect()
    };
    let rate = |n: u32| f64::from(n) / f64::from(bucket_s);
    let marks: Vec<Mark> = s
        .store
        .marks(start)
        .await
        .unwrap_or_default()
        .into_iter()
        .filter(|m| m.subject == asked.channel || m.subject == "campanile")
        .map(|m| Mark { at: m.at, subject: m.subject, what: m.what })
        .collect();
    let plot = |id, title, whole, lines: Vec<(&'static str, &'static str, Vec<Option<f64>>)>| {
        let most = lines.iter().flat_map(|(_, _, p)| p.iter().flatten()).copied().fold(0.0, f64::max);
        let bucket_ms = i64::from(bucket_s) * 1_000;
        let mut axis = TimeAxis::plain(start, bucket_ms, n, asked.range, 5);
        axis.mark(&marks, start, bucket_ms, n);
        ui::Plot {
            id,
            title,
            range: asked.range,
            axis,
            scale: Scale::of(most, whole),
            whole,
            lines,
            start,
            bucket_ms,
            as_table: asked.table,
            other: asked.here().with("table", if asked.table { "" } else { "1" }),
        }
    };
    let depth = plot("depth", "Waiting", true, vec![("waiting", "l1", of(&|slot| f64::from(slot.depth)))]);
    let flow = plot(
        "flow",
        "In and out, per second",
        false,
        vec![("out", "l1", of(&|slot| rate(slot.sent + slot.failed))), ("in", "l2", of(&|slot| rate(slot.accepted)))],
    );
    (depth, flow)
}
