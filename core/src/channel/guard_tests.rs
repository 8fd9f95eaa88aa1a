use super::*;
use crate::channel::{
    breaker::{Breaker, Limits},
    fake::{Answer, Fake, Linked},
    runner::{Allowance, Called},
    setup::secrets::Veil,
};
use campanile_model::ports::{Per, Rate};
use campanile_plugin::{Delivery, DeliveryError, Health, Reason};

const LIMITS: Limits = Limits { failures: 2, open: Duration::from_millis(30), open_max: Duration::from_millis(30) };

fn runner(guard: &Guard, name: &str, fake: &Arc<Fake>, rate: Option<Rate>) -> Arc<Runner> {
    let allowance = Allowance { concurrency: 4, timeout: Duration::from_secs(30), rate };
    Runner::new(
        name.to_owned(),
        guard.name().as_str(),
        Arc::new(Linked(fake.clone())),
        allowance,
        Breaker::new(LIMITS),
        guard.bell(),
        Veil::default(),
        Arc::new(Metrics::new()),
    )
}

fn channel(fakes: &[(&str, &Arc<Fake>)]) -> Arc<Guard> {
    let guard = Guard::new("email".into(), Arc::new(Metrics::new()));
    let runners = fakes.iter().map(|(name, fake)| runner(&guard, name, fake, None)).collect();
    guard.set(Traits { enabled: true, in_app: false, recipient: None }, runners);
    guard
}

fn single(fake: &Arc<Fake>) -> Arc<Guard> {
    channel(&[("a", fake)])
}

fn pair() -> Arc<Guard> {
    channel(&[("a", &Fake::new([])), ("b", &Fake::new([]))])
}

fn delivery(timeout: Duration) -> Delivery<'static> {
    Delivery::new("d", "r").with_timeout(timeout)
}

fn name(permit: &Permit) -> &str {
    permit.runner().map_or("nobody", |r| r.name())
}

fn takes(guard: &Arc<Guard>) -> String {
    guard.take(1).iter().map(|p| name(p).to_owned()).collect()
}

/// Whether it is still waiting after everything that could move has moved.
async fn waits(future: impl Future) -> bool {
    tokio::time::timeout(Duration::from_millis(5), future).await.is_err()
}

#[tokio::test]
async fn a_call_is_answered_cut_or_caught() {
    let refusal = DeliveryError::Permanent { reason: Reason::new("no", "no") };
    let fake = Fake::new([Answer::Accept, Answer::Refuse(refusal.clone()), Answer::Panic, Answer::Wait]);
    let guard = single(&fake);
    let runner = &guard.runners()[0];
    let long = Duration::from_secs(30);
    assert!(matches!(runner.call(delivery(long)).await, Called::Answered(Ok(_))));
    assert!(matches!(runner.call(delivery(long)).await, Called::Answered(Err(e)) if e == refusal));
    assert!(matches!(runner.call(delivery(long)).await, Called::Panicked(said) if said == "told to"));
    assert!(matches!(runner.call(delivery(Duration::from_millis(10))).await, Called::TimedOut));
    assert!(matches!(runner.call(delivery(long)).await, Called::Answered(Ok(_))), "a fault costs one delivery");
}

#[tokio::test]
async fn there_is_room_while_permits_are_left() {
    let guard = single(&Fake::new([]));
    assert_eq!(guard.room().await, 4);
    let mut permits = guard.take(4);
    assert!(waits(guard.room()).await);
    permits.pop();
    assert_eq!(guard.room().await, 1);
    drop(permits);
    assert_eq!((guard.room().await, guard.busy()), (4, 0));
}

#[tokio::test]
async fn a_pause_takes_the_room_away_and_gives_it_back() {
    let guard = single(&Fake::new([]));
    assert!(waits(guard.shut()).await);
    guard.set_paused(true);
    guard.shut().await;
    assert!(waits(guard.room()).await && !guard.takes_work());
    guard.set_paused(false);
    assert_eq!(guard.room().await, 4);
}

#[tokio::test]
async fn an_open_breaker_lets_one_through_and_its_success_closes() {
    let guard = single(&Fake::new([]));
    for _ in 0..2 {
        guard.take(1)[0].report(Verdict::Fails, None, Some("e"));
    }
    guard.shut().await;
    let view = guard.runners()[0].view();
    assert_eq!((view.breaker, view.last_error.as_deref()), (2, Some("e")));
    assert!(!guard.takes_work() && view.open_since.is_some());
    assert_eq!(guard.room().await, 1, "after a while one may try");
    let probe = guard.take(1);
    assert!(waits(guard.room()).await, "and nobody beside it");
    drop(probe);
    assert_eq!(guard.room().await, 1, "a try that came to nothing is made again");
    guard.take(1)[0].report(Verdict::Works, None, None);
    assert_eq!(guard.room().await, 4);
    assert_eq!(guard.runners()[0].view().last_error, None);
}

#[tokio::test]
async fn throttling_halves_what_may_run_and_success_brings_it_back() {
    let guard = single(&Fake::new([]));
    guard.take(1)[0].report(Verdict::Works, Some(None), Some("slow down"));
    assert_eq!(guard.room().await, 2);
    guard.take(1)[0].report(Verdict::Works, Some(None), Some("slow down"));
    assert_eq!(guard.room().await, 2, "those that ran side by side count once");
    for _ in 0..20 {
        guard.take(1)[0].report(Verdict::Works, None, None);
    }
    assert_eq!(guard.room().await, 4);
}

#[tokio::test]
async fn a_failing_health_check_opens_the_breaker() {
    let fake = Fake::new([]);
    let guard = single(&fake);
    guard.check_health().await;
    assert_eq!(guard.runners()[0].view().breaker, 0);
    fake.set_health(Health::Failing("no route".to_owned()));
    guard.check_health().await;
    assert_eq!(guard.runners()[0].view().breaker, 2);
}

#[tokio::test]
async fn the_first_instance_takes_what_it_can_and_is_waited_for_while_it_is_busy() {
    let guard = pair();
    let permits = guard.take(4);
    assert!(permits.iter().all(|p| name(p) == "a"));
    assert!(waits(guard.room()).await, "the second is for failures, not for load");
}

#[tokio::test]
async fn an_open_breaker_sends_to_the_next_and_the_channel_shuts_with_the_last() {
    let guard = pair();
    guard.take(1)[0].report(Verdict::Misconfigured, None, Some("no credentials"));
    assert!(guard.takes_work() && waits(guard.shut()).await, "one instance works");
    assert_eq!(takes(&guard), "b");
    let mut permit = guard.take(1);
    permit[0].report(Verdict::Misconfigured, None, Some("no credentials"));
    drop(permit);
    guard.shut().await;
    assert!(!guard.takes_work());
    assert_eq!(guard.room().await, 1, "the first to come back is tried");
    assert!(guard.is_on_trial());
    let mut probe = guard.take(1);
    assert_eq!(name(&probe[0]), "a");
    probe[0].report(Verdict::Works, None, None);
    assert_eq!((takes(&guard).as_str(), guard.is_on_trial()), ("a", false));
}

#[tokio::test]
async fn the_first_instance_is_tried_again_by_one_while_the_second_carries_on() {
    let guard = pair();
    guard.take(1)[0].report(Verdict::Misconfigured, None, Some("e"));
    while guard.runners()[0].offer(Instant::now()) != Offer::Probe {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let probe = guard.take(1);
    assert_eq!((name(&probe[0]), guard.room().await), ("a", 4));
    assert_eq!(takes(&guard), "b", "nobody waits for the try");
}

#[tokio::test]
async fn a_used_up_rate_sends_to_the_next_and_then_waits() {
    let guard = Guard::new("email".into(), Arc::new(Metrics::new()));
    let slow = Some(Rate { limit: 1, per: Per::Second });
    let runners = vec![runner(&guard, "a", &Fake::new([]), slow), runner(&guard, "b", &Fake::new([]), slow)];
    guard.set(Traits { enabled: true, in_app: false, recipient: None }, runners);
    assert_eq!(guard.room().await, 1, "a second's worth");
    assert_eq!((takes(&guard).as_str(), takes(&guard).as_str()), ("a", "b"));
    assert!(waits(guard.room()).await && waits(guard.shut()).await, "it is not shut, only slow");
    let wait = tokio::time::timeout(Duration::from_secs(20), guard.room()).await;
    assert_eq!(wait, Ok(1));
}

#[tokio::test]
async fn the_rate_is_shared_by_the_nodes_and_a_slow_one_gives_its_messages_back() {
    let guard = Guard::new("email".into(), Arc::new(Metrics::new()));
    let a = runner(&guard, "a", &Fake::new([]), None);
    guard.set(Traits { enabled: true, in_app: false, recipient: None }, vec![a.clone()]);
    let allowance = Allowance { rate: Some(Rate { limit: 120, per: Per::Minute }), ..a.allowance() };
    a.set_allowance(allowance, 4);
    assert_eq!(a.view().effective_rate, Some(0.5));
    a.set_allowance(Allowance { rate: Some(Rate { limit: 1, per: Per::Minute }), ..allowance }, 1);
    takes(&guard);
    guard.shut().await;
    assert!(guard.takes_work(), "work is still brought: it goes as the rate allows");
}

#[tokio::test]
async fn a_throttled_instance_rests_while_another_can_send() {
    let guard = pair();
    guard.take(1)[0].report(Verdict::Works, Some(Some(Duration::from_mins(1))), Some("429"));
    assert_eq!(takes(&guard), "b");
    assert!(guard.runners()[0].view().resting.is_some());
    guard.take(1)[0].report(Verdict::Misconfigured, None, Some("e"));
    assert_eq!(takes(&guard), "a", "better slowly than not at all");
}

#[tokio::test]
async fn a_delivery_moves_on_once_to_each_instance_that_works() {
    let guard = pair();
    let mut permit = guard.take(1).remove(0);
    assert!(permit.has_choice() && permit.move_on());
    assert_eq!((name(&permit), guard.busy()), ("b", 1));
    assert!(!permit.move_on(), "both have had their try");
    assert_eq!(name(&permit), "b");
    drop(permit);
    let busy: Vec<_> = guard.runners().iter().map(|r| r.view().busy).collect();
    assert_eq!((busy, guard.busy()), (vec![0, 0], 0));
}

#[tokio::test]
async fn a_replaced_instance_gets_nothing_new_and_ends_when_its_last_delivery_has() {
    let (old, new) = (Fake::new([]), Fake::new([]));
    let guard = single(&old);
    let first = guard.runners().remove(0);
    let permit = guard.take(1);
    let second = runner(&guard, "a", &new, None);
    guard.set(Traits { enabled: true, in_app: false, recipient: None }, vec![second.clone()]);
    let fresh = guard.take(1);
    assert!(Arc::ptr_eq(fresh[0].runner().unwrap(), &second));
    let retiring = first.retire(Duration::from_secs(20), Duration::from_secs(1));
    tokio::pin!(retiring);
    assert!(waits(&mut retiring).await);
    assert_eq!((old.stops(), new.stops()), (0, 0));
    drop(permit);
    retiring.await;
    assert_eq!((old.stops(), new.stops()), (1, 0));
}

#[tokio::test]
async fn what_outlasts_the_patience_is_given_up() {
    let fake = Fake::new([]);
    let guard = single(&fake);
    let runner = guard.runners().remove(0);
    let permit = guard.take(1);
    let held = runner.clone();
    let attempt = tokio::spawn(async move {
        held.cut().await;
        drop(permit);
    });
    runner.retire(Duration::from_millis(20), Duration::from_secs(1)).await;
    attempt.await.unwrap();
    assert_eq!((fake.stops(), guard.busy()), (1, 0));
}

#[tokio::test]
async fn a_channel_that_ends_frees_its_consumer_and_late_permits_have_nobody() {
    let guard = single(&Fake::new([]));
    guard.end();
    guard.gone().await;
    guard.shut().await;
    assert_eq!((takes(&guard).as_str(), guard.enabled()), ("nobody", false));
}
