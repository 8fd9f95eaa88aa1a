//! Redis as the node bus: one pub/sub channel that every node publishes to and subscribes to.
//!
//! `redis://[user:password@]host[:port][/?channel=name]`, `rediss://` with TLS against the system's roots. Pub/sub knows
//! no database numbers, so installations that share a server are parted by `channel`. Two connections: a subscribed one
//! can't publish. Absent on purpose: the library's reconnecting manager (the link's owner begins anew), sharded pub/sub,
//! streams (the feed is the memory).

use super::{
    remote::{Line, Outlet, Transport},
    wire::Packed,
};
use async_trait::async_trait;
use campanile_model::ports::BusError;
use futures_util::StreamExt;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, aio::MultiplexedConnection};
use std::time::Duration;
use url::Url;

const CHANNEL: &str = "campanile.bus";
/// The library's own limit is half a second; the link's patience is what counts, this only ends what it gave up.
const RESPONSE: Duration = Duration::from_secs(10);

pub struct Redis {
    client: Client,
    channel: String,
}

/// The channel, and the address without it.
fn parts(url: &str) -> Result<(Url, String), String> {
    let mut url = Url::parse(url).map_err(|e| format!("is no URL: {e}"))?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err("must begin with redis:// or rediss://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not hold a # part; certificates are always checked".to_owned());
    }
    let mut channel = CHANNEL.to_owned();
    for (key, value) in url.query_pairs() {
        match &*key {
            "channel" if !value.is_empty() => channel = value.into_owned(),
            "channel" => return Err("channel must not be empty".to_owned()),
            other => return Err(format!("{other:?} is not known here; channel is the only parameter")),
        }
    }
    url.set_query(None);
    Ok((url, channel))
}

/// Says what is wrong with an address.
pub fn check(url: &str) -> Result<(), String> {
    Redis::parse(url).map(drop)
}

impl Redis {
    fn parse(url: &str) -> Result<Self, String> {
        let (url, channel) = parts(url)?;
        // The library's words may repeat the address; ours don't.
        let info = url.as_str().into_connection_info().map_err(|e| e.to_string().replace(url.as_str(), "…"))?;
        let client = Client::open(info).map_err(|e| e.to_string())?;
        Ok(Self { client, channel })
    }

    pub fn new(url: &str) -> anyhow::Result<Self> {
        Self::parse(url).map_err(|e| anyhow::anyhow!("bus.url {e}"))
    }
}

fn error(e: redis::RedisError) -> BusError {
    BusError(format!("Redis: {e}"))
}

#[async_trait]
impl Transport for Redis {
    async fn connect(&self) -> Result<Line, BusError> {
        let mut subscription = self.client.get_async_pubsub().await.map_err(error)?;
        subscription.subscribe(&self.channel).await.map_err(error)?;
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(RESPONSE)).set_response_timeout(Some(RESPONSE));
        let publisher = self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(error)?;
        let incoming = subscription.into_on_message().map(|message| Ok(message.get_payload_bytes().to_vec()));
        let outlet = Publisher { publisher, channel: self.channel.clone() };
        Ok(Line { outlet: Box::new(outlet), incoming: incoming.boxed() })
    }
}

struct Publisher {
    publisher: MultiplexedConnection,
    channel: String,
}

#[async_trait]
impl Outlet for Publisher {
    async fn send(&mut self, messages: Vec<Packed>) -> Result<(), BusError> {
        let mut pipe = redis::pipe();
        for message in &messages {
            pipe.publish(&self.channel, &message.bytes[..]).ignore();
        }
        pipe.query_async(&mut self.publisher).await.map_err(error)
    }

    /// Both connections end when they are dropped; Redis keeps nothing of them.
    async fn close(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_before_it_is_used() {
        for right in ["redis://localhost", "rediss://u:p@redis.example:6380/0?channel=a.bus"] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("localhost:6379", "must begin with redis://"),
            ("amqp://localhost", "must begin with redis://"),
            ("redis://", "names no host"),
            ("redis://localhost/x", "database number"),
            ("rediss://localhost/#insecure", "certificates are always checked"),
            ("redis://localhost/?chanel=x", "\"chanel\" is not known here"),
            ("redis://localhost/?channel=", "channel must not be empty"),
        ] {
            let said = check(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
        assert_eq!(Redis::parse("redis://localhost").unwrap().channel, CHANNEL);
        assert_eq!(Redis::parse("redis://localhost/?channel=x").unwrap().channel, "x");
    }

    #[test]
    fn a_password_is_in_no_message() {
        for url in ["redis://u:hunter2@localhost/x", "redis://u:hunter2@localhost:99999", "redis://u:hunter2@0.0.0.0"] {
            let said = check(url).unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
