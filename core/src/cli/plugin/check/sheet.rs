//! What a check found: one point after the other, told as it comes.

use crate::cli::output::{Output, Tone, safe};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    Warned,
    Failed,
    Skipped,
}

/// Why a point is not held.
#[derive(Debug)]
pub enum Not {
    /// What is wrong, and what to do.
    Failed(String),
    /// What a server takes, and its operator may regret.
    Warned(String),
    /// Why it could not be tried.
    Skipped(String),
}

/// What a point leaves to the next ones, and what is said of it.
pub type Found<T = ()> = Result<(T, String), Not>;

#[expect(clippy::unnecessary_wraps, reason = "reads like its siblings where a point ends")]
pub fn ok(said: impl Into<String>) -> Found {
    Ok(((), said.into()))
}
pub fn failed<T>(why: impl Into<String>) -> Found<T> {
    Err(Not::Failed(why.into()))
}
pub fn warned<T>(why: impl Into<String>) -> Found<T> {
    Err(Not::Warned(why.into()))
}
pub fn skipped<T>(why: impl Into<String>) -> Found<T> {
    Err(Not::Skipped(why.into()))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// `file`, or the isolation level.
    pub part: String,
    pub point: String,
    pub result: Verdict,
    /// A sentence.
    pub said: String,
}

/// What a sheet tells while it is written; also the lines between two processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The point that is being tried.
    Begun(String),
    Point(Point),
}

pub struct Sheet<'a> {
    part: &'static str,
    tell: &'a mut dyn FnMut(Told),
}

impl<'a> Sheet<'a> {
    pub fn new(part: &'static str, tell: &'a mut dyn FnMut(Told)) -> Self {
        Self { part, tell }
    }

    /// `None`: it is not held, and what builds on it can't be tried.
    pub async fn point<T>(&mut self, name: &str, tried: impl Future<Output = Found<T>>) -> Option<T> {
        (self.tell)(Told::Begun(name.to_owned()));
        let (result, said, left) = match tried.await {
            Ok((left, said)) => (Verdict::Ok, said, Some(left)),
            Err(Not::Failed(why)) => (Verdict::Failed, why, None),
            Err(Not::Warned(why)) => (Verdict::Warned, why, None),
            Err(Not::Skipped(why)) => (Verdict::Skipped, why, None),
        };
        (self.tell)(Told::Point(Point { part: self.part.to_owned(), point: name.to_owned(), result, said }));
        left
    }
}

/// All sheets of one check, shown as they grow.
pub struct Report {
    out: Output,
    pub points: Vec<Point>,
    /// Begun, and not ended yet.
    pub under_way: Option<String>,
}

impl Report {
    pub fn new(out: Output) -> Self {
        Self { out, points: Vec::new(), under_way: None }
    }

    pub fn take(&mut self, told: Told) {
        match told {
            Told::Begun(point) => self.under_way = Some(point),
            Told::Point(point) => {
                self.under_way = None;
                self.show(&point);
                self.points.push(point);
            }
        }
    }

    pub fn count(&self, verdict: Verdict) -> usize {
        self.points.iter().filter(|p| p.result == verdict).count()
    }

    fn show(&self, point: &Point) {
        if self.points.last().is_none_or(|before| before.part != point.part) {
            let part = match point.part.as_str() {
                "process" => "In a process of its own",
                "in-process" => "In the server's process",
                _ => "The file",
            };
            self.out.line(self.out.paint(Tone::Strong, part));
        }
        let (word, tone) = match point.result {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warned => ("warning", Tone::Warn),
            Verdict::Failed => ("FAILED", Tone::Bad),
            Verdict::Skipped => ("skipped", Tone::Dim),
        };
        let word = self.out.paint(tone, &format!("{word:<7}"));
        self.out.line(format!("  {word} {}: {}", point.point, safe(&point.said)));
    }
}
