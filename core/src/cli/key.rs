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
    /// Make a key in the place of another one, which works until the overlap ends; print the new one, once.
    Rotate {
        key_id: String,
        /// How long both work: 90m, 24h, 7d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
        overlap: u64,
    },
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
            shown_once(&made, out);
        }
        Command::Rotate { key_id, overlap } => {
            let client = Client::new(global)?;
            let body = json!({ "overlap_s": overlap });
            let made = client.api(Method::POST, &["keys", &key_id, "rotate"]).json(&body).send().await?;
            shown_once(&made, out);
            if !out.json && !out.quiet {
                let ends = made["rotated_ends_at"].as_str().unwrap_or_default();
                remark(format!("{} works until {}.", safe(&key_id), safe(ends)));
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

fn shown_once(made: &Value, out: Output) {
    if out.json {
        out.show(made, |_| {});
        return;
    }
    out.answer(made["key"].as_str().unwrap_or_default());
    if !out.quiet {
        remark("Keep it now: it is not shown again.");
    }
}

/// `24h` in seconds.
fn span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time such as 90m, 24h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let n: u64 =
        text.strip_suffix(unit).and_then(|n| n.parse().ok()).filter(|n| *n <= 100_000_000).ok_or_else(wrong)?;
    match unit {
        's' => Ok(n),
        'm' => Ok(n * 60),
        'h' => Ok(n * 3_600),
        'd' => Ok(n * 86_400),
        _ => Err(wrong()),
    }
}

fn rows(found: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![["KEY ID", "NAME", "SCOPES", "CREATED", "LAST USED", "STATE"].map(str::to_owned).to_vec()];
    for key in found["items"].as_array().into_iter().flatten() {
        let text = |k: &str| key[k].as_str().unwrap_or("–").to_owned();
        let scopes: Vec<_> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let state = match (key["revoked_at"].as_str(), key["expires_at"].as_str()) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(ends)) => format!("until {ends}"),
            (None, None) => "active".to_owned(),
        };
        rows.push(vec![
            text("key_id"),
            text("name"),
            scopes.join(","),
            text("created_at"),
            text("last_used_at"),
            state,
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_a_number_with_a_unit() {
        for (text, seconds) in [("30s", 30), ("90m", 5_400), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(span(text), Ok(seconds));
        }
        for wrong in ["", "h", "24", "-1h", "1w", "é", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
