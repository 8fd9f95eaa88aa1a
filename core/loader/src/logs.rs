//! A plugin's lines: so many in a second and no more, and the newest kept for whoever looks.

use crate::{Line, rate::Rate, table::LINE_MAX};
use campanile_plugin::Level;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Lines in a second.
pub(crate) const RATE: u32 = 200;
/// Lines kept.
const KEPT: usize = 100;

pub(crate) struct Logs {
    pub rate: Rate,
    newest: Mutex<VecDeque<Line>>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { rate: Rate::new(RATE), newest: Mutex::default() }
    }
}

impl Logs {
    pub fn keep(&self, line: Line) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() == KEPT {
            newest.pop_front();
        }
        newest.push_back(line);
    }

    pub fn newest(&self) -> Vec<Line> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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

/// Of lines that nobody will read.
pub(crate) fn dropped(lines: u64) -> String {
    format!("dropped {lines} lines: more than {RATE} in a second")
}

/// Whether a line of that level is written at all.
pub(crate) fn enabled(most: Level, level: Level) -> bool {
    level <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_to_its_size() {
        assert_eq!(fit("a\nb"), "a\\nb");
        let long = fit(&"ü".repeat(LINE_MAX));
        assert!(long.len() <= LINE_MAX + 3 && long.ends_with('…'));
    }
}
