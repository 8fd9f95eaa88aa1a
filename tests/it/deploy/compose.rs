//! docker-compose.yml, read by Compose itself without an engine.

use super::{root, text, tool};
use campanile_tests::prelude::*;
use std::{collections::BTreeSet, process::Command};

/// The file as Compose understands it, with `.env.example` for its variables.
pub fn project() -> Value {
    let ran = Command::new(tool("docker-compose"))
        .args(["--env-file", ".env.example", "--profile", "*", "config", "--format", "json"])
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", root().join("target"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn services(project: &Value) -> impl Iterator<Item = (&String, &Value)> {
    project["services"].as_object().expect("services").iter()
}

#[test]
fn compose_reads_it_and_it_has_everything() {
    let project = project();
    let names: BTreeSet<_> = services(&project).map(|(name, _)| name.as_str()).collect();
    let wanted =
        ["balancer", "campanile-1", "campanile-2", "grafana", "mailpit", "postgres", "prometheus", "rabbitmq", "redis"];
    assert_eq!(names, BTreeSet::from(wanted));
    assert_eq!(project["services"]["campanile-1"]["environment"], project["services"]["campanile-2"]["environment"]);
}

#[test]
fn images_are_pinned_and_everything_comes_back_after_a_crash() {
    for (name, service) in services(&project()) {
        let image = service["image"].as_str().expect("an image");
        if service["build"].is_null() {
            let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
            assert!(tag.contains(char::is_numeric), "{name} has the moving image {image}");
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
    }
}

#[test]
fn what_is_mounted_exists() {
    let mut files = 0;
    for (name, service) in services(&project()) {
        for volume in service["volumes"].as_array().into_iter().flatten().filter(|v| v["type"] == "bind") {
            let source = volume["source"].as_str().unwrap();
            assert!(std::path::Path::new(source).exists(), "{name} mounts {source}, which does not exist");
            assert_eq!(volume["read_only"], true, "{name} could change {source}");
            files += 1;
        }
    }
    assert!(files >= 5, "{files} files");
}

#[test]
fn only_the_balancer_can_be_opened_to_others() {
    for (name, service) in services(&project()) {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}");
        }
    }
    assert_eq!(text("docker-compose.yml").matches("CAMPANILE_BIND").count(), 1);
}

#[test]
fn a_drain_has_its_time() {
    for (name, service) in services(&project()).filter(|(name, _)| name.starts_with("campanile") || *name == "balancer")
    {
        assert_eq!(service["stop_grace_period"], "35s", "{name}");
    }
}

#[test]
fn the_example_of_variables_is_whole_and_nothing_in_it_is_forgotten() {
    let (compose, example) = (text("docker-compose.yml"), text(".env.example"));
    let mut named = BTreeSet::new();
    for line in example.lines() {
        let Some((name, _)) = line.trim_start_matches('#').split_once('=') else { continue };
        if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            assert!(compose.contains(name), "docker-compose.yml knows no {name}");
            named.insert(name);
        }
    }
    for variable in compose.split("${").skip(1).map(|rest| rest.split([':', '}']).next().unwrap()) {
        let own = ["CAMPANILE_IMAGE", "CAMPANILE_COMMIT"];
        assert!(named.contains(variable) || own.contains(&variable), ".env.example does not name {variable}");
    }
}

/// The proxy that the nodes believe is the balancer, and its file names the nodes by their services.
#[test]
fn balancer_and_nodes_know_each_other() {
    let project = project();
    let balancer = &project["services"]["balancer"];
    let node = &project["services"]["campanile-1"];
    let address = &balancer["networks"]["default"]["ipv4_address"];
    assert_eq!(&node["environment"]["CAMPANILE_SERVER__TRUSTED_PROXIES"], address);
    for (n, name) in ["campanile-1", "campanile-2"].iter().enumerate() {
        assert_eq!(balancer["environment"][format!("CAMPANILE_NODE_{}", n + 1)], format!("{name}:8000"));
        assert!(project["services"][name].is_object());
    }
    let inside = balancer["environment"]["CAMPANILE_LISTEN"].as_str().unwrap().trim_start_matches(':');
    assert_eq!(balancer["ports"][0]["target"].to_string(), inside);
}
