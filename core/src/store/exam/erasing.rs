//! Erasing a person.

use super::*;
use serde_json::json;

pub(super) mod tests {
    crate::store::exam::exam!(
        erasing_takes_everything_that_names_the_user,
        an_erased_address_stands_in_no_evidence,
        an_erase_reaches_the_requests_of_cancelled_crowds,
        nobody_is_erased_twice_over,
    );
}

async fn erasing_takes_everything_that_names_the_user(exam: Exam) {
    let ada = user("ada");
    let contact = Contact { email: Some("ada@example.org".to_owned()), ..Contact::default() };
    exam.put_user(&ada, contact).await.unwrap();
    let mut first = note("ada").also("bo", &["email"]).keyed("k", 1);
    first.request = json!({"to": [{"user_id": "ada", "email": "ada@example.org"}, "bo"], "title": "gone"});
    let first = exam.send(first).await;
    let pending = exam.send(mail("ada")).await;
    let sending = exam.send(mail("ada")).await;
    let dead_one = exam.send(mail("ada")).await;
    let claimed = exam.claim_one(dead_one.deliveries[0].delivery_id).await;
    exam.end(&claimed, dead("permanent")).await;
    let in_flight = exam.claim_one(sending.deliveries[0].delivery_id).await;
    exam.heard();

    let erased = exam.erase_user(&ada, &actor()).await.unwrap().unwrap();
    assert_eq!((erased.cancelled, erased.in_flight, erased.feed_items), (1, 1, 1));
    let state = exam.feed_state(&ada).await.unwrap();
    assert_eq!((state.head_seq, state.min_seq, state.epoch), (1, 2, format!("{}.1", exam.epoch())));
    assert_eq!(state.counts, Counts { version: 2, ..Counts::default() });
    let effects = exam.heard();
    let FeedChangeKind::Erased { epoch, head_seq } = &effects.changes[0].kind else { panic!("{effects:?}") };
    assert_eq!((epoch, *head_seq), (&format!("{}.1", exam.epoch()), 1));
    assert!(effects.changes[0].unread_changed);
    assert!(exam.get_user(&ada).await.unwrap().is_none());
    assert!(exam.feed_ids(&ada, FeedFilter::All).await.is_empty());
    assert_eq!(exam.state_of(pending.deliveries[0].delivery_id, pending.id).await.1.as_deref(), Some("erased"));
    assert_eq!(exam.end(&in_flight, NextStep::RetryIn { delay_ms: 1 }).await, DeliveryState::Cancelled);
    let late = exam.row(in_flight.delivery_id, sending.id).await;
    assert_eq!(late.attempts[0].message, None, "what was said after the erase may name the user too");

    let row = exam.row(claimed.delivery_id, dead_one.id).await;
    assert_eq!((row.recipient, row.attempts[0].message.clone()), (None, None));
    let outcome = exam.replay(&AppId::default(), claimed.delivery_id, &actor()).await.unwrap();
    assert!(matches!(outcome, campanile_model::ports::ReplayOutcome::NotReplayable("erased")), "{outcome:?}");

    let detail = exam.notification(&AppId::default(), first.id, None).await.unwrap().unwrap();
    assert_eq!(detail.row.request, json!({"to": ["bo"]}), "title has its column, the user is out");
    let again = exam.accept(note("ada").keyed("k", 1).item()).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.body.deliveries.unwrap().len(), 1, "the stored answer names only bo");
}

async fn an_erased_address_stands_in_no_evidence(exam: Exam) {
    let suspect = async |note: Note| {
        let claimed = exam.claim_one(exam.send(note).await.deliveries[0].delivery_id).await;
        let fault = AddressFault::Suspect { kind: "disabled", limit: 2, days: 30 };
        exam.finish(Finish { address_fault: Some(fault), ..finish(&claimed, dead("permanent")) }).await.unwrap();
    };
    suspect(mail("ada")).await;
    exam.erase_user(&user("ada"), &actor()).await.unwrap().unwrap();
    // Somebody else with that address begins without the past of the erased one.
    let other = mail("bo").plan(|p| p.recipient = Some("ada@example.org".to_owned()));
    suspect(other).await;
    assert!(exam.suppressions(&AppId::default(), None, 10).await.unwrap().is_empty());
}

async fn an_erase_reaches_the_requests_of_cancelled_crowds(exam: Exam) {
    let mut crowd = bare();
    let recipients = ["ada", "bo"]
        .map(|u| RecipientSpec { user_id: UserId::from(u), addresses: std::collections::BTreeMap::default() });
    crowd.deferred = Some(AudienceSpec { recipients: recipients.to_vec(), channels: None });
    crowd.request = json!({"to": [{"user_id": "ada", "email": "ada@example.org"}, "bo"]});
    let id = crowd.notification.id;
    exam.accept(crowd.item()).await.unwrap();
    exam.cancel(&AppId::default(), id, &actor()).await.unwrap();
    exam.put_user(&user("ada"), Contact::default()).await.unwrap();
    exam.erase_user(&user("ada"), &actor()).await.unwrap().unwrap();
    let detail = exam.notification(&AppId::default(), id, None).await.unwrap().unwrap();
    assert_eq!(detail.row.request, json!({"to": ["bo"]}));
}

async fn nobody_is_erased_twice_over(exam: Exam) {
    assert!(exam.erase_user(&user("nobody"), &actor()).await.unwrap().is_none());
    exam.put_user(&user("ada"), Contact::default()).await.unwrap();
    assert!(exam.erase_user(&user("ada"), &actor()).await.unwrap().is_some());
    let resolved = exam.resolve(&AppId::default(), &[UserId::from("ada")]).await.unwrap();
    assert_eq!(resolved[0].generation, 1, "an address planned before must not come back");
    assert!(exam.audit(None, 10).await.unwrap().iter().any(|row| row.action == "user.erase"));
}
