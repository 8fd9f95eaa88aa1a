//! What is wrong with a request: every field at fault, not only the first.

/// Enough to mend a request by; a list of ten thousand users may have more.
const FAULTS_SHOWN: usize = 100;

/// One wrong field and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A path such as `to[3].email`.
    pub field: String,
    pub message: String,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}", faults.iter().map(|f| format!("{}: {}", f.field, f.message)).collect::<Vec<_>>().join("; "))]
pub struct Invalid {
    /// `invalid`, or a more exact word: `not_available`, `channel_disabled`.
    pub code: &'static str,
    pub faults: Vec<Fault>,
}

/// Gathers faults while a request is read.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
    more: usize,
    code: Option<&'static str>,
}

impl Faults {
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add_with(field, || message.into());
    }

    /// For texts that cost something to make: a hostile request may have a hundred thousand faults.
    pub fn add_with(&mut self, field: impl Into<String>, message: impl FnOnce() -> String) {
        if self.list.len() < FAULTS_SHOWN {
            self.list.push(Fault { field: field.into(), message: message() });
        } else {
            self.more += 1;
        }
    }

    /// A fault with a code of its own; the first such code is the request's.
    pub fn add_coded(&mut self, code: &'static str, field: impl Into<String>, message: impl Into<String>) {
        self.code.get_or_insert(code);
        self.add(field, message);
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `Ok` when nothing is wrong.
    pub fn finish(mut self) -> Result<(), Invalid> {
        if self.list.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.list.push(Fault { field: "…".to_owned(), message: format!("and {} more", self.more) });
        }
        Err(Invalid { code: self.code.unwrap_or("invalid"), faults: self.list })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_faults_is_counted_not_shown() {
        let mut faults = Faults::default();
        for i in 0..1_000 {
            faults.add(format!("to[{i}]"), "must be a string");
        }
        let invalid = faults.finish().unwrap_err();
        assert_eq!(invalid.faults.len(), FAULTS_SHOWN + 1);
        assert_eq!(invalid.faults.last().unwrap().message, "and 900 more");
        assert_eq!(invalid.code, "invalid");
    }
}
