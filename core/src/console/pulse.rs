//! Counts of this process since it began, by channel, and the last things that happened.
//!
//! `status` feeds it once per transition. What leaves it is cumulative, so a reader that misses a look loses nothing.
//! Absent on purpose: time. Rings turn two looks into a rate.

use campanile_model::{
    ChannelName, Clock, DeliveryId, DeliveryState, Timestamp,
    effects::Transition,
    ports::ChannelCounts,
    work::{AttemptOutcome, Finish, NextStep},
};
use chrono::TimeDelta;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Upper bounds of the latency buckets in ms, about a factor of 1.8 apart; the last one is open.
pub const BOUNDS: [u64; 23] = [
    2, 4, 7, 12, 20, 35, 60, 110, 200, 350, 600, 1_100, 2_000, 3_500, 6_000, 11_000, 20_000, 60_000, 180_000, 600_000,
    1_800_000, 7_200_000, 43_200_000,
];
pub const BUCKETS: usize = BOUNDS.len() + 1;
/// Kept for "just now".
const RECENT: usize = 64;

#[derive(Default)]
struct Cell {
    accepted: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    latency: [AtomicU64; BUCKETS],
    errors: Mutex<BTreeMap<String, Errors>>,
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    pub count: u64,
    /// The newest one's words.
    pub said: String,
    pub at: Timestamp,
}

/// Attempts whose commit has not been told yet; more than the workers can have under way means that some never will be.
const ANSWERS: usize = 8_192;
/// Kinds of failures that are kept apart for one channel; a far side may make up words without end.
const KINDS: usize = 32;
/// Of a far side's words, what a line can hold.
const WORDS: usize = 90;

/// What an attempt learnt of the far side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub duration_ms: i64,
    /// A short machine word: `451`, `timeout`.
    pub code: Option<String>,
    /// `250: 2.0.0 queued`, `503`, cut to a line.
    pub said: Option<String>,
    pub next_at: Option<Timestamp>,
    pub throttled: bool,
}

/// Something that became of a delivery.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Timestamp,
    pub transition: Transition,
    /// Of the attempt that led here, when it was made by this node.
    pub answer: Option<Answer>,
}

pub struct Pulse {
    clock: Arc<dyn Clock>,
    channels: RwLock<BTreeMap<ChannelName, Arc<Cell>>>,
    recent: Mutex<VecDeque<Event>>,
    answers: Mutex<HashMap<DeliveryId, Answer>>,
    /// Events since the start, so that a page can say how many it does not show.
    events: AtomicU64,
}

impl Cell {
    fn failed_with(&self, answer: &Answer, at: Timestamp) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = answer.code.clone().unwrap_or_else(|| "unknown".to_owned());
        if errors.len() >= KINDS && !errors.contains_key(&kind) {
            "others".clone_into(&mut kind);
        }
        let said = answer.said.clone().unwrap_or_default();
        let errors = errors.entry(kind).or_insert_with(|| Errors { count: 0, said: String::new(), at });
        *errors = Errors { count: errors.count + 1, said, at };
    }
}

impl Pulse {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            channels: RwLock::default(),
            recent: Mutex::default(),
            answers: Mutex::default(),
            events: AtomicU64::new(0),
        })
    }

    fn cell(&self, channel: &ChannelName) -> Arc<Cell> {
        let known = self.channels.read().unwrap_or_else(PoisonError::into_inner).get(channel).cloned();
        known.unwrap_or_else(|| {
            self.channels.write().unwrap_or_else(PoisonError::into_inner).entry(channel.clone()).or_default().clone()
        })
    }

    /// `n` deliveries by this channel were accepted.
    pub fn accepted(&self, channel: &ChannelName, n: u64) {
        self.cell(channel).accepted.fetch_add(n, Relaxed);
    }

    /// An attempt ended this way and is about to be written down: its transition follows.
    pub fn answered(&self, finish: &Finish) {
        let said = campanile_admin_ui::format::coded(finish.code.as_deref(), finish.message.as_deref());
        let answer = Answer {
            duration_ms: finish.duration_ms,
            code: finish.code.as_deref().map(line),
            said: said.map(|text| line(&text)),
            next_at: match finish.next {
                NextStep::RetryIn { delay_ms } => {
                    TimeDelta::try_milliseconds(delay_ms).and_then(|d| self.clock.now().checked_add_signed(d))
                }
                NextStep::Sent | NextStep::Dead { .. } => None,
            },
            throttled: finish.outcome == AttemptOutcome::Throttled,
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS {
            answers.clear();
        }
        answers.insert(finish.delivery_id, answer);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A delivery arrived at a state.
    pub fn record(&self, t: &Transition) {
        let cell = self.cell(&t.channel);
        match t.state {
            DeliveryState::Sent => {
                // Only the first arrival carries a latency.
                if let Some(ms) = t.latency_ms {
                    cell.sent.fetch_add(1, Relaxed);
                    cell.latency[bucket(ms.max(0).unsigned_abs())].fetch_add(1, Relaxed);
                }
            }
            DeliveryState::Retrying if t.attempt > 0 => {
                cell.retried.fetch_add(1, Relaxed);
            }
            DeliveryState::Dead => {
                cell.failed.fetch_add(1, Relaxed);
            }
            _ => {}
        }
        if matches!(t.state, DeliveryState::Sent | DeliveryState::Retrying | DeliveryState::Dead) {
            self.events.fetch_add(1, Relaxed);
            let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&t.delivery_id);
            if let Some(answer) = answer.as_ref().filter(|_| t.state != DeliveryState::Sent) {
                cell.failed_with(answer, self.clock.now());
            }
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(Event { at: self.clock.now(), transition: t.clone(), answer });
        }
    }

    /// Newest first, and how many there were since the start.
    pub fn recent(&self, most: usize) -> (Vec<Event>, u64) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().rev().take(most).cloned().collect(), self.events.load(Relaxed))
    }

    /// What went wrong with a channel since the start, by kind, the most frequent first.
    pub fn errors(&self, channel: &ChannelName) -> Vec<(String, Errors)> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        let Some(cell) = channels.get(channel) else { return Vec::new() };
        let errors = cell.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = errors.iter().map(|(kind, e)| (kind.clone(), e.clone())).collect();
        all.sort_by_key(|(_, e)| std::cmp::Reverse(e.count));
        all
    }

    /// Cumulative counts by channel.
    pub fn counts(&self) -> BTreeMap<String, ChannelCounts> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels
            .iter()
            .map(|(name, c)| {
                let counts = ChannelCounts {
                    accepted: c.accepted.load(Relaxed),
                    sent: c.sent.load(Relaxed),
                    failed: c.failed.load(Relaxed),
                    retried: c.retried.load(Relaxed),
                    latency: c.latency.iter().map(|b| b.load(Relaxed)).collect(),
                };
                (name.to_string(), counts)
            })
            .collect()
    }
}

/// The first line of it, cut.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    match first.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}

pub fn bucket(ms: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < ms)
}

/// The latency under which this share of deliveries stayed, in ms: between a bucket's bounds by its place in it.
pub fn percentile(latency: &[u64], share: f64) -> Option<f64> {
    let total: u64 = latency.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = (total as f64 * share).max(1.0);
    let mut seen = 0.0;
    for (i, n) in latency.iter().enumerate().filter(|(_, n)| **n > 0) {
        let next = seen + *n as f64;
        if next >= wanted {
            let low = if i == 0 { 0 } else { BOUNDS[i - 1] } as f64;
            let high = BOUNDS.get(i).copied().unwrap_or(BOUNDS[BOUNDS.len() - 1] * 2) as f64;
            return Some(low + (high - low) * (wanted - seen) / *n as f64);
        }
        seen = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::{DeliveryId, NotificationId, Priority, UserKey};

    fn transition(state: DeliveryState, attempt: u32, latency_ms: Option<i64>) -> Transition {
        Transition {
            delivery_id: DeliveryId::new(),
            notification_id: NotificationId::new(),
            user: UserKey { app: "default".into(), user: "ada".into() },
            channel: ChannelName::email(),
            priority: Priority::Normal,
            state,
            reason: None,
            latency_ms,
            attempt,
        }
    }

    #[test]
    fn counts_first_arrivals_failures_and_repeats() {
        let pulse = Pulse::new(Arc::new(campanile_model::clock::SystemClock));
        pulse.accepted(&ChannelName::email(), 3);
        pulse.record(&transition(DeliveryState::Sending, 1, None));
        pulse.record(&transition(DeliveryState::Retrying, 1, None));
        pulse.record(&transition(DeliveryState::Sent, 2, Some(40)));
        pulse.record(&transition(DeliveryState::Delivered, 2, None));
        pulse.record(&transition(DeliveryState::Dead, 9, None));
        let counts = &pulse.counts()["email"];
        assert_eq!((counts.accepted, counts.sent, counts.failed, counts.retried), (3, 1, 1, 1));
        assert_eq!(counts.latency[bucket(40)], 1);
        let (recent, all) = pulse.recent(2);
        assert_eq!((recent.len(), all), (2, 3));
        assert_eq!(recent[0].transition.state, DeliveryState::Dead);
    }

    #[test]
    fn what_the_far_side_said_goes_with_the_event_it_led_to() {
        let pulse = Pulse::new(Arc::new(campanile_model::clock::SystemClock));
        let retry = transition(DeliveryState::Retrying, 1, None);
        pulse.answered(&Finish {
            delivery_id: retry.delivery_id,
            attempt: 1,
            started_at: pulse.now(),
            duration_ms: 12,
            outcome: AttemptOutcome::Retry,
            code: Some("451".into()),
            message: Some(format!("{}\nsecond line", "ä".repeat(200))),
            uncertain: false,
            provider_id: None,
            instance: None,
            template: None,
            code_version: None,
            next: NextStep::RetryIn { delay_ms: 60_000 },
            spend: true,
            address_fault: None,
        });
        pulse.record(&retry);
        pulse.record(&transition(DeliveryState::Sent, 1, Some(3)));
        let (events, _) = pulse.recent(2);
        let answer = events[1].answer.as_ref().unwrap();
        let said = answer.said.as_ref().unwrap();
        assert!(said.starts_with("451: ä") && said.ends_with('…') && said.chars().count() == WORDS + 1, "{said}");
        assert!(answer.next_at > Some(pulse.now()));
        let errors = pulse.errors(&ChannelName::email());
        assert_eq!((errors.len(), errors[0].0.as_str(), errors[0].1.count), (1, "451", 1));
        assert!(events[0].answer.is_none() && pulse.answers.lock().unwrap().is_empty());
    }

    #[test]
    fn percentiles_lie_inside_their_bucket() {
        let mut latency = vec![0; BUCKETS];
        assert_eq!(percentile(&latency, 0.5), None);
        latency[bucket(40)] = 99;
        latency[bucket(5_000)] = 1;
        let p50 = percentile(&latency, 0.5).unwrap();
        assert!((35.0..=60.0).contains(&p50), "{p50}");
        let p999 = percentile(&latency, 0.999).unwrap();
        assert!((3_500.0..=6_000.0).contains(&p999), "{p999}");
        assert!(percentile(&[&vec![0; BUCKETS - 1][..], &[1]].concat(), 0.5).is_some());
    }

    #[test]
    fn made_up_words_of_a_far_side_do_not_grow_without_end() {
        let pulse = Pulse::new(Arc::new(campanile_model::clock::SystemClock));
        let answer =
            |code: String| Answer { duration_ms: 1, code: Some(code), said: None, next_at: None, throttled: false };
        let cell = pulse.cell(&ChannelName::email());
        for n in 0..1_000 {
            cell.failed_with(&answer(format!("word-{n}")), pulse.now());
        }
        let errors = pulse.errors(&ChannelName::email());
        assert_eq!(errors.len(), KINDS + 1);
        assert_eq!((errors[0].0.as_str(), errors[0].1.count), ("others", 1_000 - KINDS as u64));
    }
}
