//! `/admin/connections`: who is connected where, and what is done about it.

mod acts;
mod one;

pub use one::live as live_one;

use super::{
    Routes, Signed, base_url, console_frame,
    gate::{ACT, LOOK},
    live::{self, Drawn, Live},
};
use crate::{
    connection::{ConnectionInfo, TransportKind, counts},
    console::{Facts, connections, pulse, rings::Sample},
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
        connections::{self as ui, client_words, reason_words},
        overview::{DepthPlot, Series, Shown, Tile, Tiles},
        range::Range,
    },
    pieces::{Empty, Footer, Here, Pager, Part},
};
use campanile_model::{
    AppId, Timestamp, UserId, UserKey,
    ports::{ConnectionFilter, StoreError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

const PATH: &str = "/admin/connections";
const ROWS: u32 = 50;
const SPARK: usize = 60;

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, show)
        .get("/admin/connections/{id}", LOOK, one::show)
        .post("/admin/connections/{id}/close", ACT, acts::close)
        .post("/admin/connections/{id}/ping", ACT, acts::ping)
        .post("/admin/connections/{id}/tail", ACT, acts::tail)
        .post("/admin/connections/of/{user}/close", ACT, acts::close_user)
        .post("/admin/connections/of/{user}/message", ACT, acts::message)
        .post("/admin/nodes/{node}/drain", ACT, acts::drain)
}

/// The page's address, read.
#[derive(Clone, Debug, Default)]
struct Asked {
    range: Range,
    user: String,
    transport: String,
    node: String,
    after: String,
    /// Which plot is shown as a table: `open` or `flow`.
    table: String,
}

impl Asked {
    fn read(query: &live::Query) -> Self {
        let text = |key| query.get(key).trim().to_owned();
        Self {
            range: Range::parse(query.get("range")),
            user: text("user"),
            transport: text("transport"),
            node: text("node"),
            after: text("after"),
            table: text("table"),
        }
    }

    fn here(&self) -> Here {
        let range = if self.range == Range::default() { "" } else { self.range.as_str() };
        Here::new(PATH)
            .put("range", range)
            .put("user", &self.user)
            .put("transport", &self.transport)
            .put("node", &self.node)
            .put("after", &self.after)
            .put("table", &self.table)
    }
    /// Whether this plot is a table, and the address where it is the other way about.
    fn table(&self, name: &str) -> (bool, String) {
        let on = self.table == name;
        (on, self.here().put("table", if on { "" } else { name }).url())
    }

    fn filter(&self) -> ConnectionFilter {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ConnectionFilter {
            app: AppId::default(),
            user: given(&self.user).map(UserId::from),
            transport: given(&self.transport),
            // A node that is none of ours holds nothing.
            node: given(&self.node).map(|n| n.parse().unwrap_or_default()),
            except: None,
            after: self.after.parse().ok(),
            limit: ROWS,
        }
    }
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let asked = Asked::read(&live::Query::parse(query.as_deref().unwrap_or_default()));
    let facts = s.console.facts.get(&s).await;
    let figures = Figures::read(&s, asked.range);
    let names = Names::of(&s, &facts);
    page(&ui::Connections {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        here: asked.here(),
        range: asked.range,
        filter: ui::Filter {
            user: asked.user.clone(),
            transport: asked.transport.clone(),
            node: asked.node.clone(),
            nodes: names.0.iter().map(|(id, name)| (id.clone(), name.clone())).collect(),
        },
        tiles: tiles(&s, &facts, &figures),
        open: open_plot(&s, &facts, &figures, &names, &asked),
        flow: flow_plot(&figures, &asked),
        list: list(&s, &signed, &asked, &facts, &names, &figures).await,
        foot: foot(&s, &facts),
    })
}

/// The page's stream.
pub fn live(query: &live::Query) -> Box<dyn Live> {
    Box::new(Asked::read(query))
}

#[async_trait]
impl Live for Asked {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let facts = s.console.facts.get(s).await;
        let figures = Figures::read(s, self.range);
        let names = Names::of(s, &facts);
        out.put("tiles", &tiles(s, &facts, &figures));
        out.put("open", &open_plot(s, &facts, &figures, &names, self));
        out.put("flow", &flow_plot(&figures, self));
        out.part("list", list(s, signed, self, &facts, &names, &figures).await);
        out.put("foot", &foot(s, &facts));
    }
}

fn foot(s: &Services, facts: &Facts) -> Footer {
    let note = facts.database.as_ref().map(|_| "Only this node reporting, sums are partial".to_owned());
    Footer { at: s.clock.now(), note }
}

/// What nodes are called.
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(s: &Services, facts: &Facts) -> Self {
        let mut names: BTreeMap<_, _> =
            facts.nodes.rows.iter().map(|n| (n.said.node.to_string(), n.said.address.clone())).collect();
        names.insert(s.node.to_string(), s.address.to_string());
        // Behind one proxy or in containers all may have the same address: then the machine tells them apart.
        let distinct: BTreeSet<_> = names.values().collect();
        if distinct.len() < names.len() {
            for n in &facts.nodes.rows {
                names.insert(n.said.node.to_string(), format!("{} {}", n.said.host, n.said.address));
            }
        }
        Self(names)
    }

    fn get(&self, node: &str) -> String {
        self.0.get(node).cloned().unwrap_or_else(|| node.chars().take(8).collect())
    }
}

/// Buckets of the range, all of them as one, and the newest ten seconds.
struct Figures {
    start: Timestamp,
    bucket_s: u32,
    buckets: Vec<Option<Sample>>,
    sum: Sample,
    now: Sample,
}

impl Figures {
    fn read(s: &Services, range: Range) -> Self {
        let now = s.clock.now();
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket_s, n) = range.buckets();
        let (start, buckets) = rings.read(now, bucket_s, n);
        let mut sum = Sample::default();
        for sample in buckets.iter().flatten() {
            sum.merge(sample);
        }
        let (_, last) = rings.read(now, 10, 3);
        Self { start, bucket_s, buckets, sum, now: last.into_iter().rev().flatten().next().unwrap_or_default() }
    }

    fn of(&self, of: impl Fn(&Sample) -> f64) -> Vec<Option<f64>> {
        self.buckets.iter().map(|s| s.as_ref().map(&of)).collect()
    }

    fn rate(&self, of: impl Fn(&Sample) -> u64) -> Vec<Option<f64>> {
        self.of(|s| of(s) as f64 / f64::from(self.bucket_s))
    }

    fn series(&self) -> Series {
        Series {
            start: self.start,
            bucket_ms: i64::from(self.bucket_s) * 1_000,
            accepted: self.rate(|s| s.sockets.opened.into()),
            delivered: self.rate(|s| s.sockets.closed_in_all()),
            failed: vec![None; self.buckets.len()],
            retried: vec![None; self.buckets.len()],
            depth: Vec::new(),
            marks: Vec::new(),
        }
    }
}

fn buckets(counts: &[u32]) -> Vec<u64> {
    counts.iter().map(|n| u64::from(*n)).collect()
}

fn figure(value: String, unit: &'static str) -> Figure {
    Figure { value, unit }
}

fn tiles(s: &Services, facts: &Facts, f: &Figures) -> Tiles {
    let spark = |points: &[Option<f64>]| Spark::of(&chart::thin(points, SPARK));
    let own = (s.hub.connection_count() as u64, s.hub.user_count() as u64, s.hub.count_of(TransportKind::Sse));
    let others = facts.nodes.rows.iter().filter(|n| n.said.node != s.node).map(|n| &n.said.figures);
    let (open, users, streams) = others.fold(own, |(c, u, e), n| (c + n.connections, u + n.users, e + n.event_streams));
    let opens = f.of(|s| f64::from(s.connections));
    let peak = opens.iter().flatten().fold(open as f64, |a, b| a.max(*b)) as u64;
    let sockets = &f.sum.sockets;
    let per_second = |n: u64| format::rate(n as f64 / 10.0);
    let (resumed, reset) = (u64::from(sockets.resumed), u64::from(sockets.reset));
    let share = (resumed + reset > 0).then(|| resumed as f64 / (resumed + reset) as f64);
    let ping = buckets(&sockets.ping);
    let ms = |share| pulse::percentile(&ping, share).map(|units| units / 10.0);
    let time = |ms: Option<f64>| ms.map_or_else(Figure::none, short_time);
    let buffer = pulse::percentile(&buckets(&sockets.buffer), 0.95).map(|n| (n * counts::BUFFER_UNIT as f64) as u64);
    let slow = u64::from(sockets.closed.get("slow").copied().unwrap_or(0));
    let slow = (if slow > 0 { "warn" } else { "" }, format!("{} slow", format::count(slow)));
    let plain = |text: String| ("", text);
    let tile = |label, figure, notes, points: &[Option<f64>], tone| Tile {
        href: PATH,
        label,
        figure,
        notes,
        spark: spark(points),
        tone,
    };
    let users_word = if users == 1 { "user" } else { "users" };
    Tiles {
        tiles: vec![
            tile(
                "Open now",
                figure(format::count(open), ""),
                vec![
                    plain(format!("{} {users_word}", format::count(users))),
                    plain(format!("peak {}", format::count(peak))),
                ],
                &opens,
                "acc",
            ),
            tile(
                "WebSocket",
                figure(format::count(open.saturating_sub(streams)), ""),
                vec![plain(format!("{} event streams", format::count(streams)))],
                &opens,
                "neu",
            ),
            tile(
                "Opened",
                figure(per_second(f.now.sockets.opened.into()), "/s"),
                vec![
                    plain(format!("{} /s closed", per_second(f.now.sockets.closed_in_all()))),
                    plain(format!("{} in all", format::count(sockets.opened.into()))),
                ],
                &f.rate(|s| s.sockets.opened.into()),
                "neu",
            ),
            tile(
                "Resumed",
                share.map_or_else(Figure::none, |s| figure(format::percent(s), "%")),
                vec![
                    plain(format!("{} began anew", format::count(reset))),
                    plain(format!("{} sent again", format::count(sockets.replayed.into()))),
                ],
                &f.of(|s| f64::from(s.sockets.resumed)),
                "neu",
            ),
            tile(
                "Ping, p95",
                time(ms(0.95)),
                vec![
                    plain(format!("p50 {}", time(ms(0.5)).text())),
                    plain(format!("buffer p95 {}", buffer.map_or_else(|| "–".to_owned(), format::bytes))),
                    slow,
                ],
                &f.of(|s| pulse::percentile(&buckets(&s.sockets.ping), 0.95).unwrap_or(0.0)),
                "neu",
            ),
        ],
    }
}

/// Round trips are often shorter than a millisecond.
fn short_time(ms: f64) -> Figure {
    if ms < 10.0 { figure(format!("{ms:.1}"), "ms") } else { format::duration(ms) }
}

fn open_plot(s: &Services, facts: &Facts, f: &Figures, names: &Names, asked: &Asked) -> ui::OpenPlot {
    let mut nodes: BTreeSet<String> =
        f.buckets.iter().flatten().flat_map(|b| b.sockets.nodes.keys().cloned()).collect();
    nodes.insert(s.node.to_string());
    // Those that still live come first; of the others only a few are told apart.
    let mut nodes: Vec<_> = nodes.into_iter().collect();
    nodes.sort_by_key(|n| !names.0.contains_key(n));
    nodes.truncate(8);
    let held = |node: &str| {
        if node == s.node.to_string() {
            return s.hub.connection_count() as u64;
        }
        facts.nodes.rows.iter().find(|n| n.said.node.to_string() == node).map_or(0, |n| n.said.figures.connections)
    };
    let now: Vec<_> = nodes.iter().map(|n| (held(n), false)).collect();
    let depth = nodes
        .iter()
        .map(|node| {
            let points = f.of(|s| s.sockets.nodes.get(node).map_or(0.0, |n| f64::from(*n)));
            (names.get(node), points)
        })
        .collect();
    let (as_table, other) = asked.table("open");
    let plot = DepthPlot::new(&Series { depth, ..f.series() }, asked.range, &now, Shown::Plots);
    ui::OpenPlot { plot, as_table, other }
}

fn flow_plot(f: &Figures, asked: &Asked) -> ui::FlowPlot {
    let mut reasons: Vec<_> =
        f.sum.sockets.closed.iter().map(|(why, n)| (reason_words(why).to_owned(), u64::from(*n))).collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    reasons.truncate(6);
    let (as_table, other) = asked.table("flow");
    ui::FlowPlot::new(&f.series(), asked.range, reasons, as_table, other)
}

async fn list(
    s: &Arc<Services>,
    signed: &Signed,
    asked: &Asked,
    facts: &Facts,
    names: &Names,
    figures: &Figures,
) -> Part<ui::List> {
    let listed = connections::list(s, asked.filter()).await;
    let heads = heads(s, &listed.items).await.unwrap_or_default();
    let rows: Vec<_> = listed.items.iter().map(|c| row(s, facts, names, c, heads.get(&c.user_id).copied())).collect();
    let (here, filtered) = (asked.here(), is_filtered(asked));
    let empty = rows.is_empty().then(|| empty(s, figures, filtered));
    let new_here = rows.is_empty() && !filtered && figures.sum.sockets.opened == 0;
    let last = listed.items.last().filter(|_| listed.more).map(|c| here.at("after", c.conn_id));
    let words = match (filtered, listed.total) {
        (false, total) if total > rows.len() as u64 => format!("{} of {}", rows.len(), format::count(total)),
        _ => format!("{} shown", rows.len()),
    };
    Part::Well(ui::List {
        csrf: signed.token_to_act(),
        back: here.url(),
        pager: Pager { words, newer: (!asked.after.is_empty()).then(|| here.without("after")), older: last },
        empty,
        snippet: new_here.then(|| snippet(s)),
        demo: s.dev,
        partial: listed.partial,
        rows,
    })
}

fn is_filtered(asked: &Asked) -> bool {
    !(asked.user.is_empty() && asked.transport.is_empty() && asked.node.is_empty())
}

fn empty(s: &Services, figures: &Figures, filtered: bool) -> Empty {
    if filtered {
        return Empty {
            title: "No connection fits these filters".to_owned(),
            why: "Others may be open.".to_owned(),
            command: None,
            clear: Some(PATH.to_owned()),
        };
    }
    let why = if figures.sum.sockets.opened > 0 {
        "Everybody who was here has left."
    } else {
        "Open sockets and event streams appear here within a second."
    };
    Empty {
        title: "Nobody is connected".to_owned(),
        why: why.to_owned(),
        command: (!s.dev).then(|| "campanile token ada".to_owned()),
        clear: None,
    }
}

fn snippet(s: &Services) -> String {
    let socket = base_url(s).replacen("http", "ws", 1);
    campanile_admin_ui::pages::demo::SNIPPET.replace("ws://localhost:8000", &socket)
}

/// Where the feeds of these connections' users stand.
async fn heads(s: &Services, items: &[ConnectionInfo]) -> Result<BTreeMap<UserId, i64>, StoreError> {
    let users: BTreeSet<_> = items.iter().filter(|c| c.last_seq.is_some()).map(|c| c.user_id.clone()).collect();
    let keys: Vec<_> = users.iter().map(|u| UserKey { app: AppId::default(), user: u.clone() }).collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let states = s.store.feed_heads(&keys).await?;
    Ok(users.into_iter().zip(states.into_iter().map(|f| f.head_seq)).collect())
}

fn row(s: &Services, facts: &Facts, names: &Names, c: &ConnectionInfo, head: Option<i64>) -> ui::Row {
    let dash = || "–".to_owned();
    let silent = facts
        .nodes
        .rows
        .iter()
        .find(|n| n.said.node == c.node_id)
        .map_or(c.node_id != s.node, |n| n.silent_ms > 2 * s.config.cluster.heartbeat.as_millis() as i64);
    // A classic client says nothing of what it has got.
    let seq = c.last_seq.filter(|_| c.protocol != "classic");
    ui::Row {
        id: c.conn_id.to_string(),
        user: c.user_id.to_string(),
        client: client_words(c.user_agent.as_deref()),
        protocol: c.protocol.clone(),
        address: c.client_address.clone().unwrap_or_else(dash),
        transport: if c.transport == "sse" { "event stream".to_owned() } else { "WebSocket".to_owned() },
        since: c.since,
        idle: c.idle_ms.map_or_else(dash, |ms| format::duration(ms as f64).text()),
        sent: c.sent_messages.map_or_else(dash, format::count),
        cursor: seq.map_or_else(dash, |n| format::count(n.max(0).unsigned_abs())),
        lag: seq.zip(head).map_or(0, |(seq, head)| (head - seq).max(0).unsigned_abs()),
        buffer: c.queued_bytes.map_or_else(dash, |n| format::bytes(n as u64)),
        node: names.get(&c.node_id.to_string()),
        silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_and_a_strange_node_holds_nothing() {
        let query = live::Query::parse("range=6h&user=ada&transport=sse&node=x&after=y");
        let asked = Asked::read(&query);
        assert_eq!(asked.here().url(), "/admin/connections?range=6h&user=ada&transport=sse&node=x&after=y");
        let filter = asked.filter();
        assert!(filter.after.is_none() && filter.user.is_some() && filter.node.is_some());
    }
}
