//! When a delivery is tried again: pure arithmetic over the `[retry]` section.
//!
//! Owns: delays, jitter, the honoured part of Retry-After, the last attempt, `max_age`. Absent on purpose: clocks and
//! randomness (both are arguments), and what an outcome means (see `outcome`).

use crate::config::retry::Retry;
use campanile_model::{state::reason, work::NextStep};
use std::time::Duration;

/// The longest scheduled delay of a throttled attempt. Such attempts spend nothing, so without growth an hour of
/// throttling would be hundreds of attempts, and with the whole schedule one busy minute would cost twelve hours.
const THROTTLED_MOST: Duration = Duration::from_mins(15);

#[derive(Clone, Debug)]
pub struct Schedule {
    delays: Vec<Duration>,
    jitter: f64,
    max_age: Duration,
    max_after: Duration,
}

/// Why it may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// Spends an attempt.
    Transient,
    /// The mailbox is full: repeats the last delay until `max_age`.
    MailboxFull,
    /// The far side wants less: spends nothing.
    Throttled,
    /// Our fault: spends nothing, first delay.
    Misconfigured,
}

/// Where the delivery stands when an attempt has failed.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The failed attempt's number.
    pub attempt: u32,
    /// Attempts that counted before it.
    pub spent: u32,
    /// Since the due time, paused time excluded.
    pub age: Duration,
}

impl Schedule {
    pub fn new(retry: &Retry) -> Self {
        Self {
            delays: retry.schedule.iter().map(|d| **d).collect(),
            jitter: retry.jitter.clamp(0.0, 1.0),
            max_age: *retry.max_age,
            max_after: *retry.max_after,
        }
    }

    /// The next step and whether the attempt counts. `after` is the far side's Retry-After, `roll` is in 0..1.
    pub fn next(&self, again: Again, at: Standing, after: Option<Duration>, roll: f64) -> (NextStep, bool) {
        let spend = matches!(again, Again::Transient | Again::MailboxFull);
        let dead = |why: &str| (NextStep::Dead { reason: why.to_owned() }, spend);
        let scheduled = match again {
            Again::Transient => self.delays.get(at.spent as usize).copied(),
            Again::MailboxFull => Some(self.delay(at.spent)),
            Again::Throttled => {
                Some(self.delay(at.spent).max(self.delay(at.attempt.saturating_sub(1)).min(THROTTLED_MOST)))
            }
            Again::Misconfigured => Some(self.delay(0)),
        };
        let Some(scheduled) = scheduled else { return dead(reason::MAX_ATTEMPTS) };
        let share = 1.0 + self.jitter * (2.0 * roll.clamp(0.0, 1.0) - 1.0);
        let delay = scheduled.mul_f64(share).max(after.unwrap_or_default().min(self.max_after));
        // An attempt after `max_age` will never be made, so the end is told now.
        if at.age.saturating_add(delay) >= self.max_age {
            return dead(reason::MAX_AGE);
        }
        (NextStep::RetryIn { delay_ms: delay.as_millis() as i64 }, spend)
    }

    /// The n-th delay, the last one for ever after; an empty schedule means 10 s for what is retried all the same.
    fn delay(&self, n: u32) -> Duration {
        let last = self.delays.len().saturating_sub(1);
        self.delays.get((n as usize).min(last)).copied().unwrap_or(Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: u64 = 60;
    fn schedule() -> Schedule {
        Schedule {
            delays: [10, MIN, 5 * MIN, 15 * MIN, 60 * MIN].map(Duration::from_secs).to_vec(),
            jitter: 0.2,
            max_age: Duration::from_hours(72),
            max_after: Duration::from_hours(6),
        }
    }
    fn at(attempt: u32, spent: u32) -> Standing {
        Standing { attempt, spent, age: Duration::ZERO }
    }
    fn secs(step: &NextStep) -> Option<u64> {
        match step {
            NextStep::RetryIn { delay_ms } => Some(*delay_ms as u64 / 1000),
            _ => None,
        }
    }
    fn dead(why: &str) -> NextStep {
        NextStep::Dead { reason: why.to_owned() }
    }

    #[test]
    fn attempts_are_one_more_than_the_entries() {
        let s = schedule();
        let steps: Vec<_> = (0..5).map(|n| secs(&s.next(Again::Transient, at(n + 1, n), None, 0.5).0)).collect();
        assert_eq!(steps, [Some(10), Some(60), Some(300), Some(900), Some(3600)]);
        assert_eq!(s.next(Again::Transient, at(6, 5), None, 0.5), (dead("max_attempts"), true));
        let none = Schedule { delays: vec![], ..s };
        assert_eq!(none.next(Again::Transient, at(1, 0), None, 0.5).0, dead("max_attempts"));
    }

    #[test]
    fn a_roll_moves_a_delay_by_a_fifth_either_way() {
        let at_roll = |roll| secs(&schedule().next(Again::Transient, at(2, 1), None, roll).0);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(at_roll), [48, 54, 60, 72].map(Some));
    }

    #[test]
    fn a_full_mailbox_repeats_the_last_delay() {
        let (step, spend) = schedule().next(Again::MailboxFull, at(40, 40), None, 0.5);
        assert_eq!((secs(&step), spend), (Some(3600), true));
    }

    #[test]
    fn throttled_and_misconfigured_spend_nothing() {
        let s = schedule();
        let grown: Vec<_> = [1, 2, 3, 4, 5, 99].map(|n| secs(&s.next(Again::Throttled, at(n, 0), None, 0.5).0)).into();
        assert_eq!(grown, [10, 60, 300, 900, 900, 900].map(Some));
        assert!(!s.next(Again::Throttled, at(1, 0), None, 0.5).1);
        assert_eq!(secs(&s.next(Again::Throttled, at(5, 4), None, 0.5).0), Some(3600), "never below the schedule");
        let (step, spend) = s.next(Again::Misconfigured, at(7, 3), None, 0.5);
        assert_eq!((secs(&step), spend), (Some(10), false));
    }

    #[test]
    fn retry_after_lies_between_the_schedule_and_its_limit() {
        let s = schedule();
        let with = |after| secs(&s.next(Again::Transient, at(1, 0), Some(Duration::from_secs(after)), 0.5).0);
        assert_eq!((with(1), with(120), with(999_999)), (Some(10), Some(120), Some(6 * 3600)));
    }

    #[test]
    fn max_age_ends_every_kind() {
        let old = Standing { attempt: 3, spent: 0, age: Duration::from_secs(72 * 3600 - 5) };
        for again in [Again::Transient, Again::MailboxFull, Again::Throttled, Again::Misconfigured] {
            assert_eq!(schedule().next(again, old, None, 0.5).0, dead("max_age"), "{again:?}");
        }
    }

    fn durations() -> impl Strategy<Value = Duration> {
        (0u64..4 * 86_400_000).prop_map(Duration::from_millis)
    }

    proptest! {
        #[test]
        fn every_delay_is_within_jitter_and_limits(
            delays in proptest::collection::vec(durations(), 0..10),
            jitter in 0.0..1.0f64,
            max_age in durations(),
            max_after in durations(),
            (attempt, spent, age) in (1u32..40, 0u32..12, durations()),
            after in proptest::option::of(durations()),
            kind in 0usize..4,
            roll in 0.0..1.0f64,
        ) {
            let again = [Again::Transient, Again::MailboxFull, Again::Throttled, Again::Misconfigured][kind];
            let s = Schedule { delays: delays.clone(), jitter, max_age, max_after };
            let (step, spend) = s.next(again, Standing { attempt, spent, age }, after, roll);
            prop_assert_eq!(spend, kind < 2);
            match step {
                NextStep::RetryIn { delay_ms } => {
                    let delay = Duration::from_millis(delay_ms as u64);
                    prop_assert!(age + delay < max_age);
                    if again == Again::Transient {
                        let scheduled = delays[spent as usize];
                        prop_assert!(delay + Duration::from_millis(1) >= scheduled.mul_f64(1.0 - jitter));
                        let most = scheduled.mul_f64(1.0 + jitter).max(after.unwrap_or_default().min(max_after));
                        prop_assert!(delay <= most);
                    }
                }
                NextStep::Dead { reason } if reason == "max_attempts" => {
                    prop_assert!(again == Again::Transient && spent as usize >= delays.len());
                }
                NextStep::Dead { reason } => prop_assert_eq!(reason, "max_age"),
                NextStep::Sent => prop_assert!(false, "a failure can't be sent"),
            }
        }
    }
}
