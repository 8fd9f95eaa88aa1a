//! `campanile key`: API keys of applications. A key is shown once, when it is made; the server keeps a hash.

use super::{
    Global,
    client::Client,
    exit::{Failure, Outcome},
    output::{Output, Tone, remark, safe},
};
use campanile_model::ports::Scope;
use reqwest::Method;
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Make a key and print it, once.
    Create {
        /// What it is for.
        #[arg(long)]
        name: String,
        /// send, read, manage.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Last moment, RFC 3339: 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Addresses or networks it may be used from: 10.0.0.0/8,203.0.113.7; anywhere when not given.
        #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
        from: Vec<String>,
    },
    /// List keys.
    List,
    /// End a key at once.
    Revoke { key_id: String },
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    match command {
        Command::Create { name, scopes, expires_at, from } => {
            let wrong = scopes.iter().find(|s| !Scope::ALL.iter().any(|k| k.as_str() == s.as_str()));
            if let Some(wrong) = wrong {
                return Err(
                    Failure::usage(format!("unknown scope {wrong:?}")).why("the scopes are send, read and manage")
                );
            }
            let client = Client::new(global)?;
            let mut body = json!({ "name": name, "scopes": scopes, "networks": from });
            if let Some(at) = expires_at {
                body["expires_at"] = json!(at);
            }
            let made = client.api(Method::POST, &["keys"]).json(&body).send().await?;
            if out.json {
                out.show(&made, |_| {});
            } else {
                out.answer(made["key"].as_str().unwrap_or_default());
                if !out.quiet {
                    remark("Keep it now: it is not shown again.");
                }
            }
        }
        Command::List => {
            let client = Client::new(global)?;
            let found = client.api(Method::GET, &["keys"]).send().await?;
            out.show(&found, |out| out.table(&rows(&found)));
        }
        Command::Revoke { key_id } => {
            let client = Client::new(global)?;
            let answer = client.api(Method::DELETE, &["keys", &key_id]).send().await?;
            out.show(&answer, |out| out.line(format!("{} {}", out.paint(Tone::Good, "✓ revoked"), safe(&key_id))));
        }
    }
    Ok(())
}

fn rows(found: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![["KEY ID", "NAME", "SCOPES", "CREATED", "LAST USED", "STATE"].map(str::to_owned).to_vec()];
    for key in found["items"].as_array().into_iter().flatten() {
        let text = |k: &str| key[k].as_str().unwrap_or("–").to_owned();
        let scopes: Vec<_> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let state = if key["revoked_at"].is_string() { "revoked" } else { "active" };
        rows.push(vec![
            text("key_id"),
            text("name"),
            scopes.join(","),
            text("created_at"),
            text("last_used_at"),
            state.to_owned(),
        ]);
    }
    rows
}
