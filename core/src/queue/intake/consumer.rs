//! The consumer on `campanile.ingest`: takes groups of messages to the desk and acknowledges what is settled.
//!
//! Owns: when this node consumes, how many messages it holds, when it stops. Absent on purpose: nack and requeue. Messages
//! that stay undecided go back by themselves, once, when the consumer's channel closes; it is opened again when the
//! database answers.

use super::{
    decide::acks,
    desk::{Desk, Message},
    unreadable,
};
use crate::{
    amqp::{Broker, Link, LinkError, Role, topology},
    failpoint,
    queue::backoff::Outage,
};
use async_trait::async_trait;
use campanile_model::NodeId;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Messages this node holds: some are being committed while the next ones are on their way.
const PREFETCH: u16 = 500;
/// Messages that are settled together.
const GROUP: usize = 250;
/// Bytes that are: a commit stays short, whatever the messages weigh.
const GROUP_BYTES: usize = 4 << 20;
/// Consumers that ended one after the other without having got anywhere, before the queue is looked at for messages that can't be
/// read. One is an ordinary loss of the connection.
const BARREN: u32 = 2;
/// A consumer that hears nothing for so long begins anew. Of a quorum queue that somebody deletes and makes again at once, RabbitMQ
/// 3.10 keeps the old consumers without a word: it counts them, and what it sends them reaches nobody, until their channel ends.
const RENEW: Duration = Duration::from_secs(15);
/// How long the broker may take to close our channel, and so to take every acknowledgement before it.
const CLOSE: Duration = Duration::from_secs(2);

/// The connection of its own that notifications come in by.
pub struct Origin {
    pub node: NodeId,
}

/// One connection of its own.
pub struct Visit(Arc<Connection>);

#[async_trait]
impl Role for Origin {
    type Session = Visit;

    fn name(&self) -> &'static str {
        "ingest"
    }

    async fn open(&self, connection: &Arc<Connection>) -> Result<Visit, LinkError> {
        // Here too, so that a queue that can't be ours keeps the link down.
        topology::declare_ingest(connection).await?;
        Ok(Visit(connection.clone()))
    }
}

/// Why a consumer ended.
enum End {
    /// The host drains.
    Stopped,
    /// The connection or the channel is of no more use.
    Broker(String),
    /// The same, before anything was acknowledged.
    Barren(String),
    /// The database is away or behind: come back later.
    Later(String),
    /// Nothing came for a while.
    Idle,
}

/// Consumes until `stop`, over every outage of the broker and the database.
pub async fn run(desk: Desk, link: Link<Origin>, broker: Broker, stop: CancellationToken) {
    let mut outage = Outage::of("Taking notifications from RabbitMQ");
    let mut barren = 0;
    while !stop.is_cancelled() {
        let end = match desk.ingest.ready().await {
            Ok(()) => tokio::select! {
                biased;
                () = stop.cancelled() => End::Stopped,
                session = link.up() => {
                    let end = consume(&desk, &link, &session, &stop, &mut outage).await;
                    if let End::Broker(why) | End::Barren(why) = &end {
                        link.failed(&session, why);
                    }
                    end
                }
            },
            Err(e) => End::Later(e.to_string()),
        };
        barren = if matches!(end, End::Barren(_)) { barren + 1 } else { 0 };
        if barren >= BARREN {
            barren = 0;
            put_aside_unreadable(&desk, &broker).await;
        }
        let wait = match end {
            End::Stopped => return,
            // The link itself waits before it connects again, and says why.
            End::Broker(_) | End::Barren(_) | End::Idle => continue,
            End::Later(why) => outage.failed(&why),
        };
        let _ = timeout(wait, stop.cancelled()).await;
    }
}

async fn put_aside_unreadable(desk: &Desk, broker: &Broker) {
    match unreadable::put_aside(desk, broker).await {
        Ok(0) => {}
        Ok(count) => tracing::warn!(count, "Put {count} messages aside that no AMQP client in UTF-8 can read"),
        // Tried again when the next consumers have ended.
        Err(e) => tracing::debug!(error = %e, "The queue was not looked at for messages that can't be read"),
    }
}

async fn consume(
    desk: &Desk,
    link: &Link<Origin>,
    session: &Arc<Visit>,
    stop: &CancellationToken,
    outage: &mut Outage,
) -> End {
    // Each time: a queue that is another one now, or lost its binding, is noticed or mended before it is consumed.
    if let Err(e) = topology::declare_ingest(&session.0).await {
        return End::Broker(e.to_string());
    }
    let (channel, mut consumer) = match subscribe(&session.0, link.role().node).await {
        Ok(made) => made,
        Err(e) => return End::Broker(e.to_string()),
    };
    let mut fruitful = false;
    let end = loop {
        let group = tokio::select! {
            biased;
            () = stop.cancelled() => break End::Stopped,
            () = lost(link, session) => break End::Broker("the connection ended".to_owned()),
            () = tokio::time::sleep(RENEW) => break End::Idle,
            group = gather(&mut consumer) => group,
        };
        let (tags, messages) = match group {
            Ok(group) => group,
            Err(why) => break End::Broker(why),
        };
        let outcome = desk.settle(&messages).await;
        failpoint::reached("intake.after_commit");
        let decided: Vec<_> = tags.into_iter().zip(outcome.settled).collect();
        if let Err(e) = acknowledge(&channel, &decided).await {
            break End::Broker(e.to_string());
        }
        fruitful = true;
        match outcome.trouble {
            None => outage.over(),
            Some(e) => break End::Later(e.to_string()),
        }
    };
    // What is not acknowledged goes back with the channel; what is, is known to the broker when it has answered.
    if channel.status().connected() {
        let _ = timeout(CLOSE, channel.close(200, "done".into())).await;
    }
    drop(consumer);
    match end {
        End::Broker(why) if !fruitful => End::Barren(why),
        end => end,
    }
}

async fn subscribe(connection: &Connection, node: NodeId) -> Result<(Channel, Consumer), lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let tag = format!("campanile.ingest.{node}");
    let consumer =
        channel.basic_consume(topology::INGEST_QUEUE.into(), tag.into(), options, FieldTable::default()).await?;
    Ok((channel, consumer))
}

/// Returns when this session is not the link's any more.
async fn lost(link: &Link<Origin>, session: &Arc<Visit>) {
    let mut changes = link.changes();
    while link.current().is_some_and(|current| Arc::ptr_eq(&current, session)) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits for a message and takes along what has come with it. What was taken when this is dropped goes back to the queue.
async fn gather(consumer: &mut Consumer) -> Result<(Vec<u64>, Vec<Message>), String> {
    let (mut tags, mut messages, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut next = Some(consumer.next().await);
    while let Some(delivery) = next {
        let delivery = match delivery {
            Some(Ok(delivery)) => delivery,
            Some(Err(e)) => return Err(e.to_string()),
            None => return Err("RabbitMQ ended the consumer".to_owned()),
        };
        bytes += delivery.data.len();
        tags.push(delivery.delivery_tag);
        messages.push(message(delivery));
        let more = messages.len() < GROUP && bytes < GROUP_BYTES;
        next = if more { consumer.next().now_or_never() } else { None };
    }
    Ok((tags, messages))
}

fn message(delivery: Delivery) -> Message {
    Message {
        exchange: delivery.exchange.as_str().to_owned(),
        routing_key: delivery.routing_key.as_str().to_owned(),
        properties: delivery.properties,
        body: delivery.data,
    }
}

async fn acknowledge(channel: &Channel, decided: &[(u64, bool)]) -> Result<(), lapin::Error> {
    for ack in acks(decided) {
        channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }).await?;
    }
    Ok(())
}
