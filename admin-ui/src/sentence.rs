//! The status sentence: the worst condition first, in plain words, with its cause, its start and what helps.
//!
//! A pure function of facts. Absent on purpose: gathering the facts, and markup.

use crate::format::{bytes, clock, count, day_clock, duration, minute, percent};
use askama::Template;
use campanile_model::Timestamp;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// With its seconds or without.
    At(Timestamp, bool),
    /// With its day.
    On(Timestamp),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest(pub Vec<Part>);

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
mod tests {
    use super::*;

    fn channel(name: &str, attempts: u64, failed: u64) -> ChannelFacts {
        ChannelFacts { name: name.into(), attempts, failed, target_ms: 60_000, ..ChannelFacts::default() }
    }
    fn facts(channels: Vec<ChannelFacts>) -> Facts {
        Facts { channels, nodes: (1, 1), sent_today: 1_200_000, ..Facts::default() }
    }
    fn at() -> Timestamp {
        "2026-11-22T14:07:09Z".parse().unwrap()
    }

    #[test]
    fn all_is_well_when_nothing_is_wrong() {
        let s = sentence(&facts(vec![channel("email", 1_000, 1)]));
        assert_eq!((s.tone, s.lead.as_str()), (Tone::Ok, "Everything is delivering."));
        assert_eq!(s.rest.to_string(), "About 1.2 million today.");
        assert!(s.help.is_empty());
    }

    #[test]
    fn a_suffering_channel_is_named_with_its_start_and_cause() {
        let mut hook = channel("webhook", 1_000, 62);
        hook.failing_since = Some(at());
        hook.cause = Some("partner-crm.example answers 503".into());
        let s = sentence(&facts(vec![channel("email", 1_000, 0), hook]));
        assert_eq!(s.tone, Tone::Warn);
        assert_eq!(s.lead, "Webhook needs attention.");
        assert_eq!(
            s.rest.to_string(),
            "6.2 % failed since 14:07: partner-crm.example answers 503. Every other channel delivers."
        );
        assert_eq!(s.help.len(), 2);
    }

    #[test]
    fn few_attempts_say_nothing() {
        assert_eq!(sentence(&facts(vec![channel("email", 20, 20)])).tone, Tone::Ok);
        assert_eq!(sentence(&facts(vec![channel("email", 21, 21)])).tone, Tone::Bad);
    }

    #[test]
    fn the_worst_condition_comes_first() {
        let trouble = || Some(Trouble { since: Some(at()), cause: "connection refused".into() });
        let mut open = channel("sms", 3, 3);
        open.breaker = Breaker::Open;
        let mut late = channel("slack", 0, 0);
        late.oldest_ms = Some(61_000);
        let mut paused = channel("ntfy", 0, 0);
        paused.paused = Some(("dana".into(), Some("billing".into())));
        paused.held = 30;
        let mut restarting = channel("telegram", 0, 0);
        restarting.restarting = Some(("signal 11".into(), Some(at())));

        let mut f = facts(vec![open, channel("webhook", 100, 10), late, paused, restarting]);
        f.database = trouble();
        f.broker = trouble();
        f.nodes = (2, 3);
        f.new_dead = 7;
        f.disk = Some((0.95, 3 << 30));
        f.pool = Some(at());
        let mut leads = Vec::new();
        let mut take = |f: &Facts| leads.push(sentence(f).lead);
        take(&f);
        f.database = None;
        take(&f);
        f.channels.remove(0);
        take(&f);
        f.broker = None;
        take(&f);
        f.nodes = (3, 3);
        take(&f);
        f.channels.remove(0);
        take(&f);
        f.channels.remove(0);
        take(&f);
        f.new_dead = 0;
        take(&f);
        f.disk = None;
        take(&f);
        f.pool = None;
        take(&f);
        f.channels.remove(1);
        take(&f);
        f.channels.clear();
        take(&f);
        assert_eq!(
            leads,
            [
                "The database does not answer.",
                "Sms is failing.",
                "The message broker is away.",
                "2 of 3 nodes reporting.",
                "Webhook needs attention.",
                "Slack is behind.",
                "7 deliveries were given up on in the last hour.",
                "The disk is nearly full.",
                "The database's connections are all in use.",
                "Telegram is restarting.",
                "Ntfy is paused.",
                "Everything is delivering.",
            ]
        );
    }

    #[test]
    fn a_paused_channel_is_neither_late_nor_failing() {
        let mut c = channel("email", 100, 100);
        c.oldest_ms = Some(1_000_000);
        c.paused = Some(("dana".into(), None));
        let s = sentence(&facts(vec![c]));
        assert_eq!(s.lead, "Email is paused.");
        assert!(matches!(&s.help[0], Help::Act { verb: "resume", .. }));
    }

    #[test]
    fn what_works_again_is_not_named_any_more() {
        let mut c = channel("email", 100, 60);
        assert_eq!(sentence(&facts(vec![c.clone()])).lead, "Email is failing.");
        c.recovered = true;
        assert_eq!(sentence(&facts(vec![c.clone()])).lead, "Everything is delivering.");
        // The breaker knows better than the newest few attempts.
        c.breaker = Breaker::Open;
        assert_eq!(sentence(&facts(vec![c])).lead, "Email is failing.");
    }

    #[test]
    fn a_share_of_99_percent_is_good_enough_and_less_is_not() {
        assert_eq!(sentence(&facts(vec![channel("email", 1_000, 10)])).tone, Tone::Ok);
        assert_eq!(sentence(&facts(vec![channel("email", 1_000, 11)])).tone, Tone::Warn);
    }

    #[test]
    fn a_target_that_is_just_met_is_met() {
        let mut c = channel("email", 0, 0);
        c.oldest_ms = Some(60_000);
        assert_eq!(sentence(&facts(vec![c.clone()])).tone, Tone::Ok);
        c.oldest_ms = Some(61_000);
        let s = sentence(&facts(vec![c]));
        assert_eq!(s.rest.to_string(), "Its oldest delivery has waited 61 s; 60 s is the target.");
    }

    #[test]
    fn a_large_disk_that_is_nearly_full_still_has_room() {
        let mut f = facts(vec![]);
        f.disk = Some((0.97, 40 << 30));
        assert_eq!(sentence(&f).tone, Tone::Ok);
        f.disk = Some((0.97, 1 << 30));
        let s = sentence(&f);
        assert_eq!(s.rest.to_string(), "97.0 % of it is used, 1.0 GB are free. A full one accepts nothing.");
    }

    #[test]
    fn a_plugin_that_starts_again_says_why_and_when() {
        let mut c = channel("telegram", 0, 0);
        c.restarting = Some(("signal 11".into(), Some(at())));
        let s = sentence(&facts(vec![c, channel("email", 0, 0)]));
        assert_eq!(
            s.rest.to_string(),
            "Its plugin ended (signal 11) and starts again at 14:07:09; deliveries wait. Every other channel delivers."
        );
        assert_eq!(s.help.len(), 2);
    }

    #[test]
    fn parts_that_are_away_say_since_when_and_what_goes_on() {
        let trouble = || Some(Trouble { since: Some(at()), cause: "connection refused".into() });
        let mut f = facts(vec![]);
        f.bus = trouble();
        assert_eq!(sentence(&f).rest.to_string(), "Sockets on other nodes hear late since 14:07: connection refused.");
        f.broker = trouble();
        assert!(
            sentence(&f).rest.to_string().starts_with("Notifications are accepted and kept; channels wait since 14:07")
        );
        f.database = trouble();
        let s = sentence(&f);
        assert_eq!(s.tone, Tone::Bad);
        assert!(s.rest.to_string().starts_with("New notifications are refused since 14:07: connection refused."));
    }

    #[test]
    fn one_dead_letter_is_one() {
        let mut f = facts(vec![]);
        (f.new_dead, f.dead) = (1, 1);
        let s = sentence(&f);
        assert_eq!(s.lead, "1 delivery was given up on in the last hour.");
        assert_eq!(s.rest.to_string(), "1 dead letter waits for a decision.");
    }
}
