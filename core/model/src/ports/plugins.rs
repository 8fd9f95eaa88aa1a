//! Instances of channel plugins that operators made, in versions.
//!
//! Absent on purpose: instances from the configuration file, which no row holds, and secrets: what is stored of one is a
//! handle, or its text sealed with a key that the database does not have.

use super::{Actor, StoreResult};
use crate::{ChannelName, DeliveryId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What may be changed of an instance: all that a version keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstanceSetup {
    pub enabled: bool,
    /// By the plugin's schema; secrets are handles.
    pub config: Value,
    #[serde(default)]
    pub limits: InstanceLimits,
}

/// What the operator allows; what is left out is as the plugin says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceLimits {
    /// Deliveries on all nodes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Deliveries under way at once on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Longest time of one delivery, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// So many deliveries a second, a minute or an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub limit: u32,
    pub per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// In deliveries a second.
    pub fn per_second(self) -> f64 {
        let seconds = match self.per {
            Per::Second => 1.0,
            Per::Minute => 60.0,
            Per::Hour => 3600.0,
        };
        f64::from(self.limit) / seconds
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    pub name: String,
    pub channel: ChannelName,
    pub plugin: String,
    pub setup: InstanceSetup,
    /// Grows with each change; names one in the history.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub updated_by: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InstanceVersion {
    pub version: u64,
    pub setup: InstanceSetup,
    pub at: Timestamp,
    pub actor: String,
}

/// What a change of an instance came to.
#[derive(Clone, Debug, PartialEq)]
pub enum InstanceChange {
    Done(Box<InstanceRow>),
    NotFound,
    /// Somebody else changed it meanwhile: this is its version now.
    Stale(u64),
}

/// Every change writes its audit entry and its version in the same transaction. Names are checked by callers.
#[async_trait]
pub trait PluginStore: Send + Sync + 'static {
    /// In the order they were made.
    async fn instances(&self) -> StoreResult<Vec<InstanceRow>>;
    async fn instance(&self, name: &str) -> StoreResult<Option<InstanceRow>>;
    /// `None`: the name is taken.
    async fn create_instance(
        &self,
        name: &str,
        channel: &ChannelName,
        plugin: &str,
        setup: InstanceSetup,
        actor: &Actor,
    ) -> StoreResult<Option<InstanceRow>>;
    /// `expected` is the version the change was made from; `None` changes whatever there is. `action` is for the audit log.
    async fn change_instance(
        &self,
        name: &str,
        expected: Option<u64>,
        setup: InstanceSetup,
        action: &'static str,
        actor: &Actor,
    ) -> StoreResult<InstanceChange>;
    /// With its versions: who makes one of the same name begins anew. False: there is none.
    async fn delete_instance(&self, name: &str, actor: &Actor) -> StoreResult<bool>;
    /// Newest first, the one in force included.
    async fn instance_versions(&self, name: &str) -> StoreResult<Vec<InstanceVersion>>;

    /// In which order a channel's instances are tried, by name; only channels whose order somebody gave.
    async fn channel_orders(&self) -> StoreResult<BTreeMap<ChannelName, Vec<String>>>;
    async fn order_channel(&self, channel: &ChannelName, instances: &[String], actor: &Actor) -> StoreResult<()>;

    /// By which instance the newest recorded attempt of a delivery was made, and whether its effect is in doubt.
    async fn tried_by(&self, delivery: DeliveryId) -> StoreResult<Option<(String, bool)>>;
}
