//! Users, suppressions, keys, tickets.

use super::*;
use campanile_model::{
    KeyId,
    ports::{ApiKey, KeyCalls, KeyUse, KeyUseBy, Scope, Ticket, UseKind},
};
use std::{collections::BTreeMap, time::Duration};

pub(super) mod tests {
    crate::store::exam::exam!(
        contact_points_are_replaced,
        users_resolve_in_the_order_asked,
        unsubscribing_is_idempotent_and_listed,
        keys_are_kept_found_and_revoked,
        a_ticket_is_used_once,
        the_first_secret_of_a_name_is_everybodys,
    );
}

async fn contact_points_are_replaced(exam: Exam) {
    let addresses = BTreeMap::from([(ChannelName::from("sms"), "+49".to_owned())]);
    let full = Contact { email: Some("a@x".to_owned()), locale: None, timezone: Some("UTC".to_owned()), addresses };
    let made = exam.put_user(&user("ada"), full.clone()).await.unwrap();
    assert_eq!(made.contact, full);
    exam.pass(Duration::from_secs(5));
    let replaced = exam.put_user(&user("ada"), Contact::default()).await.unwrap();
    assert_eq!(replaced.contact, Contact::default());
    assert!(replaced.updated_at > replaced.created_at);
    assert_eq!(replaced.created_at, made.created_at);
    assert!(!exam.set_disabled(&user("nobody"), true, &actor()).await.unwrap());
}

async fn users_resolve_in_the_order_asked(exam: Exam) {
    exam.put_user(&user("bo"), Contact { email: Some("b@x".to_owned()), ..Contact::default() }).await.unwrap();
    exam.set_disabled(&user("bo"), true, &actor()).await.unwrap();
    let users: Vec<UserId> = ["ada", "bo", "cy", "bo"].map(UserId::from).to_vec();
    let resolved = exam.resolve(&AppId::default(), &users).await.unwrap();
    assert_eq!(resolved.iter().map(|r| r.disabled).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(resolved[1].contact.email.as_deref(), Some("b@x"));
    assert_eq!(resolved[0].contact, Contact::default());
}

async fn unsubscribing_is_idempotent_and_listed(exam: Exam) {
    let sent = exam.send(mail("ada").of_type("news")).await;
    let target = exam.unsubscribe_target(sent.deliveries[0].delivery_id).await.unwrap().unwrap();
    assert_eq!(target, (user("ada"), ChannelName::email(), "news".to_owned()));
    assert!(exam.unsubscribe_target(DeliveryId::new()).await.unwrap().is_none());
    for _ in 0..2 {
        exam.unsubscribe(&target.0, &target.1, &target.2).await.unwrap();
    }
    exam.add_suppression(&AppId::default(), &ChannelName::email(), "x@y", "complaint", &actor()).await.unwrap();
    let first = exam.suppressions(&AppId::default(), None, 1).await.unwrap();
    let rest = exam.suppressions(&AppId::default(), Some(first[0].id.clone()), 10).await.unwrap();
    assert_eq!((first.len(), rest.len()), (1, 1));
    let both = [first, rest].concat();
    assert!(
        both.iter().any(|s| s.user_id == Some(UserId::from("ada")) && s.notification_type.as_deref() == Some("news"))
    );
    assert!(both.iter().any(|s| s.address.as_deref() == Some("x@y")));
}

async fn keys_are_kept_found_and_revoked(exam: Exam) {
    let now = exam.now().await.unwrap();
    let key = ApiKey {
        id: KeyId::new(),
        app: AppId::from("shop"),
        name: "checkout".to_owned(),
        secret_hash: [7; 32],
        scopes: vec![Scope::Send, Scope::Read],
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
        last_used_for: None,
        networks: Vec::new(),
        created_by: None,
    };
    assert!(exam.app_exists(&AppId::default()).await.unwrap(), "the default app needs no key");
    assert!(!exam.app_exists(&key.app).await.unwrap());
    exam.create_key(key.clone(), &actor()).await.unwrap();
    assert!(exam.app_exists(&key.app).await.unwrap(), "made with its first key");
    let by = |kind, name: &str, calls| KeyUseBy { kind, name: name.to_owned(), calls };
    let used = |at, route: &str| KeyUse {
        key: key.id,
        at,
        address: Some("203.0.113.7".to_owned()),
        route: route.to_owned(),
        calls: 10,
        refused: 3,
        denied: 2,
        by: vec![by(UseKind::Route, route, 10), by(UseKind::Address, "203.0.113.7", 8), by(UseKind::Address, "", 2)],
    };
    exam.touch_keys(&[used(now, "POST /a")]).await.unwrap();
    exam.touch_keys(&[used(now - Duration::from_mins(1), "GET /b")]).await.unwrap();
    let calls = exam.key_calls(&key.app, now - Duration::from_hours(2)).await.unwrap();
    let counted = |calls, refused, denied, denied_peak| KeyCalls {
        key: key.id,
        calls,
        refused,
        denied,
        denied_peak,
        addresses: 2,
    };
    // The two minutes may stand in two hours.
    let peak = calls[0].denied_peak;
    assert_eq!((calls, peak >= 2), (vec![counted(20, 6, 4, peak)], true));
    let uses = exam.key_uses(&key.app, Some(key.id), now - Duration::from_hours(2), 10).await.unwrap();
    let told: Vec<_> = uses.iter().map(|u| (u.by.kind, u.by.name.as_str(), u.by.calls)).collect();
    let expected = [
        (UseKind::Address, "203.0.113.7", 16),
        (UseKind::Route, "GET /b", 10),
        (UseKind::Route, "POST /a", 10),
        (UseKind::Address, "", 4),
    ];
    assert_eq!(told, expected, "most calls first");
    assert_eq!(exam.key_uses(&key.app, None, now - Duration::from_hours(2), 2).await.unwrap(), uses[..2]);
    assert!(exam.key_uses(&AppId::default(), None, now - Duration::from_hours(2), 2).await.unwrap().is_empty());
    // Somebody at the door with an ended key is counted, and is no use of it.
    let (later, nobody) =
        (now + Duration::from_secs(5), KeyUse { calls: 0, refused: 0, by: Vec::new(), ..used(now, "") });
    exam.touch_keys(&[KeyUse { at: later, address: None, ..nobody }]).await.unwrap();
    assert_eq!(exam.find_key(key.id).await.unwrap().unwrap().last_used_at, Some(now));
    assert_eq!(exam.key_calls(&key.app, now - Duration::from_hours(2)).await.unwrap()[0].denied, 6);
    assert!(exam.key_calls(&AppId::default(), now - Duration::from_hours(2)).await.unwrap().is_empty());
    assert!(exam.key_calls(&key.app, now + Duration::from_hours(2)).await.unwrap().is_empty());
    let found = exam.find_key(key.id).await.unwrap().unwrap();
    assert_eq!((found.secret_hash, found.scopes.clone(), found.last_used_at), ([7; 32], key.scopes.clone(), Some(now)));
    assert_eq!(found.last_used_for.as_deref(), Some("POST /a"), "what came later stands");
    assert_eq!(found.last_used_from.as_deref(), Some("203.0.113.7"));
    exam.pass(Duration::from_hours(72));
    exam.touch_keys(&[used(exam.now().await.unwrap(), "POST /a")]).await.unwrap();
    let all = exam.key_calls(&key.app, now - Duration::from_hours(2)).await.unwrap();
    assert_eq!(all, [counted(10, 3, 2, 2)], "old hours are forgotten");
    assert_eq!(exam.key_uses(&key.app, None, now - Duration::from_hours(2), 10).await.unwrap().len(), 3);
    assert_eq!(exam.list_keys(&key.app).await.unwrap().len(), 1);
    assert!(exam.list_keys(&AppId::default()).await.unwrap().is_empty());
    assert!(!exam.revoke_key(&AppId::default(), key.id, &actor()).await.unwrap(), "another app's key");
    assert!(exam.revoke_key(&key.app, key.id, &actor()).await.unwrap());
    assert!(!exam.revoke_key(&key.app, key.id, &actor()).await.unwrap());
    assert!(exam.find_key(key.id).await.unwrap().unwrap().revoked_at.is_some());
    assert!(exam.find_key(KeyId::new()).await.unwrap().is_none());
}

async fn a_ticket_is_used_once(exam: Exam) {
    let ends = exam.now().await.unwrap();
    let ticket = Ticket { user: user("ada"), origin: Some("https://x".to_owned()), token_expires_at: ends };
    let ttl = Duration::from_secs(30);
    for hash in [[1; 32], [2; 32], [3; 32]] {
        exam.put_ticket(hash, ticket.clone(), ttl).await.unwrap();
    }
    let taken = exam.take_ticket([1; 32]).await.unwrap().unwrap();
    assert_eq!((taken.user, taken.origin, taken.token_expires_at), (user("ada"), ticket.origin.clone(), ends));
    assert!(exam.take_ticket([1; 32]).await.unwrap().is_none());
    exam.pass(Duration::from_secs(31));
    assert!(exam.take_ticket([2; 32]).await.unwrap().is_none(), "late");
    exam.sweep(10, MAX_AGE).await.unwrap();
    assert!(exam.take_ticket([3; 32]).await.unwrap().is_none());
}

async fn the_first_secret_of_a_name_is_everybodys(exam: Exam) {
    let (one, two) = tokio::join!(exam.shared_secret("a", "first"), exam.shared_secret("a", "second"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert!(["first", "second"].contains(&one.as_str()));
    assert_eq!(exam.shared_secret("a", "third").await.unwrap(), one);
    assert_eq!(exam.shared_secret("b", "fourth").await.unwrap(), "fourth");
}
