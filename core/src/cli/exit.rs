//! How a command ends: what went wrong, why, and the command to run next.

use std::{fmt, process::ExitCode};

/// The exit codes of every command; 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    Failed = 1,
    Usage = 2,
    Unhealthy = 3,
    NoConnection = 4,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub code: Code,
    pub what: String,
    pub why: Option<String>,
    pub next: Option<String>,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), why: None, next: None }
    }
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Code::Failed, what)
    }
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Code::Usage, what)
    }
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for (label, text) in [("why: ", &self.why), ("next:", &self.next)] {
            if let Some(text) = text {
                write!(f, "\n  {label} {}", text.replace('\n', "\n        "))?;
            }
        }
        Ok(())
    }
}

/// The text of an error and of everything that caused it, on one line.
pub fn chain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors repeat their source in their own text.
        if !parts.iter().any(|p| p.contains(&cause)) {
            parts.push(cause);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let f = Failure::failed("no such user").why("nobody sent to \"eve\" yet").next("campanile user add eve");
        assert_eq!(
            f.to_string(),
            "error: no such user\n  why:  nobody sent to \"eve\" yet\n  next: campanile user add eve"
        );
    }
}
