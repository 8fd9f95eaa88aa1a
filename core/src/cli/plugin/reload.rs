//! `campanile plugin reload NAME`: a running server takes a plugin up as its lock file names it now.

use super::super::{
    Global,
    client::Client,
    exit::Outcome,
    output::{Output, Tone, safe},
};
use reqwest::Method;
use serde_json::Value;

pub async fn run(name: &str, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    let plugin = client.api(Method::POST, &["plugins", name, "reload"]).send().await?;
    out.show(&plugin, |out| {
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
