//! The writer itself: a bad row costs only itself, callers may leave, effects come before answers.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_bad_row_costs_only_itself,
        a_caller_that_leaves_loses_neither_write_nor_effects,
        effects_are_told_before_the_answer,
        the_store_says_what_it_is,
        a_closed_store_says_so,
    );
}

async fn a_bad_row_costs_only_itself(exam: Exam) {
    let first = note("ada");
    // A second notification with the same id breaks the primary key.
    let mut twin = note("bo");
    twin.notification.id = first.notification.id;
    exam.send(first).await;
    let store = exam.shared();
    let mut tasks = Vec::new();
    for i in 0..40 {
        let store = store.clone();
        let item = if i == 20 { twin.clone() } else { note("ada") };
        tasks.push(tokio::spawn(async move { store.accept(item.item()).await.is_ok() }));
    }
    let mut accepted = 0;
    for task in tasks {
        accepted += i64::from(task.await.unwrap());
    }
    assert_eq!(accepted, 39);
    let state = exam.feed_state(&user("ada")).await.unwrap();
    assert_eq!((state.head_seq, state.counts.total), (40, 40), "no seq is lost to a group that was run again");
    assert_eq!(exam.feed_state(&user("bo")).await.unwrap().head_seq, 0);
    let pushed: usize = exam.heard().pushes.iter().map(|b| b.users.len()).sum();
    assert_eq!(pushed, 40, "and nothing is told twice");
}

async fn a_caller_that_leaves_loses_neither_write_nor_effects(exam: Exam) {
    let note = note("ada");
    let id = note.notification.id;
    {
        let store = exam.shared();
        let mut accept = Box::pin(store.accept(note.item()));
        // Polled once: the write is in the queue, the caller gone.
        let _ = futures_util::poll!(&mut accept);
    }
    // One writer commits it before whatever comes next; of several, another may be quicker.
    exam.send(mail("bo")).await;
    while exam.feed_state(&user("ada")).await.unwrap().head_seq == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [id]);
    exam.close().await;
    assert!(exam.heard().pushes.iter().any(|b| b.notification.id == id));
}

async fn effects_are_told_before_the_answer(exam: Exam) {
    for _ in 0..20 {
        let sent = exam.send(note("ada")).await;
        assert!(exam.heard().pushes.iter().any(|b| b.notification.id == sent.id));
    }
}

async fn the_store_says_what_it_is(exam: Exam) {
    exam.ping().await.unwrap();
    assert!(!exam.epoch().is_empty());
    exam.send(note("ada")).await;
    assert!(exam.facts().size_bytes.unwrap() > 0);
    let before = exam.now().await.unwrap();
    exam.pass(Duration::from_hours(1));
    assert!(exam.now().await.unwrap() - before >= chrono::Duration::hours(1));
}

async fn a_closed_store_says_so(exam: Exam) {
    exam.send(note("ada")).await;
    exam.close().await;
    let refused = exam.accept(note("ada").item()).await;
    assert!(matches!(refused, Err(AcceptError::Store(StoreError::Unavailable(_)))));
    assert!(matches!(exam.feed_state(&user("ada")).await, Err(StoreError::Unavailable(_))));
}
