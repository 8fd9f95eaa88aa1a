//! The channels of this host. STUB: the guard (permits, timeout, breaker, panic catch) is to come.

use crate::status::InAppChannel;
use async_trait::async_trait;
use campanile_model::{ChannelName, effects::PushBatch, ports::SignalSink, signal::Signal};
use campanile_plugin::{DynChannel, Info};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// Says what is wrong with an address of this channel.
    pub fn check_address(&self, _address: &str) -> Result<(), String> {
        Ok(())
    }
}

pub struct Registry {
    channels: BTreeMap<ChannelName, Arc<ChannelHandle>>,
}

impl Registry {
    pub fn new(channels: Vec<ChannelHandle>) -> Arc<Self> {
        Arc::new(Self { channels: channels.into_iter().map(|c| (c.name.clone(), Arc::new(c))).collect() })
    }
    pub fn get(&self, name: &ChannelName) -> Option<&Arc<ChannelHandle>> {
        self.channels.get(name)
    }
    /// In name order, disabled ones too.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ChannelHandle>> {
        self.channels.values()
    }
}

#[async_trait]
impl InAppChannel for Registry {
    async fn push(&self, _batches: Vec<PushBatch>) {}
}

impl SignalSink for Registry {
    fn signal(&self, _signal: &Signal) {}
}
