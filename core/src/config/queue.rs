//! `[queue]`: The work queue.

use super::check::Check;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// `embedded`: in process, over the same tables.
    pub url: String,
    /// Ids the embedded queue holds per channel; the rest waits in the table.
    pub capacity: usize,
}

impl Queue {
    pub fn validate(&self, c: &mut Check) {
        let rabbit = self.url.starts_with("amqp:") || self.url.starts_with("amqps:");
        c.not_available(rabbit, "url", "RabbitMQ");
        c.require(rabbit || self.url == "embedded", "url", "must be \"embedded\"");
        c.positive([("capacity", self.capacity as u128)]);
    }
}
