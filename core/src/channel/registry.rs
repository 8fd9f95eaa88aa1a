//! The channels of this host, by name, as they are now.
//!
//! Owns: which channels exist, their guards, what was said of their instances last, the cache of pauses, and the way of
//! in-app items to the websocket channel. No lock here is held across an await. Absent on purpose: the rows of
//! `channel_pauses` (the store's; the worker reads them into the cache), and what is made of which configuration (the
//! keeper's, who alone changes what stands here).

use super::{
    breaker::Limits,
    code::Code,
    guard::{Beside, Guard, Place, Traits},
    runner::Runner,
    spec::Spec,
    view::{ChannelView, Failure, InstanceView},
};
use crate::{config::retry::Retry, observe::Metrics, status::InAppChannel};
use async_trait::async_trait;
use campanile_model::{ChannelName, NodeId, effects::PushBatch, ports::SignalSink, signal::Signal};
use campanile_plugin::Delivery;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, mpsc, watch};

type Channels = BTreeMap<ChannelName, Arc<Guard>>;

pub struct Registry {
    channels: RwLock<Arc<Channels>>,
    entries: RwLock<Arc<Vec<Entry>>>,
    paused: Mutex<HashSet<ChannelName>>,
    /// Live nodes, this one included.
    nodes: AtomicUsize,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
    /// Counts up when channels came or went.
    channels_changed: watch::Sender<u64>,
    /// Rings when a pause began or ended somewhere: read the rows again.
    pauses_changed: Arc<Notify>,
    /// What other nodes and the API ask the keeper to do.
    wishes: mpsc::UnboundedSender<Wish>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Wish>>>,
}

/// What the keeper is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Rows changed: read them again.
    Look,
    /// An instance, as asked for at that node.
    Restart(String, NodeId),
    /// A plugin's file, as asked for at that node.
    Reload(String, NodeId),
    /// A plugin's file, for this share of the deliveries.
    Trial(String, u8, NodeId),
    /// The end of a trial; whether the new version stays.
    Settle(String, bool, NodeId),
}

/// An instance as the keeper last left it.
#[derive(Clone)]
pub struct Entry {
    pub spec: Spec,
    pub code: Option<Arc<dyn Code>>,
    pub runner: Option<Arc<Runner>>,
    /// A newer version on trial.
    pub beside: Option<Arc<Beside>>,
    /// Why what is wished for does not run; an older version of it may.
    pub failure: Option<Failure>,
}

impl Registry {
    pub fn new(retry: &Retry, metrics: &Arc<Metrics>) -> Arc<Self> {
        let (wishes, inbox) = mpsc::unbounded_channel();
        Arc::new(Self {
            channels: RwLock::default(),
            entries: RwLock::default(),
            paused: Mutex::default(),
            nodes: AtomicUsize::new(1),
            limits: Limits {
                failures: retry.breaker_failures,
                open: *retry.breaker_open,
                open_max: *retry.breaker_open_max,
            },
            metrics: metrics.clone(),
            channels_changed: watch::Sender::new(0),
            pauses_changed: Arc::default(),
            wishes,
            inbox: Mutex::new(Some(inbox)),
        })
    }

    fn channels(&self) -> Arc<Channels> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In the order of channels, and in each of its failover.
    pub fn entries(&self) -> Arc<Vec<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn entry(&self, instance: &str) -> Option<Entry> {
        self.entries().iter().find(|e| e.spec.name == instance).cloned()
    }

    pub fn get(&self, name: &ChannelName) -> Option<Arc<Guard>> {
        self.channels().get(name).cloned()
    }

    /// In name order, disabled ones too.
    pub fn guards(&self) -> Vec<Arc<Guard>> {
        self.channels().values().cloned().collect()
    }

    /// Changes when channels come or go.
    pub fn watch_channels(&self) -> watch::Receiver<u64> {
        self.channels_changed.subscribe()
    }

    /// Rings when the pauses must be read again.
    pub fn pauses_changed(&self) -> Arc<Notify> {
        self.pauses_changed.clone()
    }

    /// What the rows say now.
    pub fn set_paused(&self, paused: &HashSet<ChannelName>) {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).clone_from(paused);
        for (name, guard) in self.channels().iter() {
            guard.set_paused(paused.contains(name));
        }
    }

    /// Lets one delivery of a channel with open breakers try each of them at once. False: no such channel.
    pub fn reset_breaker(&self, name: &ChannelName) -> bool {
        self.get(name).is_some_and(|guard| {
            guard.reset_breaker();
            true
        })
    }

    /// The same for one instance. False: it does not run here.
    pub fn reset_instance(&self, instance: &str) -> bool {
        self.entry(instance).and_then(|e| e.runner).is_some_and(|runner| {
            runner.reset_breaker();
            true
        })
    }

    /// Every channel's state on this node, in name order.
    pub fn views(&self) -> Vec<ChannelView> {
        let entries = self.entries();
        let of = |name: &ChannelName| entries.iter().filter(|e| e.spec.channel == *name).collect::<Vec<_>>();
        self.channels().values().map(|guard| ChannelView::of(guard, &of(guard.name()), self.nodes())).collect()
    }

    pub fn instance_view(&self, instance: &str) -> Option<InstanceView> {
        self.entry(instance).map(|entry| InstanceView::of(&entry, self.nodes()))
    }

    // --- the keeper's side -----------------------------------------------------------------------------------

    pub fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    /// How many nodes share the instances' rates.
    pub fn set_nodes(&self, nodes: usize) {
        if self.nodes.swap(nodes.max(1), Ordering::Relaxed) != nodes.max(1) {
            let entries = self.entries();
            let beside = entries.iter().filter_map(|e| e.beside.as_ref()).map(|b| &b.runner);
            for runner in entries.iter().filter_map(|e| e.runner.as_ref()).chain(beside) {
                runner.set_allowance(runner.allowance(), nodes);
            }
        }
    }

    pub fn wish(&self, wish: Wish) {
        // The keeper is gone only at the end of a drain.
        let _ = self.wishes.send(wish);
    }

    /// The keeper's; once.
    pub(super) fn inbox(&self) -> Option<mpsc::UnboundedReceiver<Wish>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The channel's guard, made when it is new.
    pub(super) fn guard_of(&self, name: &ChannelName) -> Arc<Guard> {
        if let Some(guard) = self.get(name) {
            return guard;
        }
        let guard = Guard::new(name.clone(), self.metrics.clone());
        guard.set_paused(self.paused.lock().unwrap_or_else(PoisonError::into_inner).contains(name));
        guard
    }

    /// From now on these are the channels and their instances. What was under way goes on where it is.
    pub(super) fn publish(&self, channels: Vec<(Arc<Guard>, Traits, Vec<Place>)>, entries: Vec<Entry>) {
        let old = self.channels();
        let new: Channels = channels.iter().map(|(guard, ..)| (guard.name().clone(), guard.clone())).collect();
        for (guard, traits, places) in channels {
            guard.set(traits, places);
        }
        let same = old.len() == new.len() && new.iter().all(|(n, g)| old.get(n).is_some_and(|o| o.id() == g.id()));
        let ended: Vec<_> = old.values().filter(|g| !new.contains_key(g.name())).cloned().collect();
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(entries);
        *self.channels.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        for guard in ended {
            guard.end();
        }
        if !same {
            self.channels_changed.send_modify(|n| *n += 1);
        }
    }
}

#[async_trait]
impl InAppChannel for Registry {
    /// One item per notification; the payload goes as it is, since this channel is linked in and only asks the host.
    async fn push(&self, batches: Vec<PushBatch>) {
        for guard in self.channels().values().filter(|g| g.in_app()) {
            let Some(runner) = guard.runners().into_iter().next() else { continue };
            let timeout = runner.timeout();
            for chunk in batches.chunks(runner.info().max_batch.max(1)) {
                let ids: Vec<_> = chunk.iter().map(|b| b.notification.id.to_string()).collect();
                let items = chunk
                    .iter()
                    .zip(&ids)
                    .map(|(batch, id)| Delivery::new(id, "").with_timeout(timeout).with_native(batch))
                    .collect();
                runner.call_batch(items).await;
            }
        }
    }
}

impl SignalSink for Registry {
    fn signal(&self, signal: &Signal) {
        match signal {
            Signal::ChannelChanged(_) => self.pauses_changed.notify_one(),
            Signal::Missed => {
                self.pauses_changed.notify_one();
                self.wish(Wish::Look);
            }
            Signal::BreakerReset(name) => drop(self.reset_breaker(name)),
            Signal::InstancesChanged => self.wish(Wish::Look),
            Signal::InstanceReset(name) => drop(self.reset_instance(name)),
            Signal::InstanceRestart { instance, by } => self.wish(Wish::Restart(instance.clone(), *by)),
            Signal::PluginReload { plugin, by } => self.wish(Wish::Reload(plugin.clone(), *by)),
            Signal::PluginTrial { plugin, share, by } => self.wish(Wish::Trial(plugin.clone(), *share, *by)),
            Signal::PluginSettle { plugin, keep_new, by } => {
                self.wish(Wish::Settle(plugin.clone(), *keep_new, *by));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::{Fake, handle, notification, registry, retry};
    use campanile_model::{DeliveryId, UserKey, effects::Push, feed::Counts};

    #[tokio::test]
    async fn in_app_items_go_to_the_channel_as_they_are_and_a_panic_there_stays_there() {
        let fake = Fake::new([]);
        let mut in_app = handle("websocket", fake.clone());
        in_app.in_app = true;
        let metrics = Arc::new(Metrics::new());
        let registry = registry(vec![in_app, handle("email", Fake::new([]))], &retry(), &metrics);
        let push = Push {
            user: UserKey::new("default", "bob"),
            delivery_id: DeliveryId::new(),
            seq: 7,
            counts: Counts::default(),
        };
        let batch = PushBatch { notification: notification(), users: vec![push] };
        registry.push(vec![batch.clone(), batch.clone()]).await;
        assert_eq!(fake.native_seqs(), [7, 7]);
        fake.then([crate::channel::fake::Answer::Panic]);
        registry.push(vec![batch.clone()]).await;
        registry.push(vec![batch]).await;
        assert_eq!(fake.native_seqs(), [7, 7, 7, 7]);
    }

    #[test]
    fn an_unknown_format_takes_any_plain_text() {
        let off = |name: &str| Guard::new(name.into(), Arc::new(Metrics::new()));
        assert!(off("sms").check_address("+49 170 1").is_ok());
        for wrong in ["", "a\r\nBcc: b", &"x".repeat(1025)] {
            assert!(off("sms").check_address(wrong).is_err(), "{wrong:?}");
        }
        assert!(off("email").check_address("+49 170 1").is_err());
        assert!(off("email").check_address("bob@example.org").is_ok());
    }
}
