//! `[queue]`: The work queue.

use super::check::Check;
use crate::amqp::Broker;
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// `embedded`: in process, over the same tables. `amqp://user:password@host:5672/vhost`: RabbitMQ 3.10 or newer; `amqps://` with TLS, where `?cacertfile=FILE` also trusts that PEM file.
    pub url: Secret,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// Ids the embedded queue holds per channel; the rest waits in the table.
    pub capacity: usize,
}

impl Queue {
    /// The RabbitMQ that carries the work, if the queue is not embedded. The error completes "queue.url …".
    pub fn broker(&self) -> Result<Option<Broker>, String> {
        match self.url.expose() {
            "embedded" => Ok(None),
            url if Broker::is_amqp(url) => Broker::parse("queue.url", url).map(Some),
            _ => Err("must be \"embedded\", or amqp://… or amqps://… for RabbitMQ".to_owned()),
        }
    }

    pub fn validate(&self, c: &mut Check) {
        if let Err(e) = self.broker() {
            c.complain("url", e);
        }
        c.positive([("capacity", self.capacity as u128)]);
    }
}
