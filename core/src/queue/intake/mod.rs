//! Notifications from RabbitMQ: queue `campanile.ingest` → ingest.
//!
//! Owns: reading a message ([`message`]), what becomes of it ([`desk`]), what the broker is told about it ([`decide`]), when
//! this node consumes at all ([`consumer`]). A message is acknowledged after the COMMIT that took it, or after it was written
//! to the poison list; whatever stays undecided goes back once, when the consumer ends. Absent on purpose: what makes a
//! request valid, and any nack.

pub mod consumer;
pub mod decide;
pub mod desk;
pub mod message;
mod unreadable;

use crate::{
    amqp::{Broker, Link, LinkParams},
    services::Services,
};
use consumer::Origin;
use desk::Desk;
use std::{sync::OnceLock, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a start waits to hear that the queue is there with other settings, which no time mends.
const FIRST_TRY: Duration = Duration::from_secs(5);

/// Whether notifications can come in, for those who tell of it.
#[derive(Default)]
pub struct Standing(OnceLock<Link<Origin>>);

impl Standing {
    /// Good where nothing comes in this way at all. `Err` says what is wrong, in words for an operator.
    pub fn health(&self) -> Result<(), String> {
        self.0.get().map_or(Ok(()), Link::health)
    }
}

/// The consumer of this node.
pub struct Intake {
    link: Link<Origin>,
    stop: CancellationToken,
    consuming: JoinHandle<()>,
}

impl Intake {
    /// `None`: there is no RabbitMQ, or this node only takes and serves. A broker that is down is waited for in the
    /// background; a queue that somebody made with other settings is an error.
    pub async fn start(s: &Services) -> anyhow::Result<Option<Self>> {
        let url = s.config.queue.url.expose();
        if !Broker::is_amqp(url) || s.config.worker.start_paused {
            return Ok(None);
        }
        let broker = Broker::parse("queue.url", url).map_err(|e| anyhow::anyhow!("queue.url {e}"))?;
        let params = LinkParams {
            broker: broker.clone(),
            name: format!("campanile {}", s.node),
            stop: CancellationToken::new(),
            metrics: s.metrics.clone(),
            tasks: s.tasks.clone(),
        };
        let link = Link::start(params, Origin { node: s.node });
        let _ = s.intake.0.set(link.clone());
        if let Some(Err(e)) = link.first_try(FIRST_TRY).await
            && e.is_mismatch()
        {
            return Err(e.into());
        }
        let body_max = s.config.ingest.body_max;
        let desk = Desk::new(s.ingest.clone(), s.store.clone(), s.metrics.clone(), body_max);
        let stop = s.draining.child_token();
        let consuming = tokio::spawn(consumer::run(desk, link.clone(), broker, stop.clone()));
        Ok(Some(Self { link, stop, consuming }))
    }

    /// Takes nothing new, finishes the group under way and acknowledges it, then leaves the broker.
    pub async fn drain(self) {
        self.stop.cancel();
        if let Err(e) = self.consuming.await {
            tracing::error!("Taking notifications from RabbitMQ ended in a panic: {e}");
        }
        self.link.close().await;
    }
}
