//! Retention: what goes, what stays, what it does to a feed.

use super::*;
use campanile_model::ports::DeadFilter;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(retention_raises_min_seq, notifications_go_when_nothing_needs_them, zero_keeps_for_ever);
}

fn keep(days: u32) -> Retention {
    let keep = DAY * days;
    Retention { notifications: keep, feed: keep, dead: keep, audit: keep, poison: keep }
}

async fn retention_raises_min_seq(exam: Exam) {
    let ada = user("ada");
    let old = [exam.send(note("ada")).await.id, exam.send(note("ada")).await.id, exam.send(note("ada")).await.id];
    exam.mark(&ada, ids(&old[..1]), MarkAs::Read).await.unwrap();
    exam.mark(&ada, ids(&old[1..2]), MarkAs::Archived).await.unwrap();
    exam.pass(DAY * 2);
    let new = exam.send(note("ada")).await.id;
    exam.heard();
    let only_feed = Retention { notifications: Duration::ZERO, ..keep(1) };
    assert!(exam.retain(&only_feed, 2).await.unwrap(), "there is more than two");
    assert_eq!(exam.feed_state(&ada).await.unwrap().min_seq, 3);
    assert!(!exam.retain(&only_feed, 2).await.unwrap());
    let state = exam.feed_state(&ada).await.unwrap();
    assert_eq!((state.min_seq, state.head_seq, state.counts.total, state.counts.unread), (4, 4, 1, 1));
    exam.assert_counts_hold(&ada).await;
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [new]);
    let gone: Vec<NotificationId> = exam
        .heard()
        .changes
        .into_iter()
        .flat_map(|c| match c.kind {
            FeedChangeKind::Marked { what: Marked::Ids(ids), mark: MarkAs::Archived } => ids,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(gone, [old[0], old[2]], "the archived one was in no list");
}

async fn notifications_go_when_nothing_needs_them(exam: Exam) {
    let app = AppId::default();
    let mailed = exam.send(mail("ada")).await;
    let claimed = exam.claim_one(mailed.deliveries[0].delivery_id).await;
    exam.end(&claimed, NextStep::Sent).await;
    let waiting = exam.send(mail("ada")).await.id;
    let in_feed = exam.send(note("bo")).await.id;
    let lost = exam.send(mail("cy")).await;
    let claimed = exam.claim_one(lost.deliveries[0].delivery_id).await;
    exam.end(&claimed, dead("permanent")).await;
    exam.pass(DAY * 3);
    let patient = Retention { feed: Duration::ZERO, dead: DAY * 10, ..keep(2) };
    while exam.retain(&patient, 10).await.unwrap() {}
    let there = async |id| exam.notification(&app, id, None).await.unwrap().is_some();
    assert!(!there(mailed.id).await);
    assert!(there(waiting).await && there(in_feed).await && there(lost.id).await);
    assert_eq!(exam.feed_ids(&user("bo"), FeedFilter::All).await, [in_feed]);
    while exam.retain(&keep(2), 10).await.unwrap() {}
    assert!(!there(in_feed).await && !there(lost.id).await);
    assert!(there(waiting).await, "what waits is never dropped");
    assert!(exam.dead_letters(&DeadFilter { limit: 9, ..DeadFilter::default() }).await.unwrap().is_empty());
}

async fn zero_keeps_for_ever(exam: Exam) {
    exam.send(note("ada")).await;
    exam.add_poison("amqp", b"x", "not JSON", None).await.unwrap();
    exam.pass(DAY * 10_000);
    let for_ever = keep(0);
    assert!(!exam.retain(&for_ever, 10).await.unwrap());
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().counts.total, 1);
    assert_eq!(exam.poison(None, 9).await.unwrap().len(), 1);
}
