//! Several instances of one channel: who sends what, and that nothing is sent by two.

use super::*;
use crate::channel::{
    Keeper, KeeperParts,
    catalogue::Catalogue,
    fake::{FakeCode, Ledger},
    manage::{ChangedInstance, NewInstance},
    setup::secrets::Vault,
};
use campanile_model::ports::InstanceLimits;
use campanile_plugin::Info;
use serde_json::json;

fn retry(code: &'static str) -> Answer {
    Answer::Refuse(DeliveryError::retry(Reason::new(code, "x")))
}

async fn pair(first: impl IntoIterator<Item = Answer>, second: impl IntoIterator<Item = Answer>) -> (Rig, Arc<Fake>) {
    let backup = Fake::new(second);
    let rig = Rig::behind(Fake::new(first), &[("backup", backup.clone())], |c| c.retry.breaker_failures = 2).await;
    (rig.start(), backup)
}

async fn told(rig: &Rig, id: DeliveryId) -> Vec<(String, Option<String>)> {
    rig.attempts(id).await.into_iter().map(|a| (a.outcome, a.instance)).collect()
}

fn by(outcome: &str, instance: &str) -> (String, Option<String>) {
    (outcome.to_owned(), Some(instance.to_owned()))
}

#[tokio::test]
async fn what_was_certainly_not_sent_goes_by_the_next_instance_in_the_same_attempt() {
    let (rig, backup) = pair([retry("connect_failed")], []).await;
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    assert_eq!(told(&rig, id).await, [by("ok", "backup")]);
    let message = rig.attempts(id).await[0].message.clone().unwrap();
    assert_eq!(message, "nothing was sent by probe: connect_failed: x");
    assert_eq!((rig.fake.calls().len(), backup.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_doubtful_outcome_is_never_sent_by_a_second_instance_in_the_same_attempt() {
    let doubtful = DeliveryError::retry(Reason::new("timeout", "x").uncertain());
    let (rig, backup) = pair([Answer::Refuse(doubtful)], []).await;
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    assert_eq!(told(&rig, id).await, [by("retry", "probe"), by("ok", "probe")], "nor by another one later");
    assert!(backup.calls().is_empty());
}

#[tokio::test]
async fn past_its_point_of_no_return_a_failure_waits_for_the_next_attempt_and_another_instance() {
    let info = Info::new("fake", "1");
    let first = Fake::with(info, [retry("http_503")]);
    let backup = Fake::with(info, []);
    let rig = Rig::behind(first, &[("backup", backup.clone())], |_| {}).await.start();
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    assert_eq!(told(&rig, id).await, [by("retry", "probe"), by("ok", "backup")]);
    assert_eq!(backup.calls()[0].attempt, 2);
}

#[tokio::test]
async fn misconfigured_opens_one_breaker_and_the_channel_goes_on() {
    let config = DeliveryError::misconfigured(Reason::new("535", "who are you"));
    let backup = Fake::new([]);
    let first = Fake::new([Answer::Refuse(config)]);
    let rig = Rig::behind(first, &[("backup", backup.clone())], |c| c.retry.breaker_open = ms(3_600_000)).await.start();
    for id in [rig.send().await, rig.send().await, rig.send().await] {
        rig.until(id, S::Sent).await;
    }
    assert!(!rig.fake.calls().is_empty() && backup.calls().len() == 3);
    let view = rig.context().channels.views().into_iter().find(|v| v.name.as_str() == "probe").unwrap();
    let states: Vec<_> = view.instances.iter().map(|i| i.breaker.state.as_str()).collect();
    assert_eq!((view.breaker.state.as_str(), states), ("closed", vec!["open", "closed"]));
    assert_eq!(view.health, "degraded", "{:?}", view.health_detail);
}

#[tokio::test]
async fn when_nobody_can_send_it_spends_what_its_last_instance_says() {
    let config = || Answer::Refuse(DeliveryError::misconfigured(Reason::new("535", "who are you")));
    let (rig, _backup) = pair([retry("connect_failed")], [config()]).await;
    let id = rig.send().await;
    rig.until(id, S::Sent).await;
    let attempts = rig.attempts(id).await;
    assert_eq!(attempts[0].outcome, "misconfigured");
    let said = attempts[0].message.as_deref().unwrap();
    assert_eq!(said, "who are you (nothing was sent by probe: connect_failed: x)");
}

#[tokio::test]
async fn a_refusal_of_the_message_is_not_asked_of_another_provider() {
    let no = DeliveryError::permanent(Reason::new("550", "no"));
    let (rig, backup) = pair([Answer::Refuse(no)], []).await;
    let id = rig.send().await;
    rig.until(id, S::Dead).await;
    assert_eq!(told(&rig, id).await, [by("permanent", "probe")]);
    assert!(backup.calls().is_empty());
}

/// A rig whose channel `probe` is one instance, `a`, kept by a keeper.
async fn kept(concurrency: u32) -> (Rig, Arc<Keeper>, Arc<Ledger>, Arc<Catalogue>) {
    let rig = Rig::with([], |_| {}).await;
    let ctx = rig.context();
    let (ledger, catalogue) = (Arc::<Ledger>::default(), Catalogue::new());
    catalogue.put(FakeCode::new("probe", "1", &ledger));
    let keeper = Keeper::new(KeeperParts {
        node: ctx.node,
        registry: ctx.channels.clone(),
        catalogue: catalogue.clone(),
        store: rig.store.clone(),
        queue: ctx.queue.clone(),
        bus: LocalBus::new(),
        clock: ctx.clock.clone(),
        vault: Vault::new("/nowhere".into(), None, Arc::new(|_: &str| None)),
        fixed: Vec::new(),
    });
    let new = NewInstance {
        name: "a".into(),
        plugin: "probe".into(),
        channel: None,
        enabled: true,
        config: json!({"n": 0}),
        limits: limits(concurrency),
    };
    keeper.create(new, &Actor::default()).await.unwrap();
    (rig, keeper, ledger, catalogue)
}

fn limits(concurrency: u32) -> InstanceLimits {
    InstanceLimits { concurrency: Some(concurrency), ..InstanceLimits::default() }
}

async fn change(keeper: &Keeper, n: u64, concurrency: u32) {
    let (config, limits) = (json!({ "n": n }), limits(concurrency));
    let to = ChangedInstance { version: Some(n), enabled: true, config, limits };
    let changed = keeper.change("a", to, &Actor::default()).await.unwrap();
    assert!(changed.view.failure.is_none(), "{changed:?}");
}

async fn until_called(ledger: &Ledger, n: usize) {
    let wait = async {
        while ledger.calls.lock().unwrap().len() < n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("too little was sent");
}

async fn each_was_sent_once(rig: &Rig, ledger: &Ledger, ids: &[DeliveryId]) {
    let settled = async {
        // The depths, since a list of notifications has its limit.
        while rig.store.queue_stats().await.unwrap().iter().any(|q| q.ready + q.in_flight + q.retrying + q.dead > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), settled).await.expect("some were not sent");
    let calls = ledger.calls.lock().unwrap().clone();
    assert_eq!((calls.len(), calls.values().max()), (ids.len(), Some(&1)), "none lost, none doubled");
    for id in &ids[ids.len() - 10..] {
        assert_eq!(told(rig, *id).await, [by("ok", "a")], "and none tried twice");
    }
}

/// Row 22 of the acceptance table, without files: all of them are under way while the code and the configuration change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_with_five_hundred_deliveries_under_way_loses_and_doubles_nothing() {
    let (rig, keeper, ledger, catalogue) = kept(500).await;
    ledger.held.send_replace(true);
    let mut ids = Vec::new();
    for _ in 0..500 {
        ids.push(rig.send().await);
    }
    let rig = rig.start();
    until_called(&ledger, 500).await;
    catalogue.put(FakeCode::new("probe", "2", &ledger));
    change(&keeper, 1, 500).await;
    let guard = rig.context().channels.get(&"probe".into()).unwrap();
    assert_eq!((guard.busy(), guard.runners()[0].view().busy), (500, 0), "they stay where they are");
    assert!(ledger.stopped().is_empty());
    ids.push(rig.send().await);
    until_called(&ledger, 501).await;
    assert_eq!(guard.runners()[0].view().busy, 1, "what comes next goes by the new one, without waiting for the old");
    ledger.held.send_replace(false);
    each_was_sent_once(&rig, &ledger, &ids).await;
    keeper.close();
    keeper.left().await;
    assert_eq!((ledger.started().len(), ledger.stopped()), (2, vec![json!({"n": 0})]));
    assert_eq!(ledger.after_stop.load(std::sync::atomic::Ordering::Relaxed), 0, "nobody was stopped under a delivery");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_the_midst_of_a_flow_lose_and_double_nothing() {
    let (rig, keeper, ledger, _) = kept(20).await;
    *ledger.takes.lock().unwrap() = Duration::from_millis(20);
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(rig.send().await);
    }
    let rig = rig.start();
    for n in 1..=5 {
        until_called(&ledger, 40 * n).await;
        change(&keeper, n as u64, 20).await;
    }
    each_was_sent_once(&rig, &ledger, &ids).await;
    keeper.close();
    keeper.left().await;
    assert_eq!((ledger.started().len(), ledger.stopped().len()), (6, 5), "the newest runs, the others have ended");
    assert_eq!(ledger.after_stop.load(std::sync::atomic::Ordering::Relaxed), 0);
}
