//! What the console's lists ask: lanes, counts, causes of death, many at once.

use super::*;
use campanile_model::ports::{
    Counted, DeadPlace, DeadWhich, Lane, MoveTo, Moved, NotificationFilter, ReplayOutcome, TaskRow, Whole,
};
use serde_json::json;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        lanes_tell_channels_and_states_apart,
        states_are_counted_since_a_time,
        a_list_goes_on_in_both_directions,
        what_failed_is_found_by_its_error,
        what_came_out_is_told_of_all_of_a_notification,
        many_are_cancelled_in_one_act,
        the_dead_are_grouped_by_their_cause,
        the_dead_of_a_time_are_found_in_its_order,
        many_are_replayed_in_one_act,
        what_waits_for_its_next_try_is_tried_at_once,
        what_is_dead_goes_by_another_channel,
        what_is_dismissed_stays_dead_and_can_be_taken_back,
        a_bulk_act_shows_its_progress_and_can_be_stopped,
        a_poison_message_is_read_whole_and_discarded_once,
        an_attempt_says_which_node_made_it,
    );
}

fn app() -> AppId {
    AppId::default()
}

fn all() -> DeadWhich {
    DeadWhich { app: app(), ..DeadWhich::default() }
}

async fn dead_by(exam: &Exam, user: &str, host: &str, code: &str) -> (DeliveryId, NotificationId) {
    let address = format!("{user}@{host}");
    let mail = mail(user).plan(|p| {
        p.recipient = Some(address.clone());
        p.recipient_inline = true;
    });
    let sent = exam.send(mail).await;
    let claimed = exam.claim_one(sent.deliveries[0].delivery_id).await;
    let end = Finish { code: Some(code.to_owned()), ..finish(&claimed, dead("permanent")) };
    assert!(exam.finish(end).await.unwrap().ours);
    (claimed.delivery_id, sent.id)
}

async fn what_waits_for_its_next_try_is_tried_at_once(exam: Exam) {
    let sent = exam.send(mail("ada")).await;
    let id = sent.deliveries[0].delivery_id;
    assert!(!exam.hasten(&app(), id, &actor()).await.unwrap(), "it has not been tried yet");
    let first = exam.claim_one(id).await;
    exam.end(&first, NextStep::RetryIn { delay_ms: 3_600_000 }).await;
    assert!(!exam.hasten(&AppId::from("other"), id, &actor()).await.unwrap());
    assert!(exam.hasten(&app(), id, &actor()).await.unwrap());
    assert!(!exam.hasten(&app(), id, &actor()).await.unwrap(), "of two at once one does it");
    let second = exam.claim_one(id).await;
    assert_eq!((second.attempt, second.spent), (2, first.spent + 1), "it is the try that was to come, no other one");
    assert!(exam.audit(None, 10).await.unwrap().iter().filter(|a| a.action == "delivery.hasten").count() == 1);
}

async fn lanes_tell_channels_and_states_apart(exam: Exam) {
    let both = bare().also("ada", &["websocket", "email"]).also("bo", &["websocket"]);
    let id = exam.send(both).await.id;
    let other = exam.send(mail("cy")).await.id;
    let lanes = exam.lanes(&app(), &[id, other]).await.unwrap();
    let lane = |channel: &str, state, count| Lane { channel: channel.into(), shown: ShownState::Stored(state), count };
    assert_eq!(lanes[&id], [lane("email", DeliveryState::Pending, 1), lane("websocket", DeliveryState::Sent, 2)]);
    assert_eq!(lanes[&other], [lane("email", DeliveryState::Pending, 1)]);
    assert!(exam.lanes(&AppId::from("other"), &[id]).await.unwrap().is_empty());
    assert!(exam.lanes(&app(), &[]).await.unwrap().is_empty());
}

async fn states_are_counted_since_a_time(exam: Exam) {
    let later = exam.now().await.unwrap() + Duration::from_hours(1);
    exam.send(note("ada")).await;
    exam.send(bare().also("ada", &["email"]).also("bo", &["email"])).await;
    exam.send(mail("cy").at(later)).await;
    dead_by(&exam, "d", "example.org", "550").await;
    let count = async |since: Timestamp, state| {
        let counts = exam.state_counts(&app(), since).await.unwrap();
        counts.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n)
    };
    for (state, n) in [
        (ShownState::Stored(DeliveryState::Pending), 1),
        (ShownState::Scheduled, 1),
        (ShownState::Stored(DeliveryState::Sent), 1),
        (ShownState::Stored(DeliveryState::Dead), 1),
        (ShownState::Stored(DeliveryState::Retrying), 0),
    ] {
        assert_eq!(count(at(0), state).await, n, "{state:?}: notifications, not deliveries");
        assert_eq!(count(later, state).await, 0);
    }
}

async fn a_list_goes_on_in_both_directions(exam: Exam) {
    let mut sent = Vec::new();
    for i in 0..5 {
        let user = if i % 2 == 0 { "ada" } else { "bo" };
        sent.push(exam.send(bare().also(user, &["websocket", "email"]).of_type("news")).await.id);
    }
    let list = async |change: &dyn Fn(&mut NotificationFilter)| {
        let mut filter = NotificationFilter { limit: 2, ..NotificationFilter::default() };
        change(&mut filter);
        let rows = exam.notifications(&filter).await.unwrap();
        rows.iter().map(|(row, _)| row.notification.id).collect::<Vec<_>>()
    };
    let after = sent[0];
    // Each way that a list can be led by.
    assert_eq!(list(&|f| f.after = Some(after)).await, [sent[2], sent[1]], "the nearest, newest first");
    for narrow in [
        (|f: &mut NotificationFilter| f.notification_type = Some("news".into())) as fn(&mut NotificationFilter),
        |f| f.channel = Some(ChannelName::email()),
        |f| f.state = Some(ShownState::Stored(DeliveryState::Pending)),
        |f| f.state = Some(ShownState::Stored(DeliveryState::Sent)),
        |f| f.handed_over = true,
    ] {
        let found = list(&|f| {
            narrow(f);
            f.after = Some(after);
        })
        .await;
        assert_eq!(found, [sent[2], sent[1]]);
    }
    let found = list(&|f| {
        f.user = Some(UserId::from("ada"));
        f.after = Some(after);
    })
    .await;
    assert_eq!(found, [sent[4], sent[2]]);
    assert_eq!(list(&|f| f.after = Some(sent[4])).await, []);
    assert_eq!(list(&|f| f.before = Some(sent[1])).await, [sent[0]]);

    // Somebody's, narrowed once more; the newest of theirs is none of these.
    let other = exam.send(bare().also("ada", &["websocket"]).of_type("other")).await.id;
    type Narrow = fn(&mut NotificationFilter);
    let with: [(Narrow, Narrow); 4] = [
        (|f| f.notification_type = Some("news".into()), |f| f.notification_type = Some("none".into())),
        (|f| f.channel = Some(ChannelName::email()), |f| f.channel = Some(ChannelName::from("sms"))),
        (
            |f| f.state = Some(ShownState::Stored(DeliveryState::Pending)),
            |f| f.state = Some(ShownState::Stored(DeliveryState::Dead)),
        ),
        (
            |f| {
                f.notification_type = Some("news".into());
                f.channel = Some(ChannelName::email());
                f.state = Some(ShownState::Stored(DeliveryState::Pending));
            },
            |f| {
                f.notification_type = Some("other".into());
                f.channel = Some(ChannelName::email());
            },
        ),
    ];
    for (narrow, nothing) in with {
        let of_ada = async |change: &dyn Fn(&mut NotificationFilter)| {
            list(&|f| {
                f.user = Some(UserId::from("ada"));
                change(f);
            })
            .await
        };
        let narrowed = async |change: &dyn Fn(&mut NotificationFilter)| {
            of_ada(&|f| {
                narrow(f);
                change(f);
            })
            .await
        };
        assert_eq!(narrowed(&|_| {}).await, [sent[4], sent[2]], "not {other:?}");
        assert_eq!(narrowed(&|f| f.before = Some(sent[4])).await, [sent[2], sent[0]]);
        assert_eq!(narrowed(&|f| f.after = Some(after)).await, [sent[4], sent[2]]);
        assert_eq!(narrowed(&|f| f.app = AppId::from("other")).await, []);
        assert_eq!(of_ada(&|f| nothing(f)).await, []);
    }
}

async fn what_failed_is_found_by_its_error(exam: Exam) {
    let (_, gone) = dead_by(&exam, "ada", "a.example", "550 5.1.1").await;
    let (_, busy) = dead_by(&exam, "bo", "b.example", "E503").await;
    let waiting = exam.send(mail("cy")).await;
    let claimed = exam.claim_one(waiting.deliveries[0].delivery_id).await;
    let next = NextStep::RetryIn { delay_ms: 60_000 };
    exam.finish(Finish { code: Some("e503".into()), ..finish(&claimed, next) }).await.unwrap();
    let list = async |error: &str, after: Option<NotificationId>| {
        let filter =
            NotificationFilter { error: Some(error.into()), after, limit: 10, ..NotificationFilter::default() };
        exam.notifications(&filter).await.unwrap().iter().map(|(row, _)| row.notification.id).collect::<Vec<_>>()
    };
    assert_eq!(list("550 5.1.1", None).await, [gone]);
    assert_eq!(list("e503", None).await, [waiting.id, busy], "those that are tried again too, in any case of letters");
    assert_eq!(list("e503", Some(busy)).await, [waiting.id]);
    assert_eq!(list("permanent", None).await, [busy, gone], "by reason");
    assert_eq!(list("nothing", None).await, []);
}

async fn what_came_out_is_told_of_all_of_a_notification(exam: Exam) {
    let (_, failed) = dead_by(&exam, "ada", "a.example", "550").await;
    let both = async |user: &str| {
        let sent = exam.send(bare().also(user, &["websocket", "email"]).of_type(user)).await;
        let mail = sent.deliveries.iter().find(|d| d.channel.as_str() == "email").unwrap().delivery_id;
        (sent.id, exam.claim_one(mail).await)
    };
    let (partly, claimed) = both("bo").await;
    exam.finish(finish(&claimed, dead("permanent"))).await.unwrap();
    let (moving, claimed) = both("cy").await;
    exam.finish(finish(&claimed, NextStep::RetryIn { delay_ms: 60_000 })).await.unwrap();
    exam.send(note("di")).await;
    let list = async |whole: Whole, change: &dyn Fn(&mut NotificationFilter)| {
        let mut filter = NotificationFilter { whole: Some(whole), limit: 10, ..NotificationFilter::default() };
        change(&mut filter);
        exam.notifications(&filter).await.unwrap().iter().map(|(row, _)| row.notification.id).collect::<Vec<_>>()
    };
    assert_eq!(list(Whole::Failed, &|_| ()).await, [failed]);
    assert_eq!(list(Whole::Partly, &|_| ()).await, [partly], "what is still tried has not come out");
    for (user, found) in [("bo", 1), ("cy", 0)] {
        assert_eq!(list(Whole::Partly, &|f| f.user = Some(UserId::from(user))).await.len(), found);
    }
    assert_eq!(list(Whole::Partly, &|f| f.before = Some(partly)).await, []);
    assert_eq!(list(Whole::Failed, &|f| f.error = Some("550".into())).await, [failed]);
    assert_eq!(list(Whole::Failed, &|f| f.error = Some("503".into())).await, []);
    assert_eq!(list(Whole::Partly, &|f| f.error = Some("550".into())).await, [], "an error is asked for too");
    assert_eq!(list(Whole::Failed, &|f| f.after = Some(failed)).await, []);
    assert_eq!(list(Whole::Partly, &|f| f.after = Some(failed)).await, [partly]);
    let counted = async |since| exam.whole_counts(&app(), since).await.unwrap();
    let one = Counted { n: 1, more: false };
    assert_eq!(counted(at(0)).await, [(Whole::Failed, one), (Whole::Partly, one)].into());
    let none = counted(exam.now().await.unwrap() + Duration::from_hours(1)).await;
    assert!(none.values().all(|c| c.n == 0), "{none:?}");

    // A cancel ends what moved.
    exam.cancel(&app(), moving, &actor()).await.unwrap();
    assert_eq!(list(Whole::Partly, &|_| ()).await, [moving, partly]);

    let all = [failed, partly, moving];
    let among = async |filter: NotificationFilter| {
        let mut found = exam.states_among(&filter, &all).await.unwrap();
        found.sort_by_key(|(state, _)| state.as_str());
        found.into_iter().map(|(state, n)| (state.as_str(), n)).collect::<Vec<_>>()
    };
    let any = NotificationFilter::default;
    assert_eq!(among(any()).await, [("cancelled", 1), ("dead", 2), ("sent", 2)]);
    let email = NotificationFilter { channel: Some(ChannelName::email()), ..any() };
    assert_eq!(among(email).await, [("cancelled", 1), ("dead", 2)]);
    let bo = NotificationFilter { user: Some(UserId::from("bo")), ..any() };
    assert_eq!(among(bo).await, [("dead", 1), ("sent", 1)]);
    let refused = NotificationFilter { error: Some("550".into()), ..any() };
    assert_eq!(among(refused).await, [("dead", 1)]);
    assert_eq!(among(NotificationFilter { app: AppId::from("other"), ..any() }).await, []);
}

async fn many_are_cancelled_in_one_act(exam: Exam) {
    let (dead, gone) = dead_by(&exam, "ada", "a.example", "550").await;
    let waiting = exam.send(bare().also("bo", &["email"]).also("cy", &["websocket", "email"])).await;
    let sending = exam.send(mail("di")).await;
    exam.claim_one(sending.deliveries[0].delivery_id).await;
    let elsewhere = NotificationId::new();
    exam.heard();
    let ids = [sending.id, waiting.id, gone, elsewhere];
    let other = AppId::from("other");
    let nothing = exam.cancel_many(&other, &ids, "all", Some(&actor())).await.unwrap();
    assert_eq!((nothing.cancelled, exam.audit(None, 10).await.unwrap().len()), (0, 0), "of another app");
    let outcome = exam.cancel_many(&app(), &ids, "status:waiting", Some(&actor())).await.unwrap();
    assert_eq!((outcome.cancelled, outcome.in_flight, outcome.already_sent), (2, 1, 1));
    let act = exam.audit(None, 1).await.unwrap().remove(0);
    assert_eq!((&*act.action, &*act.target), ("notification.cancel", "status:waiting"));
    assert_eq!(act.detail.unwrap(), json!({"cancelled": 2, "in_flight": 1, "notifications": 3}));
    let again = exam.cancel_many(&app(), &ids, "again", None).await.unwrap();
    assert_eq!((again.cancelled, again.in_flight), (0, 1));
    assert_eq!(exam.audit(None, 10).await.unwrap().len(), 1, "written by whoever began it");

    assert_eq!(exam.dead_of(&app(), &ids, None, 10).await.unwrap(), [dead]);
    assert!(exam.dead_of(&app(), &ids, Some(dead), 10).await.unwrap().is_empty());
    assert!(exam.dead_of(&other, &ids, None, 10).await.unwrap().is_empty());
    exam.dismiss(&app(), &[dead], "one", None).await.unwrap();
    assert!(exam.dead_of(&app(), &ids, None, 10).await.unwrap().is_empty(), "what was put out of sight stays there");
}

async fn the_dead_are_grouped_by_their_cause(exam: Exam) {
    for i in 0..3 {
        dead_by(&exam, &format!("a{i}"), "north.example", "550").await;
    }
    let (newest, _) = dead_by(&exam, "a9", "north.example", "550").await;
    let (lone, _) = dead_by(&exam, "b", "south.example", "550").await;
    let (other, _) = dead_by(&exam, "c", "north.example", "timeout").await;
    let groups = exam.dead_groups(&all(), 10).await.unwrap();
    let seen: Vec<_> = groups.iter().map(|g| (g.error.as_str(), g.destination.as_str(), g.count, g.sample)).collect();
    assert_eq!(
        seen,
        [
            ("550", "north.example", 4, newest),
            ("550", "south.example", 1, lone),
            ("timeout", "north.example", 1, other)
        ]
    );
    assert!(groups[0].first <= groups[0].last && groups[0].said.as_deref() == Some("said"));
    assert_eq!(exam.dead_groups(&all(), 1).await.unwrap().len(), 1, "the largest");

    let group = DeadWhich {
        channel: Some(ChannelName::email()),
        reason: Some("permanent".into()),
        error: Some("550".into()),
        destination: Some("north.example".into()),
        ..all()
    };
    assert_eq!(exam.dead_count(&group, 100).await.unwrap(), 4);
    assert_eq!(exam.dead_count(&group, 2).await.unwrap(), 2, "no further than asked");
    assert_eq!(exam.dead_count(&all(), 100).await.unwrap(), 6);
    let items = exam.dead_items(&group, None, 3).await.unwrap();
    assert_eq!((items.len(), items[0].id), (3, newest));
    assert_eq!(items[0].attempts.len(), 1);
    assert_eq!(items[0].attempts[0].code.as_deref(), Some("550"));
    assert_eq!(exam.dead_items(&group, Some(DeadPlace::of(&items[2])), 3).await.unwrap().len(), 1);
    let by_user = DeadWhich { user: Some(UserId::from("b")), ..all() };
    assert_eq!(exam.dead_items(&by_user, None, 9).await.unwrap()[0].id, lone);
    let south = DeadWhich { destination: Some("south.example".into()), ..all() };
    assert_eq!(exam.dead_groups(&south, 10).await.unwrap().len(), 1);
    assert!(exam.dead_groups(&DeadWhich { app: AppId::from("other"), ..all() }, 10).await.unwrap().is_empty());
}

async fn the_dead_of_a_time_are_found_in_its_order(exam: Exam) {
    // Begun first and given up on last.
    let slow = exam.send(mail("slow").plan(|p| p.recipient = Some("slow@x.example".into()))).await;
    let (early, _) = dead_by(&exam, "a", "x.example", "550").await;
    exam.pass(Duration::from_hours(1));
    let hour = exam.now().await.unwrap();
    let (late, _) = dead_by(&exam, "b", "x.example", "550").await;
    exam.pass(Duration::from_secs(5));
    let claimed = exam.claim_one(slow.deliveries[0].delivery_id).await;
    let end = Finish { code: Some("550".to_owned()), ..finish(&claimed, dead("permanent")) };
    assert!(exam.finish(end).await.unwrap().ours);
    let last = claimed.delivery_id;

    let listed = async |which: &DeadWhich, before, limit| {
        let rows = exam.dead_items(which, before, limit).await.unwrap();
        (rows.iter().map(|d| d.id).collect::<Vec<_>>(), rows.last().map(DeadPlace::of))
    };
    let (first, place) = listed(&all(), None, 2).await;
    assert_eq!(first, [last, late], "who was given up on last stands first");
    let (rest, end) = listed(&all(), place, 2).await;
    assert_eq!(rest, [early]);
    assert_eq!(listed(&all(), end, 2).await.0, []);
    let since = DeadWhich { since: Some(hour), ..all() };
    let until = DeadWhich { until: Some(hour), ..all() };
    assert_eq!(listed(&since, None, 9).await.0, [last, late]);
    assert_eq!(listed(&until, None, 9).await.0, [early]);
    assert_eq!((exam.dead_count(&since, 9).await.unwrap(), exam.dead_count(&until, 9).await.unwrap()), (2, 1));
    let groups = exam.dead_groups(&until, 9).await.unwrap();
    assert_eq!((groups.len(), groups[0].count, groups[0].sample), (1, 1, early), "an example of that time");
    // A cause has the same times and order, and so has a person.
    let cause = DeadWhich {
        channel: Some(ChannelName::email()),
        reason: Some("permanent".into()),
        error: Some("550".into()),
        destination: Some("x.example".into()),
        ..since.clone()
    };
    let (found, place) = listed(&cause, None, 1).await;
    assert_eq!(found, [last]);
    assert_eq!(listed(&cause, place, 9).await.0, [late]);
    let person = DeadWhich { user: Some(UserId::from("a")), ..all() };
    assert_eq!(listed(&person, None, 9).await.0, [early]);
    assert_eq!(exam.dead_groups(&person, 9).await.unwrap()[0].count, 1);
    assert_eq!(exam.dead_count(&DeadWhich { since: Some(hour), ..person }, 9).await.unwrap(), 0);

    // Whoever goes down the list and changes it as they go reaches its end.
    let (_, place) = listed(&all(), None, 2).await;
    exam.replay_many(&app(), &[last, late], "x", None).await.unwrap();
    assert_eq!(listed(&all(), place, 9).await.0, [early]);
}

async fn many_are_replayed_in_one_act(exam: Exam) {
    let (a, _) = dead_by(&exam, "a", "x.example", "550").await;
    let (b, cancelled) = dead_by(&exam, "b", "x.example", "550").await;
    let (c, _) = dead_by(&exam, "c", "x.example", "550").await;
    exam.cancel(&app(), cancelled, &actor()).await.unwrap();
    exam.heard();
    let missing = DeliveryId::new();
    let outcomes = exam.replay_many(&app(), &[c, b, missing, a], "x.example", Some(&actor())).await.unwrap();
    assert!(matches!(
        outcomes[..],
        [
            ReplayOutcome::Replayed,
            ReplayOutcome::NotReplayable("cancelled"),
            ReplayOutcome::NotFound,
            ReplayOutcome::Replayed
        ]
    ));
    assert_eq!(arrivals(&exam.heard()).len(), 2, "told like any other change");
    let audit = exam.audit(None, 10).await.unwrap();
    let entries: Vec<_> = audit.iter().filter(|r| r.action == "delivery.replay").collect();
    assert_eq!(entries.len(), 1, "one act, one entry");
    assert_eq!(
        (entries[0].target.as_str(), &entries[0].detail),
        ("x.example", &Some(json!({"replayed": 2, "skipped": 2})))
    );
    exam.replay_many(&app(), &[b], "x.example", None).await.unwrap();
    assert_eq!(exam.audit(None, 10).await.unwrap().len(), audit.len(), "written by whoever began it");

    // Two at once: one attempt each, and the other is told why.
    let (d, _) = dead_by(&exam, "d", "x.example", "550").await;
    let (store, app, who) = (exam.shared(), app(), actor());
    let ids = [d];
    let (one, two) =
        tokio::join!(store.replay_many(&app, &ids, "d", Some(&who)), exam.replay_many(&app, &ids, "d", Some(&who)));
    let both = [one.unwrap().remove(0), two.unwrap().remove(0)];
    assert_eq!(both.iter().filter(|o| matches!(o, ReplayOutcome::Replayed)).count(), 1);
    assert!(both.iter().any(|o| matches!(o, ReplayOutcome::NotReplayable("not_dead"))));
}

async fn what_is_dead_goes_by_another_channel(exam: Exam) {
    let to = |channel: &str| MoveTo { channel: channel.into(), in_app: channel == "websocket" };
    let go = async |ids: &[DeliveryId], channel: &str| {
        exam.move_dead(&app(), ids, &to(channel), "email, 550", Some(&actor())).await.unwrap()
    };
    let (gone, n) = dead_by(&exam, "ada", "a.example", "550").await;
    let (other, m) = dead_by(&exam, "bo", "b.example", "550").await;
    assert_eq!(go(&[gone], "sms").await, [Moved::Refused("no_address")]);
    assert_eq!(go(&[gone], "email").await, [Moved::Refused("no_address")], "what was given inline is not the person's");
    let mut contact = Contact { email: Some("ada@b.example".to_owned()), ..Contact::default() };
    contact.addresses.insert("sms".into(), "+491".to_owned());
    exam.put_user(&user("ada"), contact).await.unwrap();
    assert_eq!(go(&[gone], "email").await, [Moved::Refused("already_by_that_channel")]);
    exam.opt_out(&user("ada"), &"sms".into(), "general", &actor()).await.unwrap();
    let held = exam.held_back(&user("ada"), &[], 5).await.unwrap();
    assert_eq!(go(&[gone], "sms").await, [Moved::Refused("unsubscribed")], "they said no to that");
    exam.lift_suppression(&app(), &held[0].id, &actor()).await.unwrap();
    exam.heard();

    let moved = go(&[gone, DeliveryId::new()], "sms").await;
    let [Moved::To(new), Moved::NotFound] = moved[..] else { panic!("{moved:?}") };
    let row = exam.row(new, n).await;
    assert_eq!((row.state, row.recipient.as_deref(), row.attempt), (DeliveryState::Pending, Some("+491"), 0));
    let effects = exam.heard();
    assert_eq!(effects.ready, [("sms".into(), new)], "it goes out at once");
    let old = exam.row(gone, n).await;
    assert_eq!(old.state, DeliveryState::Dead, "what died stays dead, out of sight");
    assert!(old.dismissed_at.is_some());
    assert_eq!(exam.dead_count(&all(), 10).await.unwrap(), 1);
    assert_eq!(go(&[gone], "websocket").await, [Moved::Refused("put_aside")], "moved once");

    let moved = go(&[other], "websocket").await;
    let [Moved::To(new)] = moved[..] else { panic!("{moved:?}") };
    assert_eq!(exam.row(new, m).await.state, DeliveryState::Sent, "the feed has it with the same commit");
    let state = exam.feed_state(&user("bo")).await.unwrap();
    assert_eq!((state.head_seq, state.counts.unread), (1, 1));
    assert_eq!(exam.heard().pushes[0].users[0].seq, 1, "and sockets hear of it");

    let acts = exam.audit(None, 1).await.unwrap().remove(0);
    assert_eq!((&*acts.action, &*acts.target), ("delivery.move", "email, 550"));
    assert_eq!(acts.detail.unwrap(), json!({"channel": "websocket", "moved": 1, "skipped": 0}));

    let cancelled = dead_by(&exam, "cy", "a.example", "550").await;
    exam.cancel(&app(), cancelled.1, &actor()).await.unwrap();
    assert_eq!(go(&[cancelled.0], "websocket").await, [Moved::Refused("cancelled")]);
    let (twice, t) = dead_by(&exam, "di", "a.example", "550").await;
    let moved = go(&[twice, twice], "websocket").await;
    assert!(matches!(moved[..], [Moved::To(_), Moved::Refused("already_by_that_channel")]), "{moved:?}");
    assert_eq!(exam.notification(&app(), t, None).await.unwrap().unwrap().deliveries.len(), 2);
}

async fn what_is_dismissed_stays_dead_and_can_be_taken_back(exam: Exam) {
    let (a, notification) = dead_by(&exam, "a", "x.example", "550").await;
    let (b, _) = dead_by(&exam, "b", "x.example", "550").await;
    let alive = exam.send(mail("c")).await.deliveries[0].delivery_id;
    assert_eq!(exam.dismiss(&app(), &[a, alive], "1 dead letter", Some(&actor())).await.unwrap(), 1);
    assert_eq!(exam.dismiss(&app(), &[a], "again", None).await.unwrap(), 0);
    let row = exam.row(a, notification).await;
    assert_eq!((row.state, row.dismissed_at.is_some()), (DeliveryState::Dead, true), "the state is what it was");
    assert_eq!(exam.dead_count(&all(), 10).await.unwrap(), 1);
    assert_eq!(exam.dead_items(&all(), None, 10).await.unwrap()[0].id, b);
    assert_eq!(exam.queue_stats().await.unwrap()[0].dead, 1);
    let listed = campanile_model::ports::DeadFilter { limit: 10, ..Default::default() };
    assert_eq!(exam.dead_letters(&listed).await.unwrap().len(), 1);
    assert_eq!(exam.recall(&app(), &[a], &actor()).await.unwrap(), 1);
    assert_eq!(exam.dead_count(&all(), 10).await.unwrap(), 2);
    let acts: Vec<_> = exam.audit(None, 10).await.unwrap().into_iter().map(|r| r.action).collect();
    assert_eq!(acts, ["delivery.recall", "delivery.dismiss"]);

    exam.dismiss(&app(), &[a], "1 dead letter", None).await.unwrap();
    assert!(matches!(exam.replay(&app(), a, &actor()).await.unwrap(), ReplayOutcome::Replayed));
    assert_eq!(exam.row(a, notification).await.dismissed_at, None, "a replay begins anew");
}

async fn a_bulk_act_shows_its_progress_and_can_be_stopped(exam: Exam) {
    let now = exam.now().await.unwrap();
    let task = TaskRow {
        id: uuid::Uuid::now_v7(),
        node: exam.node,
        what: "replay".into(),
        subject: "email, 550".into(),
        actor: "admin:dana".into(),
        total: 3_410,
        done: 0,
        skipped: 0,
        started_at: now,
        beat_at: now,
        ended_at: None,
        stopped_by: None,
    };
    exam.begin_task(&task, &actor(), json!({"matching": 3_410})).await.unwrap();
    assert!(exam.beat_task(task.id, 100, 2).await.unwrap());
    assert!(exam.beat_task(task.id, 98, 0).await.unwrap());
    let shown = exam.tasks().await.unwrap().remove(0);
    assert_eq!((shown.done, shown.skipped, shown.total, shown.ended_at), (198, 2, 3_410, None));
    assert!(exam.stop_task(task.id, &actor()).await.unwrap());
    assert!(!exam.stop_task(task.id, &actor()).await.unwrap());
    assert!(!exam.beat_task(task.id, 1, 0).await.unwrap(), "it is told at its next step");
    exam.end_task(task.id).await.unwrap();
    let shown = exam.tasks().await.unwrap().remove(0);
    assert!(shown.ended_at.is_some() && shown.stopped_by.as_deref() == Some("operator"));
    let acts: Vec<_> = exam.audit(None, 10).await.unwrap().into_iter().map(|r| (r.action, r.target)).collect();
    assert_eq!(acts, [("task.stop".into(), "email, 550".into()), ("delivery.replay".into(), "email, 550".into())]);
    exam.pass(Duration::from_hours(2));
    assert!(exam.tasks().await.unwrap().is_empty());
    assert!(!exam.beat_task(uuid::Uuid::now_v7(), 1, 0).await.unwrap());
}

async fn a_poison_message_is_read_whole_and_discarded_once(exam: Exam) {
    let long = vec![b'x'; 10_000];
    exam.add_poison("amqp", &long, "not JSON", Some("{}")).await.unwrap();
    let id = exam.poison(None, 1).await.unwrap()[0].id;
    let (row, raw) = exam.poison_message(id).await.unwrap().unwrap();
    assert_eq!((row.reason.as_str(), raw.len()), ("not JSON", 10_000));
    exam.add_poison("amqp", b"{", "not JSON", Some("{}")).await.unwrap();
    assert_eq!((exam.poison_count(10).await.unwrap(), exam.poison_count(1).await.unwrap()), (2, 1));
    assert!(exam.discard_poison(id, "poison.discard", &actor()).await.unwrap());
    assert!(!exam.discard_poison(id, "poison.discard", &actor()).await.unwrap());
    assert!(exam.poison_message(id).await.unwrap().is_none());
    assert_eq!(exam.audit(None, 10).await.unwrap().len(), 1);
}

async fn an_attempt_says_which_node_made_it(exam: Exam) {
    let (id, notification) = dead_by(&exam, "ada", "x.example", "550").await;
    let row = exam.row(id, notification).await;
    assert_eq!(row.attempts[0].node, Some(exam.node));
    assert_eq!((row.error.as_str(), row.destination.as_str()), ("550", "x.example"));
    let lost = exam.send(mail("bo")).await;
    exam.claim_one(lost.deliveries[0].delivery_id).await;
    exam.pass(2 * LEASE);
    exam.rescue(10).await.unwrap();
    let row = exam.row(lost.deliveries[0].delivery_id, lost.id).await;
    assert_eq!(row.attempts[0].node, Some(exam.node), "a lost one too");
}
