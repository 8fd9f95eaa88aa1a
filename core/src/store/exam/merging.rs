//! Merging two people.

use super::*;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

pub(super) mod tests {
    crate::store::exam::exam!(
        everything_of_one_becomes_the_others,
        two_feeds_become_one_in_the_order_of_time,
        what_both_have_stays_once,
        what_waits_and_what_is_being_sent_ends_under_the_other,
        a_dead_one_that_both_have_is_not_replayed,
        contact_points_are_filled_and_never_replaced,
        of_each_collapse_key_the_newer_stays,
        whoever_is_still_to_be_expanded_is_so_under_the_new_name,
        whoever_was_expanded_before_gets_nothing_twice,
        a_plan_made_before_is_refused,
        an_erase_of_the_one_who_stays_reaches_the_requests_of_the_other,
        nobody_is_merged_into_themselves_or_out_of_nothing,
    );
}

async fn merge(exam: &Exam, from: &str, into: &str) -> campanile_model::ports::Merged {
    exam.merge_users(&user(from), &user(into), &actor()).await.unwrap().unwrap()
}

/// All that is stored of these users hangs together.
async fn sound(exam: &Exam) {
    for name in ["anon", "ada"] {
        exam.assert_counts_hold(&user(name)).await;
    }
    assert_eq!(exam.audit_counts(None, 100).await.unwrap().1, 0, "counts differ from the rows");
}

async fn seqs(exam: &Exam, name: &str) -> Vec<(i64, NotificationId)> {
    let mut items = Vec::new();
    for filter in [FeedFilter::All, FeedFilter::Archived] {
        items.extend(exam.feed_page(&user(name), None, 100, filter).await.unwrap().items);
    }
    let mut seqs: Vec<_> = items.into_iter().map(|item| (item.seq, item.notification_id)).collect();
    seqs.sort_by_key(|(seq, _)| *seq);
    seqs
}

async fn everything_of_one_becomes_the_others(exam: Exam) {
    let (anon, ada) = (user("anon"), user("ada"));
    exam.put_user(&anon, Contact { email: Some("anon@example.org".to_owned()), ..Contact::default() }).await.unwrap();
    let sent = exam.send(note("anon").also("bo", &["websocket"])).await;
    let waiting = exam.send(mail("anon").of_type("news")).await;
    exam.unsubscribe(&anon, &ChannelName::email(), "digest").await.unwrap();
    exam.unsubscribe(&anon, &ChannelName::email(), "offers").await.unwrap();
    exam.unsubscribe(&ada, &ChannelName::email(), "offers").await.unwrap();
    let ends = exam.now().await.unwrap();
    let ticket = campanile_model::ports::Ticket { user: anon.clone(), origin: None, token_expires_at: ends };
    exam.put_ticket([1; 32], ticket, LEASE).await.unwrap();
    exam.heard();

    let merged = merge(&exam, "anon", "ada").await;
    assert_eq!((merged.moved, merged.cancelled, merged.in_flight, merged.feed_items), (2, 0, 0, 1));
    assert!(exam.get_user(&anon).await.unwrap().is_none());
    assert_eq!(exam.get_user(&ada).await.unwrap().unwrap().contact.email.as_deref(), Some("anon@example.org"));
    for (delivery, id) in [(sent.deliveries[0].delivery_id, sent.id), (waiting.deliveries[0].delivery_id, waiting.id)] {
        assert_eq!(exam.row(delivery, id).await.user_id, ada.user);
    }
    assert_eq!(exam.row(sent.deliveries[1].delivery_id, sent.id).await.user_id, UserId::from("bo"), "nobody else's");
    assert!(exam.take_ticket([1; 32]).await.unwrap().is_none());
    let mut wishes: Vec<_> = exam.suppressions(&AppId::default(), None, 10).await.unwrap();
    wishes.sort_by_key(|s| s.notification_type.clone());
    let wishes: Vec<_> = wishes
        .iter()
        .map(|s| (s.user_id.as_ref().unwrap().as_str(), s.notification_type.as_deref().unwrap()))
        .collect();
    assert_eq!(wishes, [("ada", "digest"), ("ada", "offers")]);

    let effects = exam.heard();
    assert!(effects.pushes.is_empty() && effects.transitions.is_empty(), "nothing is sent by it: {effects:?}");
    for (key, unread) in [(&anon, 0), (&ada, 1)] {
        let state = exam.feed_state(key).await.unwrap();
        let told = effects.changes.iter().find(|c| c.user == *key).unwrap();
        let FeedChangeKind::Erased { epoch, head_seq } = &told.kind else { panic!("{told:?}") };
        assert_eq!((epoch, *head_seq, told.counts), (&state.epoch, state.head_seq, state.counts));
        assert_eq!((state.epoch, told.counts.unread), (format!("{}.1", exam.epoch()), unread));
    }
    let rows = exam.audit(None, 1).await.unwrap();
    assert_eq!((rows[0].action.as_str(), rows[0].target.as_str()), ("user.merge", "ada"));
    let detail = rows[0].detail.clone().unwrap();
    assert_eq!((&detail["from"], &detail["moved"]), (&serde_json::json!("anon"), &serde_json::json!(2)));
    sound(&exam).await;
    // A second time there is nothing to do, and no client starts anew for it.
    let again = merge(&exam, "anon", "ada").await;
    assert_eq!((again.moved, again.feed_items), (0, 0));
    assert!(exam.heard().changes.is_empty());
    assert_eq!(exam.feed_state(&ada).await.unwrap().epoch, format!("{}.1", exam.epoch()));
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [sent.id]);
    sound(&exam).await;
}

async fn two_feeds_become_one_in_the_order_of_time(exam: Exam) {
    let (anon, ada) = (user("anon"), user("ada"));
    let mut sent = Vec::new();
    for name in ["ada", "anon", "anon", "ada", "anon", "ada"] {
        sent.push(exam.send(note(name)).await.id);
        exam.pass(Duration::from_secs(1));
    }
    let expiring = note("anon").until(exam.now().await.unwrap() + Duration::from_secs(30));
    exam.send(expiring).await;
    let tombstone = note("ada").until(exam.now().await.unwrap() + Duration::from_secs(1));
    exam.send(tombstone).await;
    exam.pass(Duration::from_secs(2));
    exam.sweep(10, MAX_AGE).await.unwrap();
    exam.pass(Duration::from_secs(40));
    exam.mark(&ada, ids(&[sent[0]]), MarkAs::Read).await.unwrap();
    exam.mark(&anon, ids(&[sent[1]]), MarkAs::Read).await.unwrap();
    exam.mark(&anon, ids(&[sent[2]]), MarkAs::Archived).await.unwrap();
    exam.mark(&ada, ids(&[sent[3]]), MarkAs::Archived).await.unwrap();
    exam.mark(&anon, ids(&[sent[4]]), MarkAs::Seen).await.unwrap();
    let before = exam.feed_state(&ada).await.unwrap();

    assert_eq!(merge(&exam, "anon", "ada").await.feed_items, 3);
    let wanted: Vec<_> = (before.head_seq + 1..).zip(sent.iter().copied()).collect();
    assert_eq!(seqs(&exam, "ada").await, wanted, "each under a number that was never used, in order, without gaps");
    let state = exam.feed_state(&ada).await.unwrap();
    assert_eq!((state.min_seq, state.head_seq), (before.head_seq + 1, before.head_seq + 6));
    assert!(state.counts.version > before.counts.version);
    assert_eq!((state.counts.total, state.counts.unread, state.counts.unseen), (4, 2, 1));
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Archived).await, [sent[3], sent[2]]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Read).await, [sent[1], sent[0]]);
    let replay = exam.feed_replay(&ada, before.head_seq, state.head_seq, 50).await.unwrap();
    assert_eq!((replay.items.len(), replay.covered_to), (4, state.head_seq));
    let seen = campanile_model::feed::SeenByClient { user: ada.clone(), from_seq: 1, to_seq: before.head_seq };
    assert_eq!(exam.confirm_delivered(vec![seen]).await.unwrap(), 0, "an old number stands for nothing");
    let empty = exam.feed_state(&anon).await.unwrap();
    assert_eq!((empty.head_seq, empty.min_seq, empty.counts.total), (4, 5, 0));
    assert!(seqs(&exam, "anon").await.is_empty());
    sound(&exam).await;
    // Both feeds go on, and retention finds its way.
    let next = exam.send(note("ada").generation(1)).await.id;
    assert_eq!(seqs(&exam, "ada").await.last(), Some(&(state.head_seq + 1, next)));
    exam.send(note("anon").generation(1)).await;
    assert_eq!(exam.feed_state(&anon).await.unwrap().head_seq, 5);
    sound(&exam).await;
}

async fn what_both_have_stays_once(exam: Exam) {
    let (anon, ada) = (user("anon"), user("ada"));
    let later = exam.now().await.unwrap() + Duration::from_hours(1);
    let both = exam.send(note("anon").also("ada", &["websocket"])).await;
    let seen = exam.send(note("anon").also("ada", &["websocket"])).await;
    let mails = exam.send(mail("anon").also("ada", &["email", "websocket"])).await;
    let scheduled = exam.send(note("anon").also("ada", &["websocket"]).at(later)).await;
    let flying = exam.send(mail("anon").also("ada", &["email"])).await;
    let claimed = exam.claim_one(flying.deliveries[0].delivery_id).await;
    exam.mark(&anon, ids(&[both.id]), MarkAs::Read).await.unwrap();
    exam.mark(&ada, ids(&[seen.id]), MarkAs::Seen).await.unwrap();
    exam.heard();

    let merged = merge(&exam, "anon", "ada").await;
    assert_eq!((merged.moved, merged.cancelled, merged.in_flight, merged.feed_items), (0, 2, 1, 0));
    assert_eq!(exam.heard().transitions.len(), 2, "what is taken back is told");
    for (sent, state, reason) in [
        (&both, DeliveryState::Sent, None),
        (&mails, DeliveryState::Cancelled, Some("merged")),
        (&scheduled, DeliveryState::Cancelled, Some("merged")),
    ] {
        let row = exam.row(sent.deliveries[0].delivery_id, sent.id).await;
        assert_eq!((row.user_id.as_str(), row.state, row.reason.as_deref()), ("anon", state, reason));
    }
    assert_eq!(exam.end(&claimed, NextStep::RetryIn { delay_ms: 1 }).await, DeliveryState::Cancelled);
    assert_eq!(exam.state_of(claimed.delivery_id, flying.id).await.1.as_deref(), Some("merged"));
    for (sent, i) in [(&mails, 1), (&scheduled, 1), (&flying, 1)] {
        let row = exam.row(sent.deliveries[i].delivery_id, sent.id).await;
        assert_eq!((row.user_id.as_str(), row.state), ("ada", DeliveryState::Pending), "theirs goes on");
    }
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [mails.id, seen.id, both.id]);
    let counts = exam.feed_state(&ada).await.unwrap().counts;
    assert_eq!((counts.total, counts.unread, counts.unseen), (3, 2, 1), "read and seen wherever it was");
    sound(&exam).await;
    exam.pass(Duration::from_hours(2));
    exam.complete_in_app(&[scheduled.deliveries[0].delivery_id, scheduled.deliveries[1].delivery_id]).await.unwrap();
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await.len(), 4);
    sound(&exam).await;
}

async fn what_waits_and_what_is_being_sent_ends_under_the_other(exam: Exam) {
    let later = exam.now().await.unwrap() + Duration::from_hours(1);
    let waiting = exam.send(mail("anon")).await;
    let sending = exam.send(mail("anon")).await;
    let scheduled = exam.send(note("anon").at(later)).await;
    let claimed = exam.claim_one(sending.deliveries[0].delivery_id).await;
    assert_eq!(merge(&exam, "anon", "ada").await.moved, 3);
    exam.heard();
    assert_eq!(exam.end(&claimed, NextStep::Sent).await, DeliveryState::Sent);
    let next = exam.claim_one(waiting.deliveries[0].delivery_id).await;
    assert_eq!((next.user.clone(), next.recipient.as_deref()), (user("ada"), Some("anon@example.org")));
    exam.end(&next, NextStep::Sent).await;
    exam.pass(Duration::from_hours(2));
    assert_eq!(exam.complete_in_app(&[scheduled.deliveries[0].delivery_id]).await.unwrap(), 1);
    assert!(exam.heard().transitions.iter().all(|t| t.user == user("ada")));
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [scheduled.id]);
    assert_eq!(exam.unsubscribe_target(claimed.delivery_id).await.unwrap().unwrap().0, user("ada"));
    sound(&exam).await;
}

async fn a_dead_one_that_both_have_is_not_replayed(exam: Exam) {
    let both = exam.send(mail("anon").also("ada", &["email"]).plan(|p| p.recipient_inline = true)).await;
    let own = exam.send(mail("anon").plan(|p| p.recipient_inline = true)).await;
    for id in [both.deliveries[0].delivery_id, own.deliveries[0].delivery_id] {
        let claimed = exam.claim_one(id).await;
        exam.end(&claimed, dead("permanent")).await;
    }
    merge(&exam, "anon", "ada").await;
    let replay =
        async |sent: &Sent| exam.replay(&AppId::default(), sent.deliveries[0].delivery_id, &actor()).await.unwrap();
    use campanile_model::ports::ReplayOutcome::{NotReplayable, Replayed};
    assert!(matches!(replay(&both).await, NotReplayable("merged")));
    assert!(matches!(replay(&own).await, Replayed));
}

async fn contact_points_are_filled_and_never_replaced(exam: Exam) {
    let addresses = |all: &[(&str, &str)]| -> BTreeMap<ChannelName, String> {
        all.iter().map(|(channel, a)| (ChannelName::from(*channel), (*a).to_owned())).collect()
    };
    let theirs = Contact {
        email: Some("anon@x".to_owned()),
        locale: Some("de".to_owned()),
        timezone: Some("UTC".to_owned()),
        addresses: addresses(&[("sms", "+1"), ("hook", "https://x")]),
    };
    exam.put_user(&user("anon"), theirs).await.unwrap();
    let own = Contact { email: Some("ada@x".to_owned()), addresses: addresses(&[("sms", "+2")]), ..Contact::default() };
    exam.put_user(&user("ada"), own).await.unwrap();
    exam.set_disabled(&user("ada"), true, &actor()).await.unwrap();
    merge(&exam, "anon", "ada").await;
    let ada = exam.get_user(&user("ada")).await.unwrap().unwrap();
    assert_eq!((ada.contact.email.as_deref(), ada.contact.locale.as_deref()), (Some("ada@x"), Some("de")));
    assert_eq!(ada.contact.addresses, addresses(&[("sms", "+2"), ("hook", "https://x")]));
    assert!(ada.disabled_at.is_some(), "who is disabled stays so");
    // Somebody who was not there is made.
    merge(&exam, "ada", "eve").await;
    let eve = exam.get_user(&user("eve")).await.unwrap().unwrap();
    assert_eq!((eve.contact, eve.disabled_at), (ada.contact, None));
}

async fn of_each_collapse_key_the_newer_stays(exam: Exam) {
    let (anon, ada) = (user("anon"), user("ada"));
    let older = exam.send(note("ada").also("ada", &["email"]).collapse("k")).await;
    let newer = exam.send(note("anon").collapse("k")).await;
    let theirs = exam.send(note("anon").collapse("other")).await;
    merge(&exam, "anon", "ada").await;
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [theirs.id, newer.id]);
    assert_eq!(exam.feed_ids(&ada, FeedFilter::Archived).await, [older.id]);
    let (state, why) = exam.state_of(older.on("email").delivery_id, older.id).await;
    assert_eq!((state, why.as_deref()), (DeliveryState::Cancelled, Some("collapsed")));
    sound(&exam).await;
    let last = exam.send(note("ada").generation(1).collapse("k")).await;
    exam.send(note("anon").generation(1).collapse("other")).await;
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [last.id, theirs.id]);
    assert_eq!(exam.feed_ids(&anon, FeedFilter::All).await.len(), 1, "keys are one's own");
    sound(&exam).await;
}

fn crowd(names: &[&str]) -> Note {
    let mut note = bare();
    let recipients =
        names.iter().map(|u| RecipientSpec { user_id: UserId::from(*u), addresses: BTreeMap::default() }).collect();
    note.deferred = Some(AudienceSpec { recipients, channels: None });
    note
}

/// Takes the next slice and expands it by these channels.
async fn expand(exam: &Exam, limit: u32, channels: &[&str]) -> Vec<String> {
    let slice = exam.claim_audience(exam.node, limit, LEASE).await.unwrap().unwrap();
    let users: Vec<UserId> = slice.recipients.iter().map(|r| r.user_id.clone()).collect();
    let resolved = exam.resolve(&AppId::default(), &users).await.unwrap();
    let plans = users
        .iter()
        .zip(resolved)
        .map(|(u, r)| RecipientPlan { generation: r.generation, ..to(u.as_str(), channels) })
        .collect();
    assert!(exam.expand(exam.node, slice.notification.id, slice.cursor, plans).await.unwrap());
    users.iter().map(ToString::to_string).collect()
}

async fn whoever_is_still_to_be_expanded_is_so_under_the_new_name(exam: Exam) {
    let alone = exam.accept(crowd(&["anon", "bo"]).item()).await.unwrap().body.notification_id;
    let slice = exam.claim_audience(exam.node, 2, LEASE).await.unwrap().unwrap();
    let merged = merge(&exam, "anon", "ada").await;
    assert_eq!(merged.audiences, 1, "known by the audience alone");
    let stale = vec![to("anon", &["websocket"]), to("bo", &["websocket"])];
    assert!(!exam.expand(exam.node, slice.notification.id, 0, stale).await.unwrap(), "the slice is claimed anew");
    assert_eq!(expand(&exam, 2, &["websocket"]).await, ["ada", "bo"]);
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [alone]);

    let both = exam.accept(crowd(&["anon", "ada", "bo"]).item()).await.unwrap().body.notification_id;
    assert_eq!(merge(&exam, "anon", "ada").await.audiences, 1);
    assert_eq!(expand(&exam, 5, &["websocket"]).await, ["ada", "bo"]);
    let audience = exam.notification(&AppId::default(), both, None).await.unwrap().unwrap().row.audience;
    assert_eq!(audience, Some((2, 2)));
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [both, alone]);
    sound(&exam).await;
}

async fn whoever_was_expanded_before_gets_nothing_twice(exam: Exam) {
    let id = exam.accept(crowd(&["anon", "ada", "bo"]).item()).await.unwrap().body.notification_id;
    assert_eq!(expand(&exam, 1, &["websocket"]).await, ["anon"]);
    merge(&exam, "anon", "ada").await;
    assert_eq!(expand(&exam, 5, &["websocket", "email"]).await, ["ada", "bo"]);
    let detail = exam.notification(&AppId::default(), id, None).await.unwrap().unwrap();
    let mut all: Vec<_> = detail.deliveries.iter().map(|d| format!("{} {}", d.user_id, d.channel)).collect();
    all.sort();
    assert_eq!(all, ["ada email", "ada websocket", "bo email", "bo websocket"], "the other channel is not lost");
    assert_eq!(detail.row.audience, Some((2, 2)));
    assert_eq!(exam.feed_ids(&user("ada"), FeedFilter::All).await, [id]);
    sound(&exam).await;
}

async fn a_plan_made_before_is_refused(exam: Exam) {
    exam.send(note("anon")).await;
    let (of_one, of_other) = (note("anon"), note("ada"));
    merge(&exam, "anon", "ada").await;
    for plan in [of_one, of_other] {
        let late = exam.accept(plan.item()).await;
        assert!(matches!(late, Err(AcceptError::Stale)), "{late:?}");
    }
    exam.send(note("anon").generation(1)).await;
    assert!(exam.get_user(&user("anon")).await.unwrap().is_some(), "somebody new of that name");
}

async fn nobody_is_merged_into_themselves_or_out_of_nothing(exam: Exam) {
    let (anon, ada) = (user("anon"), user("ada"));
    let none = async |from: &UserKey, into: &UserKey| exam.merge_users(from, into, &actor()).await.unwrap().is_none();
    assert!(none(&anon, &ada).await, "nobody knows either");
    let id = exam.send(note("ada")).await.id;
    assert!(none(&ada, &ada).await);
    exam.heard();
    let merged = merge(&exam, "anon", "ada").await;
    assert_eq!((merged.moved, merged.feed_items), (0, 0));
    assert!(exam.heard().changes.is_empty(), "nobody starts anew for nothing");
    let state = exam.feed_state(&ada).await.unwrap();
    assert_eq!((state.head_seq, state.epoch), (1, format!("{}.0", exam.epoch())));
    assert_eq!(exam.feed_ids(&ada, FeedFilter::All).await, [id]);
    sound(&exam).await;
}

async fn an_erase_of_the_one_who_stays_reaches_the_requests_of_the_other(exam: Exam) {
    let mut old = note("anon").also("bo", &["email"]).keyed("k", 1);
    old.request = json!({"to": [{"user_id": "anon", "email": "anon@example.org"}, "bo"]});
    let old = exam.send(old).await;
    exam.send(note("ada")).await;
    merge(&exam, "anon", "ada").await;
    let request = async || exam.notification(&AppId::default(), old.id, None).await.unwrap().unwrap().row.request;
    assert_eq!(request().await, json!({"to": [{"user_id": "ada", "email": "anon@example.org"}, "bo"]}));
    exam.erase_user(&user("ada"), &actor()).await.unwrap().unwrap();
    assert_eq!(request().await, json!({"to": ["bo"]}));
    let again = exam.accept(note("anon").generation(1).keyed("k", 1).item()).await.unwrap();
    assert!(again.replayed && again.body.deliveries.unwrap().iter().all(|d| d.user_id == UserId::from("bo")));
}
