//! The breaker of one channel: when a far side fails in a row, it is left alone for a while and then tried with one.
//!
//! A pure state machine; time is an argument. Absent on purpose: what counts as a failure (the guard's), metrics, waiting.

use std::time::{Duration, Instant};

/// What a finished attempt says of the channel, not of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The far side answered sensibly, be it with a refusal.
    Works,
    Fails,
    /// Our credentials or account: every further attempt would fail alike.
    Misconfigured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As many as there are permits.
    Free,
    /// One, to see whether the far side is back.
    Probe,
    /// Nobody before that long has passed, or before something is reported.
    Wait(Option<Duration>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub failures: u32,
    pub open: Duration,
    pub open_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    /// `span` is how long this opening lasts; the next one twice as long.
    Open {
        until: Instant,
        span: Duration,
    },
    HalfOpen {
        probing: bool,
        span: Duration,
    },
}

#[derive(Clone, Debug)]
pub struct Breaker {
    limits: Limits,
    state: State,
}

impl Breaker {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Closed { failures: 0 } }
    }

    /// As the metric shows it: 0 closed, 1 half open, 2 open.
    pub fn level(&self) -> i64 {
        match self.state {
            State::Closed { .. } => 0,
            State::HalfOpen { .. } => 1,
            State::Open { .. } => 2,
        }
    }

    /// Who may go now. An opening whose time is over becomes half open here.
    pub fn admit(&mut self, now: Instant) -> Admission {
        if let State::Open { until, span } = self.state {
            if now < until {
                return Admission::Wait(Some(until - now));
            }
            self.state = State::HalfOpen { probing: false, span };
        }
        match self.state {
            State::HalfOpen { probing: true, .. } => Admission::Wait(None),
            State::HalfOpen { .. } => Admission::Probe,
            State::Closed { .. } | State::Open { .. } => Admission::Free,
        }
    }

    /// Whether the relay may bring work: not while nobody would take it.
    pub fn lets_work_in(&self, now: Instant) -> bool {
        !matches!(self.state, State::Open { until, .. } if now < until)
    }

    /// The one delivery that was let through has begun.
    pub fn probe_taken(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// It ended without a verdict (nothing to claim, host draining): another one may try.
    pub fn probe_returned(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    pub fn report(&mut self, now: Instant, verdict: Verdict) {
        self.state = match (self.state, verdict) {
            // Begun before it opened, so it says nothing about now.
            (open @ State::Open { .. }, _) => open,
            (_, Verdict::Works) => State::Closed { failures: 0 },
            (State::Closed { failures }, Verdict::Fails) if failures + 1 < self.limits.failures => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, _) => self.opened(now, self.limits.open),
            (State::HalfOpen { span, .. }, _) => self.opened(now, span.saturating_mul(2)),
        };
    }

    /// Opens without an attempt: the health check said so.
    pub fn trip(&mut self, now: Instant) {
        self.report(now, Verdict::Misconfigured);
    }

    /// An operator, a reload: one delivery may try at once.
    pub fn reset(&mut self) {
        if let State::Open { .. } = self.state {
            self.state = State::HalfOpen { probing: false, span: self.limits.open };
        }
    }

    fn opened(&self, now: Instant, span: Duration) -> State {
        let span = span.min(self.limits.open_max.max(self.limits.open));
        State::Open { until: now + span, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    fn breaker() -> Breaker {
        Breaker::new(Limits { failures: 3, open: 30 * S, open_max: 100 * S })
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (mut b, t) = (breaker(), Instant::now());
        for verdict in [Verdict::Fails, Verdict::Fails, Verdict::Works, Verdict::Fails, Verdict::Fails] {
            b.report(t, verdict);
            assert_eq!(b.admit(t), Admission::Free);
        }
        b.report(t, Verdict::Fails);
        assert_eq!((b.admit(t), b.level()), (Admission::Wait(Some(30 * S)), 2));
        assert!(!b.lets_work_in(t));
    }

    #[test]
    fn misconfigured_opens_at_once_and_late_news_change_nothing() {
        let (mut b, t) = (breaker(), Instant::now());
        b.report(t, Verdict::Misconfigured);
        b.report(t + S, Verdict::Works);
        assert_eq!(b.admit(t + S), Admission::Wait(Some(29 * S)));
    }

    #[test]
    fn lets_one_through_and_doubles_up_to_the_limit() {
        let (mut b, mut t) = (breaker(), Instant::now());
        b.report(t, Verdict::Misconfigured);
        for open in [30, 60, 100, 100] {
            assert_eq!(b.admit(t), Admission::Wait(Some(open * S)));
            t += open * S;
            assert!(b.lets_work_in(t));
            assert_eq!(b.admit(t), Admission::Probe);
            b.probe_taken();
            assert_eq!((b.admit(t), b.level()), (Admission::Wait(None), 1));
            b.probe_returned();
            assert_eq!(b.admit(t), Admission::Probe);
            b.probe_taken();
            b.report(t, Verdict::Fails);
        }
        t += 100 * S;
        assert_eq!(b.admit(t), Admission::Probe);
        b.report(t, Verdict::Works);
        assert_eq!((b.admit(t), b.level()), (Admission::Free, 0));
        b.report(t, Verdict::Misconfigured);
        assert_eq!(b.admit(t), Admission::Wait(Some(30 * S)), "a success forgets the doubling");
    }

    #[test]
    fn a_reset_lets_one_try_at_once() {
        let (mut b, t) = (breaker(), Instant::now());
        b.reset();
        assert_eq!(b.admit(t), Admission::Free);
        b.trip(t);
        b.reset();
        assert_eq!(b.admit(t), Admission::Probe);
    }
}
