//! What runs follows what is wished for, and a failure takes nothing away.

use super::*;
use crate::{
    channel::{
        breaker::Verdict,
        catalogue::Refusal,
        fake::{FakeCode, Ledger, retry},
        manage::{ChangedInstance, NewInstance, NotDone, Wrong},
        spec,
    },
    connection::LocalBus,
    observe::Metrics,
    queue::LocalQueue,
    store::exam::{Engine, Exam, actor},
};
use campanile_model::{
    clock::SystemClock,
    ports::{InstanceLimits, InstanceSetup, SignalSink},
    signal::Signal,
};
use campanile_plugin::Secret;
use serde_json::json;

struct Bench {
    keeper: Arc<Keeper>,
    ledger: Arc<Ledger>,
    _exam: Exam,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Vec::new()).await
    }

    async fn with(fixed: Vec<Spec>) -> Self {
        let exam = Exam::on(Engine::Sqlite).await;
        let ledger = Arc::<Ledger>::default();
        let catalogue = Catalogue::new();
        catalogue.put(FakeCode::new("sms", "1", &ledger));
        let environment = |name: &str| (name == "TOKEN").then(|| "hunter2".to_owned());
        let vault = Vault::new("/nowhere".into(), Some(&Secret::new("key")), Arc::new(environment));
        let keeper = Keeper::new(KeeperParts {
            node: NodeId::new(),
            registry: Registry::new(&retry(), &Arc::new(Metrics::new())),
            catalogue,
            store: exam.shared(),
            queue: LocalQueue::new(10),
            bus: LocalBus::new(),
            clock: Arc::new(SystemClock),
            vault,
            fixed,
        });
        Self { keeper, ledger, _exam: exam }
    }

    async fn create(&self, name: &str, config: Value) -> crate::channel::InstanceView {
        self.keeper.create(new(name, config), &actor()).await.unwrap().view
    }

    async fn change(&self, name: &str, config: Value) -> crate::channel::InstanceView {
        let to = ChangedInstance { version: None, enabled: true, config, limits: InstanceLimits::default() };
        self.keeper.change(name, to, &actor()).await.unwrap().view
    }

    fn order(&self) -> Vec<String> {
        self.guard().runners().iter().map(|r| r.name().to_owned()).collect()
    }

    fn guard(&self) -> Arc<Guard> {
        self.keeper.parts.registry.get(&"sms".into()).expect("the channel is there")
    }

    async fn left(&self) {
        self.keeper.leaving.close();
        self.keeper.left().await;
        self.keeper.leaving.reopen();
    }
}

fn new(name: &str, config: Value) -> NewInstance {
    NewInstance {
        name: name.to_owned(),
        plugin: "sms".to_owned(),
        channel: None,
        enabled: true,
        config,
        limits: InstanceLimits::default(),
    }
}

fn wrong(refused: Result<impl std::fmt::Debug, NotDone>) -> Vec<Wrong> {
    match refused.unwrap_err() {
        NotDone::Invalid(wrong) => wrong,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_channel_comes_with_its_first_instance_and_goes_with_its_last() {
    let bench = Bench::new().await;
    let mut channels = bench.keeper.parts.registry.watch_channels();
    assert!(bench.keeper.parts.registry.get(&"sms".into()).is_none());
    let view = bench.create("a", json!({"n": 1})).await;
    assert_eq!((view.state.as_str(), view.version, view.channel.as_str()), ("running", Some(1), "sms"));
    channels.changed().await.unwrap();
    assert!(bench.guard().enabled() && bench.guard().takes_work());
    let off = bench.keeper.enable("a", false, &actor()).await.unwrap().view;
    assert_eq!((off.state.as_str(), off.health.as_str(), bench.guard().enabled()), ("disabled", "disabled", false));
    assert!(bench.guard().runners().is_empty(), "known, and nothing runs");
    bench.keeper.enable("a", true, &actor()).await.unwrap();
    let guard = bench.guard();
    bench.keeper.delete("a", &actor()).await.unwrap();
    guard.gone().await;
    assert!(bench.keeper.parts.registry.get(&"sms".into()).is_none());
    bench.left().await;
    assert_eq!(bench.ledger.stopped().len(), 2);
    bench.create("a", json!({"n": 1})).await;
    assert_ne!(bench.guard().id(), guard.id(), "a channel that came back has a consumer of its own");
}

#[tokio::test]
async fn a_change_starts_beside_the_old_one_and_what_need_not_start_does_not() {
    let bench = Bench::new().await;
    bench.create("a", json!({"n": 1})).await;
    bench.create("b", json!({"n": 2})).await;
    let before = bench.guard().runners();
    let permit = bench.guard().take(1);
    bench.change("a", json!({"n": 3})).await;
    let after = bench.guard().runners();
    assert!(!Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
    assert_eq!(bench.ledger.started(), [json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]);
    assert!(bench.ledger.stopped().is_empty(), "a delivery is under way");
    drop(permit);
    bench.left().await;
    assert_eq!(bench.ledger.stopped(), [json!({"n": 1})]);

    // Limits change without a start.
    let limits = InstanceLimits { concurrency: Some(3), ..InstanceLimits::default() };
    let to = ChangedInstance { version: Some(2), enabled: true, config: json!({"n": 3}), limits };
    let view = bench.keeper.change("a", to, &actor()).await.unwrap().view;
    assert_eq!((view.concurrency, view.version, bench.ledger.started().len()), (3, Some(3), 3));
    bench.keeper.restart("a", &actor()).await.unwrap();
    assert_eq!(bench.ledger.started().len(), 4);
    assert!(!Arc::ptr_eq(&bench.guard().runners()[0], &after[0]));
}

#[tokio::test]
async fn what_does_not_start_leaves_the_old_one_running_and_says_why() {
    let bench = Bench::new().await;
    let secret = json!({"$secret": "env:TOKEN"});
    bench.create("a", json!({"n": 1})).await;
    let old = bench.guard().runners().remove(0);
    for (start, step) in [("fail", "start"), ("panic", "start"), ("sick", "health")] {
        let view = bench.change("a", json!({"start": start, "token": secret})).await;
        let failure = view.failure.unwrap_or_else(|| panic!("{start}"));
        assert_eq!((failure.step, view.state.as_str()), (step, "running"), "{start}");
        assert!(!failure.reason.contains("hunter2"), "{}", failure.reason);
        assert!(Arc::ptr_eq(&bench.guard().runners()[0], &old), "{start}");
    }
    // Nothing is tried again before its time, and what failed its first health check was stopped.
    let started = bench.ledger.started().len();
    bench.keeper.look().await.unwrap();
    assert_eq!((bench.ledger.started().len(), bench.ledger.stopped().len()), (started, 1));
    let view = bench.change("a", json!({"n": 1})).await;
    assert!(view.failure.is_none() && Arc::ptr_eq(&bench.guard().runners()[0], &old), "back to what runs");
    let view = bench.change("a", json!({"n": 2})).await;
    assert!(view.failure.is_none() && !Arc::ptr_eq(&bench.guard().runners()[0], &old));
}

#[tokio::test]
async fn an_instance_that_never_started_makes_its_channel_wait_and_not_vanish() {
    let bench = Bench::new().await;
    let view = bench.create("a", json!({"start": "fail"})).await;
    assert_eq!((view.state.as_str(), view.health.as_str()), ("failed", "failing"));
    let channel = &bench.keeper.parts.registry.views()[0];
    assert_eq!((channel.enabled, channel.health.as_str(), channel.instances.len()), (true, "failing", 1));
    assert!(!bench.guard().takes_work());
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_pointers_and_nothing_is_saved() {
    let bench = Bench::new().await;
    let refused = |config| async { wrong(bench.keeper.create(new("a", config), &actor()).await) };
    assert_eq!(refused(json!({"n": "x"})).await[0].field, "/config/n");
    assert_eq!(refused(json!({"m": 1})).await[0].field, "/config");
    let luck = refused(json!({"n": 13, "token": {"$secret": "env:TOKEN"}})).await;
    assert_eq!(luck[0].field, "/config/n");
    assert!(luck[0].message.contains("bad luck") && !luck[0].message.contains("hunter2"), "{luck:?}");
    assert_eq!(refused(json!({"token": {"$secret": "env:NONE"}})).await[0].field, "/config/token");
    let mut odd = new("A", json!({}));
    odd.plugin = "fax".to_owned();
    odd.limits.concurrency = Some(0);
    let fields: Vec<_> = wrong(bench.keeper.create(odd, &actor()).await).into_iter().map(|w| w.field).collect();
    assert_eq!(fields, ["name", "limits.concurrency", "plugin"]);
    assert!(bench.keeper.parts.store.instances().await.unwrap().is_empty());
    bench.keeper.validate(&new("a", json!({"n": 1}))).await.unwrap();
    assert!(bench.keeper.parts.store.instances().await.unwrap().is_empty() && bench.ledger.started().is_empty());
}

#[tokio::test]
async fn secrets_are_sealed_masked_kept_and_used() {
    let bench = Bench::new().await;
    bench.create("a", json!({"token": "typed-in", "n": 1})).await;
    assert_eq!(bench.ledger.started()[0]["token"], "typed-in");
    let row = bench.keeper.parts.store.instance("a").await.unwrap().unwrap();
    assert!(!row.setup.config.to_string().contains("typed-in"));
    let detail = bench.keeper.instance("a").await.unwrap();
    assert_eq!(detail.config, json!({"token": {"$secret": "sealed"}, "n": 1}));
    bench.change("a", json!({"token": {"$secret": "sealed"}, "n": 2})).await;
    assert_eq!(bench.ledger.started()[1], json!({"token": "typed-in", "n": 2}));
    let all = format!(
        "{:?} {:?}",
        bench.keeper.versions("a").await.unwrap(),
        bench.keeper.parts.store.audit(None, 100).await.unwrap()
    );
    assert!(!all.contains("typed-in"), "{all}");
}

#[tokio::test]
async fn versions_are_kept_and_gone_back_to_and_a_stale_change_is_refused() {
    let bench = Bench::new().await;
    bench.create("a", json!({"n": 1})).await;
    bench.change("a", json!({"n": 2})).await;
    let stale =
        ChangedInstance { version: Some(1), enabled: true, config: json!({}), limits: InstanceLimits::default() };
    assert!(matches!(bench.keeper.change("a", stale, &actor()).await, Err(NotDone::Stale(2))));
    let back = bench.keeper.roll_back("a", 1, &actor()).await.unwrap();
    assert_eq!((back.config, back.view.version), (json!({"n": 1}), Some(3)));
    assert_eq!(bench.ledger.started().len(), 3);
    let versions: Vec<_> = bench.keeper.versions("a").await.unwrap().into_iter().map(|v| v.version).collect();
    assert_eq!(versions, [3, 2, 1]);
    assert!(matches!(bench.keeper.roll_back("a", 9, &actor()).await, Err(NotDone::NotFound("version"))));
}

#[tokio::test]
async fn the_order_is_the_operators_and_counts_every_instance_once() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.create(name, json!({"n": 1})).await;
    }
    assert_eq!(bench.order(), ["a", "b", "c"]);
    let before = bench.guard().runners();
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let order = |wanted: &[&str]| {
        let wanted = names(wanted);
        async { bench.keeper.order(&"sms".into(), wanted, &actor()).await }
    };
    order(&["c", "a", "b"]).await.unwrap();
    assert_eq!(bench.order(), ["c", "a", "b"]);
    assert!(Arc::ptr_eq(&bench.guard().runners()[0], &before[2]), "nothing is started for it");
    for bad in [&["a", "b"][..], &["a", "b", "c", "c"], &["a", "b", "x"]] {
        assert_eq!(wrong(order(bad).await)[0].field, "instances");
    }
    bench.create("d", json!({"n": 1})).await;
    assert_eq!(bench.order(), ["c", "a", "b", "d"], "a new one comes last");
}

#[tokio::test]
async fn the_file_s_instances_run_beside_the_rows_and_only_the_file_changes_them() {
    let setup = InstanceSetup { enabled: true, config: json!({"n": 7}), limits: InstanceLimits::default() };
    let of_file = Spec {
        name: "f".to_owned(),
        channel: "sms".into(),
        plugin: "sms".to_owned(),
        origin: spec::Origin::File,
        setup: setup.clone(),
        version: 0,
        in_app: false,
    };
    let bench = Bench::with(vec![of_file]).await;
    bench.create("a", json!({"n": 1})).await;
    assert_eq!(bench.order(), ["f", "a"]);
    assert!(matches!(bench.keeper.create(new("f", json!({})), &actor()).await, Err(NotDone::Taken(_))));
    assert!(matches!(bench.keeper.delete("f", &actor()).await, Err(NotDone::ReadOnly(_))));
    assert!(matches!(bench.keeper.enable("f", false, &actor()).await, Err(NotDone::ReadOnly(_))));
    let seen = bench.keeper.instance("f").await.unwrap();
    assert_eq!((seen.view.origin, seen.config), (spec::Origin::File, json!({"n": 7})));
    bench.keeper.order(&"sms".into(), vec!["a".into(), "f".into()], &actor()).await.unwrap();
    assert_eq!(bench.order(), ["a", "f"], "its place is the operator's");
    // A row from before the file had this name.
    bench.keeper.parts.store.create_instance("g", &"sms".into(), "sms", setup, &actor()).await.unwrap();
    let mut fixed = bench.keeper.parts.fixed.clone();
    fixed[0].name = "g".to_owned();
    let specs = Keeper::new(KeeperParts { fixed, ..parts_like(&bench) });
    specs.look().await.unwrap();
    let entries = specs.parts.registry.entries();
    let clash = entries.iter().filter(|e| e.spec.name == "g").find_map(|e| e.failure.clone());
    assert_eq!(clash.unwrap().step, "name");
}

fn parts_like(bench: &Bench) -> KeeperParts {
    let parts = &bench.keeper.parts;
    KeeperParts {
        node: parts.node,
        registry: Registry::new(&retry(), &Arc::new(Metrics::new())),
        catalogue: parts.catalogue.clone(),
        store: parts.store.clone(),
        queue: parts.queue.clone(),
        bus: parts.bus.clone(),
        clock: parts.clock.clone(),
        vault: Vault::new("/nowhere".into(), None, Arc::new(|_: &str| None)),
        fixed: Vec::new(),
    }
}

#[tokio::test]
async fn new_code_replaces_its_instances_and_refused_code_takes_nothing_away() {
    let bench = Bench::new().await;
    bench.create("a", json!({"n": 1})).await;
    let catalogue = &bench.keeper.parts.catalogue;
    catalogue.put(FakeCode::new("sms", "2", &bench.ledger));
    bench.keeper.look().await.unwrap();
    assert_eq!(bench.guard().runners()[0].info().version, "2");
    let refusal = Refusal {
        plugin: "sms".into(),
        step: "probed".into(),
        reason: "it said nothing".into(),
        file: None,
        at: SystemClock.now(),
    };
    catalogue.refuse(refusal.clone());
    bench.keeper.look().await.unwrap();
    assert_eq!(bench.guard().runners()[0].info().version, "2");
    let plugin = bench.keeper.plugins().remove(0);
    assert_eq!((plugin.refusal.unwrap().reason, plugin.instances), (refusal.reason, vec!["a".to_owned()]));
    catalogue.remove("sms");
    bench.keeper.look().await.unwrap();
    assert!(bench.guard().runners().is_empty());
    let view = bench.keeper.parts.registry.instance_view("a").unwrap();
    assert_eq!((view.state.as_str(), view.failure.unwrap().step), ("failed", "plugin"));
    bench.left().await;
    assert_eq!(bench.ledger.stopped().len(), 2);
}

#[tokio::test]
async fn another_node_s_change_is_followed_by_its_signal() {
    let bench = Bench::new().await;
    let registry = bench.keeper.parts.registry.clone();
    let running = tokio::spawn(bench.keeper.clone().run(Duration::from_secs(20)));
    let setup = InstanceSetup { enabled: true, config: json!({"n": 1}), limits: InstanceLimits::default() };
    bench.keeper.parts.store.create_instance("a", &"sms".into(), "sms", setup, &actor()).await.unwrap();
    let mut channels = registry.watch_channels();
    use campanile_model::{ports::SignalSink, signal::Signal};
    registry.signal(&Signal::InstancesChanged);
    tokio::time::timeout(Duration::from_secs(20), channels.changed()).await.unwrap().unwrap();
    let started = bench.ledger.started().len();
    registry.signal(&Signal::InstanceRestart { instance: "a".into(), by: bench.keeper.parts.node });
    registry.signal(&Signal::InstanceRestart { instance: "a".into(), by: NodeId::new() });
    let again = async {
        while bench.ledger.started().len() == started {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
    bench.keeper.close();
    running.await.unwrap();
    assert_eq!(bench.ledger.started().len(), started + 1, "what was asked for here was done here already");
    bench.left().await;
}

fn on_trial(bench: &Bench, version: &str, share: u8) {
    let code = FakeCode::new("sms", version, &bench.ledger);
    bench.keeper.parts.catalogue.try_out(Trial { code, share, since: SystemClock.now() });
}

/// Versions of those who get the next deliveries.
fn next(guard: &Arc<Guard>, n: usize) -> Vec<String> {
    (0..n).map(|_| guard.take(1)[0].runner().unwrap().info().version.to_owned()).collect()
}

#[tokio::test]
async fn a_new_version_on_trial_takes_its_share_and_then_everything_or_nothing() {
    let bench = Bench::new().await;
    bench.create("a", json!({"n": 1})).await;
    on_trial(&bench, "2", 10);
    bench.keeper.look().await.unwrap();
    let guard = bench.guard();
    let taken = next(&guard, 100);
    assert_eq!((taken[0].as_str(), taken.iter().filter(|v| *v == "2").count()), ("2", 10), "evenly, and at once");
    let mut permit = guard.take(1).remove(0);
    assert!(permit.has_choice() && permit.move_on(), "what it could not send the old one may try");
    assert_eq!(permit.runner().unwrap().info().version, "1");
    drop(permit);
    let view = bench.keeper.plugins().remove(0);
    let trial = view.trial.unwrap();
    assert_eq!((view.version.as_deref(), trial.version.as_str(), trial.share), (Some("1"), "2", 10));
    let new = guard.all_runners()[1].clone();
    let now = bench.keeper.settle_trial("sms", true, &actor()).await.unwrap();
    assert!(now.version.as_deref() == Some("2") && now.trial.is_none(), "{now:?}");
    assert!(Arc::ptr_eq(&guard.runners()[0], &new) && guard.all_runners().len() == 1, "it goes on as it is");
    assert_eq!(bench.ledger.started().len(), 2, "nothing was started for it");
    on_trial(&bench, "3", 50);
    bench.keeper.look().await.unwrap();
    assert!(next(&guard, 4).contains(&"3".to_owned()));
    bench.keeper.settle_trial("sms", false, &actor()).await.unwrap();
    assert_eq!(next(&guard, 4), ["2"; 4]);
    assert!(matches!(bench.keeper.settle_trial("sms", false, &actor()).await, Err(NotDone::NotNow(_))));
    bench.left().await;
    assert_eq!(bench.ledger.stopped().len(), 2, "the first version and the third");
}

#[tokio::test]
async fn a_trial_that_goes_wrong_is_taken_back() {
    let bench = Bench::new().await;
    bench.create("a", json!({"n": 1})).await;
    let taken_back = |why: &str| {
        let view = bench.keeper.plugins().remove(0);
        let reason = view.refusal.unwrap().reason;
        assert!(view.trial.is_none() && reason.contains("is taken back") && reason.contains(why), "{reason}");
        assert_eq!(next(&bench.guard(), 3), ["1"; 3]);
    };
    on_trial(&bench, "broken", 10);
    bench.keeper.look().await.unwrap();
    taken_back("not in this version");
    on_trial(&bench, "2", 50);
    bench.keeper.look().await.unwrap();
    bench.guard().take(1)[0].report(Verdict::Misconfigured, None, Some("401 by the provider"));
    bench.keeper.look().await.unwrap();
    taken_back("401 by the provider");
    bench.left().await;
    assert_eq!(bench.ledger.stopped().len(), 1);
    let audit = bench.keeper.parts.store.audit(None, 10).await.unwrap();
    assert!(audit.iter().filter(|a| a.action == "plugin.roll_back" && a.actor == "system").count() == 2, "{audit:?}");
}

#[tokio::test]
async fn other_nodes_hear_of_a_trial_and_of_its_end() {
    let bench = Bench::new().await;
    bench.create("a", json!({"n": 1})).await;
    let (registry, other) = (&bench.keeper.parts.registry, NodeId::new());
    on_trial(&bench, "2", 50);
    bench.keeper.look().await.unwrap();
    let keeper = tokio::spawn(bench.keeper.clone().run(Duration::from_secs(15)));
    let settle = |by| Signal::PluginSettle { plugin: "sms".to_owned(), keep_new: true, by };
    registry.signal(&settle(bench.keeper.parts.node));
    registry.signal(&settle(other));
    while next(&bench.guard(), 2) != ["2", "2"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.keeper.close();
    keeper.await.unwrap();
}
