//! A token bucket: so many at once, so many a second.

use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: f64::from(burst.max(1)), at: now }
    }

    /// Takes one token; `Err` says when the next one is there. A rate of 0 sets no limit.
    pub fn take(&mut self, rate: u32, burst: u32, now: Instant) -> Result<(), Duration> {
        if rate == 0 {
            return Ok(());
        }
        let rate = f64::from(rate);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(f64::from(burst.max(1)));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let t = Instant::now();
        let mut b = Bucket::full(3, t);
        for _ in 0..3 {
            b.take(2, 3, t).unwrap();
        }
        let wait = b.take(2, 3, t).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert!(b.take(2, 3, t + Duration::from_millis(499)).is_err());
        b.take(2, 3, t + Duration::from_millis(501)).unwrap();
        // A long pause fills it to the burst and no further.
        let later = t + Duration::from_mins(1);
        for _ in 0..3 {
            b.take(2, 3, later).unwrap();
        }
        assert!(b.take(2, 3, later).is_err());
    }

    #[test]
    fn rate_zero_is_off() {
        let t = Instant::now();
        let mut b = Bucket::full(1, t);
        assert!((0..100).all(|_| b.take(0, 1, t).is_ok()));
    }
}
