//! `collapse_key`: the newest wins, whenever it arrives.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_newer_one_replaces_an_older_one,
        a_late_older_one_is_born_cancelled,
        a_read_item_stays,
        keys_differ_by_type_and_user,
        a_scheduled_one_collapses_at_acceptance,
        a_sending_one_is_told_to_stop,
        a_burst_of_one_key_in_one_commit_leaves_one,
        a_dead_one_that_was_replaced_is_not_replayed,
    );
}

async fn a_newer_one_replaces_an_older_one(exam: Exam) {
    let ada = user("ada");
    let old = exam.send(note("ada").also("bo", &["email"]).collapse("k")).await;
    exam.heard();
    let new = exam.send(note("ada").also("bo", &["email"]).collapse("k")).await;
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [new.id]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Archived).await, [old.id]);
    let state = exam.feed_state(&ada).await.unwrap();
    assert_eq!((state.head_seq, state.counts.total, state.counts.unread, state.counts.version), (2, 1, 1, 3));
    let (was, why) = exam.state_of(old.on("email").delivery_id, old.id).await;
    assert_eq!((was, why.as_deref()), (DeliveryState::Cancelled, Some("collapsed")));
    let effects = exam.heard();
    let FeedChangeKind::Marked { what: Marked::Ids(gone), mark: MarkAs::Archived } = &effects.changes[0].kind else {
        panic!("{:?}", effects.changes);
    };
    assert_eq!(gone, &[old.id]);
    assert_eq!(arrivals(&effects)[&old.on("email").delivery_id], [DeliveryState::Cancelled]);
}

async fn a_late_older_one_is_born_cancelled(exam: Exam) {
    let old = note("ada").also("ada", &[]).collapse("k");
    let new = exam.send(note("ada").collapse("k")).await;
    let mut old = old;
    old.recipients.pop();
    let old = exam.send(old).await;
    assert_eq!(old.deliveries[0].state, ShownState::Stored(DeliveryState::Cancelled));
    assert_eq!(old.deliveries[0].reason.as_deref(), Some("collapsed"));
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [new.id]);
}

async fn a_read_item_stays(exam: Exam) {
    let ada = user("ada");
    let old = exam.send(note("ada").collapse("k")).await.id;
    exam.mark(&ada, ids(&[old]), MarkAs::Read).await.unwrap();
    let new = exam.send(note("ada").collapse("k")).await.id;
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [new, old]);
    exam.assert_counts_hold(&ada).await;
}

async fn keys_differ_by_type_and_user(exam: Exam) {
    exam.send(note("ada").collapse("k")).await;
    exam.send(note("ada").collapse("k").of_type("other")).await;
    exam.send(note("ada").collapse("l")).await;
    exam.send(note("bo").collapse("k")).await;
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().counts.total, 3);
    assert_eq!(exam.feed_state(&user("bo")).await.unwrap().counts.total, 1);
}

async fn a_scheduled_one_collapses_at_acceptance(exam: Exam) {
    let later = exam.now().await.unwrap() + Duration::from_hours(1);
    let old = exam.send(note("ada").collapse("k")).await;
    let scheduled = exam.send(note("ada").collapse("k").at(later)).await;
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, []);
    let newest = exam.send(note("ada").collapse("k")).await;
    let (state, why) = exam.state_of(scheduled.deliveries[0].delivery_id, scheduled.id).await;
    assert_eq!((state, why.as_deref()), (DeliveryState::Cancelled, Some("collapsed")));
    exam.pass(Duration::from_hours(2));
    assert_eq!(exam.complete_in_app(&[scheduled.deliveries[0].delivery_id]).await.unwrap(), 0);
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [newest.id]);
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::Archived).await, [old.id]);
}

async fn a_sending_one_is_told_to_stop(exam: Exam) {
    let old = exam.send(mail("ada").collapse("k")).await;
    let claimed = exam.claim_one(old.deliveries[0].delivery_id).await;
    exam.send(mail("ada").collapse("k")).await;
    assert_eq!(exam.end(&claimed, NextStep::RetryIn { delay_ms: 1 }).await, DeliveryState::Cancelled);
    assert_eq!(exam.state_of(claimed.delivery_id, old.id).await.1.as_deref(), Some("collapsed"));
}

async fn a_burst_of_one_key_in_one_commit_leaves_one(exam: Exam) {
    let store = exam.shared();
    let tasks: Vec<_> = (0..30)
        .map(|_| {
            let store = store.clone();
            let note = note("ada").also("bo", &["email", "websocket"]).collapse("k");
            let id = note.notification.id;
            tokio::spawn(async move {
                store.accept(note.item()).await.unwrap();
                id
            })
        })
        .collect();
    let mut sent = Vec::new();
    for task in tasks {
        sent.push(task.await.unwrap());
    }
    let newest = *sent.iter().max().unwrap();
    for name in ["ada", "bo"] {
        assert_eq!(exam.feed_ids(&user(name), FeedFilter::All).await, [newest]);
        exam.assert_counts_hold(&user(name)).await;
    }
    let waiting = exam.relay_due(100, &[]).await.unwrap();
    assert_eq!(waiting.len(), 1, "one mail is left");
}

async fn a_dead_one_that_was_replaced_is_not_replayed(exam: Exam) {
    use campanile_model::ports::ReplayOutcome;
    let old = exam.send(mail("ada").collapse("k")).await;
    let claimed = exam.claim_one(old.deliveries[0].delivery_id).await;
    exam.end(&claimed, dead("permanent")).await;
    exam.send(mail("ada").collapse("k")).await;
    let outcome = exam.replay(&AppId::default(), claimed.delivery_id, &actor()).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::NotReplayable("collapsed")), "{outcome:?}");
}
