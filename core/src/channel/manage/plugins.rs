//! Plugins as operators see them, their reload, and a new version on trial.

use super::{Done, NotDone, Wrong};
use crate::channel::{Keeper, catalogue::Refusal, code::Origin as CodeOrigin};
use campanile_model::{Timestamp, clock, ports::Actor, signal::Signal};
use serde::Serialize;
use serde_json::{Value, json};

/// A plugin's code, or why there is none.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PluginView {
    pub name: String,
    pub version: Option<String>,
    /// For people.
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub license: Option<String>,
    pub homepage: Option<String>,
    pub authors: Option<String>,
    pub documentation: Option<String>,
    pub changelog: Option<String>,
    /// Hosts that it asks to call; `origin` has those that it may.
    pub hosts: Vec<String>,
    /// Format of the addresses of its channels.
    pub recipient: Option<String>,
    /// JSON Schema 2020-12 of its configuration.
    #[schema(value_type = Option<Object>)]
    pub config_schema: Option<Value>,
    pub origin: Option<CodeOrigin>,
    /// The newest file that was refused; what ran before goes on.
    pub refusal: Option<Refusal>,
    /// A newer version that takes a share of the deliveries.
    pub trial: Option<TrialView>,
    /// Names of its instances.
    pub instances: Vec<String>,
}

/// A new version on trial. What became of its deliveries is this node's.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct TrialView {
    pub version: String,
    pub sha256: Option<String>,
    /// Percent of the deliveries.
    pub share: u8,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    /// Attempts that the far side answered sensibly, be it with a refusal.
    pub worked: u64,
    /// Attempts that speak against it. A few in a row, or one crash, and it is taken back by itself.
    pub failed: u64,
}

impl PluginView {
    fn without_code(name: &str, instances: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            version: None,
            display_name: None,
            description: None,
            license: None,
            homepage: None,
            authors: None,
            documentation: None,
            changelog: None,
            hosts: Vec::new(),
            recipient: None,
            config_schema: None,
            origin: None,
            refusal: None,
            trial: None,
            instances,
        }
    }
}

impl Keeper {
    /// Code by name, and what was refused.
    pub fn plugins(&self) -> Vec<PluginView> {
        let (codes, refusals) = self.parts().catalogue.all();
        let entries = self.parts().registry.entries();
        let instances = |name: &str| {
            entries.iter().filter(|e| e.spec.plugin == name).map(|e| e.spec.name.clone()).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let mut all: Vec<_> = codes
            .iter()
            .map(|code| {
                let d = code.description();
                PluginView {
                    name: d.name.clone(),
                    version: Some(d.version.clone()),
                    display_name: some(&d.display_name),
                    description: some(&d.description),
                    license: some(&d.license),
                    homepage: some(&d.homepage),
                    authors: some(&d.authors.split(':').filter(|a| !a.is_empty()).collect::<Vec<_>>().join(", ")),
                    documentation: some(&d.documentation),
                    changelog: some(&d.changelog),
                    hosts: d.hosts.clone(),
                    recipient: Some(d.recipient.format.clone()),
                    config_schema: Some(d.config_schema.clone()).filter(|s| !s.is_null()),
                    origin: Some(code.origin()),
                    refusal: None,
                    trial: self.trial(&d.name),
                    instances: instances(&d.name),
                }
            })
            .collect();
        for refusal in refusals {
            if let Some(known) = all.iter_mut().find(|p| p.name == refusal.plugin) {
                known.refusal = Some(refusal);
                continue;
            }
            let instances = instances(&refusal.plugin);
            all.push(PluginView {
                refusal: Some(refusal.clone()),
                ..PluginView::without_code(&refusal.plugin, instances)
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn trial(&self, plugin: &str) -> Option<TrialView> {
        let trial = self.parts().catalogue.trial(plugin)?;
        let entries = self.parts().registry.entries();
        let of = entries.iter().filter(|e| e.spec.plugin == plugin).filter_map(|e| e.beside.as_ref());
        let tallies: Vec<_> = of.map(|beside| beside.runner.tally()).collect();
        Some(TrialView {
            version: trial.code.description().version.clone(),
            sha256: trial.code.origin().sha256,
            share: trial.share,
            since: trial.since,
            worked: tallies.iter().map(|t| t.worked).sum(),
            failed: tallies.iter().map(|t| t.failed).sum(),
        })
    }

    /// The plugin's file as it is now, on all nodes; the answer is this node's. One that is listed no more has no version. With a
    /// `share` the new version takes so many percent of the deliveries and the old one the rest, until [`Self::settle_trial`].
    pub async fn reload_plugin(&self, plugin: &str, share: Option<u8>, actor: &Actor) -> Done<PluginView> {
        let known = |p: &PluginView| p.name == plugin;
        let before = self.plugins().into_iter().find(known);
        if self.parts().catalogue.source().is_none() && before.is_none() {
            return Err(NotDone::NotFound("plugin"));
        }
        if let Some(share) = share {
            if !(1..=99).contains(&share) {
                let message =
                    "must be a whole number of percent from 1 to 99; without it the new version takes everything";
                return Err(NotDone::Invalid(vec![Wrong::new("share", message)]));
            }
            if before.as_ref().is_none_or(|p| p.version.is_none()) {
                return Err(NotDone::NotNow(format!(
                    "no version of {plugin} runs that could take the rest; leave share out"
                )));
            }
        }
        let detail = share.map(|share| json!({ "share": share }));
        self.parts().store.note(actor, "plugin.reload", plugin, detail).await?;
        self.reload(plugin, share).await.map_err(NotDone::Refused)?;
        self.look().await?;
        let (plugin_, by) = (plugin.to_owned(), self.parts().node);
        self.parts().bus.publish(match share {
            None => Signal::PluginReload { plugin: plugin_, by },
            Some(share) => Signal::PluginTrial { plugin: plugin_, share, by },
        });
        let what = share.map_or_else(|| format!("{plugin} reloaded"), |share| format!("{plugin} on trial, {share} %"));
        self.annotate_all(plugin, &what, actor).await;
        let now = self.plugins().into_iter().find(known);
        let gone = || before.map(|old| PluginView::without_code(plugin, old.instances));
        now.or_else(gone).ok_or(NotDone::NotFound("plugin"))
    }

    /// Ends a trial on all nodes: the new version takes everything, or the old one has it back.
    pub async fn settle_trial(&self, plugin: &str, keep_new: bool, actor: &Actor) -> Done<PluginView> {
        let known = |p: &PluginView| p.name == plugin;
        if !self.plugins().iter().any(known) {
            return Err(NotDone::NotFound("plugin"));
        }
        let Some(trial) = self.parts().catalogue.trial(plugin) else {
            return Err(NotDone::NotNow(format!("no new version of {plugin} is on trial")));
        };
        let action = if keep_new { "plugin.promote" } else { "plugin.roll_back" };
        let detail = json!({ "version": trial.code.description().version });
        self.parts().store.note(actor, action, plugin, Some(detail)).await?;
        self.parts().catalogue.settle(plugin, keep_new);
        self.look().await?;
        let by = self.parts().node;
        self.parts().bus.publish(Signal::PluginSettle { plugin: plugin.to_owned(), keep_new, by });
        let what = format!("{plugin} {}", if keep_new { "promoted" } else { "rolled back" });
        self.annotate_all(plugin, &what, actor).await;
        self.plugins().into_iter().find(known).ok_or(NotDone::NotFound("plugin"))
    }

    /// The same on each channel that this plugin sends by.
    async fn annotate_all(&self, plugin: &str, what: &str, actor: &Actor) {
        let entries = self.parts().registry.entries();
        let mut channels: Vec<_> =
            entries.iter().filter(|e| e.spec.plugin == plugin).map(|e| e.spec.channel.clone()).collect();
        channels.dedup();
        for channel in channels {
            self.annotate(&channel, what, actor).await;
        }
    }
}
