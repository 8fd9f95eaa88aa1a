//! Marks and counts, delivered confirmations, repairs.

use super::*;
use chrono::TimeDelta;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        marks_change_what_they_say_and_nothing_else,
        a_mark_repeated_is_silent,
        a_change_is_told_with_the_selection_asked_for,
        marks_of_one_commit_see_each_other,
        counts_equal_rows_under_random_marks,
        confirming_takes_sent_to_delivered_once,
        drifted_counts_are_left_to_the_audit,
    );
}

async fn marks_change_what_they_say_and_nothing_else(exam: Exam) {
    let ada = user("ada");
    let (a, b) = (exam.send(note("ada")).await.id, exam.send(note("ada")).await.id);
    let counts = async || {
        exam.assert_counts_hold(&ada).await;
        let c = exam.feed_state(&ada).await.unwrap().counts;
        (c.total, c.unread, c.unseen, c.version)
    };
    assert_eq!(counts().await, (2, 2, 2, 2));
    exam.mark(&ada, MarkSelection::UpToSeq(2), MarkAs::Seen).await.unwrap();
    assert_eq!(counts().await, (2, 2, 0, 3), "one version for the call");
    exam.mark(&ada, ids(&[a]), MarkAs::Read).await.unwrap();
    assert_eq!(counts().await, (2, 1, 0, 4));
    exam.mark(&ada, ids(&[a]), MarkAs::Unread).await.unwrap();
    assert_eq!(counts().await, (2, 2, 0, 5), "unread clears read_at only");
    exam.mark(&ada, ids(&[a]), MarkAs::Archived).await.unwrap();
    assert_eq!(counts().await, (1, 1, 0, 6));
    exam.mark(&ada, ids(&[a]), MarkAs::Read).await.unwrap();
    assert_eq!(counts().await, (1, 1, 0, 7), "an archived item weighs nothing");
    exam.mark(&ada, ids(&[a]), MarkAs::Unarchived).await.unwrap();
    assert_eq!(counts().await, (2, 1, 0, 8));
    let c = exam.send(note("ada")).await.id;
    exam.mark(&ada, MarkSelection::UpToSeq(3), MarkAs::Read).await.unwrap();
    assert_eq!(counts().await, (3, 0, 0, 10), "read sets seen too");
    exam.mark(&ada, MarkSelection::UpToSeq(2), MarkAs::Archived).await.unwrap();
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [c]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Archived).await, [b, a]);
}

async fn a_mark_repeated_is_silent(exam: Exam) {
    let ada = user("ada");
    let a = exam.send(note("ada")).await.id;
    exam.mark(&ada, ids(&[a]), MarkAs::Read).await.unwrap();
    exam.heard();
    let unknown = NotificationId::new();
    let again = exam.mark(&ada, ids(&[a, unknown]), MarkAs::Read).await.unwrap();
    assert_eq!((again.changed, again.not_found, again.counts.version), (0, vec![unknown], 2));
    let all = exam.mark(&ada, MarkSelection::UpToSeq(9), MarkAs::Read).await.unwrap();
    assert_eq!((all.changed, all.counts.version), (0, 2));
    assert!(exam.heard().is_empty());
    let nobody = exam.mark(&user("nobody"), MarkSelection::UpToSeq(9), MarkAs::Read).await.unwrap();
    assert_eq!((nobody.changed, nobody.counts), (0, Counts::default()));
}

async fn a_change_is_told_with_the_selection_asked_for(exam: Exam) {
    let ada = user("ada");
    let a = exam.send(note("ada")).await.id;
    exam.send(note("ada")).await;
    exam.heard();
    exam.mark(&ada, ids(&[a]), MarkAs::Seen).await.unwrap();
    exam.mark(&ada, MarkSelection::UpToSeq(2), MarkAs::Read).await.unwrap();
    let changes = exam.heard().changes;
    let told: Vec<_> = changes
        .iter()
        .map(|c| match &c.kind {
            FeedChangeKind::Marked { what: Marked::Ids(ids), mark } => {
                (Some(ids.clone()), None, *mark, c.unread_changed)
            }
            FeedChangeKind::Marked { what: Marked::UpToSeq(s), mark } => (None, Some(*s), *mark, c.unread_changed),
            FeedChangeKind::Erased { .. } => panic!("nobody was erased"),
        })
        .collect();
    assert_eq!(told, [(Some(vec![a]), None, MarkAs::Seen, false), (None, Some(2), MarkAs::Read, true)]);
    assert_eq!(changes[1].counts, exam.feed_state(&ada).await.unwrap().counts);
}

async fn marks_of_one_commit_see_each_other(exam: Exam) {
    let ada = user("ada");
    let a = exam.send(note("ada")).await.id;
    exam.send(note("ada")).await;
    let (store, ada_) = (exam.shared(), ada.clone());
    let tasks: Vec<_> = (0..40)
        .map(|i| {
            let (store, ada) = (store.clone(), ada_.clone());
            tokio::spawn(async move {
                let mark = MarkAs::ALL[i % 5];
                let what = if i % 3 == 0 { MarkSelection::UpToSeq(2) } else { ids(&[a]) };
                store.mark(&ada, what, mark).await.unwrap().changed
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += u64::from(task.await.unwrap() > 0);
    }
    exam.assert_counts_hold(&ada).await;
    let version = exam.feed_state(&ada).await.unwrap().counts.version;
    assert_eq!(version as u64, 2 + calls, "one version per call that changed something");
    let told: Vec<i64> = exam.heard().changes.iter().map(|c| c.counts.version).collect();
    assert!(told.is_sorted(), "{told:?}");
}

async fn counts_equal_rows_under_random_marks(exam: Exam) {
    let mut rng = StdRng::seed_from_u64(7);
    let users = ["ada", "bo"];
    let mut sent: Vec<(UserKey, NotificationId)> = Vec::new();
    for round in 0..150 {
        let name = users[rng.random_range(0..2)];
        let ada = user(name);
        match rng.random_range(0..4) {
            0 => {
                let key = ["x", "y"][rng.random_range(0..2)];
                let mut note = note(name);
                if rng.random_bool(0.3) {
                    note = note.collapse(key);
                }
                if rng.random_bool(0.2) {
                    note = note.until(exam.now().await.unwrap() + Duration::from_secs(rng.random_range(1..20)));
                }
                sent.push((ada.clone(), exam.send(note).await.id));
            }
            1 => {
                let mark = MarkAs::ALL[rng.random_range(0..5)];
                let upto = rng.random_range(0..40);
                exam.mark(&ada, MarkSelection::UpToSeq(upto), mark).await.unwrap();
            }
            2 if !sent.is_empty() => {
                let (owner, id) = &sent[rng.random_range(0..sent.len())];
                exam.mark(owner, ids(&[*id]), MarkAs::ALL[rng.random_range(0..5)]).await.unwrap();
            }
            _ => {
                exam.pass(Duration::from_secs(1));
                exam.sweep(100, MAX_AGE).await.unwrap();
            }
        }
        if round % 10 == 9 {
            exam.sweep(100, MAX_AGE).await.unwrap();
            for name in users {
                exam.assert_counts_hold(&user(name)).await;
            }
        }
    }
    assert_eq!(exam.audit_counts(None, 100).await.unwrap().1, 0);
}

async fn confirming_takes_sent_to_delivered_once(exam: Exam) {
    use campanile_model::feed::SeenByClient;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(exam.send(note("ada").also("bo", &["email"])).await);
    }
    exam.heard();
    let seen = |from_seq, to_seq| vec![SeenByClient { user: user("ada"), from_seq, to_seq }];
    exam.pass(Duration::from_secs(5));
    assert_eq!(exam.confirm_delivered(seen(2, 3)).await.unwrap(), 2);
    assert_eq!(exam.confirm_delivered(seen(0, 9)).await.unwrap(), 1);
    assert_eq!(exam.confirm_delivered(seen(0, 9)).await.unwrap(), 0);
    let told = arrivals(&exam.heard());
    assert_eq!(told.len(), 3);
    assert!(told.values().all(|states| states == &[DeliveryState::Delivered]));
    let row = exam.row(sent[0].on("websocket").delivery_id, sent[0].id).await;
    assert_eq!(row.state, DeliveryState::Delivered);
    let took = row.settled_at.unwrap() - row.sent_at.unwrap();
    assert!(took >= TimeDelta::seconds(5), "it says when it was confirmed: {took}");
    assert_eq!(exam.state_of(sent[0].on("email").delivery_id, sent[0].id).await.0, DeliveryState::Pending);
}

async fn drifted_counts_are_left_to_the_audit(exam: Exam) {
    for name in ["ada", "bo", "cy"] {
        exam.send(note(name)).await;
    }
    let (last, repaired) = exam.audit_counts(None, 2).await.unwrap();
    assert_eq!((last.clone(), repaired), (Some(user("bo")), 0));
    assert_eq!(exam.audit_counts(last, 2).await.unwrap().0, Some(user("cy")));
    assert_eq!(exam.audit_counts(Some(user("cy")), 2).await.unwrap().0, None);
}
