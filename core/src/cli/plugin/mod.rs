//! `campanile plugin`: what authors and operators of channel plugins need.

mod bench;
mod check;
mod inside;
mod least;
mod lock;
mod new;
mod reload;
mod room;

use super::{
    Global,
    exit::{Failure, Outcome},
    output::Output,
};
use campanile_loader::unsupported;
use serde_json::Value;

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Write the beginning of a new channel: builds, passes `check`, delivers.
    New(new::Args),
    /// Try a plugin's file as a server would, and say of each point whether it holds: 0 yes, 1 no.
    Check(check::Args),
    /// Measure what a delivery costs at both isolation levels.
    Bench(bench::Args),
    /// Show what a plugin's file is, and list it in `plugins.lock` so that it may load.
    Add(lock::Add),
    /// List the plugins that may load.
    List,
    /// Take a plugin off the list.
    Remove { name: String },
    /// Tell a running server to take a plugin as the list names it now: beside the old version, which goes on if it is refused.
    Reload {
        name: String,
        /// Percent of the deliveries, 1 to 99, that the new version takes at first; everything, when it is left out.
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
        share: Option<u8>,
    },
    /// Give the version that is on trial everything.
    Promote { name: String },
    /// Take the version that is on trial back.
    Rollback { name: String },
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let runs_code = matches!(command, Command::Check(_) | Command::Bench(_) | Command::Add(_));
    if let Some(why) = unsupported().filter(|_| runs_code) {
        return Err(Failure::failed("no plugin can be tried here").why(why));
    }
    match command {
        Command::New(args) => new::run(&args, out),
        Command::Check(args) => check::run(args, out).await,
        Command::Bench(args) => bench::run(args, out).await,
        Command::Add(args) => lock::add(args, global, out).await,
        Command::List => lock::list(global, out),
        Command::Remove { name } => lock::remove(&name, global, out),
        Command::Reload { name, share } => reload::run(&name, share, global, out).await,
        Command::Promote { name } => reload::settle(&name, "promote", global, out).await,
        Command::Rollback { name } => reload::settle(&name, "rollback", global, out).await,
    }
}

/// A configuration from the command line: JSON, or `@` and the name of a file with it.
fn given(config: Option<&str>) -> Outcome<Option<Value>> {
    let Some(config) = config else { return Ok(None) };
    let text = match config.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|e| Failure::usage(format!("the configuration {file} can't be read")).why(e))?,
        None => config.to_owned(),
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| Failure::usage("--with is no JSON").why(e))?;
    if !value.is_object() {
        return Err(Failure::usage("--with is no JSON object").next("--with '{\"url\": \"https://…\"}'"));
    }
    Ok(Some(value))
}
