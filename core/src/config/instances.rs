//! `[[instances]]`: instances of channel plugins that belong to the file.
//!
//! What a plugin makes of its `config` shows when the instance starts; here only what every instance has is checked.

use super::{check::Check, duration::Dur};
use crate::channel::spec;
use campanile_model::ports::Rate;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashSet;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub name: String,
    pub plugin: String,
    /// The plugin's name, when it is left out.
    pub channel: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// `{ limit = 30, per = "minute" }`, on all nodes together.
    pub rate: Option<Rate>,
    /// Deliveries under way at once on one node.
    pub concurrency: Option<u32>,
    pub timeout: Option<Dur>,
    /// By the plugin's schema.
    #[serde(default = "nothing")]
    pub config: Value,
}

fn yes() -> bool {
    true
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

/// Names that the host's own sections have taken.
const TAKEN: [&str; 2] = ["email", "websocket"];

pub fn validate(all: &[Instance], c: &mut Check) {
    let c = c.section("instances");
    let mut seen: HashSet<&str> = TAKEN.into();
    for (i, instance) in all.iter().enumerate() {
        let at = |key: &str| format!("{i}.{key}");
        if let Err(why) = spec::check_name(&instance.name) {
            c.complain(&at("name"), why);
        } else if !seen.insert(&instance.name) {
            c.complain(&at("name"), format!("there is another instance called {:?}", instance.name));
        }
        if let Some(Err(why)) = instance.channel.as_deref().map(spec::check_name) {
            c.complain(&at("channel"), why);
        }
        if instance.channel.as_deref().unwrap_or(&instance.plugin) == "websocket" {
            c.complain(&at("channel"), "websocket is the host's own");
        }
        let limits = campanile_model::ports::InstanceLimits {
            rate: instance.rate,
            concurrency: instance.concurrency,
            timeout_ms: instance.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        };
        for (key, why) in spec::check_limits(&limits) {
            c.complain(&at(key), why);
        }
        c.require(instance.config.is_object(), &at("config"), "must be a table");
    }
}
