//! Judges a history by the invariants I1–I11 of the delivery promise. A pure function: no clock, no host.

use crate::history::{History, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// `I1` … `I11`.
    pub invariant: &'static str,
    pub detail: String,
}

const SETTLED: [&str; 6] = ["sent", "delivered", "dead", "expired", "suppressed", "cancelled"];

/// Every breach found.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Found(Vec::new());
    accepted_settles(history, &mut found);
    nothing_from_nowhere(history, &mut found);
    sequences(history, &mut found);
    devices(history, &mut found);
    counts(history, &mut found);
    reads_stay(history, &mut found);
    mails(history, &mut found);
    attempts(history, &mut found);
    settled_stays(history, &mut found);
    no_forgotten_lease(history, &mut found);
    nothing_left(history, &mut found);
    found.0
}

/// Panics with every breach.
#[track_caller]
pub fn assert_holds(history: &History) {
    let found = check(history);
    let shown: Vec<_> = found.iter().take(20).map(|v| format!("{}: {}", v.invariant, v.detail)).collect();
    assert!(found.is_empty(), "{} breaches:\n{}", found.len(), shown.join("\n"));
}

struct Found(Vec<Violation>);
impl Found {
    fn add(&mut self, invariant: &'static str, detail: impl Into<String>) {
        self.0.push(Violation { invariant, detail: detail.into() });
    }
    fn unless(&mut self, good: bool, invariant: &'static str, detail: impl FnOnce() -> String) {
        if !good {
            self.add(invariant, detail());
        }
    }
}

/// Outcomes and ids of all posts with one key.
struct Call<'a> {
    user: &'a str,
    channels: &'a [String],
    ok: bool,
    info: bool,
    ids: BTreeSet<Uuid>,
}

fn calls(history: &History) -> BTreeMap<&str, Call<'_>> {
    let mut calls: BTreeMap<&str, Call<'_>> = BTreeMap::new();
    for post in &history.posts {
        let call = calls.entry(&post.key).or_insert_with(|| Call {
            user: &post.user,
            channels: &post.channels,
            ok: false,
            info: false,
            ids: BTreeSet::new(),
        });
        call.ok |= post.outcome == Outcome::Ok;
        call.info |= post.outcome == Outcome::Info;
        call.ids.extend(post.id);
    }
    calls
}

/// I1: a 202's id is in exactly one feed row and settled on each channel; unknown ones 0 or 1 times; refused never.
fn accepted_settles(history: &History, found: &mut Found) {
    for (key, call) in calls(history) {
        let stored: Vec<Uuid> =
            history.end.notifications.iter().filter(|(_, title)| *title == key).map(|(id, _)| *id).collect();
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
        ids.extend(&stored);
        for id in ids {
            for channel in call.channels {
                let rows = history
                    .end
                    .deliveries
                    .iter()
                    .filter(|d| d.notification_id == id && d.channel == *channel && d.user_id == call.user);
                let states: Vec<_> = rows.map(|d| d.state.as_str()).collect();
                found.unless(states.len() == 1 && SETTLED.contains(&states[0]), "I1", || {
                    format!("{key} has {channel} deliveries in {states:?}")
                });
                if channel == "websocket" && states.iter().all(|s| matches!(*s, "sent" | "delivered")) {
                    let rows = history.end.feed.iter().filter(|f| f.notification_id == id && f.user_id == call.user);
                    let n = rows.count();
                    found.unless(n == 1, "I1", || format!("{key} is in the feed of {} {n} times", call.user));
                }
            }
        }
    }
}

/// I2: no feed row without a post that was accepted or may have been.
fn nothing_from_nowhere(history: &History, found: &mut Found) {
    let calls = calls(history);
    for row in &history.end.feed {
        let title = history.end.notifications.get(&row.notification_id);
        let known = title.and_then(|t| calls.get(t.as_str())).is_some_and(|c| c.ok || c.info);
        found.unless(known, "I2", || format!("{} of {} came from nowhere", row.notification_id, row.user_id));
    }
}

/// I3: per user seq is min..head without gaps or repeats, in the order of commits.
fn sequences(history: &History, found: &mut Found) {
    let mut by_user: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for row in &history.end.feed {
        by_user.entry(&row.user_id).or_default().push(row.seq);
    }
    for user in &history.end.users {
        let mut seqs = by_user.remove(user.user_id.as_str()).unwrap_or_default();
        seqs.sort_unstable();
        let expected: Vec<i64> = (user.min_seq..=user.head_seq).collect();
        found.unless(seqs == expected, "I3", || {
            format!("{} has seqs {seqs:?}, expected {}..={}", user.user_id, user.min_seq, user.head_seq)
        });
    }
    for (user, _) in by_user {
        found.add("I3", format!("{user} has a feed and no state"));
    }
    // Whoever got the 202 before another began must stand before it.
    let position: BTreeMap<(Uuid, &str), i64> =
        history.end.feed.iter().map(|f| ((f.notification_id, f.user_id.as_str()), f.seq)).collect();
    let mut done: Vec<_> = history.posts.iter().filter(|p| p.outcome == Outcome::Ok).collect();
    done.sort_by_key(|p| p.returned);
    let mut first_try: BTreeMap<&str, u64> = BTreeMap::new();
    for post in &history.posts {
        first_try.entry(&post.key).and_modify(|m| *m = (*m).min(post.invoked)).or_insert(post.invoked);
    }
    for (i, early) in done.iter().enumerate() {
        for late in &done[i + 1..] {
            if early.user != late.user || early.key == late.key || first_try[late.key.as_str()] < early.returned {
                continue;
            }
            let seq = |p: &crate::history::Post| p.id.and_then(|id| position.get(&(id, p.user.as_str())).copied());
            if let (Some(a), Some(b)) = (seq(early), seq(late)) {
                found.unless(a < b, "I3", || {
                    format!("{} was answered before {} began, yet stands at {a} after {b}", early.key, late.key)
                });
            }
        }
    }
}

/// I4: what a device was pushed and fetched is its user's feed; seq never goes back inside one connection.
fn devices(history: &History, found: &mut Found) {
    let mut last: BTreeMap<u64, i64> = BTreeMap::new();
    let mut pushed: BTreeMap<(u64, Uuid), u32> = BTreeMap::new();
    for arrival in &history.arrivals {
        let Some(connection) = arrival.connection else { continue };
        *pushed.entry((connection, arrival.id)).or_default() += 1;
        let Some(seq) = arrival.seq else { continue };
        if let Some(before) = last.insert(connection, seq) {
            found.unless(seq > before, "I4", || format!("{} got {seq} after {before}", arrival.device));
        }
    }
    for ((connection, id), n) in pushed {
        found.unless(n == 1, "I4", || format!("connection {connection} got {id} {n} times"));
    }
    for (device, user) in &history.complete_devices {
        let got: BTreeSet<Uuid> = history.arrivals.iter().filter(|a| a.device == *device).map(|a| a.id).collect();
        let feed = history.end.feed.iter().filter(|f| f.user_id == *user && !f.archived && !f.expired);
        let feed: BTreeSet<Uuid> = feed.map(|f| f.notification_id).collect();
        found.unless(feed.is_subset(&got), "I4", || {
            format!("{device} missed {:?}", feed.difference(&got).collect::<Vec<_>>())
        });
        found.unless(got.is_subset(&feed), "I4", || {
            format!("{device} got what is not in the feed: {:?}", got.difference(&feed).collect::<Vec<_>>())
        });
    }
}

/// I5: stored and shown counts are the counts of the rows.
fn counts(history: &History, found: &mut Found) {
    let mut unread_of: BTreeMap<&str, i64> = BTreeMap::new();
    for user in &history.end.users {
        let live: Vec<_> =
            history.end.feed.iter().filter(|f| f.user_id == user.user_id && !f.archived && !f.expired).collect();
        let unread = live.iter().filter(|f| !f.read).count() as i64;
        let unseen = live.iter().filter(|f| !f.seen).count() as i64;
        let total = live.len() as i64;
        unread_of.insert(&user.user_id, unread);
        found.unless((user.unread, user.unseen, user.total) == (unread, unseen, total), "I5", || {
            let stored = (user.unread, user.unseen, user.total);
            format!("{} is counted {stored:?}, the rows say {:?}", user.user_id, (unread, unseen, total))
        });
    }
    for shown in &history.counts {
        let unread = unread_of.get(shown.user.as_str()).copied().unwrap_or(0);
        found.unless(shown.unread == unread, "I5", || {
            format!("{} was shown {} unread, the rows say {unread}", shown.device, shown.unread)
        });
    }
}

/// I6: a read mark is taken back only by an explicit `unread`.
fn reads_stay(history: &History, found: &mut Found) {
    let mut last: BTreeMap<(&str, Uuid), (u64, bool)> = BTreeMap::new();
    for mark in &history.marks {
        let read = mark.mark == "read";
        let entry = last.entry((&mark.user, mark.id)).or_insert((mark.at, read));
        if mark.at >= entry.0 {
            *entry = (mark.at, read);
        }
    }
    for ((user, id), (_, read)) in last {
        let row = history.end.feed.iter().find(|f| f.user_id == user && f.notification_id == id);
        if read && row.is_some_and(|f| !f.read) {
            found.add("I6", format!("{user} had read {id}, and it is unread again"));
        }
    }
}

/// I7: sent → accepted at least once; accepted at most 1 + uncertain attempts; never when dead or suppressed.
fn mails(history: &History, found: &mut Found) {
    if !history.end.deliveries.iter().any(|d| d.channel == "email") {
        return;
    }
    for d in history.end.deliveries.iter().filter(|d| d.channel == "email") {
        let id = d.id.to_string();
        let accepted = history.mails.iter().filter(|m| m.message_id.trim_start_matches('<').starts_with(&id)).count();
        let own = history.end.attempts.iter().filter(|a| a.delivery_id == d.id);
        let uncertain = own.filter(|a| a.uncertain).count();
        match d.state.as_str() {
            "sent" | "delivered" => {
                found.unless(accepted >= 1, "I7", || format!("{id} is {} and was never mailed", d.state));
            }
            "suppressed" => found.unless(accepted == 0, "I7", || format!("{id} is suppressed and was mailed")),
            _ => {}
        }
        let sent = usize::from(matches!(d.state.as_str(), "sent" | "delivered"));
        found.unless(accepted <= sent + uncertain, "I7", || {
            format!("{id} ({}) was mailed {accepted} times with {uncertain} uncertain attempts", d.state)
        });
    }
    for mail in &history.mails {
        let known = |d: &&crate::db::Delivery| mail.message_id.trim_start_matches('<').starts_with(&d.id.to_string());
        found.unless(history.end.deliveries.iter().any(|d| known(&d)), "I7", || {
            format!("a mail with the unknown Message-ID {}", mail.message_id)
        });
    }
}

/// I8: attempts within the schedule, in number and in time.
fn attempts(history: &History, found: &mut Found) {
    let terms = &history.terms;
    let most = terms.schedule_ms.len() as i64 + 1;
    let mut by_delivery: BTreeMap<Uuid, Vec<&crate::db::Attempt>> = BTreeMap::new();
    for attempt in &history.end.attempts {
        by_delivery.entry(attempt.delivery_id).or_default().push(attempt);
    }
    for d in &history.end.deliveries {
        found.unless(d.spent <= most, "I8", || format!("{} spent {} of {most} attempts", d.id, d.spent));
    }
    let replayed: BTreeSet<&str> = history.end.replays.iter().map(String::as_str).collect();
    for (id, mut list) in by_delivery {
        list.sort_by_key(|a| a.attempt);
        if replayed.contains(id.to_string().as_str()) {
            continue;
        }
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
}

/// I9: no settled state is left but for sent → delivered, sent → dead, and audited replay.
fn settled_stays(history: &History, found: &mut Found) {
    let mut seen: BTreeMap<Uuid, Vec<(u64, &str)>> = BTreeMap::new();
    for s in &history.states {
        seen.entry(s.delivery).or_default().push((s.at, &s.state));
    }
    for d in &history.end.deliveries {
        seen.entry(d.id).or_default().push((u64::MAX, &d.state));
    }
    for (id, mut states) in seen {
        states.sort_by_key(|(at, _)| *at);
        let mut replays = history.end.replays.iter().filter(|t| t.contains(&id.to_string())).count();
        for pair in states.windows(2) {
            let (from, to) = (pair[0].1, pair[1].1);
            if from == to || !SETTLED.contains(&from) || (from == "sent" && matches!(to, "delivered" | "dead")) {
                continue;
            }
            if from == "dead" && replays > 0 {
                replays -= 1;
                continue;
            }
            found.add("I9", format!("{id} went from {from} to {to}"));
        }
    }
}

/// I10: no row is `sending` with a lease that lapsed more than two sweeps ago.
fn no_forgotten_lease(history: &History, found: &mut Found) {
    for d in history.end.deliveries.iter().filter(|d| d.state == "sending") {
        let lapsed = history.end.now_ms - d.lease_until.unwrap_or(i64::MIN / 2);
        found.unless(lapsed <= 2 * history.terms.sweep_ms, "I10", || {
            format!("{} is sending with a lease that lapsed {lapsed} ms ago", d.id)
        });
    }
}

/// I11: nothing due waits in a queue at the end.
fn nothing_left(history: &History, found: &mut Found) {
    for d in &history.end.deliveries {
        let waits = matches!(d.state.as_str(), "pending" | "retrying") && d.due_at <= history.end.now_ms;
        found.unless(!waits, "I11", || format!("{} still waits as {}", d.id, d.state));
    }
}

#[cfg(test)]
mod tests;
