//! Table → queue: brings due rows that nobody has claimed.
//!
//! Owns: when to look, which channels to leave out, what a failed publish leads to. A row is moved on by one committed
//! statement before it is published, so no lock is held while a broker is talked to, and a lost message is only late.
//! Absent on purpose: the fast path (`status` publishes straight after a commit) and the claim.

use super::backoff::Outage;
use crate::{channel::Registry, observe::Metrics};
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{QueueError, Store, StoreError, WorkQueue},
    work::RelayRow,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Calls the relay before its next look.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Notify,
    /// The last round left a channel out because its line was long, or brought as much as one round may.
    behind: AtomicBool,
}

impl Bell {
    /// Something became due that the relay would only find at its next look.
    pub fn ring(&self) {
        self.rung.notify_one();
    }

    /// A line has become short: time to bring more, if there was more.
    pub fn line_is_short(&self) {
        if self.behind.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }
}

pub struct Relay {
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn WorkQueue>,
    pub channels: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    pub bell: Arc<Bell>,
    /// How often to look.
    pub poll: Duration,
    /// Rows one round moves.
    pub batch: u32,
    /// A line longer than this gets nothing more.
    pub prefetch: u64,
}

impl Relay {
    /// Runs until `stop`. `note` hears of every database error.
    pub async fn run(self, stop: CancellationToken, note: impl Fn(&StoreError) + Send + Sync) {
        let mut round = Round {
            strangers: HashSet::new(),
            broker: Outage::of("Publishing to the work queue"),
            epoch: self.queue.epoch(),
        };
        let mut outage = Outage::of("Relaying due deliveries");
        let mut last = Instant::now();
        while !stop.is_cancelled() {
            let wait = match self.round(&mut round).await {
                Ok(moved) => {
                    outage.over();
                    // How late rows may have been found: zero while every round begins in time.
                    let late = last.elapsed().saturating_sub(self.poll * 2).as_secs_f64();
                    self.metrics.scheduler_lag.set(late);
                    last = Instant::now();
                    match moved {
                        Moved::All => self.poll,
                        Moved::Part => Duration::ZERO,
                        Moved::Refused(wait) => wait,
                    }
                }
                Err(e) => {
                    note(&e);
                    self.metrics.scheduler_lag.set(last.elapsed().as_secs_f64());
                    outage.failed(&e)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.bell.rung.notified() => {}
                () = self.news(&round) => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns when the queue says something that makes another look worth while.
    async fn news(&self, round: &Round) {
        loop {
            self.queue.changed().await;
            let back = self.queue.epoch().is_some_and(|epoch| round.epoch != Some(epoch));
            if back || self.bell.behind.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    async fn round(&self, round: &mut Round) -> Result<Moved, StoreError> {
        // The queue tells of its outage itself. Rows stay as they are: moved on now, they would wait for longer after it.
        let Some(epoch) = self.queue.epoch() else { return Ok(Moved::All) };
        if round.epoch != Some(epoch) {
            self.bring_again().await?;
            round.epoch = Some(epoch);
        }
        // A channel can come at any time.
        round.strangers.retain(|channel| self.channels.get(channel).is_none());
        let (skip, long) = self.left_out(&round.strangers);
        let rows = self.store.relay_due(self.batch, &skip).await?;
        let full = rows.len() >= self.batch as usize;
        self.bell.behind.store(full || long, Ordering::Relaxed);
        let mut refused = None;
        for (channel, ids) in by_channel(rows) {
            if self.channels.get(&channel).is_none() {
                tracing::warn!(%channel, "Deliveries wait for channel {channel}, which this host does not have");
                round.strangers.insert(channel);
                continue;
            }
            crate::failpoint::reached("queue.before_publish");
            let published = self.queue.publish(&channel, &ids).await;
            crate::failpoint::reached("queue.after_publish");
            match published {
                Ok(()) => round.broker.over(),
                Err(e) => {
                    self.store.relay_failed(&ids).await?;
                    match e {
                        // What fits is in the line; the next round leaves the channel out until it is shorter.
                        QueueError::Full(_) => {}
                        e => refused = Some(round.broker.failed(&e)),
                    }
                }
            }
        }
        Ok(match refused {
            Some(wait) => Moved::Refused(wait),
            None if full => Moved::Part,
            None => Moved::All,
        })
    }

    /// The broker is back: what it may have lost need not wait for the relay's long steps. Channels that take no work now
    /// are left alone: their rows become due when they do.
    async fn bring_again(&self) -> Result<(), StoreError> {
        for guard in self.channels.guards().into_iter().filter(|g| g.takes_work()) {
            let mut rows = 0;
            loop {
                let some = self.store.relay_again(guard.name(), self.batch).await?;
                rows += some;
                if some < u64::from(self.batch) {
                    break;
                }
            }
            if rows > 0 {
                tracing::info!(channel = %guard.name(), rows, "Bringing {rows} deliveries to the work queue again");
            }
        }
        Ok(())
    }

    /// Channels that get nothing now, and whether one of them would take work but for its long line.
    fn left_out(&self, strangers: &HashSet<ChannelName>) -> (Vec<ChannelName>, bool) {
        let mut skip: Vec<_> = strangers.iter().cloned().collect();
        let mut long = false;
        for guard in self.channels.guards() {
            let name = guard.name();
            // A depth that is not known is no reason to hold work back.
            let is_long = self.queue.depth(name).is_some_and(|depth| depth > self.prefetch);
            if is_long || !guard.takes_work() {
                skip.push(name.clone());
            }
            long |= is_long && guard.takes_work();
        }
        (skip, long)
    }
}

struct Round {
    /// Channels that rows name and this host does not have.
    strangers: HashSet<ChannelName>,
    broker: Outage,
    /// Of the queue, when it was last seen up.
    epoch: Option<u64>,
}

enum Moved {
    All,
    /// As much as one round may: look again at once.
    Part,
    /// The broker refused some; wait that long.
    Refused(Duration),
}

/// Groups rows by channel, both in the order of their first row.
fn by_channel(rows: Vec<RelayRow>) -> Vec<(ChannelName, Vec<DeliveryId>)> {
    let mut groups: Vec<(ChannelName, Vec<DeliveryId>)> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|(channel, _)| *channel == row.channel) {
            Some((_, ids)) => ids.push(row.delivery_id),
            None => groups.push((row.channel, vec![row.delivery_id])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::fake::{self, Fake},
        config,
        store::exam::{DAY, Engine, Exam, mail},
    };
    use async_trait::async_trait;
    use campanile_model::ports::Subscription;
    use std::sync::Mutex;

    /// A broker that is away or there, as told.
    #[derive(Default)]
    struct Broker {
        epoch: Mutex<Option<u64>>,
        changed: Notify,
        took: Mutex<Vec<DeliveryId>>,
    }

    impl Broker {
        fn set(&self, epoch: Option<u64>) {
            *self.epoch.lock().unwrap() = epoch;
            self.changed.notify_one();
        }
        fn took(&self) -> Vec<DeliveryId> {
            std::mem::take(&mut *self.took.lock().unwrap())
        }
    }

    #[async_trait]
    impl WorkQueue for Broker {
        async fn publish(&self, _: &ChannelName, ids: &[DeliveryId]) -> Result<(), QueueError> {
            assert!(self.epoch().is_some(), "published to a broker that is away");
            self.took.lock().unwrap().extend(ids);
            Ok(())
        }
        fn depth(&self, _: &ChannelName) -> Option<u64> {
            None
        }
        async fn subscribe(&self, _: &ChannelName, _: u16) -> Result<Box<dyn Subscription>, QueueError> {
            Err(QueueError::Closed)
        }
        fn epoch(&self) -> Option<u64> {
            *self.epoch.lock().unwrap()
        }
        async fn changed(&self) {
            self.changed.notified().await;
        }
        fn health(&self) -> Result<(), QueueError> {
            Ok(())
        }
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let watch = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), watch).await.unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rows_rest_while_the_broker_is_away_and_come_again_when_it_is_back() {
        let exam = Exam::on(Engine::Sqlite).await;
        let (metrics, broker) = (Arc::new(Metrics::new()), Arc::new(Broker::default()));
        let bell = Arc::<Bell>::default();
        let relay = Relay {
            store: exam.shared(),
            queue: broker.clone(),
            channels: fake::registry(
                vec![fake::handle("email", Fake::new([]))],
                &config::defaults().unwrap().retry,
                &metrics,
            ),
            metrics,
            bell: bell.clone(),
            // Only news make it look.
            poll: DAY,
            batch: 2,
            prefetch: 10,
        };
        let mut sent = Vec::new();
        for user in ["ada", "bob", "cyd"] {
            sent.push(exam.send(mail(user)).await.deliveries[0].delivery_id);
        }
        let stop = CancellationToken::new();
        broker.set(Some(1));
        let running = tokio::spawn(relay.run(stop.clone(), |e| panic!("{e}")));
        // Twice, so that the next step would be a minute.
        for _ in 0..2 {
            exam.pass(Duration::from_secs(11));
            bell.ring();
            until("all are brought", || broker.took.lock().unwrap().len() == 3).await;
            broker.took();
        }
        broker.set(None);
        let late = exam.send(mail("dan")).await.deliveries[0].delivery_id;
        exam.pass(Duration::from_secs(11));
        bell.ring();
        // A row that is found due now was not moved on for nothing.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(broker.took(), []);
        broker.set(Some(2));
        until("what it may have lost, and what came meanwhile", || broker.took.lock().unwrap().len() == 4).await;
        let mut again = broker.took();
        again.sort_unstable();
        sent.push(late);
        sent.sort_unstable();
        assert_eq!(again, sent);
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn groups_keep_their_order() {
        let ids: Vec<_> = (0..4).map(|_| DeliveryId::new()).collect();
        let row = |channel: &str, n: usize| RelayRow { channel: channel.into(), delivery_id: ids[n] };
        let groups = by_channel(vec![row("sms", 0), row("email", 1), row("sms", 2), row("email", 3)]);
        assert_eq!(groups, [("sms".into(), vec![ids[0], ids[2]]), ("email".into(), vec![ids[1], ids[3]])]);
    }
}
