//! How long the queues are: asked of the broker beside the hot path, kept for a moment.
//!
//! Between two looks what this node published is added, so that a relay in full swing stops in time; what consumers took
//! shows at the next look, which comes soon then. A look also tells a consumer that hears nothing whether the broker still
//! knows it. Absent on purpose: looking at queues that nobody asks about.

use super::Shared;
use crate::amqp::{self, topology};
use campanile_model::ChannelName;
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use std::{
    collections::{HashMap, HashSet},
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::timeout};

/// A figure that nothing speaks against is good for this long.
const FRESH: Duration = Duration::from_millis(900);
/// Older than this it is no figure at all.
const STALE: Duration = Duration::from_secs(3);
/// Between two looks, however much happens.
const SPACING: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Depths {
    state: Mutex<State>,
    asked: Notify,
    shorter: Notify,
}

#[derive(Default)]
struct State {
    known: HashMap<ChannelName, Depth>,
    asked: HashSet<ChannelName>,
}

/// What the broker says of a queue.
#[derive(Clone, Copy)]
struct Count {
    ready: u64,
    consumers: u32,
}

struct Depth {
    /// At the last look.
    seen: Count,
    at: Instant,
    /// By this node since then.
    published: u64,
    /// The longest that anybody was told since the last look that found less.
    told: u64,
}

impl Depths {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, channel: &ChannelName) -> Option<u64> {
        let mut state = self.lock();
        let State { known, asked } = &mut *state;
        let depth = known.get_mut(channel).filter(|d| d.at.elapsed() < STALE);
        if depth.as_ref().is_none_or(|d| d.published > 0 || d.told > 0 || d.at.elapsed() >= FRESH)
            && asked.insert(channel.clone())
        {
            self.asked.notify_one();
        }
        let depth = depth?;
        let now = depth.seen.ready + depth.published;
        depth.told = depth.told.max(now);
        Some(now)
    }

    pub(super) fn published(&self, channel: &ChannelName, count: u64) {
        if let Some(depth) = self.lock().known.get_mut(channel) {
            depth.published += count;
        }
    }

    /// Returns after a look that found a queue shorter than was told before.
    pub(super) async fn shorter(&self) {
        self.shorter.notified().await;
    }

    /// When the newest look was, if that is later than `after`, and whether it speaks against it that a consumer hears nothing:
    /// the broker knows of no consumer, or has messages to hand out. Asks for the next look.
    pub(super) fn odd_silence(&self, channel: &ChannelName, after: Instant) -> Option<(Instant, bool)> {
        let mut state = self.lock();
        if state.asked.insert(channel.clone()) {
            self.asked.notify_one();
        }
        let depth = state.known.get(channel).filter(|d| d.at > after)?;
        Some((depth.at, depth.seen.consumers == 0 || depth.seen.ready > 0))
    }

    /// `counted` were in when this node had published `included` of its own since the last look.
    fn saw(&self, channel: &ChannelName, counted: Option<Count>, included: u64) {
        let mut state = self.lock();
        let Some(counted) = counted else {
            state.known.remove(channel);
            return;
        };
        let before = state.known.remove(channel);
        let (published, told) = before.map_or((0, 0), |d| (d.published.saturating_sub(included), d.told));
        let now = counted.ready + published;
        let shorter = now < told;
        let told = if shorter { now } else { told };
        let depth = Depth { seen: counted, at: Instant::now(), published, told };
        state.known.insert(channel.clone(), depth);
        drop(state);
        if shorter {
            self.shorter.notify_one();
        }
    }
}

/// Looks where somebody asked, until the queue is closed.
pub(super) async fn refresh(shared: Arc<Shared>) {
    let looking = async {
        let mut amqp = None;
        loop {
            shared.depths.asked.notified().await;
            tokio::time::sleep(SPACING).await;
            let asked = take(&mut shared.depths.lock().asked);
            for channel in asked {
                let included = shared.depths.lock().known.get(&channel).map_or(0, |d| d.published);
                let counted = timeout(ANSWER, count(&shared, &mut amqp, &channel)).await.unwrap_or(None);
                shared.depths.saw(&channel, counted, included);
            }
        }
    };
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = looking => {}
    }
}

/// By a declaration that changes nothing. Over the consumers' connection: the other one may be blocked.
async fn count(shared: &Shared, amqp: &mut Option<(u64, lapin::Channel)>, channel: &ChannelName) -> Option<Count> {
    let session = shared.work.current()?;
    let usable = amqp.as_ref().is_some_and(|(number, c)| *number == session.number && c.status().connected());
    if !usable {
        *amqp = Some((session.number, session.connection.create_channel().await.ok()?));
    }
    let (_, open) = amqp.as_ref()?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match open.queue_declare(topology::work_queue(channel).into(), options, FieldTable::default()).await {
        Ok(queue) => Some(Count { ready: queue.message_count().into(), consumers: queue.consumer_count() }),
        Err(e) => {
            if amqp::is_not_found(&e) {
                shared.missed(channel);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a look may see nothing")]
    fn ready(ready: u64) -> Option<Count> {
        Some(Count { ready, consumers: 1 })
    }

    #[test]
    fn silence_is_odd_where_nobody_is_known_or_something_waits() {
        let (depths, email, start) = (Depths::default(), ChannelName::email(), Instant::now());
        let odd = |after| depths.odd_silence(&email, after).map(|(_, odd)| odd);
        assert_eq!(odd(start), None, "nobody has looked yet");
        depths.saw(&email, ready(0), 0);
        assert_eq!(odd(start), Some(false));
        assert_eq!(odd(Instant::now()), None, "a look from before says nothing");
        depths.saw(&email, ready(3), 0);
        assert_eq!(odd(start), Some(true));
        depths.saw(&email, Some(Count { ready: 0, consumers: 0 }), 0);
        assert_eq!(odd(start), Some(true));
    }

    #[test]
    fn what_was_published_counts_until_the_next_look() {
        let (depths, email) = (Depths::default(), ChannelName::email());
        depths.published(&email, 5);
        assert_eq!(depths.of(&email), None, "nobody has looked yet");
        depths.saw(&email, ready(2), 0);
        depths.published(&email, 5);
        assert_eq!(depths.of(&email), Some(7));
        // Three more while the broker counted: they may or may not be in its figure, so they stay counted.
        depths.published(&email, 3);
        depths.saw(&email, ready(6), 5);
        assert_eq!(depths.of(&email), Some(9));
        depths.saw(&email, None, 0);
        assert_eq!(depths.of(&email), None, "a queue that can't be seen has no length");
    }

    #[tokio::test]
    async fn who_was_told_of_a_long_line_hears_of_a_shorter_one() {
        let (depths, email) = (Depths::default(), ChannelName::email());
        depths.saw(&email, ready(10), 0);
        assert_eq!(depths.of(&email), Some(10));
        depths.saw(&email, ready(10), 0);
        let heard = async |limit| timeout(Duration::from_millis(limit), depths.shorter()).await.is_ok();
        assert!(!heard(0).await);
        depths.saw(&email, ready(4), 0);
        assert!(heard(1000).await);
        depths.saw(&email, ready(4), 0);
        assert!(!heard(0).await, "once");
    }
}
