//! Wrong sign-ins wait: longer with each one, for this name from this address, and later for this address with any name.
//! Nobody else is held up by it, so nobody can lock an account from outside.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong ones that cost nothing: people mistype.
const FREE: u32 = 3;
/// The same for an address whatever the names: an office behind one address mistypes more.
const FREE_ADDRESS: u32 = 30;
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Quiet for this long, all is forgotten.
const FORGET: Duration = Duration::from_mins(15);
/// Names and addresses can be invented at will.
const ENTRIES_MAX: usize = 10_000;

#[derive(Clone, Copy)]
struct Wrong {
    times: u32,
    last: Instant,
}

#[derive(Default)]
pub struct Throttle(Mutex<HashMap<(String, IpAddr), Wrong>>);

/// The delay after so many wrong ones.
fn delay(times: u32, free: u32) -> Duration {
    match times.checked_sub(free) {
        None | Some(0) => Duration::ZERO,
        Some(n) => (FIRST * 2u32.saturating_pow((n - 1).min(10))).min(LONGEST),
    }
}

impl Throttle {
    fn key(name: &str, address: IpAddr) -> (String, IpAddr) {
        (name.to_lowercase().chars().take(64).collect(), address)
    }

    /// No account has the empty name.
    fn any(address: IpAddr) -> (String, IpAddr) {
        (String::new(), address)
    }

    /// How long this caller must still wait before the next try.
    pub fn wait(&self, name: &str, address: IpAddr) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |key, free| {
            let known: &Wrong = all.get(&key)?;
            delay(known.times, free).checked_sub(known.last.elapsed()).filter(|left| !left.is_zero())
        };
        left(Self::key(name, address), FREE).max(left(Self::any(address), FREE_ADDRESS))
    }

    pub fn wrong(&self, name: &str, address: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ENTRIES_MAX {
            all.retain(|_, w| w.last.elapsed() < LONGEST);
        }
        if all.len() >= ENTRIES_MAX {
            all.clear();
        }
        let now = Instant::now();
        for key in [Self::key(name, address), Self::any(address)] {
            let entry = all.entry(key).or_insert(Wrong { times: 0, last: now });
            if entry.last.elapsed() > FORGET {
                entry.times = 0;
            }
            *entry = Wrong { times: entry.times.saturating_add(1), last: now };
        }
    }

    pub fn right(&self, name: &str, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Self::key(name, address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_half_a_minute() {
        let all: Vec<_> = (0..12).map(|n| delay(n, FREE).as_millis()).collect();
        assert_eq!(all, [0, 0, 0, 0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn another_address_and_another_name_are_free() {
        let throttle = Throttle::default();
        let (here, there): (IpAddr, IpAddr) = ("203.0.113.5".parse().unwrap(), "203.0.113.6".parse().unwrap());
        for _ in 0..6 {
            throttle.wrong("Dana", here);
        }
        assert!(throttle.wait("dana", here).is_some(), "case does not help");
        assert!(throttle.wait("dana", there).is_none());
        assert!(throttle.wait("eli", here).is_none());
        throttle.right("dana", here);
        assert!(throttle.wait("dana", here).is_none());
    }

    #[test]
    fn an_address_that_tries_many_names_waits_too() {
        let throttle = Throttle::default();
        let (here, there): (IpAddr, IpAddr) = ("203.0.113.5".parse().unwrap(), "203.0.113.6".parse().unwrap());
        for i in 0..=FREE_ADDRESS {
            assert!(throttle.wait("eli", here).is_none(), "{i}");
            throttle.wrong(&format!("name{i}"), here);
        }
        assert!(throttle.wait("eli", here).is_some());
        assert!(throttle.wait("eli", there).is_none());
    }
}
