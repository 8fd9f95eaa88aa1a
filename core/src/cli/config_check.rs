//! `campanile config`: every value in force and where it comes from; secrets stay hidden.

use super::{
    Global,
    exit::Outcome,
    output::{Output, Tone},
    settings,
};
use crate::config::instances::Instance;
use serde_json::{Map, Value, json};

#[derive(clap::Subcommand, Clone, Copy, Debug)]
pub enum Command {
    /// Check the configuration and print every value with its source.
    Check,
    /// Print every value in force.
    Show {
        /// With where it comes from: default, file, environment or flag.
        #[arg(long)]
        sources: bool,
    },
}

pub fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let loaded = settings::load(global, &[])?;
    let sources = !matches!(command, Command::Show { sources: false });
    if out.json {
        let mut values: Map<String, Value> = loaded
            .settings
            .iter()
            .map(|s| (s.key.path(), json!({ "value": s.shown, "source": s.source.as_deref().unwrap_or("default") })))
            .collect();
        values.insert("instances".to_owned(), loaded.config.instances.iter().map(shown).collect());
        out.show(&values, |_| {});
        return Ok(());
    }
    let mut section = "";
    for setting in &loaded.settings {
        if setting.key.section != section {
            section = setting.key.section;
            out.line(out.paint(Tone::Strong, &format!("\n[{section}]")));
        }
        let value = format!("{} = {}", setting.key.name, setting.shown);
        if !sources {
            out.line(value);
            continue;
        }
        match &setting.source {
            Some(source) => out.line(format!("{value:<48}  {}", out.paint(Tone::Good, &format!("# {source}")))),
            None => out.line(format!("{value:<48}  {}", out.paint(Tone::Dim, "# default"))),
        }
    }
    for instance in &loaded.config.instances {
        let shown = shown(instance);
        out.line(out.paint(Tone::Strong, "\n[[instances]]"));
        for (key, value) in shown.as_object().into_iter().flatten() {
            out.line(format!("{key} = {value}"));
        }
    }
    if !matches!(command, Command::Check) {
        return Ok(());
    }
    let file = loaded.file.map_or_else(|| "no file".to_owned(), |f| f.display().to_string());
    out.line(format!("\n{} ({file}, {} keys)", out.paint(Tone::Good, "✓ valid"), loaded.settings.len()));
    Ok(())
}

/// Without its configuration: only the plugin's schema says which of its values are secret.
fn shown(instance: &Instance) -> Value {
    let keys: Vec<_> = instance.config.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    json!({
        "name": instance.name,
        "plugin": instance.plugin,
        "channel": instance.channel.as_deref().unwrap_or(&instance.plugin),
        "enabled": instance.enabled,
        "config": keys,
    })
}
