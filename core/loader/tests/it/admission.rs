//! What may not load, and the sentence that says why.

use super::{build, house::House};
use campanile_loader::{Isolation, Step};
use serde_json::json;
use std::fs;

fn manifest(abi: u32, minor: u32) -> String {
    format!(
        "-DMANIFEST=\"{{\\\"campanile_abi\\\":{abi},\\\"min_minor\\\":{minor},\\\"name\\\":\\\"villain\\\",\
         \\\"version\\\":\\\"1.0.0\\\",\\\"target\\\":\\\"\" CAMP_TARGET \"\\\"}}\""
    )
}

fn describe(json: &str) -> String {
    format!("-DDESCRIBE=\"{}\"", json.replace('"', "\\\""))
}

#[tokio::test]
async fn another_interface_is_refused_before_any_code_runs() {
    let house = House::new();
    let marker = house.folder.join("ran");
    let mark = format!("-DMARKER=\"{}\"", marker.display());
    let refusal = house.refusal(&build::villain(&[&manifest(9, 0), &mark])).await;
    assert_eq!(refusal.step, Step::Version);
    assert!(refusal.reason.contains("interface 9, this host has 1"), "{refusal}");
    let refusal = house.refusal(&build::villain(&[&manifest(1, 7), &mark])).await;
    assert!(refusal.reason.contains("needs plugin interface 1.7 of the host, this is 1.0"), "{refusal}");
    assert!(!marker.exists(), "its constructor ran");
    house.load(&build::villain(&[&mark]), "villain", "1.0.0", Isolation::Process).await;
    assert!(marker.exists(), "the marker would have shown it");
}

#[tokio::test]
async fn files_that_are_no_plugins() {
    let house = House::new();
    let refusal = house.refusal(&build::villain(&["-DNO_MANIFEST"])).await;
    assert!(refusal.reason.contains("no section .camp"), "{refusal}");
    let whole = fs::read(build::plain()).unwrap();
    let cut = house.folder.join("cut");
    fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    assert!(house.refusal(&cut).await.reason.contains("cut off"));
    // The manifest is there, its code is not.
    let mut hollow = whole;
    let zeroed = 4096.min(hollow.len() / 4);
    hollow[64..zeroed].fill(0);
    fs::write(&cut, hollow).unwrap();
    let refusal = house.refusal(&cut).await;
    assert_eq!(refusal.step, Step::Open, "{refusal}");
}

#[tokio::test]
async fn tables_that_are_none() {
    let house = House::new();
    for (lie, said) in [
        ("-DNULL_TABLE", "campanile_plugin_v1() returned NULL"),
        ("-DSIZE=8", "size is 8, but must be at least"),
        ("-DDELIVER=NULL", "the plugin's table has no deliver()"),
        ("-DFLAGS=1u<<16", "flags 0x10000"),
    ] {
        let refusal = house.refusal(&build::villain(&[lie])).await;
        assert_eq!(refusal.step, Step::Table, "{refusal}");
        assert!(refusal.reason.contains(said), "{refusal}");
    }
    house.load(&build::villain(&["-DFLAGS=1u<<3"]), "villain", "1.0.0", Isolation::Process).await;
}

#[tokio::test]
async fn a_missing_symbol_shows_at_once() {
    let refusal = House::new().refusal(&build::villain(&["-DMISSING"])).await;
    assert_eq!(refusal.step, Step::Open);
    assert!(refusal.reason.contains("undefined symbol: camp_no_such_function"), "{refusal}");
}

#[tokio::test]
async fn constructors_that_abort_or_hang_cost_a_child() {
    let house = House::new();
    let refusal = house.refusal(&build::villain(&["-DABORTS"])).await;
    assert!(refusal.reason.contains("died of signal 6 (abort) while it was opened"), "{refusal}");
    assert!(refusal.reason.contains("it wrote: an aborting constructor"), "{refusal}");
    let refusal = house.refusal(&build::villain(&["-DHANGS"])).await;
    assert!(refusal.reason.contains("did not end within 5 s"), "{refusal}");
}

#[tokio::test]
async fn descriptions_that_lie_or_lead_outside() {
    let house = House::new();
    let of =
        |schema: &str| describe(&format!("{{\"name\":\"villain\",\"version\":\"1.0.0\",\"config_schema\":{schema}}}"));
    for (lie, said) in [
        (describe("{\"name\":\"villain\",\"version\":\"1.0.1\"}"), "its manifest says villain 1.0.0"),
        (describe("{\"name\":\"hero\",\"version\":\"1.0.0\"}"), "it calls itself \"hero\""),
        (describe("no JSON"), "can't be read"),
        (of("{\"$ref\":\"http://127.0.0.1:9/s.json\"}"), "only references within it"),
        (of("{\"$ref\":\"file:///etc/passwd\"}"), "only references within it"),
        ("-DLONG_SCHEMA=300".to_owned(), "at most 256"),
        ("-DLONG_SCHEMA=10240".to_owned(), "describe() wrote more than 768 KiB"),
    ] {
        let refusal = house.refusal(&build::villain(&[&lie])).await;
        assert_eq!(refusal.step, Step::Describe, "{refusal}");
        assert!(refusal.reason.contains(said), "{refusal}");
    }
}

#[tokio::test]
async fn a_configuration_is_checked_in_a_child() {
    let house = House::new();
    let plugin = house.load(build::plain(), "villain", "1.0.0", Isolation::InProcess).await;
    assert_eq!(plugin.validate(&json!({})).await, Ok(()));
    let problems = plugin.validate(&json!({ "a": "wrong" })).await.unwrap_err();
    assert_eq!((problems[0].key.as_str(), problems[0].message.as_str()), ("a", "is wrong"));
    let problems = plugin.validate(&json!({ "a": "crash" })).await.unwrap_err();
    assert!(problems[0].message.contains("died of signal 6 (abort) while it checked"), "{problems:?}");
    let drill = house.load(build::drill_debug(), "drill", "0.3.1", Isolation::Process).await;
    let problems = drill.validate(&json!({ "label": 7 })).await.unwrap_err();
    assert_eq!(problems[0].pointer(), "/label");
    let problems = drill.validate(&json!({ "label": "x", "panic_in": ["validate"] })).await.unwrap_err();
    assert!(problems[0].message.contains("told to in validate"), "{problems:?}");
}

#[tokio::test]
async fn what_is_not_listed_does_not_load() {
    let house = House::new();
    assert!(house.loader.load("villain").await.err().unwrap().reason.contains("no plugin \"villain\" is listed"));
    house.list(build::plain(), "villain", "1.0.0", |e| e.sha256 = "0".repeat(64));
    assert_eq!(house.loader.load("villain").await.err().unwrap().step, Step::Hash);
}
