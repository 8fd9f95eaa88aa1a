//! Broken histories: each invariant must catch its own fault, and a good history must pass.

use super::*;
use crate::{
    db::{Attempt, Delivery, FeedRow, UserState},
    history::{Arrival, CountsShown, History, Mail, Marked, Post, StateSeen},
};

mod bounds;

const USER: &str = "ada";

fn delivery(id: Uuid, channel: &str, state: &str) -> Delivery {
    Delivery {
        id: Uuid::new_v4(),
        notification_id: id,
        user_id: USER.into(),
        channel: channel.into(),
        state: state.into(),
        reason: None,
        attempt: 1,
        spent: 0,
        losses: 0,
        due_at: 0,
        lease_until: None,
    }
}

/// Two accepted notifications, one by mail, all well.
fn good() -> History {
    let mut h = History::default();
    for (n, channels) in [(1i64, vec!["websocket".to_owned(), "email".to_owned()]), (2, vec!["websocket".to_owned()])] {
        let (id, key) = (Uuid::now_v7(), format!("k{n}"));
        let (invoked, returned) = (h.moment(), h.moment());
        h.end.notifications.insert(id, key.clone());
        for channel in &channels {
            let row = delivery(id, channel, "sent");
            if channel == "email" {
                let at = h.moment();
                h.mails.push(Mail { at, message_id: format!("<{}@example.org>", row.id) });
                for attempt in 1..=2 {
                    h.end.attempts.push(Attempt {
                        delivery_id: row.id,
                        attempt,
                        started_at: attempt * 10_100,
                        duration_ms: 100,
                        outcome: if attempt == 1 { "retry" } else { "ok" }.into(),
                        uncertain: false,
                    });
                }
            }
            h.end.deliveries.push(row);
        }
        h.end.feed.push(FeedRow {
            user_id: USER.into(),
            seq: n,
            notification_id: id,
            read: n == 1,
            seen: n == 1,
            archived: false,
            expired: false,
        });
        let at = h.moment();
        h.arrivals.push(Arrival {
            at,
            device: "phone".into(),
            user: USER.into(),
            connection: Some(1),
            seq: Some(n),
            id,
        });
        if n == 1 {
            h.marks.push(Marked { at, user: USER.into(), id, mark: "read".into() });
        }
        h.posts.push(Post {
            invoked,
            returned,
            key,
            user: USER.into(),
            channels,
            outcome: Outcome::Ok,
            id: Some(id),
            scheduled: false,
            took_ms: 1,
        });
    }
    h.end.users.push(UserState { user_id: USER.into(), head_seq: 2, min_seq: 1, unread: 1, unseen: 1, total: 2 });
    h.complete_devices.push(("phone".into(), USER.into()));
    h.counts.push(CountsShown { device: "phone".into(), user: USER.into(), unread: 1 });
    h.end.now_ms = 1_000_000;
    h
}

/// The invariants a spoilt history breaks.
fn broken(spoil: impl FnOnce(&mut History)) -> Vec<&'static str> {
    let mut h = good();
    spoil(&mut h);
    let mut found: Vec<_> = check(&h).iter().map(|v| v.invariant).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[track_caller]
fn catches(invariant: &str, spoil: impl FnOnce(&mut History)) {
    let found = broken(spoil);
    assert!(found.contains(&invariant), "{invariant} did not catch it; found {found:?}");
}

#[test]
fn a_good_history_passes() {
    assert_eq!(check(&good()), []);
}

#[test]
fn i1_catches_an_accepted_one_that_is_lost() {
    catches("I1", |h| {
        h.end.feed.pop();
        h.end.deliveries.pop();
    });
}

#[test]
fn i1_catches_an_accepted_one_without_a_feed_row() {
    catches("I1", |h| drop(h.end.feed.pop()));
}

#[test]
fn i1_catches_one_that_never_settles() {
    catches("I1", |h| h.end.deliveries[0].state = "retrying".into());
}

#[test]
fn i1_catches_two_answers_for_one_key() {
    catches("I1", |h| {
        let mut again = h.posts[0].clone();
        again.id = Some(Uuid::now_v7());
        h.posts.push(again);
    });
}

#[test]
fn i1_catches_an_unknown_one_stored_twice() {
    catches("I1", |h| {
        h.posts[1].outcome = Outcome::Info;
        h.posts[1].id = None;
        h.end.notifications.insert(Uuid::now_v7(), "k2".into());
    });
}

#[test]
fn i1_catches_a_refused_one_that_is_stored() {
    catches("I1", |h| {
        h.posts[1].outcome = Outcome::Fail;
        h.posts[1].id = None;
    });
}

#[test]
fn an_unknown_outcome_may_be_stored_once_or_not_at_all() {
    let stored = broken(|h| {
        h.posts[1].outcome = Outcome::Info;
        h.posts[1].id = None;
    });
    assert_eq!(stored, [""; 0]);
    let absent = broken(|h| {
        h.posts[1].outcome = Outcome::Info;
        let id = h.posts[1].id.take().unwrap();
        h.end.notifications.remove(&id);
        h.end.deliveries.retain(|d| d.notification_id != id);
        h.end.feed.retain(|f| f.notification_id != id);
        h.arrivals.retain(|a| a.id != id);
        h.end.users[0] = UserState { user_id: USER.into(), head_seq: 1, min_seq: 1, unread: 0, unseen: 0, total: 1 };
        h.counts[0].unread = 0;
    });
    assert_eq!(absent, [""; 0]);
}

#[test]
fn i2_catches_a_feed_row_from_nowhere() {
    catches("I2", |h| {
        h.end.feed.push(FeedRow {
            user_id: USER.into(),
            seq: 3,
            notification_id: Uuid::now_v7(),
            read: true,
            seen: true,
            archived: false,
            expired: false,
        });
    });
}

#[test]
fn i3_catches_a_gap_and_a_repeat() {
    catches("I3", |h| h.end.feed[1].seq = 3);
    catches("I3", |h| h.end.feed[1].seq = 1);
}

#[test]
fn i3_catches_an_order_against_the_commits() {
    catches("I3", |h| {
        h.end.feed[0].seq = 2;
        h.end.feed[1].seq = 1;
    });
}

#[test]
fn i3_asks_nothing_of_posts_that_ran_side_by_side() {
    let at_once = broken(|h| {
        h.posts[1].invoked = h.posts[0].invoked;
        h.end.feed[0].seq = 2;
        h.end.feed[1].seq = 1;
        h.arrivals[0].seq = Some(2);
        h.arrivals[1].seq = Some(1);
        h.arrivals.swap(0, 1);
    });
    assert_eq!(at_once, [""; 0]);
}

#[test]
fn i3_asks_nothing_of_posts_that_were_to_wait() {
    let waited = broken(|h| {
        h.posts[0].scheduled = true;
        h.end.feed[0].seq = 2;
        h.end.feed[1].seq = 1;
        h.arrivals[0].seq = Some(2);
        h.arrivals[1].seq = Some(1);
        h.arrivals.swap(0, 1);
    });
    assert_eq!(waited, [""; 0]);
}

#[test]
fn i4_catches_a_missed_one() {
    catches("I4", |h| drop(h.arrivals.pop()));
}

#[test]
fn i4_catches_a_seq_that_goes_back_and_a_double_push() {
    catches("I4", |h| h.arrivals.swap(0, 1));
    catches("I4", |h| {
        let mut again = h.arrivals[1].clone();
        again.seq = Some(3);
        h.arrivals.push(again);
    });
}

#[test]
fn i4_catches_what_is_in_no_feed() {
    catches("I4", |h| {
        let mut alien = h.arrivals[1].clone();
        (alien.seq, alien.id) = (Some(3), Uuid::now_v7());
        h.arrivals.push(alien);
    });
}

#[test]
fn i5_catches_drift_in_the_rows_and_on_a_device() {
    catches("I5", |h| h.end.users[0].unread = 2);
    catches("I5", |h| h.counts[0].unread = 0);
}

#[test]
fn i6_catches_a_read_mark_that_vanished() {
    catches("I6", |h| h.end.feed[0].read = false);
    let explicit = broken(|h| {
        let at = h.moment();
        let id = h.end.feed[0].notification_id;
        h.marks.push(Marked { at, user: USER.into(), id, mark: "unread".into() });
        h.end.feed[0].read = false;
        h.end.users[0].unread = 2;
        h.counts[0].unread = 2;
    });
    assert_eq!(explicit, [""; 0]);
}

#[test]
fn i7_catches_a_sent_mail_nobody_got_and_a_silent_double() {
    catches("I7", |h| h.mails.clear());
    catches("I7", |h| {
        let again = h.mails[0].clone();
        h.mails.push(again);
    });
    let owned_up = broken(|h| {
        let again = h.mails[0].clone();
        h.mails.push(again);
        h.end.attempts[0].uncertain = true;
    });
    assert_eq!(owned_up, [""; 0]);
}

#[test]
fn i7_catches_a_suppressed_one_that_was_mailed_and_a_changed_message_id() {
    catches("I7", |h| h.end.deliveries[1].state = "suppressed".into());
    catches("I7", |h| h.mails.push(Mail { at: 99, message_id: format!("<{}@example.org>", Uuid::new_v4()) }));
}

#[test]
fn i8_catches_too_many_attempts_and_wrong_gaps() {
    catches("I8", |h| h.end.deliveries[1].spent = 3);
    catches("I8", |h| h.end.attempts[1].started_at = 10_300);
    catches("I8", |h| h.end.attempts[1].started_at = 100_000);
}

#[test]
fn i9_catches_a_settled_state_that_was_left() {
    let seen = |h: &History, state: &str| StateSeen { at: 1, delivery: h.end.deliveries[1].id, state: state.into() };
    for from in ["dead", "expired", "cancelled", "suppressed", "delivered"] {
        catches("I9", |h| {
            let state = seen(h, from);
            h.states.push(state);
        });
    }
    let replayed = broken(|h| {
        let state = seen(h, "dead");
        h.end.replays.push(state.delivery.to_string());
        h.states.push(state);
    });
    assert_eq!(replayed, [""; 0]);
}

#[test]
fn i10_catches_a_forgotten_lease() {
    catches("I10", |h| {
        h.end.deliveries[1].state = "sending".into();
        h.end.deliveries[1].lease_until = Some(h.end.now_ms - 10_000);
    });
}

#[test]
fn i11_catches_work_left_in_a_queue() {
    catches("I11", |h| h.end.deliveries[1].state = "pending".into());
}
