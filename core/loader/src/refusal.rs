//! Why a plugin may not load, and at which step that showed.

use serde::Serialize;
use std::fmt;

/// The steps of a load, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// This build can load nothing.
    Build,
    /// `plugins.lock` and its entry.
    Lock,
    /// The folder and its parents.
    Folder,
    /// The file: kind, owner, size.
    File,
    /// Its bytes against the lock.
    Hash,
    /// The text in its section.
    Manifest,
    /// The machine it is built for.
    Target,
    /// The interface it is built for.
    Version,
    /// The private copy.
    Cache,
    /// Opening it, in a child first.
    Open,
    /// Its table.
    Table,
    /// What it says of itself.
    Describe,
}

impl Step {
    pub fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lock => "lock",
            Self::Folder => "folder",
            Self::File => "file",
            Self::Hash => "hash",
            Self::Manifest => "manifest",
            Self::Target => "target",
            Self::Version => "version",
            Self::Cache => "cache",
            Self::Open => "open",
            Self::Table => "table",
            Self::Describe => "describe",
        }
    }

    /// From [`Self::word`]; an unknown one is of a child that is not ours.
    pub(crate) fn from_word(word: &str) -> Self {
        let later = [Self::Table, Self::Describe];
        later.into_iter().find(|s| s.word() == word).unwrap_or(Self::Open)
    }

    pub(crate) fn refuses<T>(self, reason: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::new(self, reason))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a plugin may not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("refused at step \"{step}\": {reason}")]
pub struct Refusal {
    pub step: Step,
    /// A sentence for who can change it.
    pub reason: String,
}

impl Refusal {
    pub fn new(step: Step, reason: impl Into<String>) -> Self {
        Self { step, reason: reason.into() }
    }
}
