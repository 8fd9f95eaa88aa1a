//! Claim, finish, leases, retries, the relay's steps, evidence against addresses.

use super::*;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        claiming_skips_rows_taken_by_another_worker,
        claiming_asks_every_condition,
        claiming_hears_suppressions_that_came_later,
        a_claim_tells_what_a_worker_needs,
        finish_is_fenced,
        a_finish_of_an_unknown_delivery_costs_only_itself,
        a_retry_waits_for_its_time,
        a_finish_starts_the_relay_anew,
        a_doubt_is_kept_with_the_attempt,
        an_in_app_item_waits_for_its_time,
        cancel_during_sending_stops_the_next_try,
        cancel_during_sending_does_not_undo_a_send,
        a_lapsed_lease_is_a_lost_attempt,
        the_fourth_loss_is_poison,
        a_rescue_hears_a_stop,
        given_back_leases_count_no_loss,
        every_lease_lapses_at_start,
        renewing_holds_a_lease,
        the_relay_steps_away_from_what_it_published,
        a_broker_that_was_away_is_brought_rows_again,
        the_relay_goes_by_priority_and_due_time,
        the_relay_leaves_out_what_it_is_told_to,
        a_gone_address_is_suppressed_at_once,
        a_suspect_address_is_suppressed_after_enough,
    );
}

async fn claiming_skips_rows_taken_by_another_worker(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    let store = exam.shared();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.claim(&[id, id], NodeId::new(), LEASE).await.unwrap() })
        })
        .collect();
    let mut claimed = 0;
    for task in tasks {
        claimed += task.await.unwrap().iter().filter(|o| matches!(o, ClaimOutcome::Claimed(_))).count();
    }
    assert_eq!(claimed, 1);
}

async fn claiming_asks_every_condition(exam: Exam) {
    let now = exam.now().await.unwrap();
    let later = exam.send(mail("a").at(now + Duration::from_mins(1))).await.deliveries[0].delivery_id;
    let expiring = exam.send(mail("b").until(now + Duration::from_secs(5))).await.deliveries[0].delivery_id;
    let cancelled = exam.send(mail("c")).await;
    exam.cancel(&AppId::default(), cancelled.id, &actor()).await.unwrap().unwrap();
    let in_app = exam.send(note("d").at(now + Duration::from_secs(1))).await.deliveries[0].delivery_id;
    let paused = exam.send(mail("e").plan(|p| p.channel = ChannelName::from("sms"))).await.deliveries[0].delivery_id;
    exam.pause(&ChannelName::from("sms"), None, None, &actor()).await.unwrap();
    exam.pass(Duration::from_secs(10));
    let unknown = DeliveryId::new();
    let asked = [later, expiring, cancelled.deliveries[0].delivery_id, in_app, paused, unknown];
    let outcomes = exam.claim(&asked, exam.node, LEASE).await.unwrap();
    for (id, outcome) in asked.iter().zip(&outcomes) {
        assert!(matches!(outcome, ClaimOutcome::NotOurs(x) if x == id), "{outcome:?}");
    }
    exam.pass(Duration::from_mins(1));
    assert_eq!(exam.claim_one(later).await.attempt, 1);
}

async fn claiming_hears_suppressions_that_came_later(exam: Exam) {
    let (app, email) = (AppId::default(), ChannelName::email());
    let address = exam.send(mail("ada")).await;
    let type_ = exam.send(mail("bo").of_type("news")).await;
    exam.add_suppression(&app, &email, "ada@example.org", "complaint", &actor()).await.unwrap();
    exam.unsubscribe(&user("bo"), &email, "news").await.unwrap();
    exam.heard();
    for (sent, why) in [(&address, "suppressed_address"), (&type_, "unsubscribed")] {
        let id = sent.deliveries[0].delivery_id;
        let outcome = exam.claim(&[id], exam.node, LEASE).await.unwrap();
        assert!(matches!(outcome[0], ClaimOutcome::Settled(_)));
        let row = exam.row(id, sent.id).await;
        assert_eq!((row.state, row.reason.as_deref(), row.attempt), (DeliveryState::Suppressed, Some(why), 0));
        assert!(row.attempts.is_empty());
    }
    assert_eq!(exam.heard().transitions.len(), 2);
}

async fn a_claim_tells_what_a_worker_needs(exam: Exam) {
    let contact = Contact { locale: Some("de".to_owned()), ..Contact::default() };
    exam.put_user(&user("ada"), contact).await.unwrap();
    let sent = exam.send(mail("ada").also("bo", &["email"])).await;
    exam.pause(&ChannelName::email(), None, None, &actor()).await.unwrap();
    exam.pass(Duration::from_secs(100));
    exam.resume(&ChannelName::email(), &actor()).await.unwrap();
    exam.pass(Duration::from_secs(10));
    let ids: Vec<_> = sent.deliveries.iter().map(|d| d.delivery_id).collect();
    let claimed: Vec<Claimed> = exam
        .claim(&ids, exam.node, LEASE)
        .await
        .unwrap()
        .into_iter()
        .map(|o| match o {
            ClaimOutcome::Claimed(c) => *c,
            other => panic!("{other:?}"),
        })
        .collect();
    let ada = &claimed[0];
    assert_eq!((ada.delivery_id, ada.attempt, ada.spent, ada.losses), (ids[0], 1, 0, 0));
    assert_eq!(ada.recipient.as_deref(), Some("ada@example.org"));
    assert_eq!(ada.locale.as_deref(), Some("de"));
    assert_eq!(ada.notification.content.title, "Title");
    assert!(std::sync::Arc::ptr_eq(&ada.notification, &claimed[1].notification), "one notification is shared");
    assert!((10_000..60_000).contains(&ada.age_ms), "paused time does not age: {}", ada.age_ms);
}

async fn finish_is_fenced(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    let first = exam.claim_one(id).await;
    exam.pass(LEASE + Duration::from_secs(1));
    assert_eq!(exam.rescue(10).await.unwrap(), 1);
    let second = exam.claim_one(id).await;
    assert_eq!(second.attempt, 2);
    exam.heard();
    // The first worker wakes up.
    let late = exam.finish(finish(&first, dead("permanent"))).await.unwrap();
    assert!(!late.ours);
    assert_eq!(late.state, DeliveryState::Sending);
    assert!(exam.heard().transitions.is_empty());
    assert_eq!(exam.end(&second, NextStep::Sent).await, DeliveryState::Sent);
    let again = exam.finish(finish(&second, dead("permanent"))).await.unwrap();
    assert!(!again.ours, "finishing twice changes nothing");
    let row = exam.row(id, sent.id).await;
    assert_eq!(row.state, DeliveryState::Sent);
    let attempts: Vec<_> = row.attempts.iter().map(|a| (a.attempt, a.outcome.as_str(), a.uncertain)).collect();
    assert_eq!(attempts, [(1, "lost", true), (2, "ok", false)], "the sweeper's record stays");
}

async fn a_finish_of_an_unknown_delivery_costs_only_itself(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
    let mut unknown = finish(&claimed, NextStep::Sent);
    unknown.delivery_id = DeliveryId::new();
    let (bad, good) = tokio::join!(exam.finish(unknown), exam.finish(finish(&claimed, NextStep::Sent)));
    assert!(matches!(bad, Err(StoreError::Row { table: "deliveries", .. })));
    assert!(good.unwrap().ours);
}

async fn a_retry_waits_for_its_time(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    exam.relay_due(10, &[]).await.unwrap();
    let claimed = exam.claim_one(id).await;
    assert_eq!(exam.end(&claimed, NextStep::RetryIn { delay_ms: 30_000 }).await, DeliveryState::Retrying);
    assert!(exam.relay_due(10, &[]).await.unwrap().is_empty());
    assert!(matches!(exam.claim(&[id], exam.node, LEASE).await.unwrap()[0], ClaimOutcome::NotOurs(_)));
    exam.pass(Duration::from_secs(31));
    assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1);
    let second = exam.claim_one(id).await;
    assert_eq!((second.attempt, second.spent), (2, 1));
    let mut throttled = finish(&second, NextStep::RetryIn { delay_ms: 0 });
    throttled.spend = false;
    exam.finish(throttled).await.unwrap();
    let third = exam.claim_one(id).await;
    assert_eq!((third.attempt, third.spent), (3, 1));
    exam.heard();
    assert_eq!(exam.end(&third, NextStep::Sent).await, DeliveryState::Sent);
    let arrival = exam.heard().transitions.remove(0);
    assert!(arrival.latency_ms.unwrap() >= 31_000, "from acceptance: {arrival:?}");
    assert_eq!(arrival.attempt, 3);
}

async fn a_finish_starts_the_relay_anew(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    // Published so often that the relay would now wait for two minutes.
    for step in [11, 61, 0] {
        assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1);
        exam.pass(Duration::from_secs(step));
    }
    let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
    exam.end(&claimed, NextStep::RetryIn { delay_ms: 1_000 }).await;
    for step in [2, 11] {
        exam.pass(Duration::from_secs(step));
        assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1, "{step} s later");
    }
}

async fn a_doubt_is_kept_with_the_attempt(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    let claimed = exam.claim_one(id).await;
    let mut doubtful = finish(&claimed, NextStep::RetryIn { delay_ms: 0 });
    doubtful.uncertain = true;
    exam.finish(doubtful).await.unwrap();
    let second = exam.claim_one(id).await;
    exam.end(&second, NextStep::Sent).await;
    let attempts: Vec<_> = exam.row(id, sent.id).await.attempts.iter().map(|a| (a.attempt, a.uncertain)).collect();
    assert_eq!(attempts, [(1, true), (2, false)]);
}

async fn an_in_app_item_waits_for_its_time(exam: Exam) {
    let due = exam.now().await.unwrap() + Duration::from_mins(1);
    let sent = exam.send(note("ada").at(due)).await;
    let id = sent.deliveries[0].delivery_id;
    assert_eq!(exam.complete_in_app(&[id]).await.unwrap(), 0, "a message of the queue may be early");
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 0);
    exam.pass(Duration::from_secs(61));
    assert_eq!(exam.complete_in_app(&[id]).await.unwrap(), 1);
    assert_eq!(exam.feed_state(&user("ada")).await.unwrap().head_seq, 1);
}

async fn cancel_during_sending_stops_the_next_try(exam: Exam) {
    let sent = exam.send(mail("ada").also("bo", &["email", "websocket"])).await;
    let id = sent.deliveries[0].delivery_id;
    let claimed = exam.claim_one(id).await;
    let outcome = exam.cancel(&AppId::default(), sent.id, &actor()).await.unwrap().unwrap();
    assert_eq!((outcome.cancelled, outcome.in_flight, outcome.already_sent), (1, 1, 1));
    assert_eq!(exam.end(&claimed, NextStep::RetryIn { delay_ms: 1 }).await, DeliveryState::Cancelled);
    assert_eq!(exam.state_of(id, sent.id).await.1.as_deref(), Some("cancelled"));
    assert_eq!(exam.feed_state(&user("bo")).await.unwrap().counts.total, 1, "cancel never touches the feed");
    assert!(exam.cancel(&AppId::from("other"), sent.id, &actor()).await.unwrap().is_none());
}

async fn cancel_during_sending_does_not_undo_a_send(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
    exam.cancel(&AppId::default(), sent.id, &actor()).await.unwrap().unwrap();
    assert_eq!(exam.end(&claimed, NextStep::Sent).await, DeliveryState::Sent);
}

async fn a_lapsed_lease_is_a_lost_attempt(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    exam.claim_one(id).await;
    assert_eq!(exam.rescue(10).await.unwrap(), 0, "the lease holds");
    exam.pass(LEASE + Duration::from_secs(1));
    assert_eq!(exam.rescue(10).await.unwrap(), 1);
    assert_eq!(exam.rescue(10).await.unwrap(), 0);
    let row = exam.row(id, sent.id).await;
    assert_eq!(row.state, DeliveryState::Retrying);
    let lost = &row.attempts[0];
    assert_eq!((lost.outcome.as_str(), lost.uncertain), ("lost", true));
    assert!(lost.duration_ms >= 60_000);
    assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1, "due at once");
    let again = exam.claim_one(id).await;
    assert_eq!((again.attempt, again.spent, again.losses), (2, 0, 1), "a lost attempt spends nothing");
}

async fn the_fourth_loss_is_poison(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    for loss in 1..=4 {
        assert_eq!(exam.claim_one(id).await.losses, loss - 1);
        exam.pass(LEASE + Duration::from_secs(1));
        assert_eq!(exam.rescue(10).await.unwrap(), 1);
    }
    let (state, why) = exam.state_of(id, sent.id).await;
    assert_eq!((state, why.as_deref()), (DeliveryState::Dead, Some("poison")));
}

async fn a_rescue_hears_a_stop(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    exam.claim_one(id).await;
    exam.cancel(&AppId::default(), sent.id, &actor()).await.unwrap();
    exam.pass(LEASE + Duration::from_secs(1));
    exam.rescue(10).await.unwrap();
    assert_eq!(exam.state_of(id, sent.id).await.0, DeliveryState::Cancelled);
}

async fn given_back_leases_count_no_loss(exam: Exam) {
    let sent = exam.send(mail("ada").also("bo", &["email"]).also("cy", &["email"])).await;
    let ids: Vec<_> = sent.deliveries.iter().map(|d| d.delivery_id).collect();
    let (mine, other) = (exam.node, NodeId::new());
    exam.claim(&ids[..2], mine, LEASE).await.unwrap();
    exam.claim(&ids[2..], other, LEASE).await.unwrap();
    assert_eq!(exam.give_back(mine, Some(&ids)).await.unwrap(), 2, "only our own");
    assert_eq!(exam.give_back(mine, None).await.unwrap(), 0);
    let again = exam.claim_one(ids[0]).await;
    assert_eq!((again.attempt, again.losses, again.spent), (2, 0, 0));
    assert_eq!(exam.give_back(mine, None).await.unwrap(), 1);
    assert!(exam.row(ids[0], sent.id).await.attempts.is_empty());
}

async fn every_lease_lapses_at_start(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    exam.claim_one(sent.deliveries[0].delivery_id).await;
    assert_eq!(exam.lapse_all_leases().await.unwrap(), 1);
    assert_eq!(exam.rescue(10).await.unwrap(), 1);
}

async fn renewing_holds_a_lease(exam: Exam) {
    let sent = exam.send(mail("ada").also("bo", &["email"])).await;
    let (a, b) = (sent.deliveries[0].delivery_id, sent.deliveries[1].delivery_id);
    exam.claim(&[a, b], exam.node, LEASE).await.unwrap();
    exam.pass(Duration::from_secs(40));
    assert_eq!(exam.renew(exam.node, &[(a, 1), (b, 7)], LEASE).await.unwrap(), [a], "the attempt is part of the lease");
    assert!(exam.renew(NodeId::new(), &[(a, 1)], LEASE).await.unwrap().is_empty());
    exam.pass(Duration::from_secs(30));
    assert_eq!(exam.rescue(10).await.unwrap(), 1, "only the one not renewed");
    assert_eq!(exam.renew(exam.node, &[(b, 1)], LEASE).await.unwrap(), []);
}

async fn the_relay_steps_away_from_what_it_published(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    let mut waits = Vec::new();
    for step in [10, 60, 120, 120] {
        assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1);
        exam.pass(Duration::from_secs(step - 1));
        waits.push(exam.relay_due(10, &[]).await.unwrap().len());
        exam.pass(Duration::from_secs(2));
    }
    assert_eq!(waits, [0; 4]);
    exam.relay_due(10, &[]).await.unwrap();
    exam.relay_failed(&[id]).await.unwrap();
    assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 1, "a failed publish is due again at once");
}

async fn a_broker_that_was_away_is_brought_rows_again(exam: Exam) {
    let (email, sms) = (ChannelName::email(), ChannelName::from("sms"));
    // Three that were published so often that they would wait for long, one of another channel, one that is claimed, and
    // one whose time has not come.
    let mut waiting = Vec::new();
    for user in ["ada", "bob", "cyd"] {
        waiting.push(exam.send(mail(user)).await.deliveries[0].delivery_id);
    }
    exam.send(mail("dan").plan(|p| p.channel = ChannelName::from("sms"))).await;
    let taken = exam.send(mail("eve")).await.deliveries[0].delivery_id;
    for step in [11, 1] {
        assert_eq!(exam.relay_due(10, &[]).await.unwrap().len(), 5);
        exam.pass(Duration::from_secs(step));
    }
    exam.claim_one(taken).await;
    let later = exam.now().await.unwrap() + Duration::from_secs(40);
    exam.send(mail("fay").at(later)).await;
    assert!(exam.relay_due(10, &[]).await.unwrap().is_empty());

    let again = async |limit| exam.relay_again(&email, limit).await.unwrap();
    assert_eq!((again(2).await, again(2).await, again(2).await), (2, 1, 0), "in batches");
    let mut due: Vec<_> = exam.relay_due(10, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    due.sort_unstable();
    waiting.sort_unstable();
    assert_eq!(due, waiting);
    assert_eq!(again(10).await, 0, "what was just brought is left to its first step, whoever asks");
    exam.pass(Duration::from_secs(11));
    assert_eq!(exam.relay_due(10, std::slice::from_ref(&sms)).await.unwrap().len(), 3, "which is the first one again");
}

async fn the_relay_goes_by_priority_and_due_time(exam: Exam) {
    let now = exam.now().await.unwrap();
    let mut wanted = Vec::new();
    for (priority, seconds) in
        [(Priority::Low, 1), (Priority::Normal, 3), (Priority::High, 4), (Priority::Normal, 2), (Priority::High, 2)]
    {
        let due = now + Duration::from_secs(seconds);
        let sent = exam.send(mail("ada").priority(priority).at(due)).await;
        wanted.push(((priority.rank(), seconds), sent.deliveries[0].delivery_id));
    }
    exam.pass(Duration::from_secs(10));
    wanted.sort_unstable_by_key(|(order, _)| *order);
    let wanted: Vec<_> = wanted.into_iter().map(|(_, id)| id).collect();
    let first: Vec<_> = exam.relay_due(3, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    let rest: Vec<_> = exam.relay_due(3, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    assert_eq!([first, rest].concat(), wanted);
}

async fn the_relay_leaves_out_what_it_is_told_to(exam: Exam) {
    let sms = ChannelName::from("sms");
    exam.send(mail("ada")).await;
    exam.send(mail("ada").plan(|p| p.channel = ChannelName::from("sms"))).await;
    exam.pause(&ChannelName::email(), None, None, &actor()).await.unwrap();
    assert!(exam.relay_due(10, std::slice::from_ref(&sms)).await.unwrap().is_empty());
    let relayed = exam.relay_due(10, &[]).await.unwrap();
    assert_eq!(relayed.iter().map(|r| r.channel.clone()).collect::<Vec<_>>(), [sms]);
}

async fn a_gone_address_is_suppressed_at_once(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
    let mut gone = finish(&claimed, dead("recipient_gone"));
    gone.address_fault = Some(AddressFault::Gone);
    exam.finish(gone).await.unwrap();
    let listed = exam.suppressions(&AppId::default(), None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].address.as_deref(), Some("ada@example.org"));
    assert_eq!(listed[0].reason, "recipient_gone");
    let next = exam.send(mail("ada")).await;
    assert_eq!(next.deliveries[0].reason.as_deref(), Some("suppressed_address"));
    assert!(exam.lift_suppression(&AppId::default(), &listed[0].id, &actor()).await.unwrap());
    assert!(!exam.lift_suppression(&AppId::default(), &listed[0].id, &actor()).await.unwrap());
    let next = exam.send(mail("ada")).await;
    assert_eq!(next.deliveries[0].state, ShownState::Stored(DeliveryState::Pending));
}

async fn a_suspect_address_is_suppressed_after_enough(exam: Exam) {
    let fault = AddressFault::Suspect { kind: "mailbox_disabled", limit: 3, days: 7 };
    let suppressed = async || !exam.suppressions(&AppId::default(), None, 10).await.unwrap().is_empty();
    for (n, days) in [(1, 0), (2, 8), (3, 1), (4, 1)] {
        exam.pass(DAY * days);
        assert!(!suppressed().await, "before fault {n}");
        let sent = exam.send(mail("ada")).await;
        let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
        let mut suspect = finish(&claimed, dead("permanent"));
        suspect.address_fault = Some(fault);
        exam.finish(suspect).await.unwrap();
    }
    assert!(suppressed().await, "three within seven days");
}
