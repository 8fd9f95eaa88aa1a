//! Large audiences: cursor, lease, cancel, erase.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        an_audience_resumes_at_its_cursor,
        a_moved_cursor_refuses_the_slow_node,
        a_cancelled_audience_ends_at_once,
        an_erase_takes_a_user_out_of_a_claimed_slice,
        expansion_collapses_like_accept,
        a_scheduled_audience_waits_as_rows,
    );
}

fn crowd(n: usize) -> Note {
    let mut note = bare();
    let recipients = (0..n)
        .map(|i| RecipientSpec {
            user_id: UserId::from(format!("u{i:03}")),
            addresses: std::collections::BTreeMap::default(),
        })
        .collect();
    note.deferred = Some(AudienceSpec { recipients, channels: Some(vec![ChannelName::websocket()]) });
    note
}

fn plans(recipients: &[RecipientSpec]) -> Vec<RecipientPlan> {
    recipients.iter().map(|r| to(r.user_id.as_str(), &["websocket"])).collect()
}

async fn progress(exam: &Exam, id: NotificationId) -> (u32, u32) {
    exam.notification(&AppId::default(), id, None).await.unwrap().unwrap().row.audience.unwrap()
}

async fn an_audience_resumes_at_its_cursor(exam: Exam) {
    let body = exam.accept(crowd(5).item()).await.unwrap().body;
    assert_eq!(body.audience.unwrap().recipients, 5);
    assert!(body.deliveries.is_none());
    let id = body.notification_id;
    let slice = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
    assert_eq!((slice.cursor, slice.total, slice.recipients.len()), (0, 5, 2));
    assert_eq!(slice.channels.as_deref(), Some(&[ChannelName::websocket()][..]));
    assert!(exam.claim_audience(NodeId::new(), 2, LEASE).await.unwrap().is_none(), "leased");
    assert!(exam.expand(exam.node, id, 0, plans(&slice.recipients)).await.unwrap());
    assert_eq!(progress(&exam, id).await, (5, 2));
    assert_eq!(exam.feed_state(&user("u001")).await.unwrap().head_seq, 1, "due in-app is complete");
    // The next node dies with its slice.
    let lost = NodeId::new();
    exam.claim_audience(lost, 2, LEASE).await.unwrap().unwrap();
    exam.pass(LEASE + Duration::from_secs(1));
    for wanted in [2, 4] {
        let slice = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
        assert_eq!(slice.cursor, wanted);
        assert!(exam.expand(exam.node, id, slice.cursor, plans(&slice.recipients)).await.unwrap());
    }
    assert_eq!(progress(&exam, id).await, (5, 5));
    assert!(exam.claim_audience(exam.node, 2, LEASE).await.unwrap().is_none());
    let detail = exam.notification(&AppId::default(), id, None).await.unwrap().unwrap();
    assert_eq!(detail.summary, [(ShownState::Stored(DeliveryState::Sent), 5)], "everyone once");
    assert_eq!(exam.heard().pushes.iter().map(|b| b.users.len()).sum::<usize>(), 5);
}

async fn a_moved_cursor_refuses_the_slow_node(exam: Exam) {
    let id = exam.accept(crowd(4).item()).await.unwrap().body.notification_id;
    let slow = NodeId::new();
    let slice = exam.claim_audience(slow, 2, LEASE).await.unwrap().unwrap();
    exam.pass(LEASE + Duration::from_secs(1));
    let taken = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
    assert_eq!(taken.cursor, 0);
    assert!(!exam.expand(slow, id, 0, plans(&slice.recipients)).await.unwrap(), "the lease went on");
    assert!(exam.expand(exam.node, id, 0, plans(&taken.recipients)).await.unwrap());
    assert!(!exam.expand(exam.node, id, 0, plans(&taken.recipients)).await.unwrap(), "a repeat does nothing");
    assert_eq!(exam.feed_state(&user("u000")).await.unwrap().head_seq, 1);
}

async fn a_cancelled_audience_ends_at_once(exam: Exam) {
    let id = exam.accept(crowd(4).item()).await.unwrap().body.notification_id;
    let slice = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
    exam.cancel(&AppId::default(), id, &actor()).await.unwrap().unwrap();
    assert!(!exam.expand(exam.node, id, 0, plans(&slice.recipients)).await.unwrap());
    assert_eq!(progress(&exam, id).await, (4, 4), "nothing is left to expand");
    assert!(exam.claim_audience(exam.node, 2, LEASE).await.unwrap().is_none());
    assert_eq!(exam.feed_state(&user("u000")).await.unwrap().head_seq, 0);
}

async fn an_erase_takes_a_user_out_of_a_claimed_slice(exam: Exam) {
    let id = exam.accept(crowd(4).item()).await.unwrap().body.notification_id;
    let slice = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
    assert!(exam.erase_user(&user("u001"), &actor()).await.unwrap().is_some(), "known by the audience alone");
    assert!(!exam.expand(exam.node, id, 0, plans(&slice.recipients)).await.unwrap(), "that slice is no more");
    let mut seen = Vec::new();
    while let Some(slice) = exam.claim_audience(exam.node, 2, LEASE).await.unwrap() {
        seen.extend(slice.recipients.iter().map(|r| r.user_id.to_string()));
        assert!(exam.expand(exam.node, id, slice.cursor, plans(&slice.recipients)).await.unwrap());
    }
    assert_eq!(seen, ["u000", "u002", "u003"], "nobody is skipped");
    assert_eq!(progress(&exam, id).await, (3, 3));
    // A user erased after it was resolved.
    let id = exam.accept(crowd(2).item()).await.unwrap().body.notification_id;
    let slice = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
    let stale = exam.expand(exam.node, id, 0, plans(&slice.recipients)).await;
    assert!(matches!(stale, Err(AcceptError::Stale)), "u001 has another generation");
}

async fn expansion_collapses_like_accept(exam: Exam) {
    let older = exam.accept(crowd(2).collapse("k").item()).await.unwrap().body.notification_id;
    let newer = exam.send(note("u000").collapse("k")).await.id;
    let slice = exam.claim_audience(exam.node, 10, LEASE).await.unwrap().unwrap();
    assert!(exam.expand(exam.node, older, 0, plans(&slice.recipients)).await.unwrap());
    assert_eq!(exam.feed_ids(&user("u000"), FeedFilter::All).await, [newer], "the newer one was there");
    assert_eq!(exam.feed_ids(&user("u001"), FeedFilter::All).await, [older]);
}

async fn a_scheduled_audience_waits_as_rows(exam: Exam) {
    let due = exam.now().await.unwrap() + Duration::from_mins(1);
    let id = exam.accept(crowd(3).at(due).item()).await.unwrap().body.notification_id;
    let slice = exam.claim_audience(exam.node, 10, LEASE).await.unwrap().unwrap();
    assert!(exam.expand(exam.node, id, 0, plans(&slice.recipients)).await.unwrap());
    let detail = exam.notification(&AppId::default(), id, None).await.unwrap().unwrap();
    assert_eq!(detail.summary, [(ShownState::Scheduled, 3)]);
    exam.pass(Duration::from_secs(61));
    let due: Vec<_> = exam.relay_due(10, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    assert_eq!(exam.complete_in_app(&due).await.unwrap(), 3);
    assert_eq!(exam.heard().pushes.len(), 1, "one broadcast, one frame");
}
