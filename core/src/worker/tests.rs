//! The worker over the real embedded store, with a channel that does as it is told.

mod instances;
mod rig;

use super::{Context, Worker};
use crate::{
    channel::{
        Renderer,
        fake::{self, Answer, Fake},
    },
    config::{self, Config, Dur},
    connection::LocalBus,
    ingest::{Ingest, IngestParts},
    observe::Metrics,
    queue::LocalQueue,
    status::{self, Status},
    store,
};
use campanile_model::{
    Clock, DeliveryId, DeliveryState as S, NodeId, Notification, NotificationId, UserKey,
    clock::SystemClock,
    effects::Transition,
    plan::{AcceptItem, AudiencePlan, AudienceSpec, DeliveryPlan, RecipientPlan, RecipientSpec, Source},
    ports::{Actor, AttemptRow, DeliveryRow, QueueError, Store, StoreError, WorkQueue},
    work::{ClaimOutcome, Claimed},
};
use campanile_plugin::{DeliveryError, Reason};
use rig::Rig;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub fn claimed(attempt: u32) -> Claimed {
    Claimed {
        delivery_id: DeliveryId::new(),
        notification: fake::notification(),
        user: UserKey::new("default", "bob"),
        channel: "email".into(),
        recipient: Some("bob@example.org".to_owned()),
        locale: None,
        attempt,
        spent: 0,
        losses: 0,
        age_ms: 0,
    }
}

fn ms(n: u64) -> Dur {
    Dur(Duration::from_millis(n))
}

fn retry(code: &'static str) -> Answer {
    Answer::Refuse(DeliveryError::Retry { after: None, reason: Reason::new(code, "not now") })
}

#[tokio::test]
async fn transient_twice_then_sent_with_one_stable_id() {
    let rig = Rig::new([retry("a"), retry("b")]).await.start();
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    assert_eq!(rig.outcomes(id).await, ["retry", "retry", "ok"]);
    let row = rig.find(id).await.unwrap();
    assert_eq!((row.attempt, row.provider_id.as_deref()), (3, Some("provider-1")));
    let calls = rig.fake.calls();
    assert_eq!(calls.iter().map(|c| c.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(calls.iter().all(|c| c.delivery_id == id.to_string() && c.recipient == "bob-1"));
    let started: Vec<_> = row.attempts.iter().map(|a| a.started_at).collect();
    assert!((started[1] - started[0]).num_milliseconds() >= 16, "20 ms less a fifth");
    assert!((started[2] - started[1]).num_milliseconds() >= 32, "40 ms less a fifth");
}

#[tokio::test]
async fn the_schedule_ends_and_replay_begins_anew() {
    let rig = Rig::new((0..4).map(|_| retry("a"))).await.start();
    let id = rig.send().await;
    assert_eq!(rig.until(id, S::Dead).await.as_deref(), Some("max_attempts"));
    assert_eq!(rig.outcomes(id).await.len(), 4, "one more than the schedule has entries");
    rig.status.replay(&"default".into(), id, &Actor::default()).await.unwrap();
    rig.until(id, S::Sent).await;
    assert_eq!(rig.fake.calls().last().unwrap().attempt, 5, "the fence only grows");
}

#[tokio::test]
async fn permanent_is_dead_at_once() {
    let refuse = DeliveryError::Permanent { reason: Reason::new("5.7.1", "no") };
    let rig = Rig::new([Answer::Refuse(refuse)]).await.start();
    let id = rig.send().await;
    assert_eq!(rig.until(id, S::Dead).await.as_deref(), Some("permanent"));
    assert_eq!(rig.fake.calls().len(), 1);
}

#[tokio::test]
async fn a_dead_address_is_suppressed_for_the_next_one() {
    let refuse = DeliveryError::RecipientGone { reason: Reason::new("5.1.1", "nobody") };
    let rig = Rig::new([Answer::Refuse(refuse)]).await.start();
    let id = rig.send().await;
    assert_eq!(rig.until(id, S::Dead).await.as_deref(), Some("recipient_gone"));
    let next = rig.send().await;
    rig.until(next, S::Suppressed).await;
    assert_eq!(rig.fake.calls().len(), 1);
}

#[tokio::test]
async fn a_hanging_call_and_a_panic_cost_an_attempt_each() {
    let rig = Rig::with([Answer::AskAndWait, Answer::Panic], |c| c.email.timeout = ms(50)).await.start();
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    let attempts = rig.attempts(id).await;
    let told: Vec<_> = attempts.iter().map(|a| (a.outcome.as_str(), a.code.as_deref(), a.uncertain)).collect();
    let expected = [("timeout", Some("timeout"), true), ("retry", Some("panic"), false), ("ok", None, false)];
    assert_eq!(told, expected, "only the one that was let past its point of no return is in doubt");
}

#[tokio::test]
async fn throttled_and_misconfigured_spend_nothing() {
    let throttled = DeliveryError::Throttled { after: None, reason: Reason::new("421", "slow down") };
    let config = DeliveryError::Misconfigured { reason: Reason::new("535", "who are you") };
    let answers = [throttled.clone(), throttled.clone(), config, throttled].map(Answer::Refuse);
    let rig = Rig::with(answers, |c| c.retry.schedule = vec![ms(10)]).await.start();
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    let expected = ["throttled", "throttled", "misconfigured", "throttled", "ok"];
    assert_eq!(rig.outcomes(id).await, expected, "with a schedule of two attempts");
}

#[tokio::test]
async fn throttling_without_end_is_bounded_by_age() {
    let throttled = DeliveryError::Throttled { after: None, reason: Reason::new("421", "slow down") };
    let rig = Rig::with((0..1000).map(|_| Answer::Refuse(throttled.clone())), |c| c.retry.max_age = ms(150));
    let rig = rig.await.start();
    let id = rig.send().await;
    assert_eq!(rig.until(id, S::Dead).await.as_deref(), Some("max_age"));
}

#[tokio::test]
async fn a_misconfigured_channel_is_left_alone_until_one_try_works() {
    let config = DeliveryError::Misconfigured { reason: Reason::new("535", "who are you") };
    let rig = Rig::with([Answer::Refuse(config)], |c| c.retry.schedule = vec![ms(1)]).await.start();
    let first = rig.send().await;
    rig.fake.until_called(1).await;
    let others = [rig.send().await, rig.send().await, rig.send().await];
    for id in others.into_iter().chain([first]) {
        rig.until(id, S::Sent).await;
    }
    let calls = rig.fake.calls();
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[1].side_by_side, 1, "the try that closes the breaker is made alone");
    let view = rig.context().channels.views().into_iter().find(|v| v.name.as_str() == "probe").unwrap();
    assert_eq!(view.breaker.state, "closed");
}

#[tokio::test]
async fn a_pause_holds_back_and_a_resume_sends() {
    let rig = Rig::new([]).await.start();
    let probe = "probe".into();
    rig.status.pause(&probe, None, Some("test"), &Actor::default()).await.unwrap();
    let (id, in_app) = (rig.send().await, rig.accept_by("websocket", |_| {}).await);
    rig.until(in_app, S::Sent).await;
    assert_eq!(rig.find(id).await.unwrap().state, S::Pending);
    assert!(rig.fake.calls().is_empty());
    rig.status.resume(&probe, &Actor::default()).await.unwrap();
    rig.until(id, S::Sent).await;
}

#[tokio::test]
async fn in_app_items_held_by_a_pause_reach_the_feed_at_resume() {
    let rig = Rig::new([]).await.start();
    let websocket = "websocket".into();
    rig.status.pause(&websocket, None, None, &Actor::default()).await.unwrap();
    let held = rig.accept_by("websocket", |_| {}).await;
    assert_eq!(rig.find(held).await.unwrap().state, S::Pending);
    rig.status.resume(&websocket, &Actor::default()).await.unwrap();
    rig.until(held, S::Sent).await;
    rig.push.until_called(1).await;
    assert_eq!(rig.store.feed_state(&UserKey::new("default", "bob")).await.unwrap().counts.unread, 1);
}

#[tokio::test]
async fn scheduled_work_waits_for_its_time() {
    let rig = Rig::new([]).await.start();
    let soon = SystemClock.now() + Duration::from_millis(150);
    let mail = rig.accept_by("probe", |n| n.send_at = Some(soon)).await;
    let in_app = rig.accept_by("websocket", |n| n.send_at = Some(soon)).await;
    let later = rig.accept_by("probe", |n| n.send_at = Some(n.created_at + Duration::from_hours(1))).await;
    for id in [mail, in_app] {
        rig.until(id, S::Sent).await;
        let sent_at = rig.find(id).await.unwrap().sent_at.unwrap();
        assert!(sent_at.timestamp_millis() >= soon.timestamp_millis());
    }
    assert_eq!(rig.find(later).await.unwrap().shown.as_str(), "scheduled");
    assert_eq!(rig.fake.calls().len(), 1);
}

#[tokio::test]
async fn what_expires_while_it_waits_is_never_sent() {
    // The retry lies beyond the expiry, however quick the machine is.
    let rig = Rig::with([retry("a")], |c| c.retry.schedule = vec![ms(60_000)]).await.start();
    let id = rig.accept_by("probe", |n| n.expires_at = Some(n.created_at + Duration::from_millis(30))).await;
    // Either the first attempt was in time and its retry is not, or none was.
    rig.until(id, S::Expired).await;
    assert!(rig.fake.calls().len() <= 1);
}

#[tokio::test]
async fn a_cancel_during_an_attempt_takes_back_the_retry() {
    let refuse = DeliveryError::Retry { after: None, reason: Reason::new("a", "not now") };
    let rig = Rig::new([Answer::RefuseLater(refuse)]).await.start();
    let mut notification = None;
    let id = rig.accept_by("probe", |n| notification = Some(n.id)).await;
    rig.fake.until_called(1).await;
    let cancelled = rig.status.cancel(&"default".into(), notification.unwrap(), &Actor::default()).await.unwrap();
    assert_eq!(cancelled.unwrap().in_flight, 1);
    rig.fake.go_on.add_permits(1);
    assert_eq!(rig.until(id, S::Cancelled).await.as_deref(), Some("cancelled"));
    assert_eq!(rig.fake.calls().len(), 1);
}

/// Another node takes the delivery and dies with it.
async fn lose(rig: &Rig, id: DeliveryId) {
    let outcome = rig.status.claim(&[id], NodeId::new(), Duration::ZERO).await.unwrap();
    assert!(matches!(outcome[..], [ClaimOutcome::Claimed(_)]), "{outcome:?}");
    while rig.status.rescue(10).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn after_three_losses_it_is_tried_alone() {
    let rig = Rig::new([Answer::Wait, Answer::Wait]).await;
    let suspect = rig.send().await;
    for _ in 0..3 {
        lose(&rig, suspect).await;
    }
    let others = [rig.send().await, rig.send().await];
    let rig = rig.start();
    rig.fake.until_called(1).await;
    rig.fake.go_on.add_permits(2);
    rig.until(suspect, S::Sent).await;
    for id in others {
        rig.until(id, S::Sent).await;
    }
    let calls = rig.fake.calls();
    let alone = calls.iter().find(|c| c.delivery_id == suspect.to_string()).unwrap();
    assert_eq!(alone.side_by_side, 1);
    assert_eq!(rig.outcomes(suspect).await, ["lost", "lost", "lost", "ok"]);
    assert!(rig.attempts(suspect).await[0].uncertain);
}

#[tokio::test]
async fn a_suspect_begins_only_when_nothing_else_runs() {
    let rig = Rig::new([Answer::Wait]).await;
    let suspect = rig.send().await;
    for _ in 0..3 {
        lose(&rig, suspect).await;
    }
    // Out of the way until another one is under way here.
    let other_node = NodeId::new();
    rig.status.claim(&[suspect], other_node, Duration::from_mins(1)).await.unwrap();
    let rig = rig.start();
    let bystander = rig.send().await;
    rig.fake.until_called(1).await;
    assert_eq!(rig.status.give_back(other_node, None).await.unwrap(), 1);
    while rig.context().leases.held().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Claimed; one that does not wait for its turn has begun by the end of this.
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.fake.go_on.add_permits(1);
    rig.until(bystander, S::Sent).await;
    rig.until(suspect, S::Sent).await;
    let calls: Vec<_> = rig.fake.calls().into_iter().map(|c| (c.delivery_id, c.side_by_side)).collect();
    assert_eq!(calls, [(bystander.to_string(), 1), (suspect.to_string(), 1)]);
}

#[tokio::test]
async fn a_lease_lost_before_the_attempt_begins_means_no_call() {
    let mut rig = Rig::new([]).await;
    let id = rig.send().await;
    let ctx = Arc::new(rig.parts.take().unwrap());
    let mut outcomes = rig.status.claim(&[id], ctx.node, Duration::from_mins(1)).await.unwrap();
    let Some(ClaimOutcome::Claimed(claimed)) = outcomes.pop() else { panic!("not claimed") };
    let now = std::time::Instant::now();
    let hold = ctx.leases.hold(&claimed, now);
    ctx.leases.renewed(&[(id, claimed.attempt)], now, &[]);
    let guard = ctx.channels.get(&"probe".into()).unwrap();
    let permit = guard.take(1).pop().unwrap();
    super::attempt::run(ctx.clone(), *claimed, hold, permit).await;
    assert!(rig.fake.calls().is_empty(), "a channel that does not ask would have sent it");
}

#[tokio::test]
async fn after_the_database_was_away_nothing_is_rescued_for_a_while() {
    let rig = Rig::new([]).await;
    let id = rig.send().await;
    rig.status.claim(&[id], NodeId::new(), Duration::ZERO).await.unwrap();
    let ctx = rig.context();
    ctx.note(&StoreError::Unavailable("away".into()));
    super::rescue::round(ctx).await.unwrap();
    assert_eq!(rig.find(id).await.unwrap().state, S::Sending, "its worker may live and not have renewed yet");
    *ctx.troubled_at.lock().unwrap() = None;
    super::rescue::round(ctx).await.unwrap();
    assert_eq!(rig.find(id).await.unwrap().state, S::Retrying);
}

#[tokio::test]
async fn a_process_that_was_frozen_renews_before_it_rescues() {
    let rig = Rig::with([], |c| c.worker.lease = ms(2_000)).await;
    let id = rig.send().await;
    let ctx = rig.context();
    let asked_at = std::time::Instant::now();
    let mut outcomes = rig.status.claim(&[id], ctx.node, Duration::ZERO).await.unwrap();
    let Some(ClaimOutcome::Claimed(claimed)) = outcomes.pop() else { panic!("not claimed") };
    let _hold = ctx.leases.hold(&claimed, asked_at);
    while !ctx.leases.overdue(std::time::Instant::now()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    super::rescue::round(ctx).await.unwrap();
    let row = rig.find(id).await.unwrap();
    assert_eq!((row.state, row.attempts.len()), (S::Sending, 0), "it took its own work for lost");
}

#[tokio::test]
async fn one_more_loss_after_that_is_poison() {
    let rig = Rig::new([]).await;
    let id = rig.send().await;
    for _ in 0..4 {
        lose(&rig, id).await;
    }
    assert_eq!(rig.find(id).await.unwrap().reason.as_deref(), Some("poison"));
    let rig = rig.start();
    let bystander = rig.send().await;
    rig.until(bystander, S::Sent).await;
    assert_eq!(rig.find(id).await.unwrap().state, S::Dead);
}

#[tokio::test]
async fn a_lease_that_another_node_let_lapse_is_taken_up() {
    let rig = Rig::new([]).await;
    let id = rig.send().await;
    rig.status.claim(&[id], NodeId::new(), Duration::from_millis(50)).await.unwrap();
    let rig = rig.start();
    rig.until(id, S::Sent).await;
    assert_eq!(rig.outcomes(id).await, ["lost", "ok"]);
}

#[tokio::test]
async fn what_died_in_the_queue_is_relayed_at_the_next_start() {
    let rig = Rig::new([]).await;
    let id = rig.send().await;
    assert_eq!(rig.store.relay_due(10, &[]).await.unwrap(), [], "the fast path has it");
    rig.store.lapse_all_leases().await.unwrap();
    let rows: Vec<_> = rig.store.relay_due(10, &[]).await.unwrap().into_iter().map(|r| r.delivery_id).collect();
    assert_eq!(rows, [id]);
}

#[tokio::test]
async fn a_drain_waits_for_what_is_under_way() {
    let rig = Rig::new([Answer::Wait]).await.start();
    let id = rig.send().await;
    rig.fake.until_called(1).await;
    let fake = rig.fake.clone();
    let queue = rig.context().queue.clone();
    let drained = tokio::spawn(rig.drain(Duration::from_secs(20)));
    while queue.health().is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(queue.publish(&"probe".into(), &[id]).await, Err(QueueError::Closed)));
    fake.go_on.add_permits(1);
    let rig = drained.await.unwrap();
    assert_eq!(rig.find(id).await.unwrap().state, S::Sent);
}

#[tokio::test]
async fn a_drain_gives_back_what_it_cuts_and_records_doubt() {
    let rig = Rig::new([Answer::Wait, Answer::AskAndWait]).await.start();
    let harmless = rig.send().await;
    rig.fake.until_called(1).await;
    let doubtful = rig.send().await;
    rig.fake.until_called(2).await;
    let rig = rig.drain(Duration::from_millis(20)).await;
    let row = rig.find(harmless).await.unwrap();
    assert_eq!((row.state, row.attempts.len()), (S::Retrying, 0), "nothing was sent, so there is nothing to tell");
    let row = rig.find(doubtful).await.unwrap();
    assert_eq!((row.state, row.attempts.len()), (S::Retrying, 1));
    assert!(row.attempts[0].uncertain && row.attempts[0].code.as_deref() == Some("drained"));
    let claims = rig.status.claim(&[harmless, doubtful], NodeId::new(), Duration::from_mins(1)).await.unwrap();
    for claim in claims {
        let ClaimOutcome::Claimed(claim) = claim else { panic!("due at once: {claim:?}") };
        assert_eq!((claim.losses, claim.spent), (0, 0));
    }
}

#[tokio::test]
async fn a_thousand_users_are_reached_in_slices() {
    let rig = Rig::with([], |c| c.ingest.expand_batch = 300).await.start();
    let recipients: Vec<_> = (0..1000)
        .map(|n| RecipientSpec {
            user_id: format!("user-{n:04}").as_str().into(),
            addresses: [("probe".into(), format!("address-{n}"))].into(),
        })
        .collect();
    let spec = AudienceSpec { recipients, channels: Some(vec!["probe".into(), "websocket".into()]) };
    let notification = Notification { id: NotificationId::new(), ..Notification::clone(&fake::notification()) };
    let (app, id) = (notification.app.clone(), notification.id);
    rig.accept(notification, AudiencePlan::Deferred(spec)).await;
    let all = async {
        loop {
            let detail = rig.store.notification(&app, id, None).await.unwrap().unwrap();
            let sent: u64 = detail.summary.iter().filter(|(s, _)| s.as_str() == "sent").map(|(_, n)| n).sum();
            if detail.row.audience == Some((1000, 1000)) && sent == 2000 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all).await.expect("not everybody was reached");
    let mut reached: Vec<_> = rig.fake.calls().into_iter().map(|c| c.recipient).collect();
    reached.sort_unstable();
    reached.dedup();
    assert_eq!((reached.len(), rig.fake.calls().len()), (1000, 1000), "each once");
    assert!(rig.config.queue.capacity > 1000);
}

#[tokio::test]
async fn a_short_line_loses_nothing() {
    let rig = Rig::with([], |c| c.queue.capacity = 3).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(rig.send().await);
    }
    let rig = rig.start();
    for id in ids {
        rig.until(id, S::Sent).await;
    }
    assert_eq!(rig.fake.calls().len(), 20);
}
