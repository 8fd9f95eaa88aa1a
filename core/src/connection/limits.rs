//! Counting what may happen how often: client frames of one socket, handshakes of the node, refused handshakes of an
//! address. Absent on purpose: what to answer when it was too much.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A token bucket; tokens are kept in thousandths, so a slow refill is exact.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    milli: u64,
    at: Instant,
}

impl Bucket {
    pub fn full(burst: u32, now: Instant) -> Self {
        Self { milli: u64::from(burst) * 1000, at: now }
    }

    /// Takes one token, or says after how long there will be one.
    pub fn take(&mut self, rate: u32, burst: u32, now: Instant) -> Result<(), Duration> {
        let rate = u64::from(rate.max(1));
        let ms = now.saturating_duration_since(self.at).as_millis() as u64;
        if ms > 0 {
            self.milli = self.milli.saturating_add(ms.saturating_mul(rate)).min(u64::from(burst.max(1)) * 1000);
            self.at = now;
        }
        if self.milli >= 1000 {
            self.milli -= 1000;
            return Ok(());
        }
        Err(Duration::from_millis((1000 - self.milli).div_ceil(rate)))
    }
}

/// Handshakes a second on one node.
#[derive(Debug)]
pub struct HandshakeRate {
    rate: u32,
    bucket: Mutex<Bucket>,
}

impl HandshakeRate {
    pub fn new(rate: u32) -> Self {
        Self { rate, bucket: Mutex::new(Bucket::full(rate, Instant::now())) }
    }
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(self.rate, self.rate, now)
    }
}

/// Addresses remembered at most; past it the oldest windows are forgotten first.
const BRAKE_ADDRESSES: usize = 10_000;
const WINDOW: Duration = Duration::from_mins(1);

/// Refused handshakes per minute of one known client address.
#[derive(Debug)]
pub struct Brake {
    limit: u32,
    seen: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Brake {
    pub fn new(limit: u32) -> Self {
        Self { limit, seen: Mutex::default() }
    }

    /// `Err` when this address has failed too often: how long until it may try again.
    pub fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(&key(address)) {
            Some((since, n)) if *n >= self.limit && now.saturating_duration_since(*since) < WINDOW => {
                Err(WINDOW.saturating_sub(now.saturating_duration_since(*since)))
            }
            _ => Ok(()),
        }
    }

    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= BRAKE_ADDRESSES {
            seen.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
            if seen.len() >= BRAKE_ADDRESSES {
                // More attackers than we remember: the node's handshake rate bounds them all the same.
                seen.clear();
            }
        }
        let entry = seen.entry(key(address)).or_insert((now, 0));
        if now.saturating_duration_since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

/// One household or server has a whole /64 of IPv6, so that counts as one address.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut b = Bucket::full(40, start);
        assert!((0..40).all(|_| b.take(20, 40, start).is_ok()));
        assert_eq!(b.take(20, 40, start), Err(Duration::from_millis(50)));
        assert!(b.take(20, 40, start + Duration::from_millis(50)).is_ok());
        assert!(b.take(20, 40, start + Duration::from_millis(51)).is_err());
        let rested = start + Duration::from_mins(1);
        assert_eq!((0..100).filter(|_| b.take(20, 40, rested).is_ok()).count(), 40, "the burst is the cap");
    }

    #[test]
    fn the_brake_stops_one_address_for_the_rest_of_its_minute() {
        let start = Instant::now();
        let brake = Brake::new(10);
        let bad: IpAddr = "203.0.113.7".parse().unwrap();
        for _ in 0..10 {
            assert!(brake.check(bad, start).is_ok());
            brake.failed(bad, start);
        }
        assert!(brake.check(bad, start + Duration::from_secs(59)).is_err());
        assert!(brake.check("203.0.113.8".parse().unwrap(), start).is_ok());
        assert!(brake.check("::ffff:203.0.113.7".parse().unwrap(), start).is_err(), "the same address, mapped");
        assert!(brake.check(bad, start + Duration::from_mins(1)).is_ok());
        let v6 = |s: &str| s.parse::<IpAddr>().unwrap();
        (0..10).for_each(|_| brake.failed(v6("2001:db8::1"), start));
        assert!(brake.check(v6("2001:db8::2"), start).is_err());
        assert!(brake.check(v6("2001:db8:0:1::2"), start).is_ok());
    }
}
