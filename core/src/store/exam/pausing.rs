//! Pauses hold, resumes release.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_pause_holds_and_a_resume_releases,
        a_long_backlog_is_released_to_its_last_row,
        a_pause_changes_without_a_second_one,
        a_pause_ends_by_itself
    );
}

async fn a_pause_holds_and_a_resume_releases(exam: Exam) {
    let (web, email) = (ChannelName::websocket(), ChannelName::email());
    let published = exam.send(mail("bo")).await.deliveries[0].delivery_id;
    exam.relay_due(10, &[]).await.unwrap();
    exam.pause(&web, None, None, &actor()).await.unwrap();
    exam.pause(&email, None, None, &actor()).await.unwrap();
    let sent = exam.send(note("ada").also("bo", &["email"]).plan(|p| p.fast = true)).await;
    assert!(sent.deliveries.iter().all(|d| d.state == ShownState::Stored(DeliveryState::Pending)));
    assert!(exam.heard().ready.is_empty(), "the fast path is closed");
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 0);
    let held = [sent.on("websocket").delivery_id];
    assert_eq!(exam.complete_in_app(&held).await.unwrap(), 0);
    exam.pass(Duration::from_secs(1));
    assert!(exam.relay_due(10, &[]).await.unwrap().is_empty());
    assert_eq!(exam.pauses().await.unwrap().len(), 2);
    assert!(exam.resume(&web, &actor()).await.unwrap());
    assert!(!exam.resume(&web, &actor()).await.unwrap());
    assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1);
    assert_eq!(exam.complete_in_app(&held).await.unwrap(), 1);
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 1);
    exam.resume(&email, &actor()).await.unwrap();
    let due: Vec<_> = exam.relay_due(10, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    assert_eq!(due, [published, sent.on("email").delivery_id], "published before the pause, due again at once");
}

/// More than one batch, all due at one moment, and one that is tried again.
async fn a_long_backlog_is_released_to_its_last_row(exam: Exam) {
    let email = ChannelName::email();
    let many = (0..1_002).fold(bare(), |n, i| n.also(&format!("u{i}"), &["email"]));
    let sent = exam.send(many).await;
    let again = exam.claim_one(sent.deliveries[0].delivery_id).await;
    assert!(exam.finish(finish(&again, NextStep::RetryIn { delay_ms: 500 })).await.unwrap().ours);
    exam.pass(Duration::from_secs(1));
    assert_eq!(exam.relay_due(2_000, &[]).await.unwrap().len(), 1_002);
    assert!(exam.relay_due(2_000, &[]).await.unwrap().is_empty(), "all of them are published");
    exam.pause(&email, None, None, &actor()).await.unwrap();
    exam.pass(Duration::from_secs(1));
    exam.resume(&email, &actor()).await.unwrap();
    assert_eq!(exam.relay_due(2_000, &[]).await.unwrap().len(), 1_002);
}

async fn a_pause_changes_without_a_second_one(exam: Exam) {
    let email = ChannelName::email();
    assert!(exam.pause(&email, None, Some("one"), &actor()).await.unwrap());
    let until = exam.now().await.unwrap() + Duration::from_mins(1);
    assert!(!exam.pause(&email, Some(until), Some("two"), &actor()).await.unwrap());
    let pauses = exam.pauses().await.unwrap();
    assert_eq!(pauses.len(), 1);
    assert_eq!((pauses[0].reason.as_deref(), pauses[0].until), (Some("two"), Some(until)));
}

async fn a_pause_ends_by_itself(exam: Exam) {
    let email = ChannelName::email();
    let until = exam.now().await.unwrap() + Duration::from_mins(1);
    exam.pause(&email, Some(until), None, &actor()).await.unwrap();
    exam.send(mail("ada")).await;
    assert!(exam.end_lapsed_pauses().await.unwrap().is_empty());
    exam.pass(Duration::from_secs(61));
    assert_eq!(exam.end_lapsed_pauses().await.unwrap(), [email]);
    assert!(exam.pauses().await.unwrap().is_empty());
    assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1);
}
