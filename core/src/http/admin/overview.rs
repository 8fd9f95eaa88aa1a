//! `/admin`: what the overview is drawn from. The page and its live stream share it.

use super::{
    Routes, Signed, base_url, console_frame,
    gate::LOOK,
    live::{self, Drawn, Live},
    looks,
    plots::Asked,
};
use crate::{
    channel::ChannelView,
    console::{
        Facts, pulse,
        rings::{Sample, Slot},
        standing,
        ticker::waiting,
    },
    http::{page::page, problem::ApiResult},
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    chart::{self, Spark},
    format::{self, Figure},
    pages::{
        overview as ui,
        range::{Range, Stretch},
    },
    pieces::Here,
    sentence::{self, ChannelFacts, Trouble},
};
use campanile_model::{
    DeliveryState, Timestamp,
    api::ShownState,
    ports::{NotificationFilter, QueueStats},
};
use chrono::TimeDelta;
use std::sync::{Arc, PoisonError, atomic::Ordering::Relaxed};

const SPARK: usize = 60;
/// Rows of "just now".
const RECENT: usize = 6;

const PATH: &str = "/admin";

pub fn routes() -> Routes {
    Routes::new().get(PATH, LOOK, show)
}

/// The page without its time.
fn bare() -> Here {
    Here::new(PATH)
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let asked = Asked::read(&live::Query::parse(query.as_deref().unwrap_or_default()));
    let facts = s.console.facts.get(&s).await;
    let view = gather(&s, &signed, &asked, &facts, looks(&headers).live_every()).await;
    let range = asked.stretch(&s);
    let here = bare().put("table", ui::Shown::parse(&asked.table).as_str());
    page(&ui::Overview {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        range,
        ranges: range.ranges(&here),
        pinned: range.pinned(&here),
        say: view.say,
        steps: view.steps,
        tiles: view.tiles,
        rate: view.rate,
        depth: view.depth,
        channels: view.channels,
        recent: view.recent,
        foot: view.foot,
    })
}

/// The page's stream.
pub fn live(query: &live::Query) -> Box<dyn Live> {
    Box::new(Whole(Asked::read(query)))
}

struct Whole(Asked);

#[async_trait]
impl Live for Whole {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let facts = s.console.facts.get(s).await;
        let view = gather(s, signed, &self.0, &facts, out.every).await;
        out.put("say", &view.say);
        out.put("tiles", &view.tiles);
        out.put("channels", &view.channels);
        out.put("recent", &view.recent);
        out.put("foot", &view.foot);
        if let Some(steps) = &view.steps {
            out.put("steps", steps);
        } else {
            out.put("rate", &view.rate);
            out.put("depth", &view.depth);
        }
    }
}

/// The parts of the page.
pub struct View {
    pub say: ui::Say,
    pub steps: Option<ui::FirstSteps>,
    pub tiles: ui::Tiles,
    pub rate: ui::RatePlot,
    pub depth: ui::DepthPlot,
    pub channels: ui::Channels,
    pub recent: ui::Recent,
    pub foot: ui::Foot,
}

/// Buckets of the range, and those of the last fifteen minutes.
struct Figures {
    start: Timestamp,
    bucket_s: u32,
    range: Vec<Option<Sample>>,
    quarter: Sample,
    /// The newest complete ten seconds: what "now" means for rates.
    now: Sample,
}

impl Figures {
    fn read(s: &Services, range: Stretch) -> Self {
        let now = s.clock.now();
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket_s, n) = range.buckets(now);
        let (start, samples) = rings.read_until(now, range.until.unwrap_or(now), bucket_s, n);
        let sum = |n: usize| {
            let (_, samples) = rings.read(now, 10, n);
            samples.into_iter().flatten().fold(Sample::default(), |mut sum, s| {
                sum.merge(&s);
                sum
            })
        };
        let quarter = sum(90);
        let (_, last) = rings.read(now, 10, 3);
        let now = last.into_iter().rev().flatten().next().unwrap_or_default();
        Self { start, bucket_s, range: samples, quarter, now }
    }

    /// Of the range.
    fn end(&self) -> Timestamp {
        self.start + TimeDelta::seconds(i64::from(self.bucket_s) * self.range.len() as i64)
    }

    /// Per second in each bucket.
    fn rate(&self, of: impl Fn(&Sample) -> u64) -> Vec<Option<f64>> {
        self.range.iter().map(|s| s.as_ref().map(|s| of(s) as f64 / f64::from(self.bucket_s))).collect()
    }

    fn of(&self, of: impl Fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
        self.range.iter().map(|s| s.as_ref().and_then(&of)).collect()
    }
}

/// Per second over the newest ten.
fn per_second(n: u64) -> f64 {
    n as f64 / 10.0
}

pub async fn gather(s: &Services, signed: &Signed, asked: &Asked, facts: &Facts, every: u8) -> View {
    let range = asked.stretch(s);
    let shown = ui::Shown::parse(&asked.table);
    let views: Vec<ChannelView> = s.channels.views().into_iter().filter(|v| v.enabled).collect();
    let figures = Figures::read(s, range);
    let series = series(facts, &figures, &views);
    let standing = standing::of(s, facts);
    let rows = rows(s, &views, &figures, facts, &standing);
    let now: Vec<(u64, bool)> = views
        .iter()
        .map(|v| facts.queues.get(v.name.as_str()).map_or((0, v.paused), |q| (waiting(q), v.paused)))
        .collect();
    View {
        say: ui::Say {
            sentence: sentence::sentence(&sentence_facts(s, facts, standing)),
            csrf: signed.csrf.clone(),
            may_act: signed.admin.role.may_act(),
        },
        steps: if facts.database.is_some() { None } else { first_steps(s).await },
        tiles: tiles(s, facts, &views, &figures),
        depth: ui::DepthPlot::new(&series, range, &now, shown),
        channels: ui::Channels { rows, csrf: signed.csrf.clone(), may_act: signed.admin.role.may_act() },
        recent: recent(s, &figures),
        foot: ui::Foot {
            at: s.clock.now(),
            every,
            bucket: range.range.bucket_label().to_owned(),
            partial: partial(facts),
        },
        rate: ui::RatePlot::new(series, range, shown, &bare()),
    }
}

/// Why the sums are not of all nodes, if they are not.
fn partial(facts: &Facts) -> Option<String> {
    let alone = facts.database.as_ref().map(|_| "Only this node reporting".to_owned());
    alone.or_else(|| facts.nodes.partial())
}

/// What happened between these moments to the subjects that are wanted.
pub fn marks(facts: &Facts, start: Timestamp, end: Timestamp, wanted: impl Fn(&str) -> bool) -> Vec<ui::Mark> {
    let mut kept: Vec<ui::Mark> = Vec::new();
    for m in facts.marks.iter().filter(|m| m.at >= start && m.at < end && wanted(&m.subject)) {
        // Every node sees its own breaker open: one mark is enough.
        let again =
            kept.iter().any(|k| k.subject == m.subject && k.what == m.what && (m.at - k.at) < TimeDelta::seconds(60));
        if !again {
            kept.push(ui::Mark { at: m.at, subject: m.subject.clone(), what: m.what.clone() });
        }
    }
    kept
}

fn series(facts: &Facts, f: &Figures, views: &[ChannelView]) -> ui::Series {
    ui::Series {
        start: f.start,
        bucket_ms: i64::from(f.bucket_s) * 1_000,
        accepted: f.rate(|s| s.total(|c| c.accepted)),
        delivered: f.rate(|s| s.total(|c| c.sent)),
        failed: f.rate(|s| s.total(|c| c.failed)),
        retried: f.rate(|s| s.total(|c| c.retried)),
        depth: views
            .iter()
            .map(|v| {
                let name = v.name.to_string();
                let points = f.of(|s| Some(s.channels.get(&name).map_or(0.0, |c| f64::from(c.depth))));
                (name, points)
            })
            .collect(),
        marks: marks(facts, f.start, f.end(), |_| true),
    }
}

/// The channel that does worst, and how all the others do together.
fn success_notes(quarter: &Sample, views: &[ChannelView]) -> Vec<(&'static str, String)> {
    let known: Vec<_> = views.iter().filter_map(|v| Some((v, channel_share(quarter, v.name.as_str())?))).collect();
    let Some((worst, least)) = known.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied() else {
        return vec![("", "no attempts yet".to_owned())];
    };
    let tone = if least < sentence::GOOD_SHARE { "warn" } else { "" };
    let mut notes = vec![(tone, format!("{} {} %", worst.name, format::percent(least)))];
    let others = known.iter().filter(|(v, _)| v.name != worst.name);
    let others = others.map(|(v, _)| attempts(quarter, v.name.as_str())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    notes.extend(share(others).map(|s| ("", format!("others {} %", format::percent(s)))));
    notes
}

fn share((ok, all): (u64, u64)) -> Option<f64> {
    (all > 0).then(|| ok as f64 / all as f64)
}

fn channel_share(sample: &Sample, name: &str) -> Option<f64> {
    share(attempts(sample, name))
}

/// Those that arrived, and all.
fn attempts(sample: &Sample, name: &str) -> (u64, u64) {
    let of = |c: &Slot| (c.sent.into(), u64::from(c.sent) + u64::from(c.failed) + u64::from(c.retried));
    sample.channels.get(name).map_or((0, 0), of)
}

fn tiles(s: &Services, facts: &Facts, views: &[ChannelView], f: &Figures) -> ui::Tiles {
    let spark = |points: &[Option<f64>]| Spark::of(&chart::thin(points, SPARK));
    let (open, users) = (s.hub.connection_count() as u64, s.hub.user_count() as u64);
    let others = facts.nodes.rows.iter().filter(|n| n.said.node != s.node);
    let (open, users) =
        others.fold((open, users), |(c, u), n| (c + n.said.figures.connections, u + n.said.figures.users));
    let connections = f.of(|s| Some(f64::from(s.connections)));
    let peak = connections.iter().flatten().fold(open as f64, |a, b| a.max(*b));
    let delivered = f.rate(|s| s.total(|c| c.sent));
    let success = share(f.quarter.success());
    let low = success.is_some_and(|s| s < sentence::GOOD_SHARE);
    let depth: u64 = facts.queues.values().map(waiting).sum();
    let dead: u64 = facts.queues.values().map(|q| q.dead).sum();
    let oldest = facts.queues.values().filter(|q| q.held == 0).filter_map(|q| q.oldest_age_ms).max();
    let late = facts.queues.values().filter(|q| q.held == 0).any(|q| late(s, q));
    let latency = f.quarter.latency();
    let p = |share| pulse::percentile(&latency, share);
    let time = |ms: Option<f64>| ms.map_or_else(Figure::none, format::duration);
    let figure = |value: String, unit| Figure { value, unit };
    let mut depth_notes = vec![("", format!("oldest {}", format::duration_or_dash(oldest)))];
    if dead > 0 {
        depth_notes.push(("bad", format!("{} dead", format::count(dead))));
    }
    ui::Tiles {
        tiles: vec![
            ui::Tile {
                href: "/admin/connections",
                label: "Live connections",
                figure: figure(format::count(open), ""),
                notes: vec![
                    ("", format!("{} {}", format::count(users), if users == 1 { "user" } else { "users" })),
                    ("", format!("peak {}", format::count(peak as u64))),
                ],
                spark: spark(&connections),
                tone: "acc",
            },
            ui::Tile {
                href: "/admin/notifications",
                label: "Delivered",
                figure: figure(format::rate(per_second(f.now.total(|c| c.sent))), "/s"),
                notes: vec![
                    ("", format!("{} /s accepted", format::rate(per_second(f.now.total(|c| c.accepted))))),
                    ("", format!("{} /s failed", format::rate(per_second(f.now.total(|c| c.failed + c.retried))))),
                ],
                spark: spark(&delivered),
                tone: "acc",
            },
            ui::Tile {
                href: "/admin/channels",
                label: "Success, 15 min",
                figure: success.map_or_else(Figure::none, |s| figure(format::percent(s), "%")),
                notes: success_notes(&f.quarter, views),
                spark: spark(&f.of(|s| share(s.success()))),
                tone: if low { "warn" } else { "acc" },
            },
            ui::Tile {
                href: "/admin/queues",
                label: "Queue depth",
                figure: figure(format::count(depth), ""),
                notes: depth_notes,
                spark: spark(&f.of(|s| Some(s.channels.values().map(|c| f64::from(c.depth)).sum()))),
                tone: if late { "warn" } else { "acc" },
            },
            ui::Tile {
                href: "/admin/notifications",
                label: "Time to deliver, p95",
                figure: time(p(0.95)),
                notes: vec![
                    ("", format!("p50 {}", time(p(0.5)).text())),
                    ("", format!("p99 {}", time(p(0.99)).text())),
                ],
                spark: spark(&f.of(|s| pulse::percentile(&s.latency(), 0.95))),
                tone: "neu",
            },
        ],
    }
}

fn about(view: &ChannelView) -> String {
    match (view.name.as_str(), &view.version) {
        ("websocket", _) => "WebSocket, SSE".to_owned(),
        ("email", _) => "SMTP relay".to_owned(),
        (name, Some(version)) => format!("plugin {name} {version}"),
        (name, None) => name.to_owned(),
    }
}

/// Its oldest due delivery has waited for longer than it should.
pub fn late(s: &Services, queue: &QueueStats) -> bool {
    queue.oldest_age_ms.is_some_and(|ms| ms > s.config.queue.target_ms(&queue.channel))
}

fn rows(
    s: &Services,
    views: &[ChannelView],
    f: &Figures,
    facts: &Facts,
    standing: &[ChannelFacts],
) -> Vec<ui::ChannelRow> {
    views
        .iter()
        .map(|v| {
            let name = v.name.to_string();
            let stands = standing.iter().find(|c| c.name == name);
            let (health, health_text) = health(v, stands.is_some_and(ChannelFacts::suffers), facts);
            let queue = facts.queues.get(&name).cloned().unwrap_or_default();
            let latency: Vec<u64> = f
                .quarter
                .channels
                .get(&name)
                .map(|c| c.latency.iter().map(|n| u64::from(*n)).collect())
                .unwrap_or_default();
            let sent = f.rate(|s| s.channels.get(&name).map_or(0, |c| c.sent.into()));
            ui::ChannelRow {
                paused: v.paused,
                open: v.breaker.state == "open",
                about: about(v),
                health,
                health_text,
                rate: format::rate(per_second(f.now.channels.get(&name).map_or(0, |c| c.sent.into()))),
                spark: Spark::of(&chart::thin(&sent, 30)),
                success: channel_share(&f.quarter, &name),
                p95: pulse::percentile(&latency, 0.95).map_or_else(|| "–".to_owned(), |ms| format::duration(ms).text()),
                queued: format::count(waiting(&queue)),
                oldest: format::duration_or_dash(queue.oldest_age_ms),
                oldest_late: !v.paused && late(s, &queue),
                name,
            }
        })
        .collect()
}

/// As the overview shows them, for these channels. Their little lines tell of the quarter of an hour that their success is of:
/// with an hour, a server that began lately would show a stub.
pub fn channel_rows(s: &Services, facts: &Facts, views: &[ChannelView]) -> Vec<ui::ChannelRow> {
    rows(s, views, &Figures::read(s, Range::Minutes15.into()), facts, &standing::of(s, facts))
}

/// Fewer of its deliveries arrive than should.
pub fn suffers(s: &Services, facts: &Facts, v: &ChannelView) -> bool {
    standing::of(s, facts).iter().any(|c| c.name == v.name.as_str() && c.suffers())
}

/// In words and as a shape.
pub fn health(v: &ChannelView, suffers: bool, facts: &Facts) -> (ui::Health, String) {
    if !v.enabled {
        return (ui::Health::Idle, "Off".to_owned());
    }
    if v.paused {
        let who = facts.pauses.iter().find(|p| p.channel == v.name);
        let who = who.map(|p| format!(" by {}", p.actor.trim_start_matches("admin:"))).unwrap_or_default();
        return (ui::Health::Paused, format!("Paused{who}"));
    }
    if v.breaker.state == "open" || v.health == "failing" {
        return (ui::Health::Failing, "Failing".to_owned());
    }
    if v.breaker.state == "half_open" || v.health == "degraded" || suffers {
        return (ui::Health::Degraded, "Degraded".to_owned());
    }
    (ui::Health::Healthy, "Healthy".to_owned())
}

fn sentence_facts(s: &Services, facts: &Facts, standing: Vec<ChannelFacts>) -> sentence::Facts {
    let trouble = |t: &Option<(Timestamp, String)>| {
        t.as_ref().map(|(since, why)| Trouble { since: Some(*since), cause: why.clone() })
    };
    let now = s.clock.now();
    let since_midnight = now.timestamp().rem_euclid(86_400) as usize / 60 + 1;
    let (day, hour) = {
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        (rings.read(now, 60, since_midnight).1, rings.read(now, 60, 60).1)
    };
    let dead = facts.queues.values().map(|q| q.dead).sum();
    let given_up: u64 = hour.iter().flatten().map(|m| m.total(|c| c.failed)).sum();
    sentence::Facts {
        database: trouble(&facts.database),
        broker: trouble(&facts.broker),
        bus: trouble(&facts.bus),
        nodes: facts.nodes.reporting(),
        channels: standing,
        new_dead: given_up.min(dead),
        dead,
        disk: facts.disk,
        pool: facts.pool,
        sent_today: day.iter().flatten().map(|m| m.total(|c| c.sent)).sum(),
    }
}

fn recent(s: &Services, f: &Figures) -> ui::Recent {
    let (events, _) = s.pulse.recent(RECENT);
    let per_ten = f.now.total(|c| c.sent + c.failed + c.retried);
    let tries = s.config.retry.schedule.len() + 1;
    let rows = events
        .into_iter()
        .map(|e| {
            let (kind, word, text) = became(&e, tries, s.clock.now());
            let t = e.transition;
            ui::RecentRow {
                id: t.notification_id.to_string(),
                kind,
                word,
                channel: t.channel.to_string(),
                to: t.user.user.to_string(),
                text,
                at: e.at,
            }
        })
        .collect();
    // Over five a second a list of six is a sample.
    ui::Recent { rows, one_in: (per_ten > 50).then(|| per_ten / RECENT as u64) }
}

/// Shape, word and text of an event.
fn became(e: &pulse::Event, tries: usize, now: Timestamp) -> (&'static str, &'static str, String) {
    let t = &e.transition;
    let said = e.answer.as_ref().and_then(|a| a.said.clone());
    let joined = |parts: [Option<String>; 2]| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    match t.state {
        DeliveryState::Sent => {
            let took = e.answer.as_ref().map(|a| a.duration_ms).or(t.latency_ms);
            let took = took.map(|ms| format::duration(ms.max(0) as f64).text());
            ("ok", "Sent", Some(joined([took, said])).filter(|t| !t.is_empty()).unwrap_or_else(|| "sent".to_owned()))
        }
        DeliveryState::Retrying => {
            let next = e.answer.as_ref().and_then(|a| a.next_at).map(|at| (at - now).num_milliseconds());
            let next = match next {
                Some(ms) if ms > 0 => format!(" in {}", format::duration(ms as f64).text()),
                _ => String::new(),
            };
            // What it is asked to do later is no failure, and no try is spent.
            let slower = e.answer.as_ref().is_some_and(|a| a.throttled);
            let again = if slower {
                format!("asked to slow down, again{next}")
            } else {
                format!("retry {} of {}{next}", t.attempt, tries - 1)
            };
            ("retry", "Retrying", joined([said, Some(again)]))
        }
        _ => {
            let attempts = if t.attempt == 1 { "attempt" } else { "attempts" };
            let why = said.or_else(|| t.reason.as_ref().map(ToString::to_string));
            ("dead", "Dead", joined([Some(format!("dead after {} {attempts}", t.attempt)), why]))
        }
    }
}

/// Until the first delivery, what to do first. What ever was sent is known from the week in the rings, and beyond that from
/// the table.
async fn first_steps(s: &Services) -> Option<ui::FirstSteps> {
    if s.console.has_sent.load(Relaxed) {
        return None;
    }
    let counts = s.pulse.counts();
    let sent = counts.values().any(|c| c.sent > 0) || {
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, week) = rings.read(s.clock.now(), 3_600, 168);
        week.iter().flatten().any(|m| m.total(|c| c.sent) > 0)
    };
    let newest = NotificationFilter { limit: 1, ..NotificationFilter::default() };
    let arrived = |(_, states): &(_, Vec<(ShownState, u64)>)| {
        let far = [DeliveryState::Sent, DeliveryState::Delivered].map(ShownState::Stored);
        states.iter().any(|(state, n)| *n > 0 && far.contains(state))
    };
    // A database that is away knows nothing either way: no steps then.
    if sent || s.store.notifications(&newest).await.map_or(true, |found| found.iter().any(arrived)) {
        s.console.has_sent.store(true, Relaxed);
        return None;
    }
    let keys = s.store.list_keys(&campanile_model::AppId::default()).await.map_or(0, |k| k.len());
    Some(ui::FirstSteps {
        has_key: keys > 0 || !s.config.auth.api_key.is_empty(),
        has_sent: counts.values().any(|c| c.accepted > 0),
        has_socket: s.hub.connection_count() > 0,
        base: base_url(s),
        dev: s.dev,
    })
}
