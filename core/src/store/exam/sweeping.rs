//! What time settles.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        rows_past_their_expiry_are_expired,
        feed_items_past_their_expiry_become_tombstones,
        max_age_leaves_paused_time_out,
        an_expired_row_is_never_sent,
    );
}

async fn rows_past_their_expiry_are_expired(exam: Exam) {
    let soon = exam.now().await.unwrap() + Duration::from_secs(5);
    let sent = exam.send(mail("ada").until(soon)).await;
    let id = sent.deliveries[0].delivery_id;
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 0);
    exam.pass(Duration::from_secs(6));
    exam.heard();
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 1);
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 0);
    let (state, why) = exam.state_of(id, sent.id).await;
    assert_eq!((state, why.as_deref()), (DeliveryState::Expired, Some("expired")));
    assert_eq!(arrivals(&exam.heard())[&id], [DeliveryState::Expired]);
}

async fn feed_items_past_their_expiry_become_tombstones(exam: Exam) {
    let ada = user("ada");
    let soon = exam.now().await.unwrap() + Duration::from_secs(5);
    let gone = exam.send(note("ada").until(soon)).await.id;
    let read = exam.send(note("ada").until(soon)).await.id;
    exam.send(note("ada")).await;
    exam.mark(&ada, ids(&[read]), MarkAs::Read).await.unwrap();
    exam.pass(Duration::from_secs(6));
    exam.heard();
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 2);
    let state = exam.feed_state(&ada).await.unwrap();
    assert_eq!((state.head_seq, state.counts.total, state.counts.unread, state.counts.version), (3, 1, 1, 5));
    exam.assert_counts_hold(&ada).await;
    let changes = exam.heard().changes;
    assert_eq!(changes.len(), 1, "one change for a user");
    let FeedChangeKind::Marked { what: Marked::Ids(told), mark: MarkAs::Archived } = &changes[0].kind else {
        panic!("{changes:?}");
    };
    assert_eq!(told, &[gone, read]);
    assert!(changes[0].unread_changed);
    assert_eq!(exam.state_of_in_app(gone).await, DeliveryState::Sent, "the delivery happened");
}

async fn max_age_leaves_paused_time_out(exam: Exam) {
    let email = ChannelName::email();
    let paused = exam.send(mail("ada")).await;
    let plain = exam.send(mail("bo").plan(|p| p.channel = ChannelName::from("sms"))).await;
    exam.pause(&email, None, None, &actor()).await.unwrap();
    exam.pass(MAX_AGE + Duration::from_secs(1));
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 1);
    let (state, why) = exam.state_of(plain.deliveries[0].delivery_id, plain.id).await;
    assert_eq!((state, why.as_deref()), (DeliveryState::Dead, Some("max_age")));
    exam.resume(&email, &actor()).await.unwrap();
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 0, "paused time does not age");
    exam.pass(MAX_AGE);
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 1);
    assert_eq!(exam.state_of(paused.deliveries[0].delivery_id, paused.id).await.0, DeliveryState::Dead);
}

async fn an_expired_row_is_never_sent(exam: Exam) {
    let now = exam.now().await.unwrap();
    let (due, end) = (now + Duration::from_secs(5), now + Duration::from_secs(10));
    let in_app = exam.send(note("ada").at(due).until(end)).await;
    let by_mail = exam.send(mail("ada").at(due).until(end)).await;
    exam.pass(Duration::from_secs(11));
    assert!(exam.relay_due(10, &[]).await.unwrap().is_empty());
    assert_eq!(exam.complete_in_app(&[in_app.deliveries[0].delivery_id]).await.unwrap(), 0);
    let id = by_mail.deliveries[0].delivery_id;
    assert!(matches!(exam.claim(&[id], exam.node, LEASE).await.unwrap()[0], ClaimOutcome::NotOurs(_)));
    assert_eq!(exam.sweep(10, MAX_AGE).await.unwrap(), 2);
}
