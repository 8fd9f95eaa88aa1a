//! `campanile queue` and `campanile channel list`: what waits, and where sending is paused.

use super::{
    Global,
    client::Client,
    exit::Outcome,
    output::{Output, Tone, safe},
    timeline::human,
};
use reqwest::Method;
use serde_json::{Map, Value, json};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List what waits per channel.
    Ls,
    /// Send nothing by this channel until it is resumed; what comes in waits.
    Pause {
        channel: String,
        /// Why, for whoever looks.
        #[arg(long)]
        reason: Option<String>,
        /// Resume by itself at this moment, RFC 3339.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// End a pause.
    Resume { channel: String },
}

#[derive(clap::Subcommand, Clone, Copy, Debug)]
pub enum ChannelCommand {
    /// List the channels of the server.
    List,
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    match command {
        Command::Ls => {
            let found = client.api(Method::GET, &["queues"]).send().await?;
            out.show(&found, |out| out.table(&queues(&found)));
        }
        Command::Pause { channel, reason, until } => {
            let mut body = Map::new();
            for (key, value) in [("reason", reason), ("until", until)] {
                body.extend(value.map(|v| (key.to_owned(), json!(v))));
            }
            let body = Value::Object(body);
            let answer = client.api(Method::POST, &["channels", &channel, "pause"]).json(&body).send().await?;
            out.show(&answer, |out| out.line(format!("{} {}", out.paint(Tone::Warn, "○ paused"), safe(&channel))));
        }
        Command::Resume { channel } => {
            let answer = client.api(Method::POST, &["channels", &channel, "resume"]).send().await?;
            out.show(&answer, |out| out.line(format!("{} {}", out.paint(Tone::Good, "✓ resumed"), safe(&channel))));
        }
    }
    Ok(())
}

pub async fn channels(_: ChannelCommand, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    let found = client.api(Method::GET, &["channels"]).send().await?;
    out.show(&found, |out| {
        let head = ["CHANNEL", "STATE", "HEALTH", "BREAKER", "BUSY", "VERSION"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for channel in list(&found) {
            rows.push(vec![
                text(&channel["name"]),
                state(channel),
                text(&channel["health"]),
                text(&channel["breaker"]["state"]),
                channel["busy"].as_u64().map_or_else(|| "–".to_owned(), |n| n.to_string()),
                text(&channel["version"]),
            ]);
            // In the order in which they are tried; one that is all there is says nothing more than its channel.
            let instances: Vec<_> = channel["instances"].as_array().into_iter().flatten().collect();
            if instances.len() > 1 || instances.iter().any(|i| i["failure"].is_object()) {
                rows.extend(instances.into_iter().map(instance));
            }
        }
        out.table(&rows);
    });
    Ok(())
}

fn instance(instance: &Value) -> Vec<String> {
    let failed = instance["failure"]["reason"].as_str().map(|why| format!(": {}", safe(why))).unwrap_or_default();
    vec![
        format!("  └ {}", text(&instance["name"])),
        text(&instance["state"]) + &failed,
        text(&instance["health"]),
        text(&instance["breaker"]["state"]),
        instance["busy"].as_u64().map_or_else(|| "–".to_owned(), |n| n.to_string()),
        format!("{} {}", text(&instance["plugin"]), text(&instance["plugin_version"])),
    ]
}

fn queues(found: &Value) -> Vec<Vec<String>> {
    let head = ["CHANNEL", "READY", "SCHEDULED", "IN FLIGHT", "RETRYING", "HELD", "DEAD", "OLDEST"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for queue in list(found) {
        let n = |key: &str| queue[key].as_u64().map_or_else(|| "0".to_owned(), |n| n.to_string());
        let oldest = queue["oldest_age_ms"].as_i64();
        let mut row = vec![text(&queue["channel"])];
        row.extend(["ready", "scheduled", "in_flight", "retrying", "held", "dead"].map(n));
        row.push(oldest.map_or_else(|| "–".to_owned(), human));
        rows.push(row);
    }
    rows
}

fn list(found: &Value) -> impl Iterator<Item = &Value> {
    found["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("–").to_owned()
}

fn state(channel: &Value) -> String {
    if channel["enabled"] == json!(false) {
        return "off".to_owned();
    }
    if channel["paused"] == json!(true) || channel["pause"].is_object() {
        let why = channel["pause"]["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        return format!("paused{why}");
    }
    "on".to_owned()
}
