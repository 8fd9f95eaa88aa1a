//! Where a command's answer goes: words for people, JSON for scripts, nothing with `--quiet`.
//!
//! Answers go to standard output, remarks and errors to standard error. A closed pipe ends a command quietly.

use serde::Serialize;
use std::io::{self, IsTerminal, Write};

#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
    /// Standard output is a terminal that may be drawn on.
    pub terminal: bool,
    pub colour: bool,
}

/// A word's meaning, shown as a colour where colours are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    Good,
    Warn,
    Bad,
    Dim,
    Strong,
}

impl Output {
    pub fn new(json: bool, quiet: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { json, quiet, terminal, colour: terminal && !plain && !json }
    }

    /// A line for people.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            write_line(text.as_ref());
        }
    }

    /// A line that is the answer itself: shown with `--quiet` too.
    #[expect(clippy::unused_self, reason = "reads like its siblings at the call")]
    pub fn answer(&self, text: impl AsRef<str>) {
        write_line(text.as_ref());
    }

    /// With `--json` this value on one line, else what `human` draws.
    pub fn show<T: Serialize + ?Sized>(&self, value: &T, human: impl FnOnce(&Self)) {
        if self.json {
            write_line(&serde_json::to_string(value).unwrap_or_default());
        } else {
            human(self);
        }
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Rows in columns; the first row is the head.
    pub fn table(&self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(width).collect();
        for (n, row) in rows.iter().enumerate() {
            let cells: Vec<_> = row
                .iter()
                .zip(&widths)
                .map(|(text, w)| format!("{}{}", safe(text), " ".repeat(w - text.chars().count())))
                .collect();
            let line = cells.join("  ");
            let line = line.trim_end();
            self.line(if n == 0 { self.paint(Tone::Dim, line) } else { line.to_owned() });
        }
    }
}

/// Text from a server without control characters: a title may not move the cursor of whoever reads it.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn write_line(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that went away (`| head`) is no error of ours.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A remark beside the answer.
pub fn remark(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}
