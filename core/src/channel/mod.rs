//! Channels: what is installed, and the guard around every call into a channel's code.
//!
//! Owns: the registry, permits, breakers, time limits, panic catching, rendering. Absent on purpose: retry policy (the
//! worker's), sockets (the connection's), loading of shared libraries (the loader arrives behind the same trait).

pub mod breaker;
pub mod email;
#[cfg(test)]
pub mod fake;
pub mod guard;
pub mod registry;
pub mod render;

pub use breaker::Verdict;
pub use guard::{Called, Guard, Permit};
pub use registry::{BreakerView, ChannelHandle, ChannelView, Registry};
pub use render::{Rendered, Renderer};

use crate::{config::Config, connection::Hub, dev::mailbox::Mailbox, observe::Metrics};
use anyhow::Context;
use campanile_model::ChannelName;
use campanile_plugin::Channel;
use campanile_websocket::Websocket;
use std::{sync::Arc, time::Duration};

/// Builds every channel of this host.
pub async fn open(
    config: &Config,
    hub: Arc<Hub>,
    mailbox: Option<Arc<Mailbox>>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Arc<Registry>> {
    let push = Websocket::start((), hub).await.context("starting the websocket channel")?;
    let websocket = ChannelHandle {
        name: ChannelName::websocket(),
        enabled: true,
        in_app: true,
        // The store finishes in-app deliveries itself, a batch at a time.
        concurrency: 1,
        timeout: Duration::from_secs(5),
        channel: Some(Arc::new(push)),
    };
    let email = match email::open(config, mailbox).await? {
        Some(email) => email,
        None => ChannelHandle {
            name: ChannelName::email(),
            enabled: false,
            in_app: false,
            concurrency: config.email.concurrency,
            timeout: *config.email.timeout,
            channel: None,
        },
    };
    Ok(Registry::new(vec![websocket, email], &config.retry, &metrics))
}
