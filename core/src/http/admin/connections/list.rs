//! The list of open connections: of all nodes oldest first, or this node's by a figure that only it knows.

use super::{Asked, Figures, Names, PATH};
use crate::{
    connection::{ConnectionInfo, conn::SLOW_LAG},
    console::{Facts, connections},
    http::admin::{Signed, base_url},
    services::Services,
};
use campanile_admin_ui::{
    format,
    pages::connections::{self as ui, client_words},
    pieces::{Empty, Here, Pager, Part, Tab, Tabs},
};
use std::sync::Arc;

pub async fn draw(
    s: &Arc<Services>,
    signed: &Signed,
    asked: &Asked,
    facts: &Facts,
    names: &Names,
    figures: &Figures,
) -> Part<ui::List> {
    let (wish, here, filtered) = (asked.wish(), asked.here(), asked.narrows());
    let listed = connections::list(s, asked.filter(), wish).await;
    let rows: Vec<_> = listed.items.iter().map(|c| row(s, facts, names, c)).collect();
    let empty = rows.is_empty().then(|| empty(s, figures, filtered, wish.slow));
    let new_here = rows.is_empty() && !filtered && figures.sum.sockets.opened == 0;
    let older = listed.items.last().filter(|_| listed.more && !wish.is_own()).map(|c| here.at("after", c.conn_id));
    let shown = rows.len() as u64;
    let words = match (wish.is_own(), filtered) {
        (true, _) if listed.fit as u64 > shown => format!("{shown} of {} that fit", format::count(listed.fit as u64)),
        (false, false) if listed.total > shown => format!("{shown} of {}", format::count(listed.total)),
        _ => format!("{shown} shown"),
    };
    let others = facts.nodes.rows.iter().any(|n| n.said.node != s.node);
    Part::Well(ui::List {
        csrf: signed.token_to_act(),
        back: here.url(),
        pager: Pager { words, newer: (!asked.after.is_empty()).then(|| here.without("after")), older },
        empty,
        snippet: new_here.then(|| snippet(s)),
        demo: s.dev,
        partial: listed.partial,
        tabs: tabs(&here, wish.slow, listed.total, connections::slow(s) as u64),
        heads: ui::Heads::new(&here, &asked.sort),
        own_only: wish.is_own() && others,
        rows,
    })
}

fn tabs(here: &Here, slow_alone: bool, all: u64, slow: u64) -> Tabs {
    let tab = |label: &str, href, count, tone, current| Tab {
        label: label.to_owned(),
        href,
        count: Some(format::count(count)),
        tone,
        current,
    };
    let tone = if slow > 0 { "warn" } else { "" };
    Tabs {
        id: "which",
        label: "Which connections",
        tabs: vec![
            tab("All", here.without("show"), all, "", !slow_alone),
            tab("Slow", here.with("show", "slow"), slow, tone, slow_alone),
        ],
    }
}

fn empty(s: &Services, figures: &Figures, filtered: bool, slow: bool) -> Empty {
    if slow {
        return Empty {
            title: "Nobody reads too slowly".to_owned(),
            why: format!(
                "Slow is who is {SLOW_LAG} items behind the feed or lets more than a quarter of their buffer fill up; at the end \
                 of it they are closed with 4408."
            ),
            command: None,
            clear: Some(PATH.to_owned()),
        };
    }
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

/// One of them, as the list and its own page show it.
pub fn row(s: &Services, facts: &Facts, names: &Names, c: &ConnectionInfo) -> ui::Row {
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
        lag: c.behind.unwrap_or(0),
        rate: c.sent_per_second.map_or_else(dash, format::rate),
        unacked: c.unacked.map_or_else(dash, format::count),
        buffer: c.queued_bytes.map_or_else(dash, |n| format::bytes(n as u64)),
        node: names.get(&c.node_id.to_string()),
        silent,
    }
}
