//! A channel that does as it is told, for tests.

use super::{
    Registry,
    breaker::Breaker,
    code::{Code, Instance, Life, Origin as CodeOrigin},
    guard::{Guard, Traits},
    registry::Entry,
    runner::{Allowance, Runner},
    setup::secrets::Veil,
    spec::{Origin, Spec},
};
use crate::{
    config::{self, retry::Retry},
    observe::Metrics,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, Clock, Notification, NotificationId, Priority,
    clock::SystemClock,
    effects::PushBatch,
    notification::Content,
    ports::{InstanceLimits, InstanceSetup},
};
use campanile_plugin::{
    Delivery, DeliveryError, DynChannel, Health, Info, Problem, Receipt, StartError, wire::Description,
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore, watch};

/// What the next call does; with none left it is `Accept`.
#[derive(Clone, Debug)]
pub enum Answer {
    Accept,
    Refuse(DeliveryError),
    Panic,
    /// Until the test lets it go on.
    Wait,
    RefuseLater(DeliveryError),
    /// Asks for permission and then waits.
    AskAndWait,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub delivery_id: String,
    pub attempt: u32,
    pub recipient: String,
    /// Calls under way when it began, itself included.
    pub side_by_side: usize,
    native_seq: Option<i64>,
}

pub struct Fake {
    info: Info,
    state: Mutex<State>,
    pub called: Notify,
    /// A permit lets one waiting call go on.
    pub go_on: Semaphore,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    calls: Vec<Call>,
    running: usize,
    stops: usize,
    health: Option<Health>,
}

impl Fake {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Self::with(Info::new("fake", "1").asks_permission(true), answers)
    }

    pub fn with(info: Info, answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let state = State { answers: answers.into_iter().collect(), ..State::default() };
        Arc::new(Self { info, state: Mutex::new(state), called: Notify::new(), go_on: Semaphore::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().answers.extend(answers);
    }
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }
    pub fn native_seqs(&self) -> Vec<i64> {
        self.lock().calls.iter().filter_map(|c| c.native_seq).collect()
    }
    pub fn stops(&self) -> usize {
        self.lock().stops
    }
    pub fn set_health(&self, health: Health) {
        self.lock().health = Some(health);
    }

    /// Waits until that many calls have begun in all.
    pub async fn until_called(&self, n: usize) {
        let wait = async {
            loop {
                let called = self.called.notified();
                if self.lock().calls.len() >= n {
                    return;
                }
                called.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the channel was called too seldom");
    }
}

/// Counts a call as running, whichever way it ends.
struct Running<'a>(&'a Fake);
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.running -= 1;
        }
    }
}

impl DynChannel for Fake {
    fn info(&self) -> &Info {
        &self.info
    }

    fn deliver<'a>(&'a self, d: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        async move {
            let (answer, running) = {
                let mut state = self.lock();
                state.running += 1;
                let call = Call {
                    delivery_id: d.delivery_id().to_owned(),
                    attempt: d.attempt(),
                    recipient: d.recipient().to_owned(),
                    side_by_side: state.running,
                    native_seq: d.native().and_then(|n| n.downcast_ref::<PushBatch>()).map(|b| b.users[0].seq),
                };
                state.calls.push(call);
                (state.answers.pop_front().unwrap_or(Answer::Accept), Running(self))
            };
            self.called.notify_waiters();
            match answer {
                Answer::Accept => {}
                Answer::Refuse(error) => return Err(error),
                Answer::Panic => panic!("told to"),
                Answer::Wait => self.go_on.acquire().await.unwrap().forget(),
                Answer::RefuseLater(error) => {
                    self.go_on.acquire().await.unwrap().forget();
                    return Err(error);
                }
                Answer::AskAndWait => {
                    assert!(d.may_proceed());
                    self.go_on.acquire().await.unwrap().forget();
                }
            }
            drop(running);
            Ok(Receipt { provider_id: Some("provider-1".to_owned()), detail: None })
        }
        .boxed()
    }

    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>> {
        join_all(items.into_iter().map(|d| self.deliver(d))).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let health = self.lock().health.clone().unwrap_or(Health::Ok);
        async move { health }.boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.lock().stops += 1;
        async {}.boxed()
    }
}

/// A fake as something that was started.
pub struct Linked(pub Arc<Fake>);

impl Instance for Linked {
    fn channel(&self) -> &dyn DynChannel {
        &*self.0
    }
    fn life(&self) -> Life {
        Life::new("running", SystemClock.now())
    }
}

/// A channel with one instance of the same name, or with several.
pub struct Setup {
    pub name: ChannelName,
    pub in_app: bool,
    pub timeout: Duration,
    pub instances: Vec<(String, Arc<Fake>)>,
}

pub fn handle(name: &str, fake: Arc<Fake>) -> Setup {
    let instances = vec![(name.to_owned(), fake)];
    Setup { name: name.into(), in_app: false, timeout: Duration::from_secs(30), instances }
}

/// Channels that nobody keeps: as they are now, for ever.
pub fn registry(channels: Vec<Setup>, retry: &Retry, metrics: &Arc<Metrics>) -> Arc<Registry> {
    let registry = Registry::new(retry, metrics);
    let (mut guards, mut entries) = (Vec::new(), Vec::new());
    for Setup { name, in_app, timeout, instances } in channels {
        let guard = Guard::new(name.clone(), metrics.clone());
        let mut runners = Vec::new();
        for (instance, fake) in instances {
            let allowance = Allowance { concurrency: 4, timeout, rate: None };
            let runner = Runner::new(
                instance.clone(),
                name.as_str(),
                Arc::new(Linked(fake)),
                allowance,
                Breaker::new(registry.limits),
                guard.bell(),
                Veil::default(),
                metrics.clone(),
            );
            runners.push(runner.clone().into());
            let setup =
                InstanceSetup { enabled: true, config: serde_json::json!({}), limits: InstanceLimits::default() };
            let spec = Spec {
                name: instance,
                channel: name.clone(),
                plugin: "fake".to_owned(),
                origin: Origin::File,
                setup,
                version: 0,
                in_app,
            };
            entries.push(Entry { spec, code: None, runner: Some(runner), beside: None, failure: None });
        }
        guards.push((guard, Traits { enabled: true, in_app, recipient: None }, runners));
    }
    registry.publish(guards, entries);
    registry
}

pub fn retry() -> Retry {
    config::defaults().unwrap().retry
}

pub fn notification() -> Arc<Notification> {
    let content = Content {
        title: "Title".to_owned(),
        message: "Message".to_owned(),
        notification_type: "test".to_owned(),
        data: serde_json::Map::new(),
    };
    Arc::new(Notification {
        id: NotificationId::new(),
        app: AppId::default(),
        content: Arc::new(content),
        priority: Priority::Normal,
        created_at: SystemClock.now(),
        send_at: None,
        expires_at: None,
        collapse_key: None,
        request_id: "request".to_owned(),
        trace: None,
    })
}

/// Code whose instances count what they are given. Its configuration says how the start goes: `{"start": "fail"}`,
/// `{"start": "panic"}`, `{"start": "sick"}`; `"token"` is a secret. The version `broken` never starts.
pub struct FakeCode {
    description: Description,
    pub ledger: Arc<Ledger>,
}

/// What all instances of all versions of a [`FakeCode`] did.
#[derive(Default)]
pub struct Ledger {
    /// Calls by delivery.
    pub calls: Mutex<HashMap<String, u32>>,
    /// Configurations that were started, in order.
    pub started: Mutex<Vec<Value>>,
    pub stopped: Mutex<Vec<Value>>,
    /// Calls that came to an instance after its `stop`, or were under way then.
    pub after_stop: AtomicUsize,
    /// How long a delivery takes.
    pub takes: Mutex<Duration>,
    /// While it is, deliveries stay under way.
    pub held: watch::Sender<bool>,
}

impl Ledger {
    pub fn started(&self) -> Vec<Value> {
        self.started.lock().unwrap().clone()
    }
    pub fn stopped(&self) -> Vec<Value> {
        self.stopped.lock().unwrap().clone()
    }
}

impl FakeCode {
    pub fn new(name: &str, version: &str, ledger: &Arc<Ledger>) -> Arc<Self> {
        let schema = serde_json::json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "n": {"type": "integer"},
                "start": {"type": "string"},
                "token": {"type": "string", "writeOnly": true, "x-campanile-secret": true}
            }
        });
        let description = serde_json::json!({
            "name": name, "version": version, "max_concurrency": 50, "config_schema": schema, "asks_permission": true,
            "recipient": {"format": "text", "required": true}
        });
        Arc::new(Self { description: serde_json::from_value(description).unwrap(), ledger: ledger.clone() })
    }
}

#[async_trait]
impl Code for FakeCode {
    fn description(&self) -> &Description {
        &self.description
    }
    fn origin(&self) -> CodeOrigin {
        CodeOrigin { isolation: "in-process".to_owned(), ..CodeOrigin::default() }
    }
    async fn validate(&self, config: &Value) -> Result<(), Vec<Problem>> {
        if config["n"] == 13 {
            return Err(vec![Problem::new("n", format!("13 is bad luck, says {}", config["token"]))]);
        }
        Ok(())
    }
    async fn start(&self, _: &str, config: &Value) -> Result<Arc<dyn Instance>, StartError> {
        match config["start"].as_str() {
            Some("fail") => return Err(StartError::new(format!("no luck with {}", config["token"]))),
            Some("panic") => panic!("with {}", config["token"]),
            _ => {}
        }
        if self.description.version == "broken" {
            return Err(StartError::new("not in this version"));
        }
        self.ledger.started.lock().unwrap().push(config.clone());
        let info = self.description.info();
        Ok(Arc::new(Counting { info, config: config.clone(), ledger: self.ledger.clone(), state: Mutex::default() }))
    }
}

struct Counting {
    info: Info,
    config: Value,
    ledger: Arc<Ledger>,
    /// (under way, stopped)
    state: Mutex<(usize, bool)>,
}

impl Instance for Counting {
    fn channel(&self) -> &dyn DynChannel {
        self
    }
    fn life(&self) -> Life {
        Life::new("running", SystemClock.now())
    }
}

impl DynChannel for Counting {
    fn info(&self) -> &Info {
        &self.info
    }
    fn deliver<'a>(&'a self, d: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        async move {
            *self.ledger.calls.lock().unwrap().entry(d.delivery_id().to_owned()).or_default() += 1;
            let stopped = {
                let mut state = self.state.lock().unwrap();
                state.0 += 1;
                state.1
            };
            if stopped {
                self.ledger.after_stop.fetch_add(1, Ordering::Relaxed);
            }
            let takes = *self.ledger.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            let _ = self.ledger.held.subscribe().wait_for(|held| !held).await;
            self.state.lock().unwrap().0 -= 1;
            Ok(Receipt::new())
        }
        .boxed()
    }
    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>> {
        join_all(items.into_iter().map(|d| self.deliver(d))).boxed()
    }
    fn health(&self) -> BoxFuture<'_, Health> {
        let sick = self.config["start"] == "sick";
        async move { if sick { Health::Failing("can't get up".to_owned()) } else { Health::Ok } }.boxed()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        let mut state = self.state.lock().unwrap();
        self.ledger.after_stop.fetch_add(state.0, Ordering::Relaxed);
        state.1 = true;
        self.ledger.stopped.lock().unwrap().push(self.config.clone());
        async {}.boxed()
    }
}
