//! `campanile user`: people and how to reach them.

use super::{
    Global,
    client::Client,
    exit::{Failure, Outcome},
    output::{Output, Tone, safe},
};
use reqwest::Method;
use serde_json::{Map, Value, json};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Create a user or replace the contact points.
    Add {
        user: String,
        #[arg(long)]
        email: Option<String>,
        /// For example `de` or `pt-BR`.
        #[arg(long)]
        locale: Option<String>,
        /// For example `Europe/Berlin`.
        #[arg(long)]
        timezone: Option<String>,
        /// Address of another channel; may be repeated.
        #[arg(long, value_name = "CHANNEL=ADDRESS")]
        address: Vec<String>,
    },
    /// Show a user.
    Show { user: String },
    /// Erase a user: feed, addresses, what is still to be sent.
    Erase {
        user: String,
        /// Needed, since nothing brings the data back.
        #[arg(long)]
        yes: bool,
    },
    /// Merge a user into another: everything of FROM becomes theirs.
    Merge {
        from: String,
        /// Who stays.
        #[arg(long, value_name = "USER")]
        into: String,
        /// Needed, since nothing takes it back.
        #[arg(long)]
        yes: bool,
    },
    /// Send nothing to this user and close the live connections.
    Disable { user: String },
    /// Undo `disable`.
    Enable { user: String },
}

pub async fn run(command: Command, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    match command {
        Command::Add { user, email, locale, timezone, address } => {
            let mut body = Map::new();
            for (key, value) in [("email", email), ("locale", locale), ("timezone", timezone)] {
                body.extend(value.map(|v| (key.to_owned(), json!(v))));
            }
            if !address.is_empty() {
                body.insert("addresses".into(), addresses(&address)?);
            }
            let body = Value::Object(body);
            let saved = client.api(Method::PUT, &["users", &user]).json(&body).send().await?;
            out.show(&saved, |out| out.line(format!("{} {}", out.paint(Tone::Good, "✓ saved"), safe(&user))));
        }
        Command::Show { user } => {
            let found = client.api(Method::GET, &["users", &user]).send().await?;
            out.show(&found, |out| show(out, &found));
        }
        Command::Erase { user, yes } => {
            if !yes {
                return Err(Failure::usage(format!("{} is not erased", safe(&user)))
                    .why("erasing takes the feed, the addresses and what is still to be sent, and can't be undone")
                    .next(format!("campanile user erase {} --yes", safe(&user))));
            }
            let report = client.api(Method::DELETE, &["users", &user]).send().await?;
            out.show(&report, |out| {
                let n = |key: &str| report[key].as_u64().unwrap_or(0);
                out.line(format!("{} {}", out.paint(Tone::Good, "✓ erased"), safe(&user)));
                out.line(format!("  {} feed items, {} deliveries taken back", n("feed_items"), n("cancelled")));
                if n("in_flight") > 0 {
                    out.line(format!("  {} under way could not be called back", n("in_flight")));
                }
            });
        }
        Command::Merge { from, into, yes } => merge(&client, &from, &into, yes, out).await?,
        Command::Disable { user } => switch(&client, &user, "disable", "✓ disabled", out).await?,
        Command::Enable { user } => switch(&client, &user, "enable", "✓ enabled", out).await?,
    }
    Ok(())
}

async fn merge(client: &Client, from: &str, into: &str, yes: bool, out: Output) -> Outcome {
    let (gone, stays) = (safe(from), safe(into));
    if !yes {
        return Err(Failure::usage(format!("{gone} is not merged"))
            .why(format!("everything of {gone} becomes that of {stays}, and can't be taken back"))
            .next(format!("campanile user merge {gone} --into {stays} --yes")));
    }
    let body = json!({"from_user_id": from});
    let report = client.api(Method::POST, &["users", into, "merge"]).json(&body).send().await?;
    out.show(&report, |out| {
        let n = |key: &str| report[key].as_u64().unwrap_or(0);
        out.line(format!("{} {gone} into {stays}", out.paint(Tone::Good, "✓ merged")));
        out.line(format!("  {} deliveries and {} feed items moved", n("moved"), n("feed_items")));
        if n("cancelled") + n("in_flight") > 0 {
            let (back, flight) = (n("cancelled"), n("in_flight"));
            out.line(format!("  {back} deliveries of what {stays} has too taken back, {flight} under way"));
        }
    });
    Ok(())
}

async fn switch(client: &Client, user: &str, verb: &str, done: &str, out: Output) -> Outcome {
    let answer = client.api(Method::POST, &["users", user, verb]).send().await?;
    out.show(&answer, |out| out.line(format!("{} {}", out.paint(Tone::Good, done), safe(user))));
    Ok(())
}

fn show(out: &Output, user: &Value) {
    let Some(fields) = user.as_object() else { return };
    for (key, value) in fields {
        let text = match value {
            Value::Null => continue,
            Value::String(s) => safe(s),
            Value::Object(m) if m.is_empty() => continue,
            other => safe(&other.to_string()),
        };
        out.line(format!("{}  {text}", out.paint(Tone::Dim, &format!("{key:<12}"))));
    }
}

fn addresses(pairs: &[String]) -> Outcome<Value> {
    let mut map = Map::new();
    for pair in pairs {
        let (channel, address) = pair
            .split_once('=')
            .filter(|(c, a)| !c.is_empty() && !a.is_empty())
            .ok_or_else(|| Failure::usage(format!("{pair:?} is not CHANNEL=ADDRESS")))?;
        map.insert(channel.to_owned(), json!(address));
    }
    Ok(Value::Object(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_pairs() {
        let good = ["sms=+49 1", "hook=https://x/?a=b"].map(str::to_owned);
        assert_eq!(addresses(&good).unwrap(), json!({"sms": "+49 1", "hook": "https://x/?a=b"}));
        assert!(addresses(&["sms".to_owned()]).is_err());
    }
}
