//! The command line: one file per command. Client commands speak HTTP to a running server and know nothing of its insides.

mod admin;
mod client;
mod config_check;
mod dead;
mod doctor;
mod exit;
mod healthcheck;
mod key;
pub(crate) mod migrate;
mod node;
mod openapi;
pub(crate) mod output;
mod plugin;
mod queue;
mod send;
mod serve;
mod settings;
mod tail;
mod timeline;
mod token;
mod user;
mod version;

use clap::{Parser, Subcommand};
use exit::{Code, Failure, Outcome};
use output::{Output, remark};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// A notification platform in one binary.
#[derive(Parser, Debug)]
#[command(name = "campanile", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Global {
    /// Address of the running server; without it the dev server of this machine.
    #[arg(long, global = true, env = "CAMPANILE_SERVER", value_name = "URL")]
    server: Option<String>,
    /// API key for the running server.
    #[arg(long, global = true, env = "CAMPANILE_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Configuration file; without it `campanile.toml` in the working directory, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Say only what was asked for.
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Send a notification.
    Send(Box<send::Args>),
    /// Print a token for an end user.
    Token(token::Args),
    /// People and how to reach them.
    #[command(subcommand)]
    User(user::Command),
    /// API keys of applications.
    #[command(subcommand)]
    Key(key::Command),
    /// What waits to be sent.
    #[command(subcommand)]
    Queue(queue::Command),
    /// What was given up on.
    #[command(subcommand)]
    Dead(dead::Command),
    /// Ways to reach people.
    #[command(subcommand)]
    Channel(queue::ChannelCommand),
    /// The servers that run side by side.
    #[command(subcommand)]
    Node(node::Command),
    /// Show deliveries as they move.
    Tail(tail::Args),
    /// The database's schema.
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Look at everything a server needs.
    Doctor,
    /// Ask a server whether it is ready: 0 yes, 3 no, 4 no answer.
    Healthcheck(healthcheck::Args),
    /// Print the OpenAPI document of the HTTP API.
    Openapi,
    /// Accounts of the console.
    #[command(subcommand)]
    Admin(admin::Command),
    /// Channel plugins from files.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// The process that a plugin runs in; the server starts it.
    #[command(hide = true)]
    PluginRunner { plugin: Option<String> },
    /// Show the configuration.
    #[command(subcommand)]
    Config(config_check::Command),
    /// Print the version.
    Version,
}

pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let help = e.exit_code() == 0;
            let _ = e.print();
            return if help { ExitCode::SUCCESS } else { Code::Usage.into() };
        }
    };
    if matches!(cli.command, Command::PluginRunner { .. }) {
        // Before any thread or runtime: it gives up its powers first.
        return campanile_loader::runner::main();
    }
    let out = Output::new(cli.global.json, cli.global.quiet);
    match block_on(run(cli, out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            remark(failure.to_string());
            failure.code.into()
        }
    }
}

fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("the runtime did not start").why(e))?;
    let result = runtime.block_on(command);
    // A blocking call that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// One provider for every TLS connection of this process; a second install is refused and harmless.
pub(crate) fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn run(cli: Cli, out: Output) -> Outcome {
    let global = &cli.global;
    match cli.command {
        Command::Serve(args) => serve::run(args, global, out).await,
        Command::Token(args) => token::run(args, global, out),
        Command::Config(command) => config_check::run(command, global, out),
        Command::Version => {
            version::run(out);
            Ok(())
        }
        Command::Send(args) => send::run(*args, global, out).await,
        Command::User(command) => user::run(command, global, out).await,
        Command::Key(command) => key::run(command, global, out).await,
        Command::Queue(command) => queue::run(command, global, out).await,
        Command::Dead(command) => dead::run(command, global, out).await,
        Command::Channel(command) => queue::channels(command, global, out).await,
        Command::Node(command) => node::run(command, global, out).await,
        Command::Tail(args) => tail::run(args, global, out).await,
        Command::Migrate(command) => migrate::run(command, global, out).await,
        Command::Doctor => doctor::run(global, out).await,
        Command::Healthcheck(args) => healthcheck::run(args, global, out).await,
        Command::Openapi => openapi::run(out),
        Command::Admin(command) => admin::run(command, global, out).await,
        Command::Plugin(command) => plugin::run(command, global, out).await,
        // Answered before the runtime began.
        Command::PluginRunner { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
