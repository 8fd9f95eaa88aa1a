//! The channels of this host, by name.
//!
//! Owns: which channels exist, their guards, the check of addresses by format, the cache of pauses, and the way of
//! in-app items to the websocket channel. Absent on purpose: the rows of `channel_pauses` (the store's; the worker
//! reads them into the cache) and loading of shared libraries.

use super::{
    breaker::Limits,
    guard::{Guard, GuardView},
};
use crate::{config::retry::Retry, observe::Metrics, status::InAppChannel};
use async_trait::async_trait;
use campanile_model::{ChannelName, Timestamp, clock, effects::PushBatch, ports::SignalSink, signal::Signal};
use campanile_plugin::{Delivery, DynChannel, Health, Info};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Longest address of a channel whose format the host does not know.
const ADDRESS_MAX: usize = 1024;

/// A channel by name, with the limits the operator gave it.
pub struct ChannelHandle {
    pub name: ChannelName,
    /// Known but switched off: a request that names it is 422 `channel_disabled`.
    pub enabled: bool,
    /// Completed by the store itself; needs no address.
    pub in_app: bool,
    pub concurrency: usize,
    pub timeout: Duration,
    pub channel: Option<Arc<dyn DynChannel>>,
}

impl ChannelHandle {
    pub fn info(&self) -> Option<&Info> {
        self.channel.as_deref().map(DynChannel::info)
    }

    /// Says what is wrong with an address of this channel. Mail's form is known even while the channel is off.
    pub fn check_address(&self, address: &str) -> Result<(), String> {
        // A channel that is switched off keeps the addresses of its users just the same.
        let format = self.info().map_or(self.name.as_str(), |info| info.recipient);
        match format {
            "email" => campanile_email::check_address(address),
            _ if address.is_empty() => Err("must not be empty".to_owned()),
            _ if address.len() > ADDRESS_MAX => Err(format!("must be at most {ADDRESS_MAX} bytes")),
            _ if address.chars().any(char::is_control) => Err("must not contain control characters".to_owned()),
            _ => Ok(()),
        }
    }
}

pub struct Registry {
    channels: BTreeMap<ChannelName, Arc<ChannelHandle>>,
    guards: BTreeMap<ChannelName, Arc<Guard>>,
    /// Rings when a pause began or ended somewhere: read the rows again.
    pauses_changed: Arc<Notify>,
}

/// A channel as `GET /channels` and the dashboard show it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ChannelView {
    pub name: ChannelName,
    /// Version of the code behind it; none when it is switched off.
    pub version: Option<String>,
    pub enabled: bool,
    /// Delivered into the feed, not to an address.
    pub in_app: bool,
    pub paused: bool,
    /// `ok`, `degraded`, `failing` or `disabled`.
    pub health: String,
    /// What the last health check said, when it was not `ok`.
    pub health_detail: Option<String>,
    pub breaker: BreakerView,
    /// Attempts under way on this node.
    pub busy: usize,
    /// Attempts that may be under way on this node.
    pub concurrency: usize,
    /// Less than `concurrency` while the far side asks to slow down.
    pub allowed: usize,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BreakerView {
    /// `closed`, `half_open` or `open`.
    pub state: String,
    /// When it opened.
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub since: Option<Timestamp>,
    /// The newest error that counted towards opening it.
    pub last_error: Option<String>,
}

impl Registry {
    pub fn new(channels: Vec<ChannelHandle>, retry: &Retry, metrics: &Arc<Metrics>) -> Arc<Self> {
        let limits =
            Limits { failures: retry.breaker_failures, open: *retry.breaker_open, open_max: *retry.breaker_open_max };
        let channels: BTreeMap<_, _> = channels.into_iter().map(|c| (c.name.clone(), Arc::new(c))).collect();
        let guards = channels
            .iter()
            .map(|(name, handle)| (name.clone(), Guard::new(handle.clone(), limits, metrics.clone())))
            .collect();
        Arc::new(Self { channels, guards, pauses_changed: Arc::default() })
    }

    pub fn get(&self, name: &ChannelName) -> Option<&Arc<ChannelHandle>> {
        self.channels.get(name)
    }

    /// In name order, disabled ones too.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ChannelHandle>> {
        self.channels.values()
    }

    pub fn guard(&self, name: &ChannelName) -> Option<&Arc<Guard>> {
        self.guards.get(name)
    }

    pub fn guards(&self) -> impl Iterator<Item = &Arc<Guard>> {
        self.guards.values()
    }

    /// Rings when the pauses must be read again.
    pub fn pauses_changed(&self) -> Arc<Notify> {
        self.pauses_changed.clone()
    }

    /// What the rows say now.
    pub fn set_paused(&self, paused: &HashSet<ChannelName>) {
        for (name, guard) in &self.guards {
            guard.set_paused(paused.contains(name));
        }
    }

    /// Lets one delivery of a channel with an open breaker try at once. False: no such channel.
    pub fn reset_breaker(&self, name: &ChannelName) -> bool {
        self.guards.get(name).is_some_and(|guard| {
            guard.reset_breaker();
            true
        })
    }

    /// Every channel's state on this node, in name order.
    pub fn views(&self) -> Vec<ChannelView> {
        self.guards.values().map(|guard| ChannelView::of(guard.handle(), guard.view())).collect()
    }
}

impl ChannelView {
    fn of(handle: &ChannelHandle, view: GuardView) -> Self {
        let (health, health_detail) = match view.health {
            _ if !handle.enabled => ("disabled", None),
            Health::Ok => ("ok", None),
            Health::Degraded(why) => ("degraded", Some(why)),
            Health::Failing(why) => ("failing", Some(why)),
        };
        let state = match view.breaker {
            0 => "closed",
            1 => "half_open",
            _ => "open",
        };
        Self {
            name: handle.name.clone(),
            version: handle.info().map(|i| i.version.to_owned()),
            enabled: handle.enabled,
            in_app: handle.in_app,
            paused: view.paused,
            health: health.to_owned(),
            health_detail,
            breaker: BreakerView { state: state.to_owned(), since: view.open_since, last_error: view.last_error },
            busy: view.busy,
            concurrency: handle.concurrency,
            allowed: view.allowed,
        }
    }
}

#[async_trait]
impl InAppChannel for Registry {
    /// One item per notification; the payload goes as it is, since this channel is linked in and only asks the host.
    async fn push(&self, batches: Vec<PushBatch>) {
        for guard in self.guards.values().filter(|g| g.handle().in_app) {
            let Some(info) = guard.handle().info() else { continue };
            for chunk in batches.chunks(info.max_batch.max(1)) {
                let ids: Vec<_> = chunk.iter().map(|b| b.notification.id.to_string()).collect();
                let items = chunk
                    .iter()
                    .zip(&ids)
                    .map(|(batch, id)| Delivery {
                        delivery_id: id,
                        attempt: 1,
                        recipient: "",
                        subject: "",
                        text: "",
                        html: "",
                        message: &Value::Null,
                        timeout: guard.handle().timeout,
                        native: Some(batch),
                        permission: &true,
                    })
                    .collect();
                guard.call_batch(items).await;
            }
        }
    }
}

impl SignalSink for Registry {
    fn signal(&self, signal: &Signal) {
        if matches!(signal, Signal::ChannelChanged(_)) {
            self.pauses_changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::fake::{Fake, handle, notification, retry};
    use campanile_model::{DeliveryId, UserKey, effects::Push, feed::Counts};

    #[tokio::test]
    async fn in_app_items_go_to_the_channel_as_they_are_and_a_panic_there_stays_there() {
        let fake = Fake::new([]);
        let mut in_app = handle("websocket", fake.clone());
        in_app.in_app = true;
        let metrics = Arc::new(Metrics::new());
        let registry = Registry::new(vec![in_app, handle("email", Fake::new([]))], &retry(), &metrics);
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
        let off = |name: &str| ChannelHandle {
            name: name.into(),
            enabled: false,
            in_app: false,
            concurrency: 1,
            timeout: Duration::from_secs(1),
            channel: None,
        };
        assert!(off("sms").check_address("+49 170 1").is_ok());
        for wrong in ["", "a\r\nBcc: b", &"x".repeat(1025)] {
            assert!(off("sms").check_address(wrong).is_err(), "{wrong:?}");
        }
        assert!(off("email").check_address("+49 170 1").is_err());
        assert!(off("email").check_address("bob@example.org").is_ok());
    }
}
