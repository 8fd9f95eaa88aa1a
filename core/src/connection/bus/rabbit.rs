//! RabbitMQ as the node bus: a fanout exchange, and for each link a queue of its own that ends with it.
//!
//! The queue's name is ours and new for every link: one that the server names can't be declared again, and a fixed one
//! races with the server's own clean-up. It is classic, exclusive and bounded in number, bytes and age: a node that does
//! not keep up loses the oldest hints and looks at the feed. Messages are transient and unacknowledged on both sides.
//! Absent on purpose: when to connect and when a link is dead (the link's owner), confirms, a queue's survival.

use super::{
    remote::{Line, Outlet, Transport},
    wire::Packed,
};
use crate::amqp::{
    Broker, Live,
    topology::{self, BUS_EXCHANGE},
};
use async_trait::async_trait;
use campanile_model::{NodeId, ports::BusError};
use futures_util::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Connection, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use uuid::Uuid;

/// What a node that does not read may leave lying in the broker.
const MAX_LENGTH: i32 = 50_000;
const MAX_BYTES: i32 = 64 * 1024 * 1024;
/// Milliseconds after which a hint is stale.
const TTL: i32 = 30_000;
/// Not written to disk.
const TRANSIENT: u8 = 1;

pub struct Rabbit {
    broker: Broker,
    node: NodeId,
}

impl Rabbit {
    pub fn new(broker: Broker, node: NodeId) -> Self {
        Self { broker, node }
    }
}

fn error(e: lapin::Error) -> BusError {
    BusError(crate::amqp::LinkError::from(e).to_string())
}

#[async_trait]
impl Transport for Rabbit {
    async fn connect(&self) -> Result<Line, BusError> {
        let said = |e: crate::amqp::LinkError| BusError(e.to_string());
        let live = Live::open(&self.broker, &format!("campanile {} bus", self.node)).await.map_err(said)?;
        let subscribed = async {
            topology::declare_bus(&live.connection).await.map_err(said)?;
            // Apart, so that the broker may slow the one down without the other.
            let publisher = live.connection.create_channel().await.map_err(error)?;
            Ok((subscribe(&live.connection, self.node).await.map_err(error)?, publisher))
        }
        .await;
        match subscribed {
            Ok((consumer, publisher)) => {
                let incoming = consumer.map(|delivery| delivery.map(|d| d.data).map_err(error));
                let outlet = Box::new(Publisher { publisher, live: Some(live) });
                Ok(Line { outlet, incoming: incoming.boxed() })
            }
            Err(e) => {
                live.close().await;
                Err(e)
            }
        }
    }
}

async fn subscribe(connection: &Connection, node: NodeId) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let name = format!("{BUS_EXCHANGE}.{node}.{}", Uuid::new_v4().simple());
    let arguments = topology::table([
        // Said, because a vhost may have another default.
        ("x-queue-type", topology::text("classic")),
        ("x-max-length", MAX_LENGTH.into()),
        ("x-max-length-bytes", MAX_BYTES.into()),
        ("x-overflow", topology::text("drop-head")),
        ("x-message-ttl", TTL.into()),
    ]);
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), own, arguments).await?;
    let (to, all) = (BUS_EXCHANGE.into(), String::new().into());
    channel.queue_bind(name.as_str().into(), to, all, QueueBindOptions::default(), FieldTable::default()).await?;
    let reading = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(name.as_str().into(), "bus".into(), reading, FieldTable::default()).await
}

struct Publisher {
    publisher: Channel,
    /// Until closed.
    live: Option<Live>,
}

#[async_trait]
impl Outlet for Publisher {
    async fn send(&mut self, messages: Vec<Packed>) -> Result<(), BusError> {
        let publishing = messages.iter().map(|message| {
            let properties = BasicProperties::default().with_delivery_mode(TRANSIENT);
            let (to, no_key) = (BUS_EXCHANGE.into(), String::new().into());
            self.publisher.basic_publish(to, no_key, BasicPublishOptions::default(), &message.bytes, properties)
        });
        // Handed over in order, written together.
        join_all(publishing).await.into_iter().try_for_each(|sent| sent.map(drop)).map_err(error)
    }

    async fn close(&mut self) {
        if let Some(live) = self.live.take() {
            live.close().await;
        }
    }
}
