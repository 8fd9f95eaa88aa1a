//! Values that were typed into a form and are not saved yet: a secret among them is not sent back to the browser, so
//! between a review and its apply they are kept here.
//!
//! Bounded in number and time, each for one session. Absent on purpose: the database; a restart forgets them, and the form
//! says so.

use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

const KEPT: Duration = Duration::from_mins(30);
/// Of all sessions together; the oldest goes first.
const MOST: usize = 64;

#[derive(Default)]
pub struct Drafts(Mutex<HashMap<Uuid, Draft>>);

struct Draft {
    session: [u8; 32],
    /// What it is of: an instance, or a plugin of which one is made.
    of: String,
    values: Value,
    at: Instant,
}

impl Drafts {
    /// Its name, for the form.
    pub fn keep(&self, session: [u8; 32], of: &str, values: Value) -> String {
        let mut drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.retain(|_, d| d.at.elapsed() < KEPT);
        if drafts.len() >= MOST
            && let Some(oldest) = drafts.iter().min_by_key(|(_, d)| d.at).map(|(id, _)| *id)
        {
            drafts.remove(&oldest);
        }
        let id = Uuid::new_v4();
        drafts.insert(id, Draft { session, of: of.to_owned(), values, at: Instant::now() });
        id.to_string()
    }

    /// Nobody else's, nothing else's, and none that is old.
    pub fn get(&self, session: [u8; 32], of: &str, id: &str) -> Option<Value> {
        let id: Uuid = id.parse().ok()?;
        let drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let draft = drafts.get(&id).filter(|d| d.session == session && d.of == of && d.at.elapsed() < KEPT)?;
        Some(draft.values.clone())
    }

    pub fn forget(&self, id: &str) {
        if let Ok(id) = id.parse() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_of_one_session_and_one_thing() {
        let drafts = Drafts::default();
        let id = drafts.keep([1; 32], "webhook", Value::from(7));
        assert_eq!(drafts.get([1; 32], "webhook", &id), Some(Value::from(7)));
        assert_eq!(drafts.get([2; 32], "webhook", &id), None);
        assert_eq!(drafts.get([1; 32], "email", &id), None);
        assert_eq!(drafts.get([1; 32], "webhook", "nonsense"), None);
        for n in 0..MOST {
            drafts.keep([3; 32], "x", Value::from(n));
        }
        assert_eq!(drafts.get([1; 32], "webhook", &id), None, "the oldest goes when there are too many");
        let id = drafts.keep([1; 32], "webhook", Value::from(8));
        drafts.forget(&id);
        assert_eq!(drafts.get([1; 32], "webhook", &id), None);
    }
}
