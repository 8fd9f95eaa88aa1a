//! Accepting: one commit, idempotency, in-app completed in it, suppressions.

use super::*;
use campanile_model::TraceContext;
use serde_json::json;
use std::{sync::Arc, time::Duration};

pub(super) mod tests {
    crate::store::exam::exam!(
        in_app_is_complete_when_accept_returns,
        external_deliveries_wait_for_the_relay,
        scheduled_deliveries_are_shown_as_scheduled,
        what_is_past_its_time_is_born_expired,
        the_same_key_and_body_give_the_stored_answer,
        the_same_key_with_another_body_is_refused,
        twenty_parallel_accepts_with_one_key_give_one_notification,
        an_expired_key_is_absent,
        suppressions_act_at_insertion,
        an_older_generation_is_stale,
        users_are_created_by_the_first_send,
        fifty_writers_leave_no_gap_in_seq,
        what_is_asked_in_an_order_is_fed_in_it,
        content_comes_back_as_it_went_in,
        a_disabled_user_gets_nothing,
    );
}

async fn in_app_is_complete_when_accept_returns(exam: Exam) {
    let sent = exam.send(note("ada")).await;
    let d = sent.on("websocket");
    assert_eq!(d.state, ShownState::Stored(DeliveryState::Sent));
    let state = exam.feed_state(&user("ada")).await.unwrap();
    assert_eq!((state.head_seq, state.counts.unread, state.counts.total, state.counts.version), (1, 1, 1, 1));
    assert_eq!(state.epoch, format!("{}.0", exam.epoch()));
    let row = exam.row(d.delivery_id, sent.id).await;
    assert!(row.sent_at.is_some() && row.settled_at.is_some());
    assert!(row.attempts.is_empty(), "inline in-app makes no attempts");
    let effects = exam.heard();
    assert_eq!(effects.pushes.len(), 1);
    let push = &effects.pushes[0].users[0];
    assert_eq!((push.seq, push.counts, push.delivery_id), (1, state.counts, d.delivery_id));
    let sent_once: Vec<_> = effects.transitions.iter().filter(|t| t.latency_ms.is_some()).collect();
    assert_eq!(sent_once.len(), 1);
    assert_eq!(exam.relay_due(10, &[]).await.unwrap(), [], "nothing is left to do");
}

async fn external_deliveries_wait_for_the_relay(exam: Exam) {
    let slow = exam.send(mail("ada")).await;
    let fast = exam.send(mail("bo").plan(|p| p.fast = true)).await;
    let ready: Vec<_> = exam.heard().ready.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ready, [fast.deliveries[0].delivery_id]);
    let relayed = exam.relay_due(10, &[]).await.unwrap();
    assert_eq!(relayed.len(), 1, "the fast path has ten seconds");
    assert_eq!(relayed[0].delivery_id, slow.deliveries[0].delivery_id);
    exam.pass(Duration::from_secs(11));
    let again: Vec<_> = exam.relay_due(10, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    assert_eq!(again, [slow.deliveries[0].delivery_id, fast.deliveries[0].delivery_id]);
}

async fn scheduled_deliveries_are_shown_as_scheduled(exam: Exam) {
    let due = exam.now().await.unwrap() + Duration::from_hours(1);
    let sent = exam.send(note("ada").also("bo", &["email"]).at(due)).await;
    assert!(sent.deliveries.iter().all(|d| d.state == ShownState::Scheduled));
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 0);
    assert!(exam.relay_due(10, &[]).await.unwrap().is_empty());
    let detail = exam.notification(&AppId::default(), sent.id, None).await.unwrap().unwrap();
    assert_eq!(detail.summary, [(ShownState::Scheduled, 2)]);
    exam.pass(Duration::from_secs(3_601));
    assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 2);
    let ids = [sent.on("websocket").delivery_id, sent.on("email").delivery_id];
    assert_eq!(exam.complete_in_app(&ids).await.unwrap(), 1);
    assert_eq!(exam.complete_in_app(&ids).await.unwrap(), 0, "exactly once");
    let state = exam.feed_state(&user("ada")).await.unwrap();
    assert_eq!((state.head_seq, state.counts.total), (1, 1));
    let row = exam.row(ids[0], sent.id).await;
    assert_eq!(row.state, DeliveryState::Sent);
    assert!(row.attempts.is_empty());
}

async fn what_is_past_its_time_is_born_expired(exam: Exam) {
    let past = exam.now().await.unwrap() - Duration::from_secs(1);
    let sent = exam.send(note("ada").until(past)).await;
    assert_eq!(sent.deliveries[0].state, ShownState::Stored(DeliveryState::Expired));
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 0);
}

async fn the_same_key_and_body_give_the_stored_answer(exam: Exam) {
    let first = exam.accept(note("ada").keyed("k", 1).item()).await.unwrap();
    exam.heard();
    let second = exam.accept(note("ada").keyed("k", 1).item()).await.unwrap();
    assert!(second.replayed);
    assert_eq!(json!(first.body), json!(second.body));
    assert!(exam.heard().is_empty());
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 1);
}

async fn the_same_key_with_another_body_is_refused(exam: Exam) {
    exam.accept(note("ada").keyed("k", 1).item()).await.unwrap();
    let refused = exam.accept(note("ada").keyed("k", 2).item()).await;
    assert!(matches!(refused, Err(AcceptError::KeyMismatch)));
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 1);
    let mut elsewhere = note("ada").keyed("k", 2);
    elsewhere.notification.app = AppId::from("other");
    assert!(!exam.accept(elsewhere.item()).await.unwrap().replayed, "keys belong to their app");
}

async fn twenty_parallel_accepts_with_one_key_give_one_notification(exam: Exam) {
    let store = exam.shared();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.accept(note("ada").keyed("k", 1).item()).await.unwrap() })
        })
        .collect();
    let mut found = Vec::new();
    for task in tasks {
        found.push(task.await.unwrap());
    }
    assert_eq!(found.iter().filter(|a| !a.replayed).count(), 1);
    assert!(found.iter().all(|a| a.body.notification_id == found[0].body.notification_id));
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().counts.total, 1);
}

async fn an_expired_key_is_absent(exam: Exam) {
    exam.accept(note("ada").keyed("k", 1).item()).await.unwrap();
    exam.pass(DAY + Duration::from_secs(1));
    assert!(!exam.accept(note("ada").keyed("k", 2).item()).await.unwrap().replayed);
    assert!(exam.accept(note("ada").keyed("k", 2).item()).await.unwrap().replayed);
}

async fn suppressions_act_at_insertion(exam: Exam) {
    let (app, email) = (AppId::default(), ChannelName::email());
    exam.add_suppression(&app, &email, "Ada@Example.org", "complaint", &actor()).await.unwrap();
    exam.unsubscribe(&user("bo"), &email, "news").await.unwrap();
    let sent = exam.send(mail("ada").also("bo", &["email", "websocket"]).also("cy", &["email"]).of_type("news")).await;
    let of = |u: &str, c: &str| {
        let d = sent.deliveries.iter().find(|d| d.user_id.as_str() == u && d.channel.as_str() == c).unwrap();
        (d.state, d.reason.clone())
    };
    let suppressed = |why: &str| (ShownState::Stored(DeliveryState::Suppressed), Some(why.to_owned()));
    assert_eq!(of("ada", "email"), suppressed("suppressed_address"));
    assert_eq!(of("bo", "email"), suppressed("unsubscribed"));
    assert_eq!(of("bo", "websocket"), (ShownState::Stored(DeliveryState::Sent), None));
    assert_eq!(of("cy", "email").0, ShownState::Stored(DeliveryState::Pending));
    let other = exam.send(mail("bo").of_type("receipt")).await;
    assert_eq!(other.deliveries[0].state, ShownState::Stored(DeliveryState::Pending), "only that type");
    let policy = exam.send(mail("dan").plan(|p| p.suppressed = Some("no_address".to_owned()))).await;
    assert_eq!(policy.deliveries[0].reason.as_deref(), Some("no_address"));
}

async fn an_older_generation_is_stale(exam: Exam) {
    exam.send(note("ada")).await;
    exam.erase_user(&user("ada"), &actor()).await.unwrap().unwrap();
    let refused = exam.accept(note("ada").item()).await;
    assert!(matches!(refused, Err(AcceptError::Stale)));
    let resolved = exam.resolve(&AppId::default(), &[UserId::from("ada")]).await.unwrap();
    assert_eq!(resolved[0].generation, 1);
    exam.send(note("ada").generation(1)).await;
    let state = exam.feed_state(&user("ada")).await.unwrap();
    assert_eq!((state.head_seq, state.counts.total), (2, 1));
}

async fn users_are_created_by_the_first_send(exam: Exam) {
    assert!(exam.get_user(&user("ada")).await.unwrap().is_none());
    exam.send(note("ada")).await;
    let made = exam.get_user(&user("ada")).await.unwrap().unwrap();
    assert_eq!(made.contact, Contact::default());
    let contact = Contact { email: Some("a@x".to_owned()), ..Contact::default() };
    exam.put_user(&user("ada"), contact.clone()).await.unwrap();
    exam.send(note("ada")).await;
    assert_eq!(exam.get_user(&user("ada")).await.unwrap().unwrap().contact, contact, "a send leaves them alone");
}

async fn fifty_writers_leave_no_gap_in_seq(exam: Exam) {
    let store = exam.shared();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..4 {
                    store.accept(note("ada").item()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let replay = exam.feed_replay(&user("ada"), 0, i64::MAX, 1_000).await.unwrap();
    let seqs: Vec<i64> = replay.items.iter().map(|i| i.seq).collect();
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    let mut pushed: Vec<i64> = exam.heard().pushes.iter().flat_map(|b| &b.users).map(|p| p.seq).collect();
    let in_order = pushed.clone();
    pushed.sort_unstable();
    assert_eq!(pushed, in_order, "pushes come in commit order");
    assert_eq!(pushed.len(), 200);
    exam.assert_counts_hold(&user("ada")).await;
}

async fn content_comes_back_as_it_went_in(exam: Exam) {
    let mut sent = note("a\"da\u{1F514}");
    let data = json!({"a": [1, 2.5, null, {"b": "\u{0}\u{7f}é\\"}], "big": 9_007_199_254_740_993_i64});
    sent.notification.content = Arc::new(Content {
        title: "Quote \" and \\ and \u{1F514}".to_owned(),
        message: "line\nline\u{0}nul".to_owned(),
        notification_type: "t'); DROP TABLE feed; --".to_owned(),
        data: data.as_object().unwrap().clone(),
    });
    sent.notification.trace = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let wanted = sent.notification.clone();
    exam.send(sent).await;
    let row = exam.notification(&AppId::default(), wanted.id, None).await.unwrap().unwrap().row;
    assert_eq!((row.notification.trace, row.sent_by.as_str()), (wanted.trace, "key:of-the-exam"));
    assert!(wanted.trace.is_some());
    let page = exam.feed_page(&user("a\"da\u{1F514}"), None, 10, FeedFilter::All).await.unwrap();
    let item = &page.items[0];
    assert_eq!(item.title, wanted.content.title);
    assert_eq!(item.message, "line\nline\u{fffd}nul", "not every engine's text can hold a NUL, and ingest takes none");
    assert_eq!(item.notification_type, wanted.content.notification_type);
    assert_eq!(item.data, wanted.content.data);
    assert_eq!(item.timestamp, wanted.created_at);
}

async fn a_disabled_user_gets_nothing(exam: Exam) {
    let waiting = exam.send(mail("ada")).await;
    assert!(exam.set_disabled(&user("ada"), true, &actor()).await.unwrap());
    assert!(!exam.set_disabled(&user("ada"), true, &actor()).await.unwrap(), "it was so already");
    let noted = exam.audit(None, 10).await.unwrap();
    assert_eq!(noted.iter().map(|r| (&*r.action, &*r.target)).collect::<Vec<_>>(), [("user.disable", "ada")]);
    assert_eq!(exam.disabled_among(&[user("bo"), user("ada")]).await.unwrap(), [user("ada")]);
    // Planned before the user was disabled.
    let sent = exam.send(note("ada")).await;
    assert_eq!(sent.deliveries[0].reason.as_deref(), Some("user_disabled"));
    let id = waiting.deliveries[0].delivery_id;
    let outcome = exam.claim(&[id], exam.node, LEASE).await.unwrap();
    assert!(matches!(outcome[0], ClaimOutcome::Settled(_)));
    let (state, why) = exam.state_of(id, waiting.id).await;
    assert_eq!((state, why.as_deref()), (DeliveryState::Suppressed, Some("user_disabled")));
}

/// More than one commit takes, for feeds that overlap, and with something between that wants a commit of its own.
async fn what_is_asked_in_an_order_is_fed_in_it(exam: Exam) {
    let notes: Vec<Note> = (0..900)
        .map(|n| match n % 3 {
            0 => note("ada"),
            1 => note("bo").also("ada", &["websocket"]),
            _ => note("cy").also("bo", &["websocket", "email"]),
        })
        .collect();
    let ids: Vec<NotificationId> = notes.iter().map(|n| n.notification.id).collect();
    let asked = notes.into_iter().enumerate().map(|(n, note)| {
        let exam = &exam;
        async move {
            if n % 100 == 50 {
                // Counting feeds locks what only its own reading names, so it shares no transaction.
                exam.audit_counts(None, 10).await.unwrap();
            }
            exam.accept(note.item()).await.unwrap();
        }
    });
    // Polled in this order, each sends its own before it waits; but those that count come later by one commit.
    futures_util::future::join_all(asked).await;
    let late = |n: &usize| n % 100 == 50;
    for (name, to) in [("ada", [true, true, false]), ("bo", [false, true, true]), ("cy", [false, false, true])] {
        let wanted: Vec<NotificationId> = (0..900).filter(|n| to[n % 3] && !late(n)).map(|n| ids[n]).collect();
        let mut got = exam.feed_ids(&user(name), FeedFilter::All).await;
        got.reverse();
        got.retain(|id| ids.iter().position(|i| i == id).is_some_and(|n| !late(&n)));
        assert_eq!(got, wanted, "{name}");
    }
}
