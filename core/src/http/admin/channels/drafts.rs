//! Values that were typed into a form and are not saved yet. A secret among them is not sent back to the browser as it is, so
//! the form carries them sealed with the key of the plugins' secrets: whichever node gets the next step can read them.
//!
//! Each is of one session and one thing, for half an hour. A host without that key keeps them in its memory instead, bounded
//! in number. Absent on purpose: the database.

use crate::channel::setup::secrets::Vault;
use campanile_model::Timestamp;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};
use uuid::Uuid;

const KEPT: TimeDelta = TimeDelta::minutes(30);
/// In memory, of all sessions together; the oldest goes first.
const MOST: usize = 64;

/// Whose it is: a session's hash, and an instance, or a plugin of which one is made.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    pub session: &'a [u8; 32],
    pub of: &'a str,
}

impl Owner<'_> {
    /// What a draft is sealed for. With spaces in it: nothing that is stored is sealed for such a name.
    fn name(self) -> String {
        let hash = self.session.iter().fold(String::new(), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        });
        format!("draft {hash} {}", self.of)
    }
}

#[derive(Serialize, Deserialize)]
struct Draft {
    at: i64,
    values: Value,
}

impl Draft {
    fn is_fresh(&self, now: Timestamp) -> bool {
        now.timestamp_millis() - self.at < KEPT.num_milliseconds()
    }
}

#[derive(Default)]
pub struct Drafts(Mutex<HashMap<Uuid, (String, Draft)>>);

impl Drafts {
    /// What the form carries for it.
    pub fn keep(&self, vault: &Vault, now: Timestamp, owner: Owner, values: Value) -> String {
        let (name, draft) = (owner.name(), Draft { at: now.timestamp_millis(), values });
        let text = serde_json::to_string(&draft).unwrap_or_default();
        vault.seal(&name, &text).unwrap_or_else(|| self.remember(now, name, draft))
    }

    fn remember(&self, now: Timestamp, name: String, draft: Draft) -> String {
        let mut drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.retain(|_, (_, d)| d.is_fresh(now));
        if drafts.len() >= MOST
            && let Some(oldest) = drafts.iter().min_by_key(|(_, (_, d))| d.at).map(|(id, _)| *id)
        {
            drafts.remove(&oldest);
        }
        let id = Uuid::now_v7();
        drafts.insert(id, (name, draft));
        id.to_string()
    }

    /// Nobody else's, nothing else's, and none that is old.
    pub fn get(&self, vault: &Vault, now: Timestamp, owner: Owner, carried: &str) -> Option<Value> {
        if let Some(text) = vault.open_sealed(&owner.name(), carried) {
            let draft: Draft = serde_json::from_str(&text).ok()?;
            return draft.is_fresh(now).then_some(draft.values);
        }
        let id: Uuid = carried.parse().ok()?;
        let drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, draft) = drafts.get(&id).filter(|(name, d)| *name == owner.name() && d.is_fresh(now))?;
        Some(draft.values.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_plugin::Secret;
    use std::sync::Arc;

    fn vault(key: Option<&str>) -> Vault {
        Vault::new("/nowhere".into(), key.map(|k| Secret::new(k.to_owned())).as_ref(), Arc::new(|_: &str| None))
    }

    fn at(minute: u32) -> Timestamp {
        format!("2026-11-29T05:{minute:02}:00Z").parse().unwrap()
    }

    const MINE: Owner = Owner { session: &[1; 32], of: "webhook" };

    #[test]
    fn a_draft_is_of_one_session_and_one_thing_for_half_an_hour() {
        for key in [Some("k"), None] {
            let (drafts, vault) = (Drafts::default(), vault(key));
            let id = drafts.keep(&vault, at(0), MINE, Value::from("s3cret"));
            assert!(!id.contains("s3cret"));
            assert_eq!(drafts.get(&vault, at(29), MINE, &id), Some(Value::from("s3cret")));
            assert_eq!(drafts.get(&vault, at(30), MINE, &id), None);
            assert_eq!(drafts.get(&vault, at(1), Owner { session: &[2; 32], ..MINE }, &id), None);
            assert_eq!(drafts.get(&vault, at(1), Owner { of: "email", ..MINE }, &id), None);
            for nonsense in ["", "nonsense", "sealed:", "sealed:AAAA"] {
                assert_eq!(drafts.get(&vault, at(1), MINE, nonsense), None);
            }
        }
    }

    #[test]
    fn another_node_with_the_same_key_reads_it_and_one_with_another_does_not() {
        let (here, there) = (Drafts::default(), Drafts::default());
        let id = here.keep(&vault(Some("k")), at(0), MINE, Value::from(7));
        assert_eq!(there.get(&vault(Some("k")), at(1), MINE, &id), Some(Value::from(7)));
        assert_eq!(there.get(&vault(Some("other")), at(1), MINE, &id), None);
    }

    #[test]
    fn without_a_key_memory_is_bounded() {
        let (drafts, vault) = (Drafts::default(), vault(None));
        let id = drafts.keep(&vault, at(0), MINE, Value::from(7));
        for n in 0..MOST {
            drafts.keep(&vault, at(1), MINE, Value::from(n));
        }
        assert_eq!(drafts.get(&vault, at(1), MINE, &id), None, "the oldest goes when there are too many");
    }
}
