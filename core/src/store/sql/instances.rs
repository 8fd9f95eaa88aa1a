//! Instances of plugins: the row in force, its versions, the order in which a channel tries its instances.

use super::{
    SqlStore, audit,
    group::Operation,
    read::Reads,
    rows::Cells,
    statement::{Row, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{Actor, InstanceChange, InstanceRow, InstanceSetup, InstanceVersion, PluginStore, StoreError, StoreResult},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The advisory lock of changes to instances: two that are made at once get one version each.
const INSTANCES_LOCK: i64 = 0x696e_7374;
/// Versions kept of one instance.
const VERSIONS: i64 = 50;

fn row(row: &Row) -> StoreResult<InstanceRow> {
    let c = Cells::of("plugin_instances", row);
    Ok(InstanceRow {
        name: c.text("name")?,
        channel: c.channel("channel")?,
        plugin: c.text("plugin")?,
        setup: c.json("setup")?,
        version: c.count("version")?,
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
        updated_by: c.text("updated_by")?,
    })
}

fn text<T: Serialize>(value: &T) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Statement { what: "encoding an instance", source: e.into() })
}

async fn lock(tx: &mut Tx<'_>) -> StoreResult<()> {
    if tx.is_shared() {
        tx.exec("taking the instances", sql("SELECT pg_advisory_xact_lock($1)").bind(INSTANCES_LOCK)).await?;
    }
    Ok(())
}

async fn find(tx: &mut Tx<'_>, name: &str) -> StoreResult<Option<InstanceRow>> {
    let found =
        tx.fetch_opt("reading an instance", sql("SELECT * FROM plugin_instances WHERE name = $1").bind(name)).await?;
    found.as_ref().map(row).transpose()
}

async fn keep_version(tx: &mut Tx<'_>, name: &str, version: i64, setup: String, actor: &Actor) -> StoreResult<()> {
    let now = tx.now;
    tx.exec(
        "keeping a version of an instance",
        sql("INSERT INTO plugin_instance_versions (name, version, setup, at, actor) VALUES ($1, $2, $3, $4, $5)")
            .bind(name)
            .bind(version)
            .bind(setup)
            .bind(now)
            .bind(&actor.who),
    )
    .await?;
    tx.exec(
        "forgetting old versions of an instance",
        sql("DELETE FROM plugin_instance_versions WHERE name = $1 AND version <= $2")
            .bind(name)
            .bind(version.saturating_sub(VERSIONS)),
    )
    .await?;
    Ok(())
}

/// The names of what differs, never the values: a configuration may hold what only operators should see.
fn changed(old: &InstanceSetup, new: &InstanceSetup) -> Vec<String> {
    let keys = |v: &Value| v.as_object().map(|o| o.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    let mut names: Vec<String> = keys(&old.config)
        .union(&keys(&new.config))
        .filter(|key| old.config.get(key.as_str()) != new.config.get(key.as_str()))
        .map(|key| format!("config.{key}"))
        .collect();
    if old.limits != new.limits {
        names.push("limits".to_owned());
    }
    if old.enabled != new.enabled {
        names.push("enabled".to_owned());
    }
    names
}

struct Create {
    name: String,
    channel: ChannelName,
    plugin: String,
    setup: InstanceSetup,
    actor: Actor,
}

#[async_trait]
impl Operation for Create {
    type Output = Option<InstanceRow>;
    const NAME: &'static str = "create_instance";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<InstanceRow>> {
        lock(tx).await?;
        if find(tx, &self.name).await?.is_some() {
            return Ok(None);
        }
        let (now, setup) = (tx.now, text(&self.setup)?);
        tx.exec(
            "making an instance",
            sql("INSERT INTO plugin_instances (name, channel, plugin, setup, version, created_at, updated_at, updated_by)
                 VALUES ($1, $2, $3, $4, 1, $5, $5, $6)")
            .bind(&self.name)
            .bind(self.channel.as_str())
            .bind(&self.plugin)
            .bind(setup.clone())
            .bind(now)
            .bind(&self.actor.who),
        )
        .await?;
        keep_version(tx, &self.name, 1, setup, &self.actor).await?;
        let detail = json!({"channel": self.channel, "plugin": self.plugin, "enabled": self.setup.enabled});
        audit::append(tx, &self.actor, "instance.create", &self.name, Some(detail)).await?;
        find(tx, &self.name).await
    }
}

struct Change {
    name: String,
    expected: Option<u64>,
    setup: InstanceSetup,
    action: &'static str,
    actor: Actor,
}

#[async_trait]
impl Operation for Change {
    type Output = InstanceChange;
    const NAME: &'static str = "change_instance";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<InstanceChange> {
        lock(tx).await?;
        let Some(old) = find(tx, &self.name).await? else { return Ok(InstanceChange::NotFound) };
        if self.expected.is_some_and(|expected| expected != old.version) {
            return Ok(InstanceChange::Stale(old.version));
        }
        let (now, setup, version) = (tx.now, text(&self.setup)?, old.version as i64 + 1);
        tx.exec(
            "changing an instance",
            sql("UPDATE plugin_instances SET setup = $1, version = $2, updated_at = $3, updated_by = $4 WHERE name = $5")
                .bind(setup.clone())
                .bind(version)
                .bind(now)
                .bind(&self.actor.who)
                .bind(&self.name),
        )
        .await?;
        keep_version(tx, &self.name, version, setup, &self.actor).await?;
        let detail = json!({"version": version, "changed": changed(&old.setup, &self.setup)});
        audit::append(tx, &self.actor, self.action, &self.name, Some(detail)).await?;
        let new = find(tx, &self.name).await?;
        Ok(new.map_or(InstanceChange::NotFound, |new| InstanceChange::Done(Box::new(new))))
    }
}

struct Delete {
    name: String,
    actor: Actor,
}

#[async_trait]
impl Operation for Delete {
    type Output = bool;
    const NAME: &'static str = "delete_instance";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        lock(tx).await?;
        let gone = tx
            .exec("deleting an instance", sql("DELETE FROM plugin_instances WHERE name = $1").bind(&self.name))
            .await?;
        if gone == 0 {
            return Ok(false);
        }
        let versions = sql("DELETE FROM plugin_instance_versions WHERE name = $1").bind(&self.name);
        tx.exec("deleting an instance's versions", versions).await?;
        audit::append(tx, &self.actor, "instance.delete", &self.name, None).await?;
        Ok(true)
    }
}

struct Order {
    channel: ChannelName,
    instances: Vec<String>,
    actor: Actor,
}

#[async_trait]
impl Operation for Order {
    type Output = ();
    const NAME: &'static str = "order_channel";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        tx.exec(
            "ordering a channel's instances",
            sql("INSERT INTO channel_orders (channel, instances) VALUES ($1, $2)
                 ON CONFLICT (channel) DO UPDATE SET instances = excluded.instances")
            .bind(self.channel.as_str())
            .bind(text(&self.instances)?),
        )
        .await?;
        let detail = json!({"instances": self.instances});
        audit::append(tx, &self.actor, "channel.order", self.channel.as_str(), Some(detail)).await
    }
}

impl Reads {
    async fn instance(&self, name: &str) -> StoreResult<Option<InstanceRow>> {
        let found =
            self.fetch_opt("instances", sql("SELECT * FROM plugin_instances WHERE name = $1").bind(name)).await?;
        found.as_ref().map(row).transpose()
    }

    async fn instance_versions(&self, name: &str) -> StoreResult<Vec<InstanceVersion>> {
        let rows = self
            .fetch(
                "instances",
                sql("SELECT * FROM plugin_instance_versions WHERE name = $1 ORDER BY version DESC").bind(name),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("plugin_instance_versions", row);
                Ok(InstanceVersion {
                    version: c.count("version")?,
                    setup: c.json("setup")?,
                    at: c.time("at")?,
                    actor: c.text("actor")?,
                })
            })
            .collect()
    }
}

#[async_trait]
impl PluginStore for SqlStore {
    async fn instances(&self) -> StoreResult<Vec<InstanceRow>> {
        let rows = self.reads.fetch("instances", sql("SELECT * FROM plugin_instances ORDER BY id")).await?;
        rows.iter().map(row).collect()
    }

    async fn instance(&self, name: &str) -> StoreResult<Option<InstanceRow>> {
        self.reads.instance(name).await
    }

    async fn create_instance(
        &self,
        name: &str,
        channel: &ChannelName,
        plugin: &str,
        setup: InstanceSetup,
        actor: &Actor,
    ) -> StoreResult<Option<InstanceRow>> {
        let (channel, plugin) = (channel.clone(), plugin.to_owned());
        self.write(Create { name: name.to_owned(), channel, plugin, setup, actor: actor.clone() }).await
    }

    async fn change_instance(
        &self,
        name: &str,
        expected: Option<u64>,
        setup: InstanceSetup,
        action: &'static str,
        actor: &Actor,
    ) -> StoreResult<InstanceChange> {
        self.write(Change { name: name.to_owned(), expected, setup, action, actor: actor.clone() }).await
    }

    async fn delete_instance(&self, name: &str, actor: &Actor) -> StoreResult<bool> {
        self.write(Delete { name: name.to_owned(), actor: actor.clone() }).await
    }

    async fn instance_versions(&self, name: &str) -> StoreResult<Vec<InstanceVersion>> {
        self.reads.instance_versions(name).await
    }

    async fn channel_orders(&self) -> StoreResult<BTreeMap<ChannelName, Vec<String>>> {
        let rows = self.reads.fetch("instances", sql("SELECT * FROM channel_orders")).await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("channel_orders", row);
                Ok((c.channel("channel")?, c.json("instances")?))
            })
            .collect()
    }

    async fn order_channel(&self, channel: &ChannelName, instances: &[String], actor: &Actor) -> StoreResult<()> {
        self.write(Order { channel: channel.clone(), instances: instances.to_vec(), actor: actor.clone() }).await
    }

    async fn tried_by(&self, delivery: DeliveryId) -> StoreResult<Option<(String, bool)>> {
        let row = self
            .reads
            .fetch_opt(
                "tried_by",
                sql("SELECT instance, uncertain FROM attempts WHERE delivery_id = $1 ORDER BY attempt DESC LIMIT 1")
                    .bind(delivery.0),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let c = Cells::of("attempts", &row);
        let uncertain = c.flag("uncertain")?;
        Ok(c.get::<Option<String>>("instance")?.map(|instance| (instance, uncertain)))
    }
}
