//! `campanile admin`: accounts of the console.
//!
//! Asks a running server where a key is at hand; without one it opens the configured database itself, as the first account
//! must come from somewhere.

use super::{
    Global,
    client::Client,
    exit::{Failure, Outcome, chain},
    output::{Output, remark},
    settings,
};
use crate::{
    http::admin::{self, gate::Who, link},
    observe::Metrics,
    store,
};
use async_trait::async_trait;
use campanile_model::{
    effects::Effects,
    ports::{Actor, EffectSink, Role},
};
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Make an account, or a new way in for one that exists, and print its one-time link.
    Create {
        name: String,
        /// support, viewer, operator or owner. An account that exists keeps its own.
        #[arg(long, default_value = "owner")]
        role: String,
    },
    /// Print which role may use which page and action of the console.
    Roles,
}

/// From the list that the console's router is built from.
fn roles(out: Output) {
    let all = admin::console();
    out.show(&all.entries(), |out| {
        let mut rows = vec![["METHOD", "PATH", "NEEDS"].map(str::to_owned).to_vec()];
        for e in all.entries() {
            let needs = match e.who {
                Who::Anyone => "–",
                Who::Role(role) => role.as_str(),
            };
            rows.push(vec![e.method.to_owned(), e.path.to_owned(), needs.to_owned()]);
        }
        out.table(&rows);
    });
}

/// An account changes no delivery: nobody needs to hear of it.
struct Nobody;

#[async_trait]
impl EffectSink for Nobody {
    async fn committed(&self, _effects: Effects) {}
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let (name, role) = match command {
        Command::Create { name, role } => (name, role),
        Command::Roles => {
            roles(out);
            return Ok(());
        }
    };
    let Some(parsed) = Role::parse(&role) else {
        return Err(
            Failure::usage(format!("unknown role {role:?}")).why("the roles are support, viewer, operator and owner")
        );
    };
    if let Err(e) = link::check_name(&name) {
        return Err(Failure::usage(format!("{name:?} can't be a name")).why(format!("a name {e}")));
    }
    let (made, link) = if let Ok(client) = Client::new(global) {
        let made = client.api(Method::POST, &["admins"]).json(&json!({"name": name, "role": role})).send().await?;
        let link = made["link"].as_str().unwrap_or_default().to_owned();
        (made, link)
    } else {
        let link = direct(global, &name, parsed).await?;
        (json!({"name": name, "role": role, "link": link}), link)
    };
    if out.json {
        out.show(&made, |_| {});
    } else {
        out.answer(&link);
        if !out.quiet {
            remark("It opens once and leads to the choice of a password. It is not shown again.");
        }
    }
    Ok(())
}

async fn direct(global: &Global, name: &str, role: Role) -> Outcome<String> {
    let config = settings::load(global, &[])?.config;
    let failed = |e: &(dyn std::error::Error + 'static)| {
        Failure::failed("the account could not be made")
            .why(chain(&anyhow::anyhow!("{e}")))
            .next("give a key that may manage, so that the running server does it: --server URL --key KEY")
    };
    let store = store::open(&config, Arc::new(Nobody), Arc::new(Metrics::new())).await.map_err(|e| failed(&e))?;
    let base = config.server.public_url.clone().unwrap_or_else(|| format!("http://{}", config.server.listen));
    let actor = Actor { who: "command line".to_owned(), address: None, request_id: String::new() };
    let made = link::make(store.as_ref(), &base, name, role, *config.admin.link_ttl, &actor).await;
    store.close().await;
    made.map(|(_, link)| link).map_err(|e| failed(&e))
}
