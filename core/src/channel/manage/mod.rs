//! What operators do with plugins and instances: the same functions for the API and the console.
//!
//! Owns: what may be changed, the checks before anything is saved, and telling all nodes. A change is saved when its
//! configuration passes; whether it then starts is told with it, and what ran before goes on when it does not. What saves
//! nothing is in [`trying`]. Absent on purpose: HTTP, who may do what, markup.

mod plugins;
mod trying;

pub use plugins::{PluginView, TrialView};
pub use trying::{TestMessage, TestResult};

use super::{
    Keeper,
    catalogue::Refusal,
    code::LogRecord,
    setup::{self, schema::Schema},
    spec::{Origin, Spec, check_limits, check_name},
    view::InstanceView,
};
use crate::status::{annotate, person};
use campanile_model::{
    ChannelName, Timestamp, clock,
    ports::{Actor, InstanceChange, InstanceLimits, InstanceRow, InstanceSetup, InstanceVersion, StoreError},
    signal::Signal,
};
use campanile_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// What is wrong, by field: `name`, `limits.rate`, or a JSON pointer below `/config`.
    #[error("{} fields are not valid", .0.len())]
    Invalid(Vec<Wrong>),
    #[error("there is no {0} of this name")]
    NotFound(&'static str),
    #[error("an instance called {0:?} is there already")]
    Taken(String),
    #[error("{0:?} belongs to the configuration file; change it there and restart the host")]
    ReadOnly(String),
    #[error("somebody else has changed it: it is at version {0} now")]
    Stale(u64),
    /// A sentence about what stands against it now.
    #[error("{0}")]
    NotNow(String),
    #[error("plugin {} was refused at the step {:?}: {}", .0.plugin, .0.step, .0.reason)]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub field: String,
    pub message: String,
}

impl Wrong {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

type Done<T> = Result<T, NotDone>;

/// An instance with its configuration, secrets masked.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct InstanceDetail {
    #[serde(flatten)]
    pub view: InstanceView,
    /// Secrets are shown by their handles; `{"$secret": "sealed"}` is one that was typed in, and sent back it stays.
    #[schema(value_type = Object)]
    pub config: Value,
    pub limits: InstanceLimits,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub updated_at: Option<Timestamp>,
    pub updated_by: Option<String>,
}

/// An instance to be made.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInstance {
    /// `[a-z][a-z0-9_-]*`, at most 64; unique on all channels.
    pub name: String,
    pub plugin: String,
    /// The plugin's name, when it is left out. A channel that is not there yet is made.
    pub channel: Option<ChannelName>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default = "nothing")]
    #[schema(value_type = Object)]
    pub config: Value,
    #[serde(default)]
    pub limits: InstanceLimits,
}

/// All of what may be changed; plugin and channel stay.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedInstance {
    /// The version this was made from: refused when it is not the one in force. Left out: whatever is in force.
    pub version: Option<u64>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[schema(value_type = Object)]
    pub config: Value,
    #[serde(default)]
    pub limits: InstanceLimits,
}

fn yes() -> bool {
    true
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

/// A version of an instance's configuration, secrets masked.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct VersionView {
    pub version: u64,
    pub enabled: bool,
    #[schema(value_type = Object)]
    pub config: Value,
    pub limits: InstanceLimits,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    pub by: String,
}

impl Keeper {
    // --- looking ---------------------------------------------------------------------------------------------

    /// This node's picture of every instance, by channel and there in the order of failover.
    pub fn instances(&self) -> Vec<InstanceView> {
        let entries = self.parts().registry.entries();
        entries.iter().filter_map(|e| self.parts().registry.instance_view(&e.spec.name)).collect()
    }

    pub async fn instance(&self, name: &str) -> Done<InstanceDetail> {
        let row = self.parts().store.instance(name).await?;
        if let Some(fixed) = self.parts().fixed.iter().find(|f| f.name == name) {
            return self.detail(fixed, None).ok_or(NotDone::NotFound("instance"));
        }
        let row = row.ok_or(NotDone::NotFound("instance"))?;
        self.of_row(row).await
    }

    /// The row's, also when this node has not followed it yet.
    async fn of_row(&self, row: InstanceRow) -> Done<InstanceDetail> {
        if self.parts().registry.entry(&row.name).is_none_or(|e| e.spec.version < row.version) {
            self.look().await?;
        }
        let about = Some((row.updated_at, row.updated_by.clone()));
        self.detail(&row.into(), about).ok_or(NotDone::NotFound("instance"))
    }

    fn detail(&self, spec: &Spec, about: Option<(Timestamp, String)>) -> Option<InstanceDetail> {
        let view = self.parts().registry.instance_view(&spec.name)?;
        let (updated_at, updated_by) = about.unzip();
        Some(InstanceDetail {
            view,
            config: self.masked(&spec.plugin, &spec.setup.config),
            limits: spec.setup.limits,
            updated_at,
            updated_by,
        })
    }

    /// Without the code nobody knows which values are secret, so none is shown.
    fn masked(&self, plugin: &str, config: &Value) -> Value {
        let schema = self.parts().catalogue.find(plugin).and_then(|code| Schema::of(code.description()).ok());
        schema.map_or(Value::Null, |schema| schema.masked(config))
    }

    /// The newest lines that it wrote at this node, oldest first.
    pub fn logs(&self, name: &str) -> Done<Vec<LogRecord>> {
        let entry = self.parts().registry.entry(name).ok_or(NotDone::NotFound("instance"))?;
        Ok(entry.runner.map(|runner| runner.logs()).unwrap_or_default())
    }

    /// Newest first, the one in force included.
    pub async fn versions(&self, name: &str) -> Done<Vec<VersionView>> {
        let plugin = self.managed(name).await?.plugin;
        let versions = self.parts().store.instance_versions(name).await?;
        let view = |v: InstanceVersion| VersionView {
            version: v.version,
            enabled: v.setup.enabled,
            config: self.masked(&plugin, &v.setup.config),
            limits: v.setup.limits,
            at: v.at,
            by: v.actor,
        };
        Ok(versions.into_iter().map(view).collect())
    }

    // --- changing --------------------------------------------------------------------------------------------

    /// Says what is wrong; saves nothing and starts nothing.
    pub async fn validate(&self, new: &NewInstance) -> Done<()> {
        let before = self.parts().store.instance(&new.name).await?;
        self.check(new, before.as_ref()).await.map(drop)
    }

    pub async fn create(&self, new: NewInstance, actor: &Actor) -> Done<InstanceDetail> {
        if self.parts().fixed.iter().any(|f| f.name == new.name) {
            return Err(NotDone::Taken(new.name));
        }
        let setup = self.check(&new, None).await?;
        let channel = channel_of(&new);
        let made = self.parts().store.create_instance(&new.name, &channel, &new.plugin, setup, actor).await?;
        let row = made.ok_or(NotDone::Taken(new.name))?;
        self.changed().await?;
        self.of_row(row).await
    }

    pub async fn change(&self, name: &str, to: ChangedInstance, actor: &Actor) -> Done<InstanceDetail> {
        let before = self.managed(name).await?;
        let new = NewInstance {
            name: before.name.clone(),
            plugin: before.plugin.clone(),
            channel: Some(before.channel.clone()),
            enabled: to.enabled,
            config: to.config,
            limits: to.limits,
        };
        let setup = self.check(&new, Some(&before)).await?;
        self.save(name, to.version, setup, "instance.change", actor).await
    }

    /// On or off; the configuration stays.
    pub async fn enable(&self, name: &str, enabled: bool, actor: &Actor) -> Done<InstanceDetail> {
        let row = self.managed(name).await?;
        if row.setup.enabled == enabled {
            return self.of_row(row).await;
        }
        let action = if enabled { "instance.enable" } else { "instance.disable" };
        self.save(name, Some(row.version), InstanceSetup { enabled, ..row.setup }, action, actor).await
    }

    /// An older version's configuration as a new version.
    pub async fn roll_back(&self, name: &str, version: u64, actor: &Actor) -> Done<InstanceDetail> {
        let row = self.managed(name).await?;
        let versions = self.parts().store.instance_versions(name).await?;
        let old = versions.into_iter().find(|v| v.version == version).ok_or(NotDone::NotFound("version"))?;
        let new = NewInstance {
            name: row.name.clone(),
            plugin: row.plugin.clone(),
            channel: Some(row.channel.clone()),
            enabled: old.setup.enabled,
            config: old.setup.config,
            limits: old.setup.limits,
        };
        // The plugin may have become stricter since.
        let setup = self.check(&new, Some(&row)).await?;
        self.save(name, Some(row.version), setup, "instance.roll_back", actor).await
    }

    pub async fn delete(&self, name: &str, actor: &Actor) -> Done<()> {
        self.managed(name).await?;
        if !self.parts().store.delete_instance(name, actor).await? {
            return Err(NotDone::NotFound("instance"));
        }
        self.changed().await
    }

    /// The order in which a channel tries its instances: all of them, each once.
    pub async fn order(&self, channel: &ChannelName, names: Vec<String>, actor: &Actor) -> Done<Vec<InstanceView>> {
        self.look().await?;
        let of_channel = || self.instances().into_iter().filter(|i| i.channel == *channel).collect::<Vec<_>>();
        let mut there: Vec<_> = of_channel().into_iter().map(|i| i.name).collect();
        if there.is_empty() {
            return Err(NotDone::NotFound("channel"));
        }
        let mut given = names.clone();
        given.sort();
        there.sort();
        if given != there {
            let message = format!("must name each instance of the channel once: {}", there.join(", "));
            return Err(NotDone::Invalid(vec![Wrong::new("instances", message)]));
        }
        self.parts().store.order_channel(channel, &names, actor).await?;
        self.changed().await?;
        Ok(of_channel())
    }

    /// Starts it anew beside the old one, on all nodes.
    pub async fn restart(&self, name: &str, actor: &Actor) -> Done<InstanceView> {
        let entry = self.parts().registry.entry(name).ok_or(NotDone::NotFound("instance"))?;
        if !entry.spec.setup.enabled {
            return Err(NotDone::NotNow(format!("{name} is switched off; enable it first")));
        }
        if entry.spec.origin == Origin::Host {
            return Err(NotDone::NotNow(format!("{name} is the host's own; it restarts with the host")));
        }
        self.parts().store.note(actor, "instance.restart", name, None).await?;
        self.want_restart(name).await;
        self.look().await?;
        let by = self.parts().node;
        self.parts().bus.publish(Signal::InstanceRestart { instance: name.to_owned(), by });
        self.parts().registry.instance_view(name).ok_or(NotDone::NotFound("instance"))
    }

    /// Lets one delivery try an instance whose breaker is open, on all nodes.
    pub async fn reset(&self, name: &str, actor: &Actor) -> Done<()> {
        self.parts().registry.entry(name).ok_or(NotDone::NotFound("instance"))?;
        self.parts().store.note(actor, "instance.reset", name, None).await?;
        self.parts().bus.publish(Signal::InstanceReset(name.to_owned()));
        Ok(())
    }

    // --- parts -----------------------------------------------------------------------------------------------

    /// The row of an instance that may be changed here.
    async fn managed(&self, name: &str) -> Done<InstanceRow> {
        if self.parts().fixed.iter().any(|f| f.name == name) {
            return Err(NotDone::ReadOnly(name.to_owned()));
        }
        self.parts().store.instance(name).await?.ok_or(NotDone::NotFound("instance"))
    }

    /// For the plots: what was done, and by whom.
    async fn annotate(&self, channel: &ChannelName, what: &str, actor: &Actor) {
        let what = format!("{what} by {}", person(actor));
        annotate(self.parts().store.as_ref(), self.parts().clock.now(), channel.as_str(), what).await;
    }

    async fn save(
        &self,
        name: &str,
        expected: Option<u64>,
        setup: InstanceSetup,
        action: &'static str,
        actor: &Actor,
    ) -> Done<InstanceDetail> {
        match self.parts().store.change_instance(name, expected, setup, action, actor).await? {
            InstanceChange::Done(row) => {
                self.changed().await?;
                self.annotate(&row.channel, "configuration changed", actor).await;
                self.of_row(*row).await
            }
            InstanceChange::NotFound => Err(NotDone::NotFound("instance")),
            InstanceChange::Stale(now) => Err(NotDone::Stale(now)),
        }
    }

    /// This node follows before the answer, the others as soon as they hear of it.
    async fn changed(&self) -> Done<()> {
        self.parts().bus.publish(Signal::InstancesChanged);
        Ok(self.look().await?)
    }

    /// Every rule; the configuration as it is to be stored.
    async fn check(&self, new: &NewInstance, before: Option<&InstanceRow>) -> Done<InstanceSetup> {
        let mut wrong = Vec::new();
        let channel = channel_of(new);
        if let Err(why) = check_name(&new.name) {
            wrong.push(Wrong::new("name", why));
        }
        if let Err(why) = check_name(channel.as_str()) {
            wrong.push(Wrong::new("channel", why));
        }
        wrong.extend(check_limits(&new.limits).into_iter().map(|(key, why)| Wrong::new(format!("limits.{key}"), why)));
        if self.parts().fixed.iter().any(|f| f.in_app && f.channel == channel) {
            wrong.push(Wrong::new("channel", "is the host's own"));
        }
        let Some(code) = self.parts().catalogue.find(&new.plugin) else {
            let (codes, _) = self.parts().catalogue.all();
            let names: Vec<_> = codes.iter().map(|c| c.description().name.clone()).collect();
            let why = match self.parts().catalogue.refusal(&new.plugin) {
                Some(refusal) => format!("was refused: {}", refusal.reason),
                None => format!("is not here; the plugins are {}", names.join(", ")),
            };
            wrong.push(Wrong::new("plugin", why));
            return Err(NotDone::Invalid(wrong));
        };
        let recipient = &code.description().recipient;
        if code.description().name == "websocket" {
            wrong.push(Wrong::new("plugin", "is the host's own"));
        }
        // One address of a user serves all instances of a channel.
        let other = self.parts().registry.entries().iter().find_map(|e| {
            let other = e.code.as_ref()?.description();
            let differs =
                e.spec.channel == channel && e.spec.name != new.name && other.recipient.format != recipient.format;
            differs.then(|| (e.spec.name.clone(), other.recipient.format.clone()))
        });
        if let Some((name, format)) = other {
            let why = format!(
                "has addresses of the format {format:?}, which {name} takes; {} takes {:?}",
                new.plugin, recipient.format
            );
            wrong.push(Wrong::new("channel", why));
        }
        if !wrong.is_empty() {
            return Err(NotDone::Invalid(wrong));
        }
        let in_config = |problems: Vec<Problem>| NotDone::Invalid(in_config(&problems));
        let schema = Schema::of(code.description()).map_err(|why| in_config(vec![Problem::new("", why)]))?;
        let before = before.map(|row| &row.setup.config);
        let vault = &self.parts().vault;
        let config = vault.store(&schema, &new.name, new.config.clone(), before).map_err(in_config)?;
        let trust = setup::secrets::Trust::Managed;
        setup::check(code.as_ref(), vault, trust, &new.name, &config).await.map_err(|r| in_config(r.problems))?;
        Ok(InstanceSetup { enabled: new.enabled, config, limits: new.limits })
    }
}

/// By JSON pointer below `/config`.
fn in_config(problems: &[Problem]) -> Vec<Wrong> {
    problems.iter().map(|p| Wrong::new(format!("/config{}", p.pointer()), &p.message)).collect()
}

fn channel_of(new: &NewInstance) -> ChannelName {
    new.channel.clone().unwrap_or_else(|| ChannelName::from(new.plugin.as_str()))
}
