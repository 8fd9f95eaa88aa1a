//! What the sentence says, worst condition first.

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
