//! Durations as people write them: `250ms`, `10s`, `5m`, `2h`, `7d`.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, ops::Deref, time::Duration};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dur(pub Duration);

impl Dur {
    pub fn parse(s: &str) -> Result<Self, String> {
        let wrong = || format!("{s:?} is not a duration; write a number and a unit: 250ms, 10s, 5m, 2h or 7d");
        let at = s.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let n: u64 = s[..at].parse().map_err(|_| wrong())?;
        let unit_ms: u64 = match &s[at..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        n.checked_mul(unit_ms)
            // A century is enough for every key and far from any overflow in time arithmetic.
            .filter(|ms| *ms <= 100 * 366 * 86_400_000)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| format!("{s:?} is too long; at most 36500d"))
    }
    pub fn as_ms(self) -> i64 {
        self.0.as_millis() as i64
    }
}

impl Deref for Dur {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl fmt::Debug for Dur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Dur {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_refuses_the_rest() {
        for (text, ms) in
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000), ("0s", 0)]
        {
            assert_eq!(Dur::parse(text).unwrap().as_ms(), ms, "{text}");
        }
        for text in ["", "5", "s", "5 s", "-1s", "1.5s", "99999999999999999999s", "40000d", "5S"] {
            assert!(Dur::parse(text).is_err(), "{text}");
        }
    }
}
