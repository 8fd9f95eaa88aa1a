//! I1, I7–I11: what was accepted is settled, mailed as it says, retried as configured, and nothing is left behind.

use super::{Found, SETTLED, calls, grouped};
use crate::{db::Attempt, history::History};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// I1: a 202's id is in exactly one feed row and settled on each channel; unknown ones 0 or 1 times; refused never.
pub fn accepted_settles(history: &History, found: &mut Found) {
    let stored_as = grouped(history.end.notifications.iter().map(|(id, title)| (title.as_str(), *id)));
    let states = grouped(
        history
            .end
            .deliveries
            .iter()
            .map(|d| ((d.notification_id, d.channel.as_str(), d.user_id.as_str()), d.state.as_str())),
    );
    let in_feed = grouped(history.end.feed.iter().map(|f| ((f.notification_id, f.user_id.as_str()), ())));
    for (key, call) in calls(history) {
        let stored = stored_as.get(key).map_or(&[][..], Vec::as_slice);
        if call.ok {
            found.unless(call.ids.len() == 1, "I1", || format!("{key} was answered with {} ids", call.ids.len()));
            found
                .unless(stored.len() == 1, "I1", || format!("{key} was accepted and is stored {} times", stored.len()));
        } else if call.info {
            found.unless(stored.len() <= 1, "I1", || format!("{key} is stored {} times", stored.len()));
        } else {
            found.unless(stored.is_empty(), "I1", || format!("{key} was refused and is stored"));
        }
        let mut ids: BTreeSet<Uuid> = call.ids.clone();
        ids.extend(stored);
        for id in ids {
            for channel in call.channels {
                let states = states.get(&(id, channel.as_str(), call.user)).map_or(&[][..], Vec::as_slice);
                found.unless(states.len() == 1 && SETTLED.contains(&states[0]), "I1", || {
                    format!("{key} has {channel} deliveries in {states:?}")
                });
                if channel == "websocket" && states.iter().all(|s| matches!(*s, "sent" | "delivered")) {
                    let n = in_feed.get(&(id, call.user)).map_or(0, Vec::len);
                    found.unless(n == 1, "I1", || format!("{key} is in the feed of {} {n} times", call.user));
                }
            }
        }
    }
}

/// The delivery that a Message-ID names.
fn delivery_of(message_id: &str) -> Option<Uuid> {
    message_id.trim_start_matches('<').get(..36)?.parse().ok()
}

/// I7: sent → accepted at least once; accepted at most 1 + uncertain attempts; never when dead or suppressed.
pub fn mails(history: &History, found: &mut Found) {
    let mut accepted: HashMap<Uuid, usize> = HashMap::new();
    let known: HashSet<Uuid> = history.end.deliveries.iter().map(|d| d.id).collect();
    for mail in &history.mails {
        match delivery_of(&mail.message_id).filter(|id| known.contains(id)) {
            Some(id) => *accepted.entry(id).or_default() += 1,
            None => found.add("I7", format!("a mail with the unknown Message-ID {}", mail.message_id)),
        }
    }
    let mut uncertain: HashMap<Uuid, usize> = HashMap::new();
    for attempt in history.end.attempts.iter().filter(|a| a.uncertain) {
        *uncertain.entry(attempt.delivery_id).or_default() += 1;
    }
    for d in history.end.deliveries.iter().filter(|d| d.channel == "email") {
        let accepted = accepted.get(&d.id).copied().unwrap_or(0);
        let uncertain = uncertain.get(&d.id).copied().unwrap_or(0);
        match d.state.as_str() {
            "sent" | "delivered" => {
                found.unless(accepted >= 1, "I7", || format!("{} is {} and was never mailed", d.id, d.state));
            }
            "suppressed" => found.unless(accepted == 0, "I7", || format!("{} is suppressed and was mailed", d.id)),
            _ => {}
        }
        let sent = usize::from(matches!(d.state.as_str(), "sent" | "delivered"));
        found.unless(accepted <= sent + uncertain, "I7", || {
            format!("{} ({}) was mailed {accepted} times with {uncertain} uncertain attempts", d.id, d.state)
        });
    }
}

/// I8: attempts within the schedule, in number and in time.
pub fn attempts(history: &History, found: &mut Found) {
    let terms = &history.terms;
    let most = terms.schedule_ms.len() as i64 + 1;
    for d in &history.end.deliveries {
        found.unless(d.spent <= most, "I8", || format!("{} spent {} of {most} attempts", d.id, d.spent));
    }
    let replayed: HashSet<Uuid> = history.end.replays.iter().filter_map(|t| t.parse().ok()).collect();
    for (id, mut list) in grouped(history.end.attempts.iter().map(|a| (a.delivery_id, a))) {
        if !replayed.contains(&id) {
            list.sort_by_key(|a| a.attempt);
            gaps(history, id, &list, found);
        }
    }
}

fn gaps(history: &History, id: Uuid, list: &[&Attempt], found: &mut Found) {
    let terms = &history.terms;
    let mut spent = 0;
    for pair in list.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if !matches!(before.outcome.as_str(), "retry" | "timeout") {
            continue;
        }
        let Some(delay) = terms.schedule_ms.get(spent) else { break };
        spent += 1;
        let gap = after.started_at - (before.started_at + before.duration_ms);
        let least = (*delay as f64 * (1.0 - terms.jitter)) as i64 - 5;
        let greatest = (*delay as f64 * (1.0 + terms.jitter)) as i64 + terms.slack_ms;
        found.unless((least..=greatest).contains(&gap), "I8", || {
            format!(
                "{id}: {gap} ms between attempts {} and {}, {least}–{greatest} expected",
                before.attempt, after.attempt
            )
        });
    }
}

/// I9: no settled state is left but for sent → delivered, sent → dead, and audited replay.
pub fn settled_stays(history: &History, found: &mut Found) {
    let seen = history.states.iter().map(|s| (s.delivery, (s.at, s.state.as_str())));
    let ends = history.end.deliveries.iter().map(|d| (d.id, (u64::MAX, d.state.as_str())));
    for (id, mut states) in grouped(seen.chain(ends)) {
        states.sort_by_key(|(at, _)| *at);
        let left = states.windows(2).filter(|pair| leaves_a_settled_state(pair[0].1, pair[1].1));
        let mut left: Vec<_> = left.map(|pair| (pair[0].1, pair[1].1)).collect();
        if left.is_empty() {
            continue;
        }
        let mut replays = history.end.replays.iter().filter(|t| t.contains(&id.to_string())).count();
        left.retain(|(from, _)| {
            let replayed = *from == "dead" && replays > 0;
            replays -= usize::from(replayed);
            !replayed
        });
        for (from, to) in left {
            found.add("I9", format!("{id} went from {from} to {to}"));
        }
    }
}

fn leaves_a_settled_state(from: &str, to: &str) -> bool {
    from != to && SETTLED.contains(&from) && !(from == "sent" && matches!(to, "delivered" | "dead"))
}

/// I10: no row is `sending` with a lease that lapsed more than two sweeps ago.
pub fn no_forgotten_lease(history: &History, found: &mut Found) {
    for d in history.end.deliveries.iter().filter(|d| d.state == "sending") {
        let lapsed = history.end.now_ms - d.lease_until.unwrap_or(i64::MIN / 2);
        found.unless(lapsed <= 2 * history.terms.sweep_ms, "I10", || {
            format!("{} is sending with a lease that lapsed {lapsed} ms ago", d.id)
        });
    }
}

/// I11: nothing due waits in a queue at the end.
pub fn nothing_left(history: &History, found: &mut Found) {
    for d in &history.end.deliveries {
        let waits = matches!(d.state.as_str(), "pending" | "retrying") && d.due_at <= history.end.now_ms;
        found.unless(!waits, "I11", || format!("{} still waits as {}", d.id, d.state));
    }
}
