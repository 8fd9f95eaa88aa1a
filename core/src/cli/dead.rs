//! `campanile dead`: deliveries that were given up on.

use super::{
    Global,
    client::Client,
    exit::{Failure, Outcome},
    output::{Output, Tone, remark, safe},
};
use reqwest::Method;
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List dead letters, newest first.
    Ls {
        #[arg(long)]
        channel: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Try again from the start.
    Retry {
        /// Delivery ids as `dead ls` shows them.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All of them, or all of one channel.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[arg(long, requires = "all")]
        channel: Option<String>,
    },
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    match command {
        Command::Ls { channel, limit } => {
            let query = [("channel", channel.unwrap_or_default()), ("limit", limit.to_string())];
            let found = client.api(Method::GET, &["dead_letters"]).query(&query).send().await?;
            out.show(&found, |out| {
                let rows = rows(&found);
                if rows.len() == 1 {
                    out.line("No dead letters. After the last try of the schedule a delivery lands here.");
                } else {
                    out.table(&rows);
                }
            });
            Ok(())
        }
        Command::Retry { ids, all: false, .. } => retry(&client, &ids, out).await,
        Command::Retry { channel, .. } => retry_all(&client, channel.as_deref(), out).await,
    }
}

/// In bulk, page by page; the server tries each for itself.
async fn retry_all(client: &Client, channel: Option<&str>, out: Output) -> Outcome {
    let (mut retried, mut refused) = (0, Vec::new());
    let mut before = Value::Null;
    loop {
        let mut body = json!({ "limit": 500, "channel": channel });
        if !before.is_null() {
            body["before"] = before;
        }
        let answer = client.api(Method::POST, &["dead_letters", "retry"]).json(&body).send().await?;
        retried += answer["retried"].as_u64().unwrap_or(0);
        refused.extend(answer["refused"].as_array().into_iter().flatten().cloned());
        before = answer["next_before"].clone();
        if before.is_null() {
            break;
        }
    }
    out.show(&json!({ "retried": retried, "refused": refused }), |out| {
        out.line(format!("{} {retried} tried again", out.paint(Tone::Good, "✓")));
    });
    match refused.len() {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} could not be tried again"))
            .why("cancelled, expired or erased meanwhile")
            .next("campanile dead ls")),
    }
}

/// Goes on after a refusal: one that can't be replayed keeps none of the others back.
async fn retry(client: &Client, ids: &[String], out: Output) -> Outcome {
    let mut refused = 0;
    for id in ids {
        match client.api(Method::POST, &["dead_letters", id, "retry"]).send().await {
            Ok(_) => out.line(format!("{} {}", out.paint(Tone::Good, "✓ tried again"), safe(id))),
            Err(e) => {
                refused += 1;
                remark(format!("{} {}: {}", out.paint(Tone::Bad, "✗"), safe(id), e.what));
            }
        }
    }
    out.show(&json!({ "retried": ids.len() - refused, "refused": refused }), |_| {});
    if refused > 0 {
        return Err(
            Failure::failed(format!("{refused} of {} could not be tried again", ids.len())).next("campanile dead ls")
        );
    }
    Ok(())
}

fn items(found: &Value) -> impl Iterator<Item = &Value> {
    found["items"].as_array().into_iter().flatten()
}

fn rows(found: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![["DELIVERY", "CHANNEL", "USER", "REASON", "ATTEMPTS", "SINCE"].map(str::to_owned).to_vec()];
    for d in items(found) {
        let text = |k: &str| d[k].as_str().unwrap_or("–").to_owned();
        let attempts = d["attempt"].as_u64().map_or_else(|| "–".to_owned(), |n| n.to_string());
        rows.push(vec![
            text("delivery_id"),
            text("channel"),
            text("user_id"),
            text("reason"),
            attempts,
            text("settled_at"),
        ]);
    }
    rows
}
