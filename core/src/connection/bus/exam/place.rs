//! A broker's own corner for one case: a vhost, or a channel with a name of its own.

use super::super::{outgoing::Limits, rabbit::Rabbit, redis::Redis, remote::Transport};
use super::Node;
pub(crate) use crate::amqp::testing::proxy::{Mode, Proxy};
use crate::amqp::{Broker, Live, testing::Vhost, topology::BUS_EXCHANGE};
use campanile_model::NodeId;
use lapin::{BasicProperties, options::BasicPublishOptions};
use std::net::SocketAddr;
use uuid::Uuid;

/// Whether the run is to try a broker: `CAMPANILE_TEST_BUSES=local,rabbitmq,redis`, and only `local` when nobody says.
pub(crate) fn asked(broker: &str) -> bool {
    let asked = std::env::var("CAMPANILE_TEST_BUSES").unwrap_or_else(|_| "local".to_owned());
    let mut names = asked.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.any(|name| {
        let known = matches!(name, "local" | "rabbitmq" | "redis");
        assert!(known, "CAMPANILE_TEST_BUSES names {name:?}; it knows local, rabbitmq and redis");
        name == broker
    })
}

pub(crate) enum Place {
    Rabbit(Vhost),
    Redis { url: url::Url, channel: String },
}

impl Place {
    pub(crate) async fn rabbitmq() -> Self {
        Self::Rabbit(Vhost::new().await)
    }

    pub(crate) async fn redis() -> Self {
        let url = std::env::var("CAMPANILE_TEST_REDIS").unwrap_or_else(|_| {
            panic!("CAMPANILE_TEST_REDIS names no server; scripts/services/redis start prints one that it has started")
        });
        Self::Redis { url: url.parse().unwrap(), channel: format!("test-{}", Uuid::new_v4().simple()) }
    }

    pub(crate) fn transport(&self, address: SocketAddr) -> Box<dyn Transport> {
        match self {
            Self::Rabbit(vhost) => {
                let broker = Broker::parse("bus.url", &vhost.url_at(address)).unwrap();
                Box::new(Rabbit::new(broker, NodeId::new()))
            }
            Self::Redis { url, channel } => {
                let mut url = url.clone();
                url.set_host(Some("127.0.0.1")).unwrap();
                url.set_port(Some(address.port())).unwrap();
                url.set_query(Some(&format!("channel={channel}")));
                Box::new(Redis::new(url.as_str()).unwrap())
            }
        }
    }

    /// Where the broker listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Rabbit(vhost) => vhost.address(),
            Self::Redis { url, .. } => SocketAddr::from(([127, 0, 0, 1], url.port().unwrap_or(6379))),
        }
    }

    pub(crate) async fn node(&self) -> Node {
        self.node_at(self.address()).await
    }
    pub(crate) async fn node_at(&self, address: SocketAddr) -> Node {
        Node::over(self.transport(address), Limits::default()).up().await
    }
    pub(crate) async fn proxy(&self) -> Proxy {
        Proxy::to(self.address()).await
    }

    /// Puts something on the wire as somebody else would.
    pub(crate) async fn shout(&self, noises: &[&[u8]]) {
        match self {
            Self::Rabbit(vhost) => {
                let broker = Broker::parse("bus.url", &vhost.url()).unwrap();
                let live = Live::open(&broker, "noise").await.unwrap();
                let channel = live.connection.create_channel().await.unwrap();
                for noise in noises {
                    let (to, key) = (BUS_EXCHANGE.into(), "".into());
                    let options = BasicPublishOptions::default();
                    channel.basic_publish(to, key, options, noise, BasicProperties::default()).await.unwrap();
                }
                live.close().await;
            }
            Self::Redis { url, channel } => {
                let mut connection = redis_connection(url).await;
                for noise in noises {
                    let publish = redis::cmd("PUBLISH").arg(channel).arg(*noise).clone();
                    let () = publish.query_async(&mut connection).await.unwrap();
                }
            }
        }
    }

    /// Queues or subscriptions that the broker keeps.
    pub(crate) async fn listeners(&self) -> usize {
        match self {
            Self::Rabbit(vhost) => vhost.queues().await.len(),
            Self::Redis { url, channel } => {
                let ask = redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).clone();
                let (_, n): (String, usize) = ask.query_async(&mut redis_connection(url).await).await.unwrap();
                n
            }
        }
    }
}

async fn redis_connection(url: &url::Url) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap()
}
