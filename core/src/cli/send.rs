//! `campanile send`: one notification, and with `--wait` its way to everybody until all of it is settled.

use super::{
    Global,
    client::Client,
    exit::{Failure, Outcome},
    output::{Output, Tone, safe},
    timeline,
};
use crate::config::Dur;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::io::Read;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// User id of a recipient; may be repeated.
    #[arg(long, required = true, value_name = "USER")]
    to: Vec<String>,
    #[arg(long)]
    title: String,
    /// The message; `-` reads it from standard input.
    #[arg(long, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    body: String,
    /// The notification type, by default `general`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// A JSON object for the application's own use.
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// Channel to use, may be repeated; by default every one that the user has an address for.
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// low, normal or high.
    #[arg(long)]
    priority: Option<String>,
    /// Sending again with the same key sends nothing twice.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Draw the way of every delivery until all are settled.
    #[arg(long)]
    wait: bool,
    /// Stop waiting after this long.
    #[arg(long, value_name = "TIME", requires = "wait")]
    timeout: Option<String>,
}

pub async fn run(args: Args, global: &Global, out: Output) -> Outcome {
    let limit = args
        .timeout
        .as_deref()
        .map(|t| Dur::parse(t).map_err(|e| Failure::usage("--timeout is not a time").why(e)))
        .transpose()?;
    let body = request(&args)?;
    let client = Client::new(global)?;
    let mut call = client.api(Method::POST, &["notifications"]).json(&body);
    if let Some(key) = &args.idempotency_key {
        call = call.header("idempotency-key", key);
    }
    let accepted = call.send().await?;
    let id = accepted["notification_id"].as_str().unwrap_or_default().to_owned();
    if args.wait {
        return timeline::follow(&client, &id, &args.title, limit.map(|d| *d), out).await;
    }
    out.show(&accepted, |out| {
        out.line(format!("{} {id}", out.paint(Tone::Good, "✓ accepted")));
        for delivery in accepted["deliveries"].as_array().into_iter().flatten() {
            out.line(format!("  {}", describe(delivery)));
        }
        if let Some(n) = accepted["audience"]["recipients"].as_u64() {
            out.line(format!("  {n} recipients"));
        }
    });
    if out.quiet && !out.json {
        out.answer(id);
    }
    Ok(())
}

fn describe(delivery: &Value) -> String {
    let text = |key: &str| safe(delivery[key].as_str().unwrap_or_default());
    let reason = if delivery["reason"].is_string() { format!(" ({})", text("reason")) } else { String::new() };
    format!("{}  {}  {}{reason}", text("channel"), text("user_id"), text("state"))
}

fn request(args: &Args) -> Outcome<Value> {
    let mut body = Map::new();
    body.insert("to".into(), json!(args.to));
    body.insert("title".into(), json!(args.title));
    let message = if args.body == "-" { from_stdin()? } else { args.body.clone() };
    if !message.is_empty() {
        body.insert("message".into(), json!(message));
    }
    if let Some(data) = &args.data {
        let data: Map<String, Value> = serde_json::from_str(data)
            .map_err(|e| Failure::usage("--data is not a JSON object").why(e).next("--data '{\"room\":\"r1\"}'"))?;
        body.insert("data".into(), Value::Object(data));
    }
    if !args.channel.is_empty() {
        body.insert("channels".into(), json!(args.channel));
    }
    for (key, value) in [("notification_type", &args.kind), ("priority", &args.priority)] {
        if let Some(value) = value {
            body.insert(key.into(), json!(value));
        }
    }
    Ok(Value::Object(body))
}

fn from_stdin() -> Outcome<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|e| Failure::failed("the message can't be read from standard input").why(e))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &[&str]) -> Args {
        Line::try_parse_from([&["send"], line].concat()).unwrap().args
    }

    #[test]
    fn sets_only_what_was_said() {
        let args = parse(&["--to", "ada", "--to", "bo", "--title", "T"]);
        assert_eq!(request(&args).unwrap(), json!({"to": ["ada", "bo"], "title": "T"}));
        let args = parse(&[
            "--to",
            "ada",
            "--title",
            "T",
            "--body",
            "- b",
            "--type",
            "invoice",
            "--channel",
            "email",
            "--data",
            "{\"a\":1}",
            "--priority",
            "high",
        ]);
        assert_eq!(
            request(&args).unwrap(),
            json!({"to": ["ada"], "title": "T", "message": "- b", "notification_type": "invoice", "channels": ["email"],
                   "data": {"a": 1}, "priority": "high"})
        );
    }

    #[test]
    fn data_that_is_no_object_is_refused_here() {
        let args = parse(&["--to", "ada", "--title", "T", "--data", "[1]"]);
        assert_eq!(request(&args).unwrap_err().what, "--data is not a JSON object");
    }
}
