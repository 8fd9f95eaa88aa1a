//! `campanile config check`: every value in force and where it comes from; secrets stay hidden.

use super::{
    Global,
    exit::Outcome,
    output::{Output, Tone},
    settings,
};
use serde_json::{Map, Value, json};

#[derive(clap::Subcommand, Clone, Copy, Debug)]
pub enum Command {
    /// Check the configuration and print every value with its source.
    Check,
}

pub fn run(global: &Global, out: Output) -> Outcome {
    let loaded = settings::load(global, &[])?;
    if out.json {
        let values: Map<String, Value> = loaded
            .settings
            .iter()
            .map(|s| (s.key.path(), json!({ "value": s.shown, "source": s.source.as_deref().unwrap_or("default") })))
            .collect();
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
        match &setting.source {
            Some(source) => out.line(format!("{value:<48}  {}", out.paint(Tone::Good, &format!("# {source}")))),
            None => out.line(format!("{value:<48}  {}", out.paint(Tone::Dim, "# default"))),
        }
    }
    let file = loaded.file.map_or_else(|| "no file".to_owned(), |f| f.display().to_string());
    out.line(format!("\n{} ({file}, {} keys)", out.paint(Tone::Good, "✓ valid"), loaded.settings.len()));
    Ok(())
}
