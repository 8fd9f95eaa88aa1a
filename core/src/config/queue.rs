//! `[queue]`: The work queue.

use super::{check::Check, duration::Dur};
use crate::{amqp::Broker, channel::spec};
use campanile_plugin::Secret;
use serde::{Deserialize, Deserializer, de};
use std::{collections::HashSet, path::PathBuf};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// `embedded`: in process, over the same tables. `amqp://user:password@host:5672/vhost`: RabbitMQ 3.10 or newer; `amqps://` with TLS, where `?cacertfile=FILE` also trusts that PEM file.
    pub url: Secret,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// Ids the embedded queue holds per channel; the rest waits in the table.
    pub capacity: usize,
    /// How long a due delivery may wait before its channel counts as behind.
    pub target_age: Dur,
    /// The same for single channels: `email=5m`.
    pub target_ages: Vec<TargetAge>,
}

/// `email=5m`. A channel that does not exist yet may have one, since plugins' channels come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAge {
    pub channel: String,
    pub age: Dur,
}

impl<'de> Deserialize<'de> for TargetAge {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let (channel, age) = text
            .split_once('=')
            .ok_or_else(|| de::Error::custom(format!("{text:?} is not a channel and a duration; write email=5m")))?;
        let channel = channel.trim().to_owned();
        spec::check_name(&channel).map_err(|why| de::Error::custom(format!("the channel in {text:?} {why}")))?;
        Ok(Self { channel, age: Dur::parse(age.trim()).map_err(de::Error::custom)? })
    }
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
        c.positive([("capacity", self.capacity as u128), ("target_age", self.target_age.as_millis())]);
        c.require(self.target_ages.iter().all(|t| !t.age.is_zero()), "target_ages", "must each be more than 0");
        let mut seen = HashSet::new();
        if let Some(twice) = self.target_ages.iter().find(|t| !seen.insert(t.channel.as_str())) {
            c.complain("target_ages", format!("names {} twice", twice.channel));
        }
    }

    /// How long a due delivery of this channel may wait, in milliseconds.
    pub fn target_ms(&self, channel: &str) -> i64 {
        let own = self.target_ages.iter().find(|t| t.channel == channel);
        own.map_or(self.target_age, |t| t.age).as_ms()
    }
}
