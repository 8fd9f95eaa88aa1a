//! How loops behave while something they need is away: growing, varied pauses, and one line of log per outage.

use std::{
    borrow::Cow,
    fmt::Display,
    time::{Duration, Instant},
};

/// Doubling pauses with full jitter on their upper half.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The next pause; `roll` is in 0..1.
    pub fn pause(&mut self, roll: f64) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + roll.clamp(0.0, 1.0) / 2.0)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// One outage, from its first error to the first success.
#[derive(Debug)]
pub struct Outage {
    what: Cow<'static, str>,
    since: Option<Instant>,
    backoff: Backoff,
}

impl Outage {
    /// `what` completes "… does not work".
    pub fn of(what: &'static str) -> Self {
        Self::new(what, Backoff::new(Duration::from_millis(200), Duration::from_secs(5)))
    }

    /// With pauses of its own.
    pub fn new(what: impl Into<Cow<'static, str>>, backoff: Backoff) -> Self {
        Self { what: what.into(), since: None, backoff }
    }

    /// Notes an error and says how long to wait.
    pub fn failed(&mut self, error: &dyn Display) -> Duration {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!(error = %error, "{} does not work now; trying again until it does", self.what);
        }
        self.backoff.pause(rand::random())
    }

    pub fn over(&mut self) {
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(outage_seconds = seconds, "{} works again", self.what);
        }
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_again() {
        let mut b = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let whole: Vec<_> = (0..4).map(|_| b.pause(1.0).as_millis()).collect();
        assert_eq!(whole, [100, 200, 350, 350]);
        assert_eq!(b.pause(0.0).as_millis(), 175);
        b.reset();
        assert_eq!(b.pause(1.0).as_millis(), 100);
    }
}
