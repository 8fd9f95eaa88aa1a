//! `/admin/connections`: who is connected where, and what is done about it.

mod acts;
mod list;
mod one;

pub use one::live as live_one;

use super::{
    Routes, Signed, console_frame,
    gate::{ACT, LOOK},
    live::{self, Drawn, Live},
};
use crate::{
    connection::{TransportKind, counts},
    console::{
        Facts,
        connections::{Figure as By, Wish},
        pulse,
        rings::Sample,
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
        connections::{self as ui, reason_words},
        overview::{DepthPlot, Series, Shown, Tile, Tiles},
        range::{Range, Stretch},
    },
    pieces::{Footer, Here},
};
use campanile_model::{AppId, Timestamp, UserId, ports::ConnectionFilter};
use chrono::TimeDelta;
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
    range: String,
    /// The end of the plots' time; none: now.
    until: String,
    user: String,
    transport: String,
    node: String,
    /// A figure whose highest come first.
    sort: String,
    /// A figure, and how much of it at least.
    with: String,
    least: String,
    /// `slow`: those alone that read too slowly.
    show: String,
    after: String,
    /// Which plot is shown as a table: `open` or `flow`.
    table: String,
}

impl Asked {
    fn read(query: &live::Query) -> Self {
        let text = |key| query.get(key).trim().to_owned();
        Self {
            range: text("range"),
            until: text("until"),
            user: text("user"),
            transport: text("transport"),
            node: text("node"),
            sort: text("sort"),
            with: text("with"),
            least: text("least"),
            show: text("show"),
            after: text("after"),
            table: text("table"),
        }
    }

    fn here(&self) -> Here {
        let range = Range::parse(&self.range);
        let range = if range == Range::default() { "" } else { range.as_str() };
        Here::new(PATH)
            .put("range", range)
            .put("until", &self.until)
            .put("user", &self.user)
            .put("transport", &self.transport)
            .put("node", &self.node)
            .put("sort", &self.sort)
            .put("with", &self.with)
            .put("least", &self.least)
            .put("show", &self.show)
            .put("after", &self.after)
            .put("table", &self.table)
    }

    fn stretch(&self, s: &Services) -> Stretch {
        Stretch::parse(&self.range, &self.until, s.clock.now())
    }

    /// What only this node's connections can be judged by.
    fn wish(&self) -> Wish {
        Wish {
            by: By::parse(&self.sort),
            // A figure without a number means that there is any of it.
            least: By::parse(&self.with).map(|figure| (figure, self.least.parse().unwrap_or(1))),
            slow: self.show == "slow",
        }
    }

    /// Whether this plot is a table, and the address where it is the other way about.
    fn table(&self, name: &str) -> (bool, String) {
        let on = self.table == name;
        (on, self.here().put("table", if on { "" } else { name }).url())
    }

    /// Whether the filters leave anybody out.
    fn narrows(&self) -> bool {
        let wish = self.wish();
        let given = [&self.user, &self.transport, &self.node].iter().any(|text| !text.is_empty());
        given || wish.least.is_some() || wish.slow
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
            // A figure moves: there is no place in such a list to go on from.
            after: self.after.parse().ok().filter(|_| !self.wish().is_own()),
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
    let figures = Figures::read(&s, asked.stretch(&s));
    let names = Names::of(&s, &facts);
    page(&ui::Connections {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        here: asked.here(),
        range: figures.range,
        filter: ui::Filter {
            user: asked.user.clone(),
            transport: asked.transport.clone(),
            node: asked.node.clone(),
            with: asked.with.clone(),
            least: asked.least.clone(),
            set: asked.narrows(),
            nodes: names.0.iter().map(|(id, name)| (id.clone(), name.clone())).collect(),
        },
        tiles: tiles(&s, &facts, &figures),
        open: open_plot(&s, &facts, &figures, &names, &asked),
        flow: flow_plot(&figures, &asked),
        list: list::draw(&s, &signed, &asked, &facts, &names, &figures).await,
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
        let figures = Figures::read(s, self.stretch(s));
        let names = Names::of(s, &facts);
        out.put("tiles", &tiles(s, &facts, &figures));
        out.put("open", &open_plot(s, &facts, &figures, &names, self));
        out.put("flow", &flow_plot(&figures, self));
        out.part("list", list::draw(s, signed, self, &facts, &names, &figures).await);
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
    range: Stretch,
    start: Timestamp,
    bucket_s: u32,
    buckets: Vec<Option<Sample>>,
    sum: Sample,
    now: Sample,
}

impl Figures {
    fn read(s: &Services, range: Stretch) -> Self {
        let now = s.clock.now();
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket_s, n) = range.buckets(now);
        let (start, buckets) = rings.read_until(now, range.until.unwrap_or(now), bucket_s, n);
        let mut sum = Sample::default();
        for sample in buckets.iter().flatten() {
            sum.merge(sample);
        }
        let (_, last) = rings.read(now, 10, 3);
        Self { range, start, bucket_s, buckets, sum, now: last.into_iter().rev().flatten().next().unwrap_or_default() }
    }

    /// An address that keeps showing this time; none where it is one already.
    fn pinned(&self, asked: &Asked) -> Option<String> {
        let end = self.start + TimeDelta::seconds(i64::from(self.bucket_s) * self.buckets.len() as i64);
        let here = asked.here().put("range", self.range.range).put("until", format::machine(end));
        self.range.until.is_none().then(|| here.url())
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
    let plot = DepthPlot::new(&Series { depth, ..f.series() }, f.range, &now, Shown::Plots);
    ui::OpenPlot { plot, as_table, other, pinned: f.pinned(asked) }
}

fn flow_plot(f: &Figures, asked: &Asked) -> ui::FlowPlot {
    let mut reasons: Vec<_> =
        f.sum.sockets.closed.iter().map(|(why, n)| (reason_words(why).to_owned(), u64::from(*n))).collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    reasons.truncate(6);
    let (as_table, other) = asked.table("flow");
    ui::FlowPlot { pinned: f.pinned(asked), ..ui::FlowPlot::new(&f.series(), f.range, reasons, as_table, other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_and_a_strange_node_holds_nothing() {
        let text = "range=6h&user=ada&transport=sse&node=x&after=y";
        let asked = Asked::read(&live::Query::parse(text));
        assert_eq!(asked.here().url(), format!("{PATH}?{text}"));
        let filter = asked.filter();
        assert!(filter.after.is_none() && filter.user.is_some() && filter.node.is_some());
    }

    #[test]
    fn figures_order_and_narrow_and_strange_ones_do_nothing() {
        let read = |text: &str| Asked::read(&live::Query::parse(text));
        let text = "range=15m&until=2026-11-29T03:10:00Z&sort=lag&with=buffer&least=64&show=slow";
        let asked = read(text);
        assert_eq!(asked.here().url(), format!("{PATH}?{text}"));
        let wish = asked.wish();
        assert_eq!((wish.by, wish.least, wish.slow), (Some(By::Lag), Some((By::Buffer, 64)), true));
        assert!(asked.narrows() && !read("sort=lag").narrows(), "an order leaves nobody out");
        assert_eq!(read("with=unacked&least=").wish().least, Some((By::Unacked, 1)));
        assert!(!read("sort=since&with=x&least=-1&show=fast").wish().is_own());
        let after = "0190c0de-0000-7000-8000-000000000001";
        assert!(read(&format!("after={after}")).filter().after.is_some());
        assert!(read(&format!("after={after}&sort=idle")).filter().after.is_none(), "figures move");
    }
}
