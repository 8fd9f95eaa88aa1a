//! A plugin's lines: so many in a second and no more, and the newest kept for whoever looks.

use crate::{Line, table::LINE_MAX};
use campanile_plugin::Level;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Lines in a second.
const RATE: u32 = 200;
/// Lines kept.
const KEPT: usize = 100;

#[derive(Default)]
pub(crate) struct Logs(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    second: Option<Instant>,
    written: u32,
    dropped: u64,
    newest: VecDeque<Line>,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Write,
    Drop,
    /// The first that is dropped: somebody must say how many there were, when the second is over.
    DropAndTell,
}

impl Logs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn admit(&self, now: Instant) -> Verdict {
        let mut inner = self.lock();
        if inner.second.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            inner.second = Some(now);
            inner.written = 0;
        }
        if inner.written < RATE {
            inner.written += 1;
            return Verdict::Write;
        }
        inner.dropped += 1;
        if inner.dropped == 1 { Verdict::DropAndTell } else { Verdict::Drop }
    }

    /// How many were dropped since this was asked last.
    pub fn dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    pub fn keep(&self, line: Line) {
        let mut inner = self.lock();
        if inner.newest.len() == KEPT {
            inner.newest.pop_front();
        }
        inner.newest.push_back(line);
    }

    pub fn newest(&self) -> Vec<Line> {
        self.lock().newest.iter().cloned().collect()
    }
}

/// A line's text within its limit, control characters written out.
pub(crate) fn fit(text: &str) -> String {
    let mut out = crate::clamp::line(text);
    if out.len() > LINE_MAX {
        let mut end = LINE_MAX;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push('…');
    }
    out
}

/// Whether a line of that level is written at all.
pub(crate) fn enabled(most: Level, level: Level) -> bool {
    level <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_once() {
        let logs = Logs::default();
        let began = Instant::now();
        let verdicts: Vec<_> = (0..1_000_000).map(|_| logs.admit(began)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Write).count(), RATE as usize);
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::DropAndTell).count(), 1);
        assert_eq!((logs.dropped(), logs.dropped()), (1_000_000 - u64::from(RATE), 0));
        assert_eq!(logs.admit(began + Duration::from_secs(1)), Verdict::Write);
    }

    #[test]
    fn a_line_keeps_to_its_size() {
        assert_eq!(fit("a\nb"), "a\\nb");
        let long = fit(&"ü".repeat(LINE_MAX));
        assert!(long.len() <= LINE_MAX + 3 && long.ends_with('…'));
    }
}
