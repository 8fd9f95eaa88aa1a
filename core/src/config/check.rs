//! What is wrong with a configuration: every complaint at once, each naming its key and where the value came from.

use std::{collections::HashMap, fmt};

/// Gathers complaints while sections validate themselves.
#[derive(Debug, Default)]
pub struct Check {
    section: &'static str,
    found: Vec<Complaint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// `section.name`, or a file's name.
    pub key: String,
    pub text: String,
}

impl Check {
    /// Complaints that follow are about keys of this section.
    pub fn section(&mut self, name: &'static str) -> &mut Self {
        self.section = name;
        self
    }
    pub fn complain(&mut self, key: &str, text: impl Into<String>) {
        self.found.push(Complaint { key: format!("{}.{key}", self.section), text: text.into() });
    }
    /// Complains unless `ok`.
    pub fn require(&mut self, ok: bool, key: &str, text: &str) {
        if !ok {
            self.complain(key, text);
        }
    }
    /// Each of these must be more than zero.
    pub fn positive<const N: usize>(&mut self, values: [(&str, u128); N]) {
        for (key, value) in values {
            self.require(value > 0, key, "must be more than 0");
        }
    }
    pub fn done(self) -> Vec<Complaint> {
        self.found
    }
}

/// A configuration that can't be used.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Invalid {
    pub complaints: Vec<Complaint>,
    /// Key → where its value came from; keys at their default are absent.
    pub sources: HashMap<String, String>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid")?;
        for c in &self.complaints {
            write!(f, "\n  {}: {}", c.key, c.text)?;
            if let Some(source) = self.sources.get(&c.key) {
                write!(f, " (from {source})")?;
            }
        }
        Ok(())
    }
}
