//! I2–I6: the feed as stored and as devices saw it.

use super::{Found, calls, grouped};
use crate::history::{History, Outcome};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// I2: no feed row without a post that was accepted or may have been.
pub fn nothing_from_nowhere(history: &History, found: &mut Found) {
    let calls = calls(history);
    for row in &history.end.feed {
        let title = history.end.notifications.get(&row.notification_id);
        let known = title.and_then(|t| calls.get(t.as_str())).is_some_and(|c| c.ok || c.info);
        found.unless(known, "I2", || format!("{} of {} came from nowhere", row.notification_id, row.user_id));
    }
}

/// I3: per user seq is min..head without gaps or repeats.
pub fn sequences(history: &History, found: &mut Found) {
    let mut by_user = grouped(history.end.feed.iter().map(|row| (row.user_id.as_str(), row.seq)));
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
}

/// I3: the order of commits. Whoever got the 202 before another began must stand before it, unless one of them was to wait.
pub fn commit_order(history: &History, found: &mut Found) {
    let position: HashMap<(Uuid, &str), i64> =
        history.end.feed.iter().map(|f| ((f.notification_id, f.user_id.as_str()), f.seq)).collect();
    let mut first_try: HashMap<&str, u64> = HashMap::new();
    for post in &history.posts {
        first_try.entry(&post.key).and_modify(|m| *m = (*m).min(post.invoked)).or_insert(post.invoked);
    }
    let done = history.posts.iter().filter(|p| p.outcome == Outcome::Ok && !p.scheduled);
    let placed = done.filter_map(|p| {
        let seq = *position.get(&(p.id?, p.user.as_str()))?;
        Some((p.user.as_str(), (p, seq)))
    });
    for posts in grouped(placed).into_values() {
        let mut by_answer: Vec<_> = posts.iter().collect();
        by_answer.sort_by_key(|(p, _)| p.returned);
        let mut by_start = posts.clone();
        by_start.sort_by_key(|(p, _)| first_try[p.key.as_str()]);
        let mut answered = by_answer.into_iter().peekable();
        // The furthest place among all that had been answered when the next one began.
        let mut furthest: Option<(&str, i64)> = None;
        for (late, seq) in by_start {
            while let Some((early, place)) = answered.next_if(|(p, _)| p.returned <= first_try[late.key.as_str()]) {
                if furthest.is_none_or(|(_, f)| *place > f) {
                    furthest = Some((&early.key, *place));
                }
            }
            if let Some((early, place)) = furthest {
                found.unless(place < seq, "I3", || {
                    format!("{early} was answered before {} began, yet stands at {place} after {seq}", late.key)
                });
            }
        }
    }
}

/// I4: what a device was pushed and fetched is its user's feed; seq never goes back inside one connection.
pub fn devices(history: &History, found: &mut Found) {
    let mut last: HashMap<u64, i64> = HashMap::new();
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
    let got = grouped(history.arrivals.iter().map(|a| (a.device.as_str(), a.id)));
    let live = history.end.feed.iter().filter(|f| !f.archived && !f.expired);
    let feeds = grouped(live.map(|f| (f.user_id.as_str(), f.notification_id)));
    let set = |of: &HashMap<&str, Vec<Uuid>>, name: &str| -> BTreeSet<Uuid> {
        of.get(name).into_iter().flatten().copied().collect()
    };
    for (device, user) in &history.complete_devices {
        let (got, feed) = (set(&got, device), set(&feeds, user));
        found.unless(feed.is_subset(&got), "I4", || {
            format!("{device} missed {:?}", feed.difference(&got).collect::<Vec<_>>())
        });
        found.unless(got.is_subset(&feed), "I4", || {
            format!("{device} got what is not in the feed: {:?}", got.difference(&feed).collect::<Vec<_>>())
        });
    }
}

/// I5: stored and shown counts are the counts of the rows.
pub fn counts(history: &History, found: &mut Found) {
    let live = history.end.feed.iter().filter(|f| !f.archived && !f.expired);
    let feeds = grouped(live.map(|f| (f.user_id.as_str(), f)));
    let mut unread_of: HashMap<&str, i64> = HashMap::new();
    for user in &history.end.users {
        let live = feeds.get(user.user_id.as_str()).map_or(&[][..], Vec::as_slice);
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
pub fn reads_stay(history: &History, found: &mut Found) {
    let mut last: BTreeMap<(&str, Uuid), (u64, bool)> = BTreeMap::new();
    for mark in &history.marks {
        let read = mark.mark == "read";
        let entry = last.entry((&mark.user, mark.id)).or_insert((mark.at, read));
        if mark.at >= entry.0 {
            *entry = (mark.at, read);
        }
    }
    let read: HashMap<(&str, Uuid), bool> =
        history.end.feed.iter().map(|f| ((f.user_id.as_str(), f.notification_id), f.read)).collect();
    for ((user, id), (_, marked)) in last {
        if marked && read.get(&(user, id)) == Some(&false) {
            found.add("I6", format!("{user} had read {id}, and it is unread again"));
        }
    }
}
