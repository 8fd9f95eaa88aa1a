//! Channels: what is installed, the instances that run, and the guard around every call into a channel's code.
//!
//! A plugin is code, an instance is a plugin with a configuration, a channel is a name with one or more instances in order.
//! Owns: the registry, failover, permits, breakers, rates, time limits, panic catching, configurations and their secrets,
//! rendering. Absent on purpose: retry policy (the worker's), sockets (the connection's), loading of shared libraries (the
//! loader's, behind [`code`]).

pub mod breaker;
pub mod bucket;
pub mod catalogue;
pub mod code;
pub mod email;
#[cfg(test)]
pub mod fake;
pub mod guard;
pub mod keeper;
pub mod linked;
pub mod loaded;
pub mod manage;
pub mod registry;
pub mod render;
pub mod runner;
pub mod services;
pub mod setup;
pub mod spec;
pub mod view;

pub use breaker::Verdict;
pub use catalogue::{Catalogue, Refusal};
pub use guard::{Guard, Permit};
pub use keeper::{Keeper, KeeperParts};
pub use registry::Registry;
pub use render::{Rendered, Renderer};
pub use runner::{Called, Runner};
pub use view::{BreakerView, ChannelView, InstanceView};

use crate::{connection::Hub, dev::mailbox::Mailbox, outbound::Outbound};
use campanile_model::ports::Realtime;
use campanile_plugin::Context;
use campanile_websocket::Websocket;
use linked::Linked;
use loaded::Files;
use std::sync::Arc;

/// The code that is linked in.
pub fn built_in(hub: &Arc<Hub>, mailbox: Option<Arc<Mailbox>>, outbound: &Arc<Outbound>) -> Arc<Catalogue> {
    let catalogue = Catalogue::new();
    let hub = hub.clone();
    let equip = move |context: Context| context.with_native::<Arc<dyn Realtime>>(hub.clone());
    catalogue.put(Linked::<Websocket>::code(Box::new(equip), outbound.clone()));
    catalogue.put(email::code(mailbox, outbound.clone()));
    catalogue
}

/// The code that `plugins.lock` lists, in the place of what is linked in if it has the same name. What is refused stays out
/// and is shown; the host starts without it.
pub async fn from_files(files: Arc<Files>, catalogue: &Catalogue) {
    for (name, code) in files.load_all().await {
        match code {
            Ok(code) => catalogue.put(code),
            Err(refusal) => {
                tracing::debug!(plugin = name, "The host starts without plugin {name}");
                catalogue.refuse(refusal);
            }
        }
    }
    catalogue.set_source(files);
}
