//! So many in a second and no more, counting the rest.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

pub(crate) struct Rate {
    most: u32,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    second: Option<Instant>,
    admitted: u32,
    dropped: u64,
}

/// What to do with one more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    Drop,
    /// The first that is dropped: somebody must say how many there were, when the second is over.
    DropAndTell,
}

impl Rate {
    pub fn new(most: u32) -> Self {
        Self { most, inner: Mutex::default() }
    }

    pub fn admit(&self, now: Instant) -> Verdict {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.second.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            inner.second = Some(now);
            inner.admitted = 0;
        }
        if inner.admitted < self.most {
            inner.admitted += 1;
            return Verdict::Take;
        }
        inner.dropped += 1;
        if inner.dropped == 1 { Verdict::DropAndTell } else { Verdict::Drop }
    }

    /// How many were dropped since this was asked last.
    pub fn dropped(&self) -> u64 {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_once() {
        let rate = Rate::new(200);
        let began = Instant::now();
        let verdicts: Vec<_> = (0..1_000_000).map(|_| rate.admit(began)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Take).count(), 200);
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::DropAndTell).count(), 1);
        assert_eq!((rate.dropped(), rate.dropped()), (1_000_000 - 200, 0));
        assert_eq!(rate.admit(began + Duration::from_secs(1)), Verdict::Take);
    }
}
