//! Reading feeds: pages, replay, gaps, what is in no list.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_user_never_seen_has_an_empty_feed,
        pages_go_down_and_end,
        filters_show_their_part,
        replay_covers_tombstones,
        replay_never_covers_what_is_not_born,
        expired_items_are_in_no_list_at_once,
        heads_come_in_the_order_asked,
        apps_do_not_mix,
    );
}

async fn a_user_never_seen_has_an_empty_feed(exam: Exam) {
    let state = exam.feed_state(&user("nobody")).await.unwrap();
    assert_eq!((state.head_seq, state.min_seq, state.counts), (0, 1, Counts::default()));
    let page = exam.feed_page(&user("nobody"), None, 10, FeedFilter::All).await.unwrap();
    assert!(page.items.is_empty() && page.next_before.is_none());
    let replay = exam.feed_replay(&user("nobody"), 0, 100, 10).await.unwrap();
    assert_eq!((replay.items.len(), replay.covered_to), (0, 0));
}

async fn pages_go_down_and_end(exam: Exam) {
    for _ in 0..5 {
        exam.send(note("ada")).await;
    }
    let mut before = None;
    let mut seqs = Vec::new();
    for _ in 0..3 {
        let page = exam.feed_page(&user("ada"), before, 2, FeedFilter::All).await.unwrap();
        seqs.push(page.items.iter().map(|i| i.seq).collect::<Vec<_>>());
        assert_eq!(page.counts.total, 5);
        before = page.next_before;
    }
    assert_eq!(seqs, [vec![5, 4], vec![3, 2], vec![1]]);
    assert_eq!(before, None);
    let exact = exam.feed_page(&user("ada"), None, 5, FeedFilter::All).await.unwrap();
    assert_eq!(exact.next_before, None, "a full last page is the end");
}

async fn filters_show_their_part(exam: Exam) {
    let (a, b, c) = (exam.send(note("ada")).await.id, exam.send(note("ada")).await.id, exam.send(note("ada")).await.id);
    let ada = user("ada");
    exam.mark(&ada, ids(&[a]), MarkAs::Read).await.unwrap();
    exam.mark(&ada, ids(&[b]), MarkAs::Archived).await.unwrap();
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [c, a]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Unread).await, [c]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Read).await, [a]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Archived).await, [b]);
}

async fn replay_covers_tombstones(exam: Exam) {
    let ada = user("ada");
    let mut sent = Vec::new();
    for _ in 0..6 {
        sent.push(exam.send(note("ada")).await.id);
    }
    exam.mark(&ada, ids(&[sent[1], sent[5]]), MarkAs::Archived).await.unwrap();
    exam.mark(&ada, ids(&[sent[2]]), MarkAs::Read).await.unwrap();
    let seqs = |r: &campanile_model::feed::Replay| r.items.iter().map(|i| (i.seq, i.unread)).collect::<Vec<_>>();
    let all = exam.feed_replay(&ada, 0, 6, 100).await.unwrap();
    assert_eq!(seqs(&all), [(1, true), (3, false), (4, true), (5, true)]);
    assert_eq!(all.covered_to, 6);
    let cut = exam.feed_replay(&ada, 0, 6, 2).await.unwrap();
    assert_eq!((seqs(&cut), cut.covered_to), (vec![(1, true), (3, false)], 3));
    let rest = exam.feed_replay(&ada, 3, 6, 2).await.unwrap();
    assert_eq!((seqs(&rest), rest.covered_to), (vec![(4, true), (5, true)], 5));
    let end = exam.feed_replay(&ada, 5, 6, 2).await.unwrap();
    assert_eq!((end.items.len(), end.covered_to), (0, 6), "a tombstone at the end is covered");
    assert_eq!(exam.feed_missed(&ada, 1, 6, 10).await.unwrap(), 3);
    assert_eq!(exam.feed_missed(&ada, 1, 6, 2).await.unwrap(), 2, "it counts no further");
    let frame: serde_json::Value = serde_json::from_slice(&all.items[0].frame.classic()).unwrap();
    assert_eq!(frame["data"]["notification_id"], sent[0].to_string());
    assert_eq!(frame["data"]["title"], "Title");
}

async fn replay_never_covers_what_is_not_born(exam: Exam) {
    exam.send(note("ada")).await;
    let replay = exam.feed_replay(&user("ada"), 0, 50, 100).await.unwrap();
    assert_eq!((replay.items.len(), replay.covered_to), (1, 1));
}

async fn expired_items_are_in_no_list_at_once(exam: Exam) {
    let ada = user("ada");
    let soon = exam.now().await.unwrap() + Duration::from_secs(5);
    let kept = exam.send(note("ada")).await.id;
    let expiring = exam.send(note("ada").until(soon)).await.id;
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [expiring, kept]);
    exam.pass(Duration::from_secs(6));
    // Nobody has swept.
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [kept]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Unread).await, [kept]);
    assert_eq!(exam.feed_missed(&ada, 0, 2, 10).await.unwrap(), 1);
    let replay = exam.feed_replay(&ada, 0, 2, 10).await.unwrap();
    assert_eq!((replay.items.len(), replay.covered_to), (1, 2));
    let marked = exam.mark(&ada, ids(&[expiring]), MarkAs::Read).await.unwrap();
    assert_eq!((marked.changed, marked.not_found), (0, vec![expiring]));
}

async fn heads_come_in_the_order_asked(exam: Exam) {
    for _ in 0..3 {
        exam.send(note("cy")).await;
    }
    exam.send(note("ada")).await;
    let heads = exam.feed_heads(&[user("cy"), user("nobody"), user("ada"), user("cy")]).await.unwrap();
    assert_eq!(heads.iter().map(|h| h.head_seq).collect::<Vec<_>>(), [3, 0, 1, 3]);
}

async fn apps_do_not_mix(exam: Exam) {
    let mut other = note("ada");
    other.notification.app = AppId::from("other");
    let sent = exam.send(other).await;
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 0);
    assert_eq!(exam.feed_state(&UserKey::new("other", "ada")).await.unwrap().head_seq, 1);
    assert!(exam.notification(&AppId::default(), sent.id, None).await.unwrap().is_none());
    let marked = exam.mark(&user("ada"), ids(&[sent.id]), MarkAs::Read).await.unwrap();
    assert_eq!(marked.not_found, [sent.id]);
}
