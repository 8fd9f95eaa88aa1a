//! The queues and exchanges of Campanile: names, arguments, and how they are declared.
//!
//! Everything is declared actively with these exact arguments, so that a queue somebody made by hand is noticed and not
//! used. They work from RabbitMQ 3.10 to 4.x. Absent on purpose: dead-letter exchanges, TTL and priorities; retries and
//! dead letters are rows.

use super::{LinkError, error, retire};
use campanile_model::ChannelName;
use lapin::{
    Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

/// Where applications publish notifications.
pub const INGEST_EXCHANGE: &str = "notifications";
pub const INGEST_QUEUE: &str = "campanile.ingest";
pub const BUS_EXCHANGE: &str = "campanile.bus";
const WORK_PREFIX: &str = "campanile.work.";

/// A fuse against messages that crash whoever reads them. What it drops is published again from its row.
const WORK_DELIVERY_LIMIT: i32 = 10;
/// Past it publishes are refused, and the rows wait in the table.
pub const WORK_MAX_LENGTH: i32 = 1_000_000;
/// There is no row behind these yet: an outage of the database must not use the limit up.
const INGEST_DELIVERY_LIMIT: i32 = 1_000_000;

pub fn work_queue(channel: &ChannelName) -> String {
    format!("{WORK_PREFIX}{channel}")
}

/// The queue of one channel's work, of [`WORK_MAX_LENGTH`] messages outside tests.
pub async fn declare_work(connection: &Connection, channel: &ChannelName, max_length: i32) -> Result<(), LinkError> {
    let arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", WORK_DELIVERY_LIMIT.into()),
        ("x-overflow", text("reject-publish")),
        ("x-max-length", max_length.into()),
    ]);
    let advice = "what it holds is published again from the database";
    let amqp = connection.create_channel().await?;
    let declared = declare_queue(&amqp, &work_queue(channel), arguments, advice).await;
    retire(amqp, None);
    declared
}

/// The exchange for applications, the queue behind it, and the binding that takes every routing key.
pub async fn declare_ingest(connection: &Connection) -> Result<(), LinkError> {
    let arguments = table([("x-queue-type", text("quorum")), ("x-delivery-limit", INGEST_DELIVERY_LIMIT.into())]);
    let advice = "once it is empty: what it holds is nowhere else";
    let amqp = connection.create_channel().await?;
    let declared = async {
        declare_exchange(&amqp, INGEST_EXCHANGE, ExchangeKind::Topic).await?;
        declare_queue(&amqp, INGEST_QUEUE, arguments, advice).await?;
        let options = QueueBindOptions::default();
        amqp.queue_bind(INGEST_QUEUE.into(), INGEST_EXCHANGE.into(), "#".into(), options, FieldTable::default())
            .await
            .map_err(|e| error::declaring("the binding of queue", INGEST_QUEUE, "nothing is lost", &e))
    }
    .await;
    retire(amqp, None);
    declared
}

/// The exchange that every node's own queue is bound to.
pub async fn declare_bus(connection: &Connection) -> Result<(), LinkError> {
    let amqp = connection.create_channel().await?;
    let declared = declare_exchange(&amqp, BUS_EXCHANGE, ExchangeKind::Fanout).await;
    retire(amqp, None);
    declared
}

async fn declare_queue(
    amqp: &lapin::Channel,
    name: &str,
    arguments: FieldTable,
    advice: &str,
) -> Result<(), LinkError> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    match amqp.queue_declare(name.into(), options, arguments).await {
        Ok(_) => Ok(()),
        Err(e) => Err(error::declaring("queue", name, advice, &e)),
    }
}

async fn declare_exchange(amqp: &lapin::Channel, name: &str, kind: ExchangeKind) -> Result<(), LinkError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    amqp.exchange_declare(name.into(), kind, options, FieldTable::default())
        .await
        .map_err(|e| error::declaring("exchange", name, "its bindings go with it", &e))
}

pub fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
