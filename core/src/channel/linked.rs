//! Channels that are linked into the host, as code like any other: same schema, same checks, no lanes.
//!
//! They are our own and run on the host's runtime. Absent on purpose: files (the loader's).

use super::{
    code::{Code, Instance, Life, Origin},
    services,
};
use crate::outbound::Outbound;
use async_trait::async_trait;
use campanile_model::{Clock, Timestamp, clock::SystemClock};
use campanile_plugin::{
    Channel, Context, DynChannel, Problem, StartError,
    wire::{self, Description},
};
use serde_json::Value;
use std::{marker::PhantomData, sync::Arc};

/// What the host puts into the context that only a linked channel can use.
pub type Equip = Box<dyn Fn(Context) -> Context + Send + Sync>;

/// What stands between the host and a linked channel.
pub type Behind = Box<dyn Fn(Arc<dyn DynChannel>) -> Arc<dyn DynChannel> + Send + Sync>;

pub struct Linked<C> {
    description: Description,
    equip: Equip,
    behind: Behind,
    outbound: Arc<Outbound>,
    code: PhantomData<fn() -> C>,
}

impl<C: Channel> Linked<C> {
    pub fn code(equip: Equip, outbound: Arc<Outbound>) -> Arc<dyn Code> {
        Self::behind(equip, Box::new(|channel| channel), outbound)
    }

    pub fn behind(equip: Equip, behind: Behind, outbound: Arc<Outbound>) -> Arc<dyn Code> {
        Arc::new(Self { description: Description::of::<C>(), equip, behind, outbound, code: PhantomData })
    }
}

#[async_trait]
impl<C: Channel> Code for Linked<C> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn origin(&self) -> Origin {
        Origin { isolation: "built-in".to_owned(), ..Origin::default() }
    }

    async fn validate(&self, config: &Value) -> Result<(), Vec<Problem>> {
        wire::config::<C>(config.to_string().as_bytes()).map(drop)
    }

    async fn start(&self, instance: &str, config: &Value) -> Result<Arc<dyn Instance>, StartError> {
        let config = wire::config::<C>(config.to_string().as_bytes())?;
        let context = (self.equip)(services::context(instance, self.outbound.clone()));
        let channel = (self.behind)(Arc::new(C::start(config, context).await?));
        Ok(Arc::new(Running { channel, since: SystemClock.now() }))
    }
}

struct Running {
    channel: Arc<dyn DynChannel>,
    since: Timestamp,
}

impl Instance for Running {
    fn channel(&self) -> &dyn DynChannel {
        &*self.channel
    }

    fn life(&self) -> Life {
        Life::new("running", self.since)
    }
}
