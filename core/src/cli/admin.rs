//! `campanile admin`: accounts of the console. It comes with the console's sign-in; until then this says so.

use super::exit::{Failure, Outcome};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Make an account and print its one-time link.
    Create {
        #[arg(hide = true)]
        name: Option<String>,
    },
}

pub fn run(command: Command) -> Outcome {
    let Command::Create { .. } = command;
    Err(Failure::usage("`admin create` is not available in this version")
        .why("the console has no sign-in yet, so there are no accounts to make")
        .next("campanile key create --name operator --scopes send,read,manage"))
}
