//! The status sentence: the worst condition first, in plain words, with its cause, its start and what helps.
//!
//! A pure function of facts. Absent on purpose: gathering the facts, and markup.

use crate::format::{bytes, clock, count, day_clock, duration, minute, percent};
use askama::Template;
use campanile_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Fewer attempts than this in the last five minutes say nothing about a channel.
pub const ENOUGH_ATTEMPTS: u64 = 20;
/// Below this share of successes a channel needs attention.
pub const GOOD_SHARE: f64 = 0.99;
/// Below this it fails rather than wobbles.
pub const FAILING_SHARE: f64 = 0.5;
/// A disk fuller than this is near its limit, unless much is free all the same.
pub const NEAR_LIMIT: f64 = 0.9;
/// Bytes that are enough for days.
pub const ROOM: u64 = 5 << 30;

/// Something outside that does not answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub since: Option<Timestamp>,
    pub cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Breaker {
    #[default]
    Closed,
    HalfOpen,
    Open,
}

/// A channel in the last five minutes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelFacts {
    pub name: String,
    pub attempts: u64,
    pub failed: u64,
    /// Since when it fails, if it does.
    pub failing_since: Option<Timestamp>,
    /// What the far side says most: `503`, `connection refused`.
    pub cause: Option<String>,
    pub oldest_ms: Option<i64>,
    /// How old the oldest due delivery may become.
    pub target_ms: i64,
    pub held: u64,
    /// Who paused it, and why.
    pub paused: Option<(String, Option<String>)>,
    pub breaker: Breaker,
    /// Its newest attempts all went well, after failures.
    pub recovered: bool,
    /// A plugin that ended and is started again: why, and when if it is known.
    pub restarting: Option<(String, Option<Timestamp>)>,
}

impl ChannelFacts {
    fn share(&self) -> f64 {
        if self.attempts == 0 { 1.0 } else { 1.0 - self.failed as f64 / self.attempts as f64 }
    }
    /// Too much of what it tries fails, and still does.
    pub fn suffers(&self) -> bool {
        !self.recovered && self.attempts > ENOUGH_ATTEMPTS && self.share() < GOOD_SHARE
    }
    fn is_late(&self) -> bool {
        self.paused.is_none() && self.oldest_ms.is_some_and(|age| age > self.target_ms)
    }
}

/// Everything the rules look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub database: Option<Trouble>,
    pub broker: Option<Trouble>,
    pub bus: Option<Trouble>,
    /// Nodes heard of lately, and nodes that should be.
    pub nodes: (usize, usize),
    pub channels: Vec<ChannelFacts>,
    /// Dead letters that came in the last hour.
    pub new_dead: u64,
    pub dead: u64,
    /// Used share of the disk that holds the data, and the bytes that are free.
    pub disk: Option<(f64, u64)>,
    /// Since when all connections to the database have been in use.
    pub pool: Option<Timestamp>,
    /// First arrivals at `sent` since midnight UTC.
    pub sent_today: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    Ok,
    Warn,
    Bad,
}

impl Tone {
    /// The class, and the shape that goes with it.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Help {
    /// A page that tells more.
    Open { label: String, href: String },
    /// An action on a channel: `pause`, `resume`, `reset`.
    Act { label: String, channel: String, verb: &'static str },
}

/// Text with moments in it: a page shows those in the viewer's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Text(String),
    /// With its seconds or without.
    At(Timestamp, bool),
    /// With its day.
    On(Timestamp),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest(pub Vec<Part>);

impl From<String> for Rest {
    fn from(text: String) -> Self {
        Self::of(text)
    }
}

impl From<&str> for Rest {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl Rest {
    pub fn of(text: impl Into<String>) -> Self {
        Self::default().say(text)
    }
    #[must_use]
    pub fn say(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }
    #[must_use]
    pub fn at(mut self, at: Timestamp, seconds: bool) -> Self {
        self.0.push(Part::At(at, seconds));
        self
    }
    #[must_use]
    pub fn on(mut self, at: Timestamp) -> Self {
        self.0.push(Part::On(at));
        self
    }
    /// As markup: moments as elements that a script shows in the viewer's zone.
    pub fn html(&self) -> String {
        Told { parts: &self.0 }.render().unwrap_or_default()
    }
    fn since(self, at: Option<Timestamp>) -> Self {
        match at {
            Some(at) => self.say(" since ").at(at, false),
            None => self,
        }
    }
}

#[derive(Template)]
#[template(path = "parts/told.html")]
struct Told<'a> {
    parts: &'a [Part],
}

impl Part {
    /// A moment for machines, its shape, and its text in UTC.
    pub fn time(&self) -> Option<(String, &'static str, String)> {
        match self {
            Self::Text(_) => None,
            Self::At(at, seconds) => {
                Some((crate::format::machine(at), if *seconds { "hms" } else { "hm" }, self.to_string()))
            }
            Self::On(at) => Some((crate::format::machine(at), "full", self.to_string())),
        }
    }
}

/// Times in UTC.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::At(at, true) => f.write_str(&clock(at)),
            Self::At(at, false) => f.write_str(&minute(at)),
            Self::On(at) => f.write_str(&day_clock(at)),
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| part.fmt(f))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    pub tone: Tone,
    pub lead: String,
    pub rest: Rest,
    /// At most two.
    pub help: Vec<Help>,
}

/// What to say. The first rule that holds wins; a rule's place is its weight.
pub fn sentence(facts: &Facts) -> Sentence {
    database(facts)
        .or_else(|| failing(facts))
        .or_else(|| broker(facts))
        .or_else(|| silent(facts))
        .or_else(|| suffering(facts))
        .or_else(|| late(facts))
        .or_else(|| dead(facts))
        .or_else(|| limits(facts))
        .or_else(|| restarting(facts))
        .or_else(|| paused(facts))
        .unwrap_or_else(|| well(facts))
}

/// `webhook` → `Webhook`: the first word of a sentence.
fn named(channel: &str) -> String {
    let mut chars = channel.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn open(label: &str, href: &str) -> Help {
    Help::Open { label: label.into(), href: href.into() }
}

fn open_channel(channel: &str) -> Help {
    Help::Open { label: format!("Open {channel}"), href: format!("/admin/channels/{channel}") }
}

fn act(label: &str, channel: &str, verb: &'static str) -> Help {
    Help::Act { label: label.into(), channel: channel.into(), verb }
}

fn database(f: &Facts) -> Option<Sentence> {
    let t = f.database.as_ref()?;
    Some(Sentence {
        tone: Tone::Bad,
        lead: "The database does not answer.".into(),
        rest: Rest::of("New notifications are refused")
            .since(t.since)
            .say(format!(": {}. Open sockets stay open.", t.cause)),
        help: vec![open("Open settings", "/admin/settings")],
    })
}

/// A channel that is as good as down: its breaker is open, or most of what it tries fails.
fn failing(f: &Facts) -> Option<Sentence> {
    let down = |c: &&ChannelFacts| {
        c.paused.is_none() && (c.breaker == Breaker::Open || (c.suffers() && c.share() < FAILING_SHARE))
    };
    let worst = f.channels.iter().filter(down).max_by_key(|c| (c.failed, c.name.clone()))?;
    let cause = worst.cause.as_deref().map(|c| format!(": {c}")).unwrap_or_default();
    let (what, then) = if worst.breaker == Breaker::Open {
        ("Its breaker is open".to_owned(), " Deliveries wait and lose nothing.")
    } else {
        (format!("{} % failed", percent(1.0 - worst.share())), "")
    };
    let rest = Rest::of(what).since(worst.failing_since).say(format!("{cause}.{then}{}", others(f, &worst.name)));
    Some(Sentence {
        tone: Tone::Bad,
        lead: format!("{} is failing.", named(&worst.name)),
        rest,
        help: vec![open_channel(&worst.name), act("Pause channel", &worst.name, "pause")],
    })
}

fn others(f: &Facts, but: &str) -> &'static str {
    let rest: Vec<_> = f.channels.iter().filter(|c| c.name != but).collect();
    let well = rest.iter().all(|c| c.breaker == Breaker::Closed && !c.suffers() && c.paused.is_none());
    if well && !rest.is_empty() { " Every other channel delivers." } else { "" }
}

fn broker(f: &Facts) -> Option<Sentence> {
    let (what, t) = match (&f.broker, &f.bus) {
        (Some(t), _) => ("The message broker is away.", t),
        (None, Some(t)) => ("The node bus is away.", t),
        (None, None) => return None,
    };
    let effect = if f.broker.is_some() {
        "Notifications are accepted and kept; channels wait"
    } else {
        "Sockets on other nodes hear late"
    };
    Some(Sentence {
        tone: Tone::Warn,
        lead: what.into(),
        rest: Rest::of(effect).since(t.since).say(format!(": {}.", t.cause)),
        help: vec![open("Open queues", "/admin/queues")],
    })
}

fn silent(f: &Facts) -> Option<Sentence> {
    let (heard, known) = f.nodes;
    (heard < known).then(|| Sentence {
        tone: Tone::Warn,
        lead: format!("{heard} of {known} nodes reporting."),
        rest: Rest::of("Sums below are partial until the silent one is back or has been forgotten."),
        help: vec![open("Open connections", "/admin/connections")],
    })
}

fn suffering(f: &Facts) -> Option<Sentence> {
    let worst = f
        .channels
        .iter()
        .filter(|c| c.paused.is_none() && (c.suffers() || c.breaker == Breaker::HalfOpen))
        .max_by_key(|c| (c.failed, c.name.clone()))?;
    let cause = worst.cause.as_deref().map(|c| format!(": {c}")).unwrap_or_default();
    Some(Sentence {
        tone: Tone::Warn,
        lead: format!("{} needs attention.", named(&worst.name)),
        rest: Rest::of(format!("{:.1} % failed", (1.0 - worst.share()) * 100.0))
            .since(worst.failing_since)
            .say(format!("{cause}.{}", others(f, &worst.name))),
        help: vec![open_channel(&worst.name), act("Pause channel", &worst.name, "pause")],
    })
}

fn late(f: &Facts) -> Option<Sentence> {
    let worst = f.channels.iter().filter(|c| c.is_late()).max_by_key(|c| c.oldest_ms)?;
    let age = duration(worst.oldest_ms.unwrap_or_default() as f64).text();
    Some(Sentence {
        tone: Tone::Warn,
        lead: format!("{} is behind.", named(&worst.name)),
        rest: Rest::of(format!(
            "Its oldest delivery has waited {age}; {} is the target.",
            duration(worst.target_ms as f64).text()
        )),
        help: vec![open_channel(&worst.name), open("Open queues", "/admin/queues")],
    })
}

fn dead(f: &Facts) -> Option<Sentence> {
    (f.new_dead > 0).then(|| Sentence {
        tone: Tone::Warn,
        lead: format!(
            "{} {} given up on in the last hour.",
            count(f.new_dead),
            if f.new_dead == 1 { "delivery was" } else { "deliveries were" }
        ),
        rest: Rest::of(match f.dead.max(f.new_dead) {
            1 => "1 dead letter waits for a decision.".to_owned(),
            n => format!("{} dead letters wait for a decision.", count(n)),
        }),
        help: vec![open("Open dead letters", "/admin/dead")],
    })
}

fn limits(f: &Facts) -> Option<Sentence> {
    let disk = f.disk.filter(|(share, free)| *share > NEAR_LIMIT && *free < ROOM);
    let (lead, rest) = match (disk, f.pool) {
        (Some((share, free)), _) => (
            "The disk is nearly full.",
            Rest::of(format!(
                "{} % of it is used, {} are free. A full one accepts nothing.",
                percent(share.min(0.999)),
                bytes(free)
            )),
        ),
        (None, Some(at)) => (
            "The database's connections are all in use.",
            Rest::of("Pages and lists wait").since(Some(at)).say("; database.readers allows more."),
        ),
        (None, None) => return None,
    };
    Some(Sentence { tone: Tone::Warn, lead: lead.into(), rest, help: vec![open("Open settings", "/admin/settings")] })
}

fn restarting(f: &Facts) -> Option<Sentence> {
    let c = f.channels.iter().find(|c| c.restarting.is_some())?;
    let (why, next) = c.restarting.as_ref()?;
    let rest = Rest::of(format!("Its plugin ended ({why}) and "));
    let rest = match next {
        Some(at) => rest.say("starts again at ").at(*at, true),
        None => rest.say("is being started again"),
    };
    Some(Sentence {
        tone: Tone::Warn,
        lead: format!("{} is restarting.", named(&c.name)),
        rest: rest.say(format!("; deliveries wait.{}", others(f, &c.name))),
        help: vec![open_channel(&c.name), act("Pause channel", &c.name, "pause")],
    })
}

fn paused(f: &Facts) -> Option<Sentence> {
    let c = f.channels.iter().filter(|c| c.paused.is_some()).max_by_key(|c| (c.held, c.name.clone()))?;
    let (who, why) = c.paused.as_ref()?;
    let why = why.as_deref().map(|w| format!(" ({w})")).unwrap_or_default();
    Some(Sentence {
        tone: Tone::Warn,
        lead: format!("{} is paused.", named(&c.name)),
        rest: Rest::of(format!("{} paused it{why}. {} held.{}", named(who), count(c.held), others(f, &c.name))),
        help: vec![act("Resume channel", &c.name, "resume"), open_channel(&c.name)],
    })
}

fn well(f: &Facts) -> Sentence {
    let rest = Rest::of(if f.sent_today > 0 {
        format!("{} today.", named(&crate::format::about(f.sent_today)))
    } else {
        "Nothing sent yet today.".to_owned()
    });
    Sentence { tone: Tone::Ok, lead: "Everything is delivering.".into(), rest, help: Vec::new() }
}

#[cfg(test)]
#[path = "sentence_tests.rs"]
mod tests;
