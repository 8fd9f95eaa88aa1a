//! The seam between the registry and whatever holds a channel's code.
//!
//! Owns: what the registry may ask of code, linked in or from a file, and what an operator is told of it. Absent on purpose:
//! how code is loaded, isolated or restarted (the loader's), which instances exist and in which order (the registry's).

use async_trait::async_trait;
use campanile_model::Timestamp;
use campanile_plugin::{DynChannel, Problem, StartError, wire::Description};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// The code of a channel: one version of it. A reload makes another one beside it.
#[async_trait]
pub trait Code: Send + Sync + 'static {
    /// What it says of itself, its configuration's schema included.
    fn description(&self) -> &Description;

    /// Where it comes from.
    fn origin(&self) -> Origin;

    /// What the schema can't say of a configuration whose secrets are resolved, without I/O.
    async fn validate(&self, config: &Value) -> Result<(), Vec<Problem>>;

    /// An instance with that configuration, secrets resolved.
    async fn start(&self, instance: &str, config: &Value) -> Result<Arc<dyn Instance>, StartError>;
}

/// A started instance.
pub trait Instance: Send + Sync + 'static {
    fn channel(&self) -> &dyn DynChannel;
    /// Where it is in its life, now.
    fn life(&self) -> Life;
    /// Its newest log lines, oldest first.
    fn logs(&self) -> Vec<LogRecord> {
        Vec::new()
    }
}

/// What an operator is told of code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Origin {
    /// `built-in`, `in-process` or `process`.
    pub isolation: String,
    /// The file's name in `plugins.dir`.
    pub file: Option<String>,
    /// Of the file, in hex.
    pub sha256: Option<String>,
    /// Major and minor of the interface it was built for.
    pub abi: Option<String>,
    /// Hosts that it may call through this host; of code that is linked in, which calls by itself, none.
    pub allowed_hosts: Vec<String>,
    /// And those of them that may have a private address.
    pub private_hosts: Vec<String>,
}

/// Where an instance is in its life, as in the plugin documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Life {
    /// `starting`, `running`, `degraded`, `backoff`, `quarantined`, `wedged`, `draining`, `stopped`.
    pub state: &'static str,
    /// Why, when it is not simply running.
    pub detail: Option<String>,
    #[serde(with = "campanile_model::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    /// Times it was started again after a crash, since the host began.
    pub restarts: u64,
    /// When it last ended by itself.
    #[serde(with = "campanile_model::clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub crashed_at: Option<Timestamp>,
    /// And why, in a sentence.
    pub crash: Option<String>,
    /// When it is started again.
    #[serde(with = "campanile_model::clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_start_at: Option<Timestamp>,
    /// Resident memory of its process.
    pub memory_bytes: Option<u64>,
    /// Calls whose time was over and that have not come back.
    pub abandoned: u64,
}

impl Life {
    /// In that state since then, and nothing more to say.
    pub fn new(state: &'static str, since: Timestamp) -> Self {
        Self {
            state,
            detail: None,
            since,
            restarts: 0,
            crashed_at: None,
            crash: None,
            next_start_at: None,
            memory_bytes: None,
            abandoned: 0,
        }
    }
}

/// A line that a plugin wrote.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct LogRecord {
    #[serde(with = "campanile_model::clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    pub level: &'static str,
    pub source: String,
    pub message: String,
    pub delivery_id: Option<String>,
}
