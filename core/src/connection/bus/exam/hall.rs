//! What a case works with: places on a broker, nodes with one attentive sink each, signals with a name.

use super::super::{
    NodeBus,
    outgoing::Limits,
    remote::{Pace, RemoteBus, Transport},
};
use crate::observe::{Metrics, metrics as m};
use campanile_model::{
    AppId, NodeId, NotificationId, Timestamp, UserKey,
    feed::Counts,
    frame::Frame,
    ports::{Bus, SignalSink},
    signal::{PushTarget, Signal},
    user::UserRef,
};
use std::{
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn target(n: i64) -> PushTarget {
    PushTarget { user: UserKey::new("default", format!("user-{n}")), seq: n, counts: Counts::default() }
}

pub(crate) fn frame(title: &str) -> Frame {
    let t: Timestamp = "2024-01-15T10:30:00Z".parse().unwrap();
    Frame::encode(NotificationId::new(), title, "", "general", t, &serde_json::Map::new())
}

/// A signal with a name that an [`Ear`] finds again.
pub(crate) fn named(name: impl Into<String>) -> Signal {
    Signal::KeysChanged(AppId::from(name.into()))
}

/// A sink that remembers.
pub(crate) struct Ear(watch::Sender<Vec<Signal>>);

impl Ear {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::default()))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let name = |s: &Signal| if let Signal::KeysChanged(app) = s { Some(app.to_string()) } else { None };
        self.0.borrow().iter().filter_map(name).collect()
    }

    pub(crate) fn all(&self) -> Vec<Signal> {
        self.0.borrow().clone()
    }

    /// How often it was told that something may be lost.
    pub(crate) fn missed(&self) -> usize {
        self.0.borrow().iter().filter(|s| matches!(s, Signal::Missed)).count()
    }

    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&Self) -> bool) {
        let mut heard = self.0.subscribe();
        let wait = async {
            while !enough(self) {
                heard.changed().await.unwrap();
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "waited in vain until {what}; heard {:?}", self.names());
    }

    pub(crate) async fn hears(&self, name: &str) {
        self.until(&format!("{name} is heard"), |ear| ear.names().iter().any(|n| n == name)).await;
    }
}

impl SignalSink for Ear {
    fn signal(&self, signal: &Signal) {
        self.0.send_modify(|heard| heard.push(signal.clone()));
    }
    fn wants(&self, user: &dyn UserRef) -> bool {
        !user.user().starts_with("absent")
    }
}

pub(crate) struct Node {
    bus: Arc<RemoteBus>,
    pub(crate) ear: Arc<Ear>,
    metrics: Arc<Metrics>,
}

impl Deref for Node {
    type Target = RemoteBus;
    fn deref(&self) -> &RemoteBus {
        &self.bus
    }
}

impl Node {
    pub(crate) fn over(transport: Box<dyn Transport>, limits: Limits) -> Self {
        let metrics = Arc::new(Metrics::new());
        let bus = RemoteBus::with(NodeId::new(), transport, metrics.clone(), Pace::default(), limits);
        let ear = Ear::new();
        bus.attach(vec![ear.clone()]);
        Self { bus, ear, metrics }
    }

    /// For what rings no bell.
    pub(crate) async fn until(&self, what: &str, enough: impl Fn() -> bool) {
        let wait = async {
            while !enough() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "waited in vain until {what}; the link: {:?}", self.health());
    }

    pub(crate) async fn is(&self, up: bool) {
        self.until(&format!("up is {up}"), || self.health().is_ok() == up).await;
        assert_eq!(self.metrics.bus_connected.get(), i64::from(up));
    }

    /// Connected, and told so once.
    pub(crate) async fn up(self) -> Self {
        self.is(true).await;
        self.ear.until("the first connection is told", |ear| ear.missed() == 1).await;
        self
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.metrics.bus_dropped.get_or_create(&m::ByReason::new(reason)).get()
    }
}

/// A sink that only counts what it is told of pushes.
#[derive(Default)]
pub(crate) struct Counter(pub(crate) Mutex<usize>);

impl SignalSink for Counter {
    fn signal(&self, _: &Signal) {
        *self.0.lock().unwrap() += 1;
    }
}
