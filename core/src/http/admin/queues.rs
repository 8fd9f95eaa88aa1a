//! `/admin/queues`: what waits by channel, in and out, and when it will be done.

use super::{
    Routes, Signed, console_frame, foot,
    gate::LOOK,
    live::{Drawn, Live, Query},
    overview, pause, plots,
};
use crate::{
    channel::ChannelView,
    console::{Facts, rings::Sample, standing},
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
    format,
    pages::{
        notifications::Status,
        plot::Plot,
        queues::{self as ui, Drain},
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
        rows: rows.map(|v| row(s, &v, suffers(&v), facts, &rates)).collect(),
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

fn row(s: &Services, v: &ChannelView, suffers: bool, facts: &Facts, rates: &Sample) -> ui::Row {
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
        late: !v.paused && overview::late(s, &q),
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
    plots: plots::Asked,
}

impl Asked {
    fn read(channel: &str, query: &Query) -> Self {
        Self { channel: channel.to_owned(), plots: plots::Asked::read(query) }
    }
    /// Without its time.
    fn bare(&self) -> Here {
        let mut path = String::from("/admin/queues/");
        path.push_str(&url::form_urlencoded::byte_serialize(self.channel.as_bytes()).collect::<String>());
        Here::new(path)
    }
    fn here(&self, s: &Services) -> Here {
        self.plots.put(s, self.bare())
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
    let (bare, stretch) = (asked.bare().put("table", &asked.plots.table), asked.plots.stretch(&s));
    let [depth, flow, age] = drawn(&s, &asked, &facts);
    page(&ui::Queue {
        frame: console_frame(&s, &signed, &headers, &facts, "/admin/queues"),
        here: asked.here(&s),
        name: channel.clone(),
        ranges: stretch.ranges(&bare),
        pinned: stretch.pinned(&bare),
        head: Part::Well(head(&s, &view, &facts)),
        depth,
        flow,
        age,
        pauses: pause::form(&signed, &asked.here(&s).url(), &view, &facts),
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
        out.put("head", &head(s, &view, &facts));
        for plot in drawn(s, &self.0, &facts) {
            out.put(plot.id, &plot);
        }
        out.put("pause", &pause::form(signed, &self.0.here(s).url(), &view, &facts));
        out.put("foot", &queue_foot(s, &facts));
    }
}

fn head(s: &Services, v: &ChannelView, facts: &Facts) -> ui::QueueHead {
    let row = row(s, v, overview::suffers(s, facts, v), facts, &rates(s));
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
        ("Target", format::duration(s.config.queue.target_ms(v.name.as_str()) as f64).text(), "", nowhere()),
        ("In", format!("{} /s", row.incoming), "", nowhere()),
        ("Out", format!("{} /s", row.outgoing), "", nowhere()),
    ];
    if v.in_app {
        // What was held or is due later goes into the feed by whole commits; nothing has to be sent.
        figures.push(("At once", format!("{} a commit", s.config.worker.relay_batch), "", nowhere()));
    }
    if row.workers > 0 {
        let busy = format!("{} of {}", row.busy, row.workers);
        figures.push(("Workers", busy, "", format!("/admin/channels/{name}?tab=config")));
        figures.push(("Prefetch", s.config.worker.prefetch.to_string(), "", nowhere()));
    }
    ui::QueueHead { row, facts: figures }
}

fn drawn(s: &Services, asked: &Asked, facts: &Facts) -> [Plot; 3] {
    let bare = asked.bare();
    let channel = plots::Channel::read(s, facts, &asked.plots, &asked.channel, &bare, &[]);
    [channel.depth(), channel.flow(), channel.age(s.config.queue.target_ms(&asked.channel))]
}
