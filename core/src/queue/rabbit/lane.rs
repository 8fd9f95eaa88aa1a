//! Publishing for one channel: requests in, windows of messages out, one answer each when everything is confirmed.
//!
//! Owns: the window, the confirms, what a missing one means. One AMQP channel per lane, and a window ends before the next
//! begins: lapin hands a returned message to whichever confirm is settled next, so only all of them together say which
//! messages came back. Absent on purpose: trying again (the relay does).

use super::{CONFIRM, Session, Shared, message};
use crate::amqp::{self, topology};
use campanile_model::{ChannelName, DeliveryId, ports::QueueError};
use futures_util::future::join_all;
use lapin::{
    Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

/// Messages whose confirms are awaited together.
const WINDOW: usize = 256;
/// Requests that may wait for their window.
const WAITING: usize = 64;

#[derive(Clone)]
pub(super) struct Lane {
    requests: mpsc::Sender<Request>,
}

struct Request {
    ids: Vec<DeliveryId>,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), QueueError>>,
}

fn late() -> QueueError {
    QueueError::Broker(format!("RabbitMQ did not confirm within {} s", CONFIRM.as_secs()))
}

impl Lane {
    pub(super) fn start(shared: Arc<Shared>, channel: ChannelName, tasks: &TaskTracker) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        tasks.spawn(Publisher { shared, channel, open: None }.run(waiting));
        Self { requests }
    }

    pub(super) async fn publish(&self, ids: &[DeliveryId]) -> Result<(), QueueError> {
        let deadline = Instant::now() + CONFIRM;
        let (answer, answered) = oneshot::channel();
        let request = Request { ids: ids.to_vec(), deadline, answer };
        match timeout_at(deadline, self.requests.send(request)).await {
            Ok(Ok(())) => answered.await.unwrap_or(Err(QueueError::Closed)),
            Ok(Err(_)) => Err(QueueError::Closed),
            Err(_) => Err(late()),
        }
    }

    /// Takes no more and returns when the rest was answered.
    pub(super) async fn end(self) {
        let requests = self.requests.downgrade();
        drop(self);
        // Whoever publishes still holds the lane until the answer.
        while requests.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Publisher {
    shared: Arc<Shared>,
    channel: ChannelName,
    /// The AMQP channel in confirm mode, and the session it belongs to.
    open: Option<(u64, lapin::Channel)>,
}

impl Publisher {
    async fn run(mut self, mut waiting: mpsc::Receiver<Request>) {
        while let Some(first) = waiting.recv().await {
            let mut requests = vec![first];
            let mut messages = requests[0].ids.len();
            while messages < WINDOW
                && let Ok(more) = waiting.try_recv()
            {
                messages += more.ids.len();
                requests.push(more);
            }
            self.serve(requests).await;
        }
        if let Some((_, channel)) = self.open.take() {
            amqp::retire(channel, None);
        }
    }

    async fn serve(&mut self, requests: Vec<Request>) {
        let deadline = requests.iter().map(|r| r.deadline).min().unwrap_or_else(Instant::now);
        let mut failed: Vec<Option<QueueError>> = requests.iter().map(|_| None).collect();
        let all: Vec<_> = requests.iter().enumerate().flat_map(|(n, r)| r.ids.iter().map(move |id| (n, *id))).collect();
        for window in all.chunks(WINDOW) {
            let ids: Vec<_> = window.iter().map(|(_, id)| *id).collect();
            let sent = timeout_at(deadline, self.send(&ids)).await.unwrap_or_else(|_| Err(late()));
            match sent {
                Ok(outcomes) => {
                    let taken = outcomes.iter().filter(|o| o.is_none()).count();
                    self.shared.depths.published(&self.channel, taken as u64);
                    for ((n, _), outcome) in window.iter().zip(outcomes) {
                        failed[*n] = failed[*n].take().or(outcome);
                    }
                }
                Err(e) => {
                    // What else may still come on this AMQP channel belongs to nobody any more.
                    if let Some((_, channel)) = self.open.take() {
                        amqp::retire(channel, None);
                    }
                    // What came before in `all` was settled; this window and the rest were not.
                    let from = window[0].0;
                    for slot in &mut failed[from..] {
                        slot.get_or_insert_with(|| e.clone());
                    }
                    break;
                }
            }
        }
        for (request, failed) in requests.into_iter().zip(failed) {
            // Nobody listens when the caller gave up.
            let _ = request.answer.send(failed.map_or(Ok(()), Err));
        }
    }

    /// One window. `Ok`: everything was settled, with what went wrong for each. `Err`: nothing is known of any.
    async fn send(&mut self, ids: &[DeliveryId]) -> Result<Vec<Option<QueueError>>, QueueError> {
        let session = self.shared.publisher()?;
        let amqp = self.channel_on(&session).await?;
        let began = Instant::now();
        let queue = topology::work_queue(&self.channel);
        // Returned when there is no queue, instead of dropped with an ack.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let bodies: Vec<_> = ids.iter().map(|id| message::write(*id)).collect();
        let publishing = ids.iter().zip(&bodies).map(|(id, body)| {
            let (queue, properties) = (queue.as_str().into(), message::properties(*id));
            amqp.basic_publish("".into(), queue, options, body, properties)
        });
        let mut confirms = Vec::with_capacity(ids.len());
        for published in join_all(publishing).await {
            confirms.push(published.map_err(broken)?);
        }
        let mut returned = HashSet::new();
        let mut refused = Vec::with_capacity(ids.len());
        for confirmation in join_all(confirms).await {
            let confirmation = confirmation.map_err(broken)?;
            refused.push(match &confirmation {
                Confirmation::Ack(_) => None,
                Confirmation::Nack(_) => Some(QueueError::Full(self.channel.clone())),
                Confirmation::NotRequested => return Err(QueueError::Broker("the channel gives no confirms".into())),
            });
            if let Some(message) = confirmation.take_message() {
                returned.insert(message.delivery.properties.message_id().as_ref().map(ToString::to_string));
            }
        }
        self.shared.metrics.broker_confirm.observe(began.elapsed().as_secs_f64());
        if returned.is_empty() {
            return Ok(refused);
        }
        self.shared.missed(&self.channel);
        // At once, so that the relay's next try finds the queue.
        self.shared.declare(&session, &self.channel).await?;
        let gone = QueueError::Broker(format!("queue {queue:?} was gone and is declared again"));
        let came_back = |id: &DeliveryId| returned.contains(&Some(id.to_string())) || returned.contains(&None);
        Ok(ids
            .iter()
            .zip(refused)
            .map(|(id, refused)| if came_back(id) { Some(gone.clone()) } else { refused })
            .collect())
    }

    /// The AMQP channel of this session, made if need be.
    async fn channel_on(&mut self, session: &Session) -> Result<lapin::Channel, QueueError> {
        self.shared.declare(session, &self.channel).await?;
        if let Some((number, channel)) = &self.open
            && *number == session.number
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        let channel = session.connection.create_channel().await.map_err(broken)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(broken)?;
        self.open = Some((session.number, channel.clone()));
        Ok(channel)
    }
}

fn broken(e: lapin::Error) -> QueueError {
    QueueError::Broker(amqp::plain(&e))
}
