//! What operators see and do: details, lists, dead letters, replay, queues, audit, poison.

use super::*;
use campanile_model::ports::{DeadFilter, NotificationFilter, ReplayOutcome};
use serde_json::json;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_notification_shows_its_deliveries_by_hundreds,
        lists_filter_and_page,
        a_replay_is_taken_once,
        a_replay_resolves_its_recipient_again,
        what_must_not_come_back_is_not_replayed,
        queue_stats_count_each_row_once,
        the_audit_log_is_in_order,
        poison_is_kept_once,
    );
}

async fn a_notification_shows_its_deliveries_by_hundreds(exam: Exam) {
    let mut many = bare();
    for i in 0..120 {
        many = many.also(&format!("u{i:03}"), &["websocket"]);
    }
    let id = exam.send(many).await.id;
    let first = exam.notification(&AppId::default(), id, None).await.unwrap().unwrap();
    assert_eq!((first.deliveries.len(), first.summary[0].1), (100, 120));
    let rest = exam.notification(&AppId::default(), id, first.next).await.unwrap().unwrap();
    assert_eq!((rest.deliveries.len(), rest.next), (20, None));
    assert!(rest.deliveries.iter().all(|d| first.deliveries.iter().all(|f| f.id != d.id)));
    exam.mark(&user("u000"), ids(&[id]), MarkAs::Read).await.unwrap();
    let marked = exam.notification(&AppId::default(), id, None).await.unwrap().unwrap();
    assert!(marked.deliveries.iter().any(|d| d.read_at.is_some() && d.seen_at.is_some()));
}

async fn lists_filter_and_page(exam: Exam) {
    let a = exam.send(note("ada").of_type("news")).await.id;
    let b = exam.send(mail("bo").keyed("key", 1)).await.id;
    let c = exam.send(note("ada")).await.id;
    let list = async |change: &dyn Fn(&mut NotificationFilter)| {
        let mut filter = NotificationFilter { limit: 10, ..NotificationFilter::default() };
        change(&mut filter);
        let rows = exam.notifications(&filter).await.unwrap();
        rows.iter().map(|(row, _)| row.notification.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&|_| {}).await, [c, b, a]);
    assert_eq!(list(&|f| f.limit = 2).await, [c, b]);
    assert_eq!(list(&|f| f.before = Some(b)).await, [a]);
    assert_eq!(list(&|f| f.user = Some(UserId::from("ada"))).await, [c, a]);
    assert_eq!(list(&|f| f.notification_type = Some("news".to_owned())).await, [a]);
    assert_eq!(list(&|f| f.channel = Some(ChannelName::email())).await, [b]);
    let later = exam.now().await.unwrap() + Duration::from_hours(1);
    let d = exam.send(mail("cy").at(later)).await.id;
    let shown = async |state| list(&|f| f.state = Some(state)).await;
    assert_eq!(shown(ShownState::Stored(DeliveryState::Sent)).await, [c, a]);
    assert_eq!(shown(ShownState::Stored(DeliveryState::Pending)).await, [b], "what is due");
    assert_eq!(shown(ShownState::Scheduled).await, [d]);
    exam.cancel(&AppId::default(), d, &actor()).await.unwrap();
    assert_eq!(shown(ShownState::Scheduled).await, []);
    assert_eq!(list(&|f| f.idempotency_key = Some("key".to_owned())).await, [b]);
    assert_eq!(list(&|f| f.since = Some(at(1))).await, [d, c, b, a]);
    assert_eq!(list(&|f| f.until = Some(at(0))).await, []);
    assert_eq!(list(&|f| f.app = AppId::from("other")).await, []);
}

async fn a_dead(exam: &Exam, note: Note) -> (DeliveryId, NotificationId) {
    let sent = exam.send(note).await;
    let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
    exam.end(&claimed, dead("permanent")).await;
    (claimed.delivery_id, sent.id)
}

async fn a_replay_is_taken_once(exam: Exam) {
    exam.put_user(&user("ada"), Contact { email: Some("new@x".to_owned()), ..Contact::default() }).await.unwrap();
    let (id, notification) = a_dead(&exam, mail("ada")).await;
    let filter = DeadFilter { limit: 10, reason: Some("permanent".to_owned()), ..DeadFilter::default() };
    assert_eq!(exam.dead_letters(&filter).await.unwrap()[0].id, id);
    let store = exam.shared();
    let app = AppId::default();
    let who = actor();
    let (one, two) = tokio::join!(store.replay(&app, id, &who), exam.replay(&app, id, &who));
    let replayed = [one.unwrap(), two.unwrap()].iter().filter(|o| matches!(o, ReplayOutcome::Replayed)).count();
    assert_eq!(replayed, 1);
    assert_eq!(exam.audit(None, 10).await.unwrap().iter().filter(|r| r.action == "delivery.replay").count(), 1);
    assert!(exam.dead_letters(&filter).await.unwrap().is_empty());
    let again = exam.claim_one(id).await;
    assert_eq!((again.attempt, again.spent, again.losses), (2, 0, 0), "the attempt number only grows");
    exam.end(&again, NextStep::Sent).await;
    assert_eq!(exam.row(id, notification).await.attempts.len(), 2);
    let missing = exam.replay(&AppId::default(), DeliveryId::new(), &actor()).await.unwrap();
    assert!(matches!(missing, ReplayOutcome::NotFound));
    let foreign = exam.replay(&AppId::from("other"), id, &actor()).await.unwrap();
    assert!(matches!(foreign, ReplayOutcome::NotFound));
}

async fn a_replay_resolves_its_recipient_again(exam: Exam) {
    let (resolved, _) = a_dead(&exam, mail("ada")).await;
    let (inline, _) = a_dead(&exam, mail("ada").plan(|p| p.recipient_inline = true)).await;
    let outcome = exam.replay(&AppId::default(), resolved, &actor()).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::NotReplayable("no_address")), "{outcome:?}");
    exam.put_user(&user("ada"), Contact { email: Some("new@x".to_owned()), ..Contact::default() }).await.unwrap();
    for (id, address) in [(resolved, "new@x"), (inline, "ada@example.org")] {
        assert!(matches!(exam.replay(&AppId::default(), id, &actor()).await.unwrap(), ReplayOutcome::Replayed));
        assert_eq!(exam.claim_one(id).await.recipient.as_deref(), Some(address));
    }
}

async fn what_must_not_come_back_is_not_replayed(exam: Exam) {
    let soon = exam.now().await.unwrap() + Duration::from_secs(5);
    let inline = |note: Note| note.plan(|p| p.recipient_inline = true);
    let (cancelled, notification) = a_dead(&exam, inline(mail("ada"))).await;
    exam.cancel(&AppId::default(), notification, &actor()).await.unwrap();
    let (expired, _) = a_dead(&exam, inline(mail("ada")).until(soon)).await;
    let (suppressed, _) = a_dead(&exam, inline(mail("bo"))).await;
    exam.add_suppression(&AppId::default(), &ChannelName::email(), "bo@example.org", "complaint", &actor())
        .await
        .unwrap();
    let waiting = exam.send(mail("cy")).await.deliveries[0].delivery_id;
    exam.pass(Duration::from_secs(6));
    for (id, wanted) in
        [(cancelled, "cancelled"), (expired, "expired"), (suppressed, "suppressed_address"), (waiting, "not_dead")]
    {
        let outcome = exam.replay(&AppId::default(), id, &actor()).await.unwrap();
        assert!(matches!(outcome, ReplayOutcome::NotReplayable(why) if why == wanted), "{wanted}: {outcome:?}");
    }
}

async fn queue_stats_count_each_row_once(exam: Exam) {
    let later = exam.now().await.unwrap() + Duration::from_hours(1);
    exam.send(mail("a")).await;
    exam.send(mail("b").at(later)).await;
    let c = exam.send(mail("c")).await.deliveries[0].delivery_id;
    exam.claim_one(c).await;
    let d = exam.claim_one(exam.send(mail("d")).await.deliveries[0].delivery_id).await;
    exam.end(&d, NextStep::RetryIn { delay_ms: 60_000 }).await;
    a_dead(&exam, mail("e")).await;
    exam.send(note("f")).await;
    let stats = exam.queue_stats().await.unwrap();
    let email = stats.iter().find(|s| s.channel == "email").unwrap();
    assert_eq!(
        (email.ready, email.scheduled, email.in_flight, email.retrying, email.held, email.dead),
        (1, 1, 1, 1, 0, 1)
    );
    assert!(email.oldest_age_ms.is_some());
    assert!(stats.iter().all(|s| s.channel != "websocket"), "settled rows are no queue");
    exam.pause(&ChannelName::email(), None, None, &actor()).await.unwrap();
    let stats = exam.queue_stats().await.unwrap();
    assert_eq!((stats[0].ready, stats[0].held, stats[0].retrying), (0, 1, 1));
}

async fn the_audit_log_is_in_order(exam: Exam) {
    let email = ChannelName::email();
    exam.pause(&email, None, Some("relay broken"), &actor()).await.unwrap();
    exam.resume(&email, &actor()).await.unwrap();
    let rows = exam.audit(None, 10).await.unwrap();
    let said: Vec<_> = rows.iter().map(|r| (r.action.as_str(), r.target.as_str(), r.actor.as_str())).collect();
    assert_eq!(said, [("channel.resume", "email", "operator"), ("channel.pause", "email", "operator")]);
    assert_eq!(rows[1].detail.as_ref().unwrap()["reason"], "relay broken");
    assert_eq!(exam.audit(Some(rows[0].id), 10).await.unwrap().len(), 1);
    exam.note(&actor(), "connection.close", "c1", Some(json!({"why": "revoked"}))).await.unwrap();
    let row = exam.audit(None, 1).await.unwrap().remove(0);
    assert_eq!((&*row.action, &*row.target, &*row.actor), ("connection.close", "c1", "operator"));
    assert_eq!(row.detail.unwrap()["why"], "revoked");
}

async fn poison_is_kept_once(exam: Exam) {
    exam.add_poison("amqp", b"{nonsense\xff", "not JSON", Some("{}")).await.unwrap();
    exam.add_poison("amqp", b"{nonsense\xff", "not JSON", Some("{}")).await.unwrap();
    exam.add_poison("amqp", b"{nonsense\xff", "not JSON", Some(r#"{"message_id":"b"}"#)).await.unwrap();
    exam.add_poison("amqp", b"other", "not JSON", None).await.unwrap();
    let rows = exam.poison(None, 10).await.unwrap();
    assert_eq!(rows.len(), 3, "the same message once, the same body in another message again");
    assert_eq!(rows[2].raw, "{nonsense\u{fffd}");
    assert_eq!(rows[1].headers.as_deref(), Some(r#"{"message_id":"b"}"#));
    assert_eq!(exam.poison(Some(rows[0].id), 10).await.unwrap().len(), 2);
}
