//! A new version of a plugin on trial: beside each of its instances one of the new version takes a share of the deliveries.
//!
//! Owns: starting and ending those, and taking a trial back that goes wrong. Absent on purpose: writing a trial down; a node
//! that restarts begins with the file that `plugins.lock` names, and the trial is over there.

use super::{Keeper, Make, State};
use crate::channel::{
    catalogue::Refusal,
    guard::{Beside, Guard},
    runner::Runner,
    spec::Spec,
    view::Failure,
};
use campanile_model::{ChannelName, ports::Actor, signal::Signal};
use futures_util::future::join_all;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Trials are looked at so often.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One instance's new version.
pub(super) struct Trying {
    pub made_from: Make,
    pub plugin: String,
    pub beside: Arc<Beside>,
}

impl Keeper {
    /// Ends the trials of which one instance does not work: its breaker is open, it says that it fails, or its process died.
    pub(super) async fn take_back_ill(&self, state: &State) {
        let mut ill = BTreeMap::new();
        for trying in state.trials.values() {
            if let Some(why) = complaint(&trying.beside.runner) {
                ill.entry(trying.plugin.clone()).or_insert(why);
            }
        }
        for (plugin, why) in ill {
            self.take_back(&plugin, &why).await;
        }
    }

    /// The old version has everything again, on all nodes.
    async fn take_back(&self, plugin: &str, why: &str) {
        let parts = &self.parts;
        let Some(trial) = parts.catalogue.settle(plugin, false) else { return };
        let version = &trial.code.description().version;
        let reason = format!("version {version} was on trial and is taken back: {why}. The version before it goes on.");
        tracing::error!(plugin, version, "Plugin {plugin}: {reason}");
        parts.catalogue.refuse(Refusal {
            plugin: plugin.to_owned(),
            step: "loaded".to_owned(),
            reason,
            file: trial.code.origin().file,
            at: parts.clock.now(),
        });
        let system = Actor { who: "system".to_owned(), ..Actor::default() };
        let detail = json!({ "version": version, "reason": why });
        if let Err(e) = parts.store.note(&system, "plugin.roll_back", plugin, Some(detail)).await {
            tracing::warn!(plugin, error = %e, "The end of a trial is not in the audit log");
        }
        parts.bus.publish(Signal::PluginSettle { plugin: plugin.to_owned(), keep_new: false, by: parts.node });
    }

    /// Starts what the trials need and is not there, and answers with what nobody needs any more.
    pub(super) async fn try_out(
        &self,
        state: &mut State,
        specs: &[(Spec, Option<Failure>)],
        guards: &BTreeMap<ChannelName, Arc<Guard>>,
    ) -> Vec<Arc<Runner>> {
        let mut before = std::mem::take(&mut state.trials);
        let mut wanted = Vec::new();
        for (spec, _) in specs.iter().filter(|(spec, failure)| failure.is_none() && spec.setup.enabled) {
            let Some(trial) = self.parts.catalogue.trial(&spec.plugin) else { continue };
            let Some(make) = self.made_from(state, spec) else { continue };
            let made_from = Make { code: trial.code.clone(), ..make };
            match before.remove(&spec.name) {
                Some(trying) if trying.made_from == made_from => {
                    trying
                        .beside
                        .runner
                        .set_allowance(spec.allowance(trial.code.as_ref()), self.parts.registry.nodes());
                    state.trials.insert(spec.name.clone(), trying);
                }
                old => {
                    before.extend(old.map(|old| (spec.name.clone(), old)));
                    wanted.push((spec, trial.share, made_from));
                }
            }
        }
        let started = join_all(wanted.into_iter().map(async |(spec, share, made_from)| {
            let made = self.make(spec, &made_from, &guards[&spec.channel]).await;
            (
                spec,
                made.map(|runner| Trying {
                    made_from,
                    plugin: spec.plugin.clone(),
                    beside: Beside::new(runner, share),
                }),
            )
        }))
        .await;
        for (spec, made) in started {
            match made {
                Ok(trying) => {
                    let (channel, name, share) = (&spec.channel, spec.name.as_str(), trying.beside.share);
                    let version = trying.beside.runner.info().version;
                    tracing::info!(%channel, instance = name, version, "{version} takes {share} % of what {name} sends");
                    state.trials.insert(spec.name.clone(), trying);
                }
                Err(failure) => {
                    let why = format!("{} did not get past the step {}: {}", spec.name, failure.step, failure.reason);
                    self.take_back(&spec.plugin, &why).await;
                }
            }
        }
        // A plugin whose trial ended just now has nothing on trial.
        let over = state.trials.iter().filter(|(_, t)| self.parts.catalogue.trial(&t.plugin).is_none());
        let over: Vec<_> = over.map(|(name, _)| name.clone()).collect();
        let ended = over.iter().filter_map(|name| state.trials.remove(name)).collect::<Vec<_>>();
        before.into_values().chain(ended).map(|trying| trying.beside.runner.clone()).collect()
    }
}

fn complaint(runner: &Runner) -> Option<String> {
    let life = runner.instance().life();
    let died = life.crash.filter(|_| life.restarts > 0 || life.crashed_at.is_some());
    let view = runner.view();
    died.map(|why| format!("its process ended: {why}")).or_else(|| {
        let failing = runner.is_failing();
        failing.then(|| view.last_error.unwrap_or_else(|| "it does not work".to_owned()))
    })
}
