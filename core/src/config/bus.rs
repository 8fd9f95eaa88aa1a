//! `[bus]`: The node bus.

use super::{check::Check, queue::Queue};
use crate::{amqp::Broker, connection::bus::check_redis};
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// `embedded` (this node is alone), `amqp(s)://…`, or `redis(s)://user:password@host:6379/?channel=campanile.bus`. Empty: follows the queue.
    pub url: Secret,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
}

/// Who carries signals to the other nodes.
#[derive(Clone, Debug)]
pub enum Target {
    /// There are none.
    Embedded,
    Rabbit(Broker),
    Redis(Secret),
}

impl Bus {
    pub fn target(&self, queue: &Queue) -> Result<Target, String> {
        if self.url.is_empty() {
            // What is wrong with the queue's address is the queue's complaint.
            let followed = Broker::is_amqp(queue.url.expose()).then(|| Broker::parse("queue.url", queue.url.expose()));
            return Ok(followed.and_then(Result::ok).map_or(Target::Embedded, Target::Rabbit));
        }
        match self.url.expose() {
            "embedded" => Ok(Target::Embedded),
            url if Broker::is_amqp(url) => Broker::parse("bus.url", url).map(Target::Rabbit),
            url if url.starts_with("redis:") || url.starts_with("rediss:") => {
                check_redis(url).map(|()| Target::Redis(self.url.clone()))
            }
            _ => Err("must be \"embedded\", amqp://…, amqps://…, redis://… or rediss://…".to_owned()),
        }
    }

    pub fn validate(&self, queue: &Queue, c: &mut Check) {
        if let Err(e) = self.target(queue) {
            c.complain("url", e);
        }
    }
}
