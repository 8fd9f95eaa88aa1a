//! The queue of one process: a bounded line of ids per channel.
//!
//! Owns: order of arrival, the bound, each id at most once in the line. Absent on purpose: durability. What does not fit
//! or dies with the process still stands in the table, and the relay brings it again.

use async_trait::async_trait;
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{Envelope, QueueError, Subscription, WorkQueue},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

pub struct LocalQueue {
    capacity: usize,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    by_channel: HashMap<ChannelName, Arc<Line>>,
    closed: bool,
}

struct Line {
    channel: ChannelName,
    waiting: Mutex<Waiting>,
    /// Something arrived, or the line was closed.
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    ids: VecDeque<DeliveryId>,
    /// The same ids: a relay that repeats itself must not make the line longer.
    known: HashSet<DeliveryId>,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalQueue {
    /// At most `capacity` ids wait per channel.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.max(1), lines: Mutex::default() })
    }

    fn line(&self, channel: &ChannelName) -> Arc<Line> {
        let mut lines = lock(&self.lines);
        if let Some(line) = lines.by_channel.get(channel) {
            return line.clone();
        }
        let waiting = Waiting { closed: lines.closed, ..Waiting::default() };
        let line = Arc::new(Line { channel: channel.clone(), waiting: Mutex::new(waiting), arrived: Notify::new() });
        lines.by_channel.insert(channel.clone(), line.clone());
        line
    }
}

#[async_trait]
impl WorkQueue for LocalQueue {
    /// Takes what fits; `Full` says that the rest must come again (what is in the line already counts as taken).
    async fn publish(&self, channel: &ChannelName, ids: &[DeliveryId]) -> Result<(), QueueError> {
        let line = self.line(channel);
        let mut waiting = lock(&line.waiting);
        if waiting.closed {
            return Err(QueueError::Closed);
        }
        let mut full = false;
        for id in ids {
            if waiting.known.contains(id) {
                continue;
            }
            if waiting.ids.len() >= self.capacity {
                full = true;
                break;
            }
            waiting.known.insert(*id);
            waiting.ids.push_back(*id);
        }
        let any = !waiting.ids.is_empty();
        drop(waiting);
        if any {
            line.arrived.notify_one();
        }
        if full { Err(QueueError::Full(channel.clone())) } else { Ok(()) }
    }

    fn depth(&self, channel: &ChannelName) -> Option<u64> {
        let line = lock(&self.lines).by_channel.get(channel).cloned();
        Some(line.map_or(0, |line| lock(&line.waiting).ids.len() as u64))
    }

    async fn subscribe(&self, channel: &ChannelName, _prefetch: u16) -> Result<Box<dyn Subscription>, QueueError> {
        let line = self.line(channel);
        if lock(&line.waiting).closed {
            return Err(QueueError::Closed);
        }
        Ok(Box::new(LocalSubscription { line, unacked: VecDeque::new(), last_tag: 0 }))
    }

    fn health(&self) -> Result<(), QueueError> {
        if lock(&self.lines).closed { Err(QueueError::Closed) } else { Ok(()) }
    }

    async fn close(&self) {
        let lines: Vec<_> = {
            let mut lines = lock(&self.lines);
            lines.closed = true;
            lines.by_channel.values().cloned().collect()
        };
        for line in lines {
            lock(&line.waiting).closed = true;
            line.arrived.notify_waiters();
        }
    }
}

/// Like a broker's consumer: what it took and did not ack goes back to the head of the line when it is dropped.
struct LocalSubscription {
    line: Arc<Line>,
    unacked: VecDeque<Envelope>,
    last_tag: u64,
}

impl LocalSubscription {
    fn take(&mut self, max: usize) -> Result<Vec<Envelope>, QueueError> {
        let mut waiting = lock(&self.line.waiting);
        if waiting.closed {
            return Err(QueueError::Closed);
        }
        let n = waiting.ids.len().min(max.max(1));
        let ids: Vec<_> = waiting.ids.drain(..n).collect();
        for id in &ids {
            waiting.known.remove(id);
        }
        let left = !waiting.ids.is_empty();
        drop(waiting);
        if left {
            // One wake-up is enough for a whole publish, so whoever leaves something wakes the next taker.
            self.line.arrived.notify_one();
        }
        let taken: Vec<_> = ids
            .into_iter()
            .map(|delivery_id| {
                self.last_tag += 1;
                Envelope { delivery_id, tag: self.last_tag }
            })
            .collect();
        self.unacked.extend(&taken);
        Ok(taken)
    }
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn receive(&mut self, max: usize) -> Result<Vec<Envelope>, QueueError> {
        let line = self.line.clone();
        loop {
            let arrived = line.arrived.notified();
            tokio::pin!(arrived);
            // Registered before looking, so that a publish or a close in between is not missed.
            arrived.as_mut().enable();
            let taken = self.take(max)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            arrived.await;
        }
    }

    async fn ack_through(&mut self, tag: u64) -> Result<(), QueueError> {
        while self.unacked.front().is_some_and(|e| e.tag <= tag) {
            self.unacked.pop_front();
        }
        Ok(())
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        let mut waiting = lock(&self.line.waiting);
        if self.unacked.is_empty() || waiting.closed {
            return;
        }
        tracing::debug!(channel = %self.line.channel, count = self.unacked.len(), "Put unclaimed ids back in the line");
        for envelope in self.unacked.drain(..).rev() {
            if waiting.known.insert(envelope.delivery_id) {
                waiting.ids.push_front(envelope.delivery_id);
            }
        }
        drop(waiting);
        self.line.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: usize) -> Vec<DeliveryId> {
        (0..n).map(|_| DeliveryId::new()).collect()
    }
    fn of(envelopes: &[Envelope]) -> Vec<DeliveryId> {
        envelopes.iter().map(|e| e.delivery_id).collect()
    }

    #[tokio::test]
    async fn takes_what_fits_and_says_that_the_rest_must_come_again() {
        let (queue, email, all) = (LocalQueue::new(3), ChannelName::email(), ids(5));
        assert!(matches!(queue.publish(&email, &all).await, Err(QueueError::Full(_))));
        assert_eq!(queue.depth(&email), Some(3));
        // The same again: still full, and nothing is in the line twice.
        assert!(matches!(queue.publish(&email, &all).await, Err(QueueError::Full(_))));
        assert!(queue.publish(&email, &all[..3]).await.is_ok());
        let mut sub = queue.subscribe(&email, 10).await.unwrap();
        assert_eq!(of(&sub.receive(2).await.unwrap()), all[..2]);
        assert!(queue.publish(&email, &all[2..]).await.is_ok());
        assert_eq!(of(&sub.receive(10).await.unwrap()), all[2..]);
        assert_eq!(queue.depth(&email), Some(0));
    }

    #[tokio::test]
    async fn channels_do_not_share_a_line() {
        let (queue, one) = (LocalQueue::new(1), ids(1));
        assert!(queue.publish(&ChannelName::email(), &one).await.is_ok());
        assert!(queue.publish(&ChannelName::websocket(), &one).await.is_ok());
        assert_eq!(queue.depth(&"sms".into()), Some(0));
    }

    #[tokio::test]
    async fn what_a_consumer_did_not_ack_is_first_in_line_again() {
        let (queue, email, all) = (LocalQueue::new(10), ChannelName::email(), ids(4));
        queue.publish(&email, &all).await.unwrap();
        let mut sub = queue.subscribe(&email, 10).await.unwrap();
        let first = sub.receive(3).await.unwrap();
        sub.ack_through(first[0].tag).await.unwrap();
        drop(sub);
        let mut sub = queue.subscribe(&email, 10).await.unwrap();
        assert_eq!(of(&sub.receive(10).await.unwrap()), all[1..]);
    }

    #[tokio::test]
    async fn a_waiting_consumer_is_woken_by_a_publish_and_by_the_end() {
        let (queue, email, all) = (LocalQueue::new(10), ChannelName::email(), ids(2));
        let mut sub = queue.subscribe(&email, 10).await.unwrap();
        let waiting = tokio::spawn(async move {
            let first = sub.receive(1).await.map(|e| of(&e));
            let second = sub.receive(1).await.map(|e| of(&e));
            let end = sub.receive(1).await.map(|e| of(&e));
            (first, second, end)
        });
        tokio::task::yield_now().await;
        queue.publish(&email, &all).await.unwrap();
        while queue.depth(&email) != Some(0) {
            tokio::task::yield_now().await;
        }
        queue.close().await;
        let (first, second, end) = waiting.await.unwrap();
        assert_eq!((first.unwrap(), second.unwrap()), (vec![all[0]], vec![all[1]]));
        assert!(matches!(end, Err(QueueError::Closed)));
        assert!(matches!(queue.publish(&email, &all).await, Err(QueueError::Closed)));
        assert!(queue.subscribe(&"new".into(), 1).await.is_err());
    }
}
