//! The code that this host has, by the name of the plugin, and what was refused.
//!
//! Absent on purpose: where code comes from (linked in, or the loader), and what is made of it (instances).

use super::code::Code;
use async_trait::async_trait;
use campanile_model::Timestamp;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};
use tokio::sync::Notify;

/// Code that may not run, and why.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Refusal {
    /// The plugin's name, as far as it is known.
    pub plugin: String,
    /// The step of its life that it did not get past: `found`, `admitted`, `probed`, `loaded`.
    pub step: String,
    /// A sentence for the operator.
    pub reason: String,
    /// The file's name in `plugins.dir`.
    pub file: Option<String>,
    #[serde(with = "campanile_model::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
}

/// Where code comes from that is not linked in.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Takes the plugin's file as it is now through all steps, and answers with code that may run beside the old. `None`: it
    /// is listed no more.
    async fn reload(&self, plugin: &str) -> Result<Option<Arc<dyn Code>>, Refusal>;
}

/// A new version that takes a share of its plugin's deliveries, until somebody decides.
#[derive(Clone)]
pub struct Trial {
    pub code: Arc<dyn Code>,
    /// Percent.
    pub share: u8,
    pub since: Timestamp,
}

#[derive(Default)]
pub struct Catalogue {
    shelf: RwLock<Shelf>,
    source: OnceLock<Arc<dyn Source>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Shelf {
    codes: BTreeMap<String, Arc<dyn Code>>,
    /// What is linked in and has a file's code in its place.
    covered: BTreeMap<String, Arc<dyn Code>>,
    /// By plugin: beside its code when a newer version of it was refused.
    refusals: BTreeMap<String, Refusal>,
    trials: BTreeMap<String, Trial>,
}

impl Shelf {
    fn put(&mut self, code: Arc<dyn Code>) {
        let name = code.description().name.clone();
        self.refusals.remove(&name);
        self.trials.remove(&name);
        if let Some(old) = self.codes.insert(name.clone(), code)
            && old.origin().isolation == "built-in"
        {
            self.covered.insert(name, old);
        }
    }
}

impl Catalogue {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The loader, once.
    pub fn set_source(&self, source: Arc<dyn Source>) {
        let _ = self.source.set(source);
    }

    pub fn source(&self) -> Option<Arc<dyn Source>> {
        self.source.get().cloned()
    }

    /// Rung when instances may have to be started anew.
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// In the old version's place, if there is one; its instances are replaced one by one.
    pub fn put(&self, code: Arc<dyn Code>) {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).put(code);
        self.changed.notify_one();
    }

    /// Beside the version that runs, for a share of its deliveries.
    pub fn try_out(&self, trial: Trial) {
        let name = trial.code.description().name.clone();
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        shelf.refusals.remove(&name);
        shelf.trials.insert(name, trial);
        drop(shelf);
        self.changed.notify_one();
    }

    /// Ends a trial: the new version in the old one's place, or gone. None: there was no trial.
    pub fn settle(&self, plugin: &str, keep_new: bool) -> Option<Trial> {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        let trial = shelf.trials.remove(plugin)?;
        if keep_new {
            shelf.put(trial.code.clone());
        }
        drop(shelf);
        self.changed.notify_one();
        Some(trial)
    }

    pub fn trial(&self, plugin: &str) -> Option<Trial> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).trials.get(plugin).cloned()
    }

    /// What ran before goes on running.
    pub fn refuse(&self, refusal: Refusal) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        shelf.refusals.insert(refusal.plugin.clone(), refusal);
    }

    /// It is listed no more: its instances end, or go on with what is linked in.
    pub fn remove(&self, plugin: &str) {
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        shelf.refusals.remove(plugin);
        shelf.trials.remove(plugin);
        shelf.codes.remove(plugin);
        if let Some(linked) = shelf.covered.remove(plugin) {
            shelf.codes.insert(plugin.to_owned(), linked);
        }
        drop(shelf);
        self.changed.notify_one();
    }

    pub fn find(&self, plugin: &str) -> Option<Arc<dyn Code>> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).codes.get(plugin).cloned()
    }

    pub fn refusal(&self, plugin: &str) -> Option<Refusal> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).refusals.get(plugin).cloned()
    }

    /// Code and what was refused, each by name.
    pub fn all(&self) -> (Vec<Arc<dyn Code>>, Vec<Refusal>) {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        (shelf.codes.values().cloned().collect(), shelf.refusals.values().cloned().collect())
    }
}
