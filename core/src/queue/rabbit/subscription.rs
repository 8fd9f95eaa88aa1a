//! A consumer of one channel's queue, on an AMQP channel of its own.
//!
//! Owns: what was handed to us and not acked, and putting aside what nobody can read. Dropping it closes its AMQP channel,
//! and so everything that was not acked goes back. Absent on purpose: nack. A retry is a row.

use super::{SETUP, Session, Shared, message};
use crate::{
    amqp::{self, topology},
    observe::metrics as m,
};
use async_trait::async_trait;
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{Envelope, QueueError, Subscription},
};
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How often a consumer that hears nothing asks whether that can be.
const ASK: Duration = Duration::from_secs(1);
/// A consumer that hears nothing for so long begins anew. Of a queue that somebody deletes and makes again at once, RabbitMQ 3.10 keeps
/// the old consumers: it counts them, and hands them what nobody gets, until their channel ends. No look at the queue shows it while
/// they may hold more.
const RENEW: Duration = Duration::from_secs(15);
/// Looks in a row that must speak against it: one may fall between a message's coming and our taking it, or into an election.
const LOOKS: u32 = 3;

pub(super) struct RabbitSubscription {
    shared: Arc<Shared>,
    session: Arc<Session>,
    channel: ChannelName,
    amqp: lapin::Channel,
    /// Always there until the drop.
    consumer: Option<Consumer>,
    /// Received and not handed out yet: kept here, so that a cancelled `receive` forgets nothing.
    inbox: VecDeque<(Delivery, Result<DeliveryId, String>)>,
    prefetch: u16,
    /// The newest that was handed out, until it is acked.
    owed: Option<u64>,
    /// A close waits for it.
    _token: TaskTrackerToken,
}

impl RabbitSubscription {
    pub(super) async fn new(
        shared: Arc<Shared>,
        session: Arc<Session>,
        channel: ChannelName,
        prefetch: u16,
    ) -> Result<Self, QueueError> {
        shared.declare(&session, &channel).await?;
        let amqp = session.connection.create_channel().await.map_err(|e| broken(&e))?;
        let mut made = Self {
            _token: shared.subscriptions.token(),
            shared,
            session,
            channel,
            amqp,
            consumer: None,
            inbox: VecDeque::new(),
            prefetch,
            owed: None,
        };
        match timeout(SETUP, made.consume()).await {
            Ok(Ok(consumer)) => made.consumer = Some(consumer),
            Ok(Err(e)) => return Err(made.lost(&e)),
            Err(_) => {
                return Err(QueueError::Broker(format!("RabbitMQ did not begin to deliver for {}", made.channel)));
            }
        }
        Ok(made)
    }

    async fn consume(&self) -> lapin::Result<Consumer> {
        // Per consumer: quorum queues know no other.
        self.amqp.basic_qos(self.prefetch, BasicQosOptions { global: false }).await?;
        let options = BasicConsumeOptions { no_ack: false, ..BasicConsumeOptions::default() };
        let queue = topology::work_queue(&self.channel).into();
        self.amqp.basic_consume(queue, "".into(), options, FieldTable::default()).await
    }

    /// As if it had just been made. What the old consumer holds goes back with its channel.
    async fn renew(&mut self) -> Result<(), QueueError> {
        let (shared, session) = (self.shared.clone(), self.session.clone());
        let mut fresh = Self::new(shared, session, self.channel.clone(), self.prefetch).await?;
        std::mem::swap(self, &mut fresh);
        Ok(())
    }

    /// What an error means for others: a connection that is dead is dead for all, a missing queue is declared again.
    fn lost(&self, e: &lapin::Error) -> QueueError {
        if amqp::is_not_found(e) {
            self.shared.missed(&self.channel);
        }
        if !self.session.connection.status().connected() {
            self.shared.work.failed(&self.session, amqp::plain(e));
        }
        broken(e)
    }

    fn keep(&mut self, item: Option<lapin::Result<Delivery>>) -> Result<(), QueueError> {
        match item {
            Some(Ok(delivery)) => {
                let read = message::read(&delivery.data);
                self.inbox.push_back((delivery, read));
                Ok(())
            }
            Some(Err(e)) => Err(self.lost(&e)),
            None => {
                self.shared.missed(&self.channel);
                let queue = topology::work_queue(&self.channel);
                Err(QueueError::Broker(format!(
                    "RabbitMQ ended the delivery of queue {queue:?}: it was deleted or moved"
                )))
            }
        }
    }

    fn unknown(&self) -> QueueError {
        self.shared.missed(&self.channel);
        let queue = topology::work_queue(&self.channel);
        QueueError::Broker(format!("RabbitMQ delivers nothing of queue {queue:?} and did not say that it ended"))
    }

    /// What can be handed out of the first `max`, in order. What can't be read goes to the poison list first.
    async fn readable(&mut self, max: usize) -> Result<Vec<Envelope>, QueueError> {
        let mut at = 0;
        while at < max.min(self.inbox.len()) {
            if let Some((delivery, Err(reason))) = self.inbox.get(at) {
                self.put_aside(delivery, reason).await?;
                self.inbox.remove(at);
            } else {
                at += 1;
            }
        }
        // Nothing waits from here on, so nothing that is taken out can be lost.
        let envelopes = self.inbox.drain(..at);
        Ok(envelopes.filter_map(|(d, read)| Some(Envelope { delivery_id: read.ok()?, tag: d.delivery_tag })).collect())
    }

    async fn put_aside(&self, delivery: &Delivery, reason: &str) -> Result<(), QueueError> {
        let source = format!("work:{}", self.channel);
        let headers =
            delivery.properties.message_id().as_ref().map(|id| serde_json::json!({"message_id": id.as_str()}));
        let headers = headers.map(|h| h.to_string());
        let put = self.shared.store.add_poison(&source, &delivery.data, reason, headers.as_deref()).await;
        put.map_err(|e| QueueError::Broker(format!("a message that can't be read could not be put aside: {e}")))?;
        // Only now: written twice is written once, and forgotten is forgotten.
        match delivery.acker.ack(BasicAckOptions::default()).await {
            Ok(true) => {}
            Ok(false) => return Err(QueueError::Broker("the broker had taken a message back".to_owned())),
            Err(e) => return Err(self.lost(&e)),
        }
        tracing::warn!(channel = %self.channel, reason, "A message that can't be read is on the poison list");
        self.shared.metrics.poison.get_or_create(&m::ByReason::new("unreadable")).inc();
        Ok(())
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn receive(&mut self, max: usize) -> Result<Vec<Envelope>, QueueError> {
        let max = max.max(1);
        let closed = self.shared.closed.clone();
        loop {
            if closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            if self.inbox.is_empty() {
                let Some(consumer) = self.consumer.as_mut() else { return Err(QueueError::Closed) };
                let first = tokio::select! {
                    biased;
                    () = closed.cancelled() => return Err(QueueError::Closed),
                    first = consumer.next() => first,
                    () = forgotten(&self.shared, &self.channel) => return Err(self.unknown()),
                    // A tag that is still to be acked is of this consumer's channel.
                    () = tokio::time::sleep(RENEW), if self.owed.is_none() => {
                        self.renew().await?;
                        continue;
                    }
                };
                self.keep(first)?;
            }
            while self.inbox.len() < max
                && let Some(more) = self.consumer.as_mut().and_then(|c| c.next().now_or_never())
            {
                self.keep(more)?;
            }
            let envelopes = self.readable(max).await?;
            if let Some(last) = envelopes.last() {
                self.owed = Some(last.tag);
                return Ok(envelopes);
            }
        }
    }

    /// By the channel and not by the message: a channel that is closed refuses, and there is no other that the tag could
    /// mean by mistake.
    async fn ack_through(&mut self, tag: u64) -> Result<(), QueueError> {
        self.amqp.basic_ack(tag, BasicAckOptions { multiple: true }).await.map_err(|e| self.lost(&e))?;
        self.owed = self.owed.filter(|owed| *owed > tag);
        Ok(())
    }
}

/// Returns when the broker no longer knows this consumer, or keeps messages from it. We wait before we declare a deleted queue
/// again ([`REST`](super::REST)); others who do it at once end its consumers without a word.
async fn forgotten(shared: &Shared, channel: &ChannelName) {
    let (mut since, mut against) = (Instant::now(), 0);
    while against < LOOKS {
        tokio::time::sleep(ASK).await;
        if let Some((at, odd)) = shared.depths.odd_silence(channel, since) {
            since = at;
            against = if odd { against + 1 } else { 0 };
        }
    }
}

impl Drop for RabbitSubscription {
    fn drop(&mut self) {
        amqp::retire(self.amqp.clone(), self.consumer.take());
    }
}

fn broken(e: &lapin::Error) -> QueueError {
    QueueError::Broker(amqp::plain(e))
}
