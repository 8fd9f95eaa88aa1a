//! `/admin/connections`: who is connected, through what, to which node; and one connection.

use super::{
    Frame,
    overview::{DepthPlot, Series, Tiles, TimeAxis},
    range::Stretch,
};
use crate::{
    chart::{self, Scale},
    format,
    pieces::{Empty, Footer, Here, Pager, Part, Tabs},
};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/connections.html")]
pub struct Connections {
    pub frame: Frame,
    pub here: Here,
    pub range: Stretch,
    pub filter: Filter,
    pub tiles: Tiles,
    pub open: OpenPlot,
    pub flow: FlowPlot,
    pub list: Part<List>,
    pub foot: Footer,
}

/// What the list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub user: String,
    pub transport: String,
    pub node: String,
    /// A figure, and how much of it at least.
    pub with: String,
    pub least: String,
    /// Any of them leaves somebody out.
    pub set: bool,
    /// Id and name of each node that lives.
    pub nodes: Vec<(String, String)>,
}

impl Filter {
    /// Figures to narrow by: as the address has them, and in words with their unit.
    const FIGURES: [(&str, &str); 5] = [
        ("lag", "items behind"),
        ("rate", "messages sent /s"),
        ("unacked", "unconfirmed items"),
        ("buffer", "KiB waiting"),
        ("idle", "seconds idle"),
    ];
}

/// The heads of columns that the list can be ordered by.
#[derive(Debug, Clone, Default)]
pub struct Heads(Vec<Head>);

#[derive(Debug, Clone)]
pub struct Head {
    key: &'static str,
    label: &'static str,
    /// Where the list is ordered by it, or, where it is, oldest first again.
    href: String,
    current: bool,
}

impl Heads {
    /// `sort` as the address has it; whatever names no column orders by age.
    pub fn new(here: &Here, sort: &str) -> Self {
        const COLUMNS: [(&str, &str); 5] = [
            ("idle", "Idle"),
            ("rate", "Sent /s"),
            ("unacked", "Unacked"),
            ("buffer", "Buffer"),
            ("lag", "Cursor, lag"),
        ];
        let head = |(key, label): (&'static str, &'static str)| {
            let current = sort == key;
            Head { key, label, href: here.with("sort", if current { "" } else { key }), current }
        };
        Self(COLUMNS.into_iter().map(head).collect())
    }

    fn is_by_age(&self) -> bool {
        !self.0.iter().any(|h| h.current)
    }

    /// In words, for the line above the table.
    fn order(&self) -> Option<&'static str> {
        let by = self.0.iter().find(|h| h.current)?;
        Some(match by.key {
            "idle" => "longest idle first",
            "rate" => "most sent per second first",
            "unacked" => "most unconfirmed first",
            "buffer" => "fullest buffer first",
            _ => "furthest behind first",
        })
    }
}

/// Open connections over time, stacked by node.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/conn_open.html")]
pub struct OpenPlot {
    pub plot: DepthPlot,
    pub as_table: bool,
    /// The same page with the table, or with the plot again.
    pub other: String,
    /// An address that keeps showing this time, where this one does not.
    pub pinned: Option<String>,
}

/// Opened and closed over time, and why they closed.
#[derive(Template, Debug, Clone)]
#[template(path = "parts/conn_flow.html")]
pub struct FlowPlot {
    pub range: Stretch,
    pub axis: TimeAxis,
    pub scale: Scale,
    pub opened: Vec<f64>,
    pub closed: Vec<f64>,
    /// Reasons in words, most first, with how many.
    pub reasons: Vec<(String, u64)>,
    /// Of the first bar and behind the last one, in milliseconds.
    pub span: (i64, i64),
    pub as_table: bool,
    /// The same page with the table, or with the plot again.
    pub other: String,
    pub pinned: Option<String>,
}

const BARS: usize = 60;

impl FlowPlot {
    /// `series.accepted` is what opened, `series.delivered` what closed, per second.
    pub fn new(
        series: &Series,
        range: impl Into<Stretch>,
        reasons: Vec<(String, u64)>,
        as_table: bool,
        other: String,
    ) -> Self {
        let range = range.into();
        let bars = |points: &[Option<f64>]| -> Vec<f64> {
            chart::thin(points, BARS).iter().map(|p| p.unwrap_or(0.0)).collect()
        };
        let (opened, closed) = (bars(&series.accepted), bars(&series.delivered));
        let most = opened.iter().chain(&closed).copied().fold(0.0, f64::max);
        let start = series.start.timestamp_millis();
        Self {
            axis: TimeAxis::of(series, range.range, 3),
            scale: Scale::halves(most),
            span: (start, start + series.bucket_ms * series.len() as i64),
            opened,
            closed,
            reasons,
            range,
            as_table,
            other,
            pinned: None,
        }
    }
    fn width(&self) -> usize {
        self.opened.len().max(1)
    }
    fn opened_bars(&self) -> String {
        chart::bars(&[], &self.opened, &self.scale)
    }
    fn closed_bars(&self) -> String {
        chart::bars(&[], &self.closed, &self.scale)
    }
    /// A row for each bar, newest first.
    fn rows(&self) -> Vec<(Timestamp, [String; 2])> {
        let (start, end) = self.span;
        let at = |i: usize| start + (end - start) * i as i64 / self.width() as i64;
        (0..self.opened.len())
            .rev()
            .filter_map(|i| {
                let cells = [&self.opened, &self.closed].map(|p| format::rate(p.get(i).copied().unwrap_or(0.0)));
                Some((Timestamp::from_timestamp_millis(at(i))?, cells))
            })
            .collect()
    }
    fn total(&self) -> u64 {
        self.reasons.iter().map(|(_, n)| n).sum()
    }
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/conn_list.html")]
pub struct List {
    pub rows: Vec<Row>,
    /// Goes with each form; empty for those who may only look.
    pub csrf: String,
    /// This very page.
    pub back: String,
    pub pager: Pager,
    pub empty: Option<Empty>,
    /// A page that opens a connection, for a server that never had one.
    pub snippet: Option<String>,
    pub demo: bool,
    pub partial: bool,
    /// All of them, and those that read too slowly.
    pub tabs: Tabs,
    pub heads: Heads,
    /// Ordered or narrowed by what only this node's connections are known by, and there are other nodes.
    pub own_only: bool,
}

/// One open connection. What only its own node knows is a dash when another one holds it.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub id: String,
    pub user: String,
    pub client: String,
    pub protocol: String,
    pub address: String,
    pub transport: String,
    pub since: Timestamp,
    pub idle: String,
    pub sent: String,
    /// Messages a second over the last ten.
    pub rate: String,
    /// Given and not confirmed.
    pub unacked: String,
    pub cursor: String,
    /// Items of the feed that it has not got yet.
    pub lag: u64,
    pub buffer: String,
    pub node: String,
    /// The node has not been heard of for a while.
    pub silent: bool,
}

#[derive(Template, Debug)]
#[template(path = "pages/connection.html")]
pub struct Connection {
    pub frame: Frame,
    pub facts: Part<Facts>,
    pub id: String,
    pub user: String,
    pub foot: Footer,
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/conn_facts.html")]
pub struct Facts {
    /// `None`: it is gone.
    pub row: Option<Row>,
    pub agent: String,
    pub csrf: String,
    pub id: String,
    pub user: String,
    /// A WebSocket answers pings; an event stream can't.
    pub answers: bool,
    /// When the last ping that somebody asked for came back, and after how long.
    pub round_trip: Option<(Timestamp, String)>,
    pub tail: Option<Tail>,
    /// May see what messages say.
    pub may_read: bool,
}

/// The frames of a connection, newest first.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    pub until: Timestamp,
    pub on: bool,
    pub lines: Vec<TailLine>,
}

#[derive(Debug, Clone, Default)]
pub struct TailLine {
    pub at: Timestamp,
    /// In words, and as an arrow.
    pub way: &'static str,
    pub incoming: bool,
    pub text: String,
}

/// The words for a close code's reason.
pub fn reason_words(reason: &str) -> &str {
    match reason {
        "normal" => "client said goodbye",
        "lost" => "connection lost",
        "restart" => "asked to come back",
        "pong" => "no answer to a ping",
        "slow" => "read too slowly",
        "replaced" => "too many of one user",
        "token_expired" => "token ended",
        "revoked" => "session ended",
        "not_allowed" => "user disabled",
        "rate_limited" => "sent too much",
        "unavailable" => "database away",
        "fault" => "fault on our side",
        other => other,
    }
}

/// `Firefox 131`, `Chrome 141`, `python-websockets/13.1`: what a user agent comes to.
pub fn client_words(agent: Option<&str>) -> String {
    let Some(agent) = agent.filter(|a| !a.is_empty()) else { return "–".to_owned() };
    let version = |name: &str| {
        let rest = agent.split(name).nth(1)?;
        let major: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!major.is_empty()).then_some(major)
    };
    // In this order: each of them also names those after it.
    for (token, name) in
        [("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Version/", "Safari")]
    {
        if let Some(major) = version(token) {
            return format!("{name} {major}");
        }
    }
    agent.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{
        check,
        overview::{Shown, sample},
        range::Range,
        sample_frame,
    };

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    fn row() -> Row {
        Row {
            id: EVIL.into(),
            user: EVIL.into(),
            client: EVIL.into(),
            protocol: "v1".into(),
            address: EVIL.into(),
            transport: "websocket".into(),
            node: EVIL.into(),
            lag: 3,
            ..Row::default()
        }
    }

    #[test]
    fn the_pages_show_everything_as_text() {
        let here = Here::new("/admin/connections").put("user", EVIL).put("sort", "lag");
        let heads = Heads::new(&here, "lag");
        let list = List { rows: vec![row()], csrf: "t".into(), back: EVIL.into(), heads, ..List::default() };
        let series = sample::series();
        let mut page = Connections {
            frame: sample_frame("/admin/connections"),
            here,
            range: Range::Hour1.into(),
            filter: Filter { user: EVIL.into(), nodes: vec![(EVIL.into(), EVIL.into())], ..Filter::default() },
            tiles: Tiles { tiles: Vec::new() },
            open: OpenPlot {
                plot: DepthPlot::new(&series, Range::Hour1, &[(1, false)], Shown::Plots),
                as_table: false,
                other: EVIL.into(),
                pinned: Some(EVIL.into()),
            },
            flow: FlowPlot::new(&series, Range::Hour1, vec![(EVIL.into(), 3)], false, EVIL.into()),
            list: Part::Well(list),
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        };
        let html = page.render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && html.contains("&#60;img") && html.contains("Disconnect"));
        assert!(html.contains("aria-sort=\"descending\"") && html.contains("furthest behind first"));
        (page.open.as_table, page.flow.as_table) = (true, true);
        let tables = page.render().unwrap();
        check(&tables);
        assert!(!tables.contains("<img") && tables.matches("As plot").count() == 2);
        page.list = Part::Well(List {
            snippet: Some("<script>x</script>".into()),
            empty: Some(Empty { title: "Nobody is connected".into(), ..Empty::default() }),
            ..List::default()
        });
        let html = page.render().unwrap();
        check(&html);
        assert!(html.contains("Nobody is connected") && !html.contains("/close"));
        for row in [Some(row()), None] {
            let line = TailLine { text: EVIL.into(), incoming: true, ..TailLine::default() };
            let facts = Facts {
                row,
                agent: EVIL.into(),
                id: EVIL.into(),
                user: EVIL.into(),
                answers: true,
                round_trip: Some((Timestamp::UNIX_EPOCH, EVIL.into())),
                tail: Some(Tail { on: true, lines: vec![line], ..Tail::default() }),
                may_read: true,
                ..Facts::default()
            };
            let one = Connection {
                frame: sample_frame("/admin/connections"),
                facts: Part::Well(facts),
                id: EVIL.into(),
                user: EVIL.into(),
                foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
            };
            let html = one.render().unwrap();
            check(&html);
            assert!(!html.contains("<img") && !html.contains("/close"), "who may only look finds no form");
        }
    }

    #[test]
    fn user_agents_become_names() {
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
        assert_eq!(client_words(Some(chrome)), "Chrome 141");
        assert_eq!(client_words(Some("Mozilla/5.0 (X11) Gecko/20100101 Firefox/131.0")), "Firefox 131");
        assert_eq!(client_words(Some("python-websockets/13.1")), "python-websockets/13.1");
        assert_eq!(client_words(None), "–");
    }
}
