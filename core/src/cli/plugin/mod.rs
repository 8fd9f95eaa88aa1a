//! `campanile plugin`: what authors and operators of channel plugins need.

mod lock;
mod new;
mod reload;

use super::{Global, exit::Outcome, output::Output};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Write the beginning of a new channel: builds, passes `check`, delivers.
    New(new::Args),
    /// Show what a plugin's file is, and list it in `plugins.lock` so that it may load.
    Add(lock::Add),
    /// List the plugins that may load.
    List,
    /// Take a plugin off the list.
    Remove { name: String },
    /// Tell a running server to take a plugin as the list names it now: beside the old version, which goes on if it is refused.
    Reload { name: String },
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    match command {
        Command::New(args) => new::run(&args, out),
        Command::Add(args) => lock::add(args, global, out).await,
        Command::List => lock::list(global, out),
        Command::Remove { name } => lock::remove(&name, global, out),
        Command::Reload { name } => reload::run(&name, global, out).await,
    }
}
