//! `campanile plugin reload NAME`: a running server takes a plugin up as its lock file names it now, at first for a share of the
//! deliveries if that is asked for; `promote` and `rollback` end the trial.

use super::super::{
    Global,
    client::Client,
    exit::Outcome,
    output::{Output, Tone, safe},
};
use reqwest::Method;
use serde_json::{Value, json};

pub async fn run(name: &str, share: Option<u8>, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    let asked = client.api(Method::POST, &["plugins", name, "reload"]);
    let plugin = match share {
        Some(share) => asked.json(&json!({ "share": share })).send().await?,
        None => asked.send().await?,
    };
    out.show(&plugin, |out| {
        if let Some(trial) = plugin["trial"].as_object() {
            let (version, share) = (trial["version"].as_str().unwrap_or("–"), &trial["share"]);
            let (good, old) = (out.paint(Tone::Good, "✓ on trial"), plugin["version"].as_str().unwrap_or("–"));
            out.line(format!("{good} {} {}: it takes {share} %, {} the rest", safe(name), safe(version), safe(old)));
            out.line(format!(
                "  end it with campanile plugin promote {0}, or campanile plugin rollback {0}",
                safe(name)
            ));
            return;
        }
        let Some(version) = plugin["version"].as_str() else {
            out.line(format!(
                "{} {}: it is listed no more, its instances end",
                out.paint(Tone::Good, "✓ gone"),
                safe(name)
            ));
            return;
        };
        let isolation = plugin["origin"]["isolation"].as_str().unwrap_or("–");
        out.line(format!(
            "{} {} {} ({})",
            out.paint(Tone::Good, "✓ reloaded"),
            safe(name),
            safe(version),
            safe(isolation)
        ));
        let instances: Vec<_> =
            plugin["instances"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !instances.is_empty() {
            out.line(format!("  {}", safe(&instances.join(", "))));
        }
    });
    Ok(())
}

/// Ends a trial.
pub async fn settle(name: &str, how: &str, global: &Global, out: Output) -> Outcome {
    let plugin = Client::new(global)?.api(Method::POST, &["plugins", name, how]).send().await?;
    out.show(&plugin, |out| {
        let version = plugin["version"].as_str().unwrap_or("–");
        let good = out.paint(Tone::Good, "✓ settled");
        out.line(format!("{good} {} {}: it takes everything", safe(name), safe(version)));
    });
    Ok(())
}
