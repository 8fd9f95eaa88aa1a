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
        let mut round = Round { strangers: HashSet::new(), broker: Outage::of("Publishing to the work queue") };
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
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn round(&self, round: &mut Round) -> Result<Moved, StoreError> {
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

    /// Channels that get nothing now, and whether one of them would take work but for its long line.
    fn left_out(&self, strangers: &HashSet<ChannelName>) -> (Vec<ChannelName>, bool) {
        let mut skip: Vec<_> = strangers.iter().cloned().collect();
        let mut long = false;
        for guard in self.channels.guards() {
            let name = &guard.handle().name;
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

    #[test]
    fn groups_keep_their_order() {
        let ids: Vec<_> = (0..4).map(|_| DeliveryId::new()).collect();
        let row = |channel: &str, n: usize| RelayRow { channel: channel.into(), delivery_id: ids[n] };
        let groups = by_channel(vec![row("sms", 0), row("email", 1), row("sms", 2), row("email", 3)]);
        assert_eq!(groups, [("sms".into(), vec![ids[0], ids[2]]), ("email".into(), vec![ids[1], ids[3]])]);
    }
}
