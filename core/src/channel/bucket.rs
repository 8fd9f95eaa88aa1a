//! The rate of one instance on one node: its share of what the operator allows on all nodes together.
//!
//! A token bucket with time as an argument. Absent on purpose: what happens while it is empty (the guard's), how many
//! nodes there are (the keeper's).

use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Bucket {
    /// Tokens a second.
    rate: f64,
    /// What may gather: one second's worth, at least one.
    most: f64,
    /// Below zero when more was sent than allowed; the debt is paid before anything else goes.
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(rate: f64, now: Instant) -> Self {
        let most = rate.max(1.0);
        Self { rate, most, tokens: most, at: now }
    }

    /// Another rate from now on; what has gathered stays, as far as it may.
    pub fn set_rate(&mut self, rate: f64, now: Instant) {
        self.fill(now);
        self.rate = rate;
        self.most = rate.max(1.0);
        self.tokens = self.tokens.min(self.most);
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.most);
        self.at = now;
    }

    /// How many may go now, or how long until one may.
    pub fn ready(&mut self, now: Instant) -> Result<usize, Duration> {
        self.fill(now);
        // Rounding must not make a token that is there wait for a time of zero.
        let whole = (self.tokens + 1e-9).floor();
        if whole >= 1.0 {
            return Ok(whole as usize);
        }
        let missing = (1.0 - self.tokens) / self.rate.max(f64::MIN_POSITIVE);
        Err(Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX).max(Duration::from_millis(1)))
    }

    pub fn take(&mut self, now: Instant) {
        self.fill(now);
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_gathers_and_no_more() {
        let t = Instant::now();
        let mut b = Bucket::full(5.0, t);
        assert_eq!(b.ready(t), Ok(5));
        for _ in 0..5 {
            b.take(t);
        }
        assert_eq!(b.ready(t), Err(Duration::from_millis(200)));
        assert_eq!(b.ready(t + Duration::from_millis(200)), Ok(1));
        assert_eq!(b.ready(t + Duration::from_mins(5)), Ok(5));
    }

    #[test]
    fn slow_rates_let_one_go_and_debts_are_paid() {
        let t = Instant::now();
        let mut b = Bucket::full(1.0 / 60.0, t);
        assert_eq!(b.ready(t), Ok(1));
        b.take(t);
        b.take(t);
        let wait = b.ready(t).unwrap_err();
        assert!(wait > Duration::from_secs(119) && wait <= Duration::from_secs(121), "{wait:?}");
        b.set_rate(1.0, t);
        assert!(b.ready(t + Duration::from_millis(2_001)).is_ok());
    }
}
