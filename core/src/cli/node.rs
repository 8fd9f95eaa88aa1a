//! `campanile node list`: the nodes that live.

use super::{
    Global,
    client::Client,
    exit::Outcome,
    output::{Output, safe},
    timeline::human,
};
use reqwest::Method;
use serde_json::Value;

#[derive(clap::Subcommand, Clone, Copy, Debug)]
pub enum Command {
    /// List the nodes that live, and what each of them holds.
    List,
}

pub async fn run(_: Command, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    let found = client.api(Method::GET, &["nodes"]).send().await?;
    out.show(&found, |out| out.table(&table(&found)));
    Ok(())
}

fn table(found: &Value) -> Vec<Vec<String>> {
    let head = ["NODE", "HOST", "ADDRESS", "VERSION", "STATE", "CONNECTIONS", "USERS", "SILENT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in found["items"].as_array().into_iter().flatten() {
        let mut row: Vec<String> = ["node_id", "host", "address", "version"]
            .iter()
            .map(|key| safe(node[*key].as_str().unwrap_or("–")))
            .collect();
        row.push(state(node));
        row.extend(["connections", "users"].map(|key| node[key].as_u64().unwrap_or(0).to_string()));
        row.push(human(node["silent_ms"].as_i64().unwrap_or(0)));
        rows.push(row);
    }
    rows
}

fn state(node: &Value) -> String {
    let without: Vec<String> =
        node["degraded"].as_array().into_iter().flatten().filter_map(|d| d.as_str().map(safe)).collect();
    match (node["draining"] == true, without.as_slice()) {
        (true, _) => "stopping".to_owned(),
        (false, []) => "ok".to_owned(),
        (false, parts) => format!("without {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_a_line() {
        let node = |degraded: &[&str], draining: bool| {
            json!({"node_id": "n1", "host": "tower", "address": "10.0.0.1:8000", "version": "0.1.0", "degraded": degraded,
                "draining": draining, "connections": 12, "users": 9, "silent_ms": 3_000})
        };
        let found = json!({"items": [node(&[], false), node(&["bus"], false), node(&["bus"], true)]});
        let rows = table(&found);
        assert_eq!(rows[1][..7], ["n1", "tower", "10.0.0.1:8000", "0.1.0", "ok", "12", "9"]);
        assert_eq!((&*rows[2][4], &*rows[3][4]), ("without bus", "stopping"));
    }
}
