//! What authors of plugins have: `plugin check` finds what a server would find, and says so whatever the plugin does to it;
//! `plugin bench` measures.

use super::files_kit::{built_by_cargo, c_file, root, said, stdout, target, villain};
use crate::docs::document;
use campanile_tests::{host::binary, prelude::*};
use futures_util::{StreamExt, stream};
use std::{
    path::Path,
    process::{Command, Output},
};

pub async fn plugin(command: &str, file: &Path, more: &[&str]) -> Output {
    let mut campanile = Command::new(binary());
    campanile.args(["plugin", command]).arg(file).args(more);
    tokio::task::spawn_blocking(move || campanile.output().unwrap()).await.unwrap()
}

/// What a check said of one point at that part of it: its result and its sentence.
pub fn point(out: &Output, part: &str, name: &str) -> (String, String) {
    let all: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(out)));
    let points = all["points"].as_array().unwrap();
    let found = points.iter().find(|p| p["part"] == part && p["point"] == name);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {name:?} at {part}: {all:#}"));
    (found["result"].as_str().unwrap().to_owned(), found["said"].as_str().unwrap().to_owned())
}

/// The points that a check has warned of, in its order and each once.
pub fn warnings(out: &Output) -> Vec<String> {
    let told = said(out);
    let lines = told.lines().filter_map(|line| line.trim_start().strip_prefix("warning ")?.split(':').next());
    let mut points: Vec<String> = lines.map(str::to_owned).collect();
    points.dedup();
    points
}

#[tokio::test]
async fn a_plugin_that_keeps_the_rules_passes_at_both_levels() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"path": folder.path().join("out.txt")}).to_string();
    let args = ["--with", &config, "--level", "both", "--drill"];
    let told = plugin("check", c_file(), &args).await;
    assert!(told.status.success() && said(&told).contains("It passes"), "{}", said(&told));
    assert!(said(&told).contains("c_file 1.0.0") && !said(&told).contains("FAILED"), "{}", said(&told));
    let out = plugin("check", c_file(), &[&args[..], &["--json"]].concat()).await;
    for (part, name) in [
        ("file", "may load"),
        ("file", "an empty configuration"),
        ("file", "an unknown key"),
        ("process", "fifty at once"),
        ("process", "its process is killed"),
        ("in-process", "two instances"),
        ("in-process", "each token ends once"),
        ("file", "exported names"),
        ("file", "needed libraries"),
        ("file", "strange configurations"),
        ("process", "strange deliveries"),
        ("process", "lets go of everything"),
    ] {
        assert_eq!(point(&out, part, name).0, "ok", "{name} at {part}: {}", said(&out));
    }
    // Row 15 of the acceptance table: what no design can contain is said, here and in the documents.
    let (result, sentence) = point(&out, "in-process", "crashes");
    assert_eq!((result.as_str(), sentence.contains("a crash of the server")), ("skipped", true), "{sentence}");
    assert!(document("docs/operators.md").contains("a crash of it is a crash of the server"));
}

/// What is built in, what is said to it, where it shows, and in which words.
type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, &'a str, &'a str);

/// A villain whose description holds this schema.
fn with_schema(schema: &str) -> String {
    let text = format!(r#"{{"name":"villain","version":"1.0.0","config_schema":{schema}}}"#);
    format!("-DDESCRIBE={}", json!(text))
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_point() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    let text = |manifest: &str| json!(manifest).to_string();
    let abi9 = text(r#"{"campanile_abi":9,"name":"villain","version":"1.0.0","target":"x86_64-linux-gnu"}"#);
    let other = text(r#"{"name":"somebody","version":"1.0.0"}"#);
    let (marks, abi9, other) =
        (format!("-DMARKER=\"{}\"", marker.display()), format!("-DMANIFEST={abi9}"), format!("-DDESCRIBE={other}"));
    let loose = with_schema(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#);
    let closed = with_schema(
        r#"{"type":"object","required":["code"],"properties":{"code":{"pattern":"^[0-9]{9}$","type":"string"}}}"#,
    );
    let none = with_schema(r#"{"type":7}"#);
    let cases: &[Case<'_>] = &[
        (&[&abi9, &marks], &[], "file", "may load", "built for plugin interface 9"),
        (&["-DMISSING"], &[], "file", "opens", "camp_no_such_function"),
        (&["-DABORTS"], &[], "file", "opens", "signal 6"),
        (&[&other], &[], "file", "describes itself", "somebody"),
        (&[&none], &[], "file", "schema", "can't be used"),
        (&[&closed], &[], "file", "configuration", "/code"),
        (&[], &["--with", r#"{"a":"wrong"}"#], "file", "configuration", "/a is wrong"),
        (&[], &["--with", r#"{"a":"crash"}"#], "file", "configuration", "signal 6"),
        (&[&loose], &[], "file", "an unknown key", "additionalProperties"),
        (&[], &["--with", r#"{"a":"refuse"}"#], "process", "starts", "told to refuse"),
        (&[], &["--to", "never"], "process", "delivers", "did not complete its token"),
        (&[], &["--to", "segv"], "process", "delivers", "segmentation fault"),
        (&[], &["--to", "twice"], "process", "each token ends once", "complete() once"),
        (&["-DTRUSTS"], &[], "file", "strange configurations", "signal 6"),
        (&["-DFORGETS"], &["--to", "ask"], "process", "a delivery that is taken back", "it never ended"),
        (&["-DCANCELS"], &["--to", "ask"], "process", "a cancel that is repeated", "did not survive"),
        (&["-DSMALL"], &[], "process", "strange deliveries", "a recipient of 64 KiB"),
        (&["-DSTAYS"], &[], "process", "lets go of everything", "threads of it ran on"),
        (&["-DSTAYS", "-DCALLS"], &[], "process", "lets go of everything", "after destroy() had returned"),
        (&["-DSTAYS", "-DCALLS"], &["--level", "in-process"], "in-process", "each token ends once", "complete() once"),
        (&["-DCROSSES"], &["--level", "in-process"], "in-process", "two instances", "never in a global"),
        (&[], &["--to", "segv", "--level", "in-process"], "in-process", "delivers", "would have been the server"),
        (&[], &["--to", "exit", "--level", "in-process"], "in-process", "delivers", "ended by itself with status 0"),
        (&[], &["--to", "twice", "--level", "in-process"], "in-process", "each token ends once", "complete() once"),
    ];
    // Each starts processes of its own, which have a few seconds to be there: all at once they would share two cores.
    let tried = stream::iter(cases).for_each_concurrent(3, |(lies, args, part, name, words)| async move {
        let file = villain(lies);
        let out = plugin("check", &file, &[args, &["--json"][..]].concat()).await;
        let (result, sentence) = point(&out, part, name);
        assert_eq!(result, "failed", "{lies:?} {args:?}: {}", said(&out));
        assert!(sentence.contains(words), "{lies:?} {args:?}: {sentence}");
        assert_eq!(out.status.code(), Some(1), "{lies:?} {args:?}");
    });
    tried.await;
    assert!(!marker.exists(), "code of a file that may not load has run");
}

#[tokio::test]
async fn what_a_rust_plugin_does_wrong_is_named_too() {
    built_by_cargo(&["build", "--locked"], &root().join("plugins/examples/drill/Cargo.toml"));
    let drill = target().join("debug/libcampanile_drill.so");
    for (to, name, words) in [
        ("panic", "delivers", "told to in deliver"),
        ("hang", "delivers", "did not complete its token"),
        ("linger", "lets go of everything", "threads of it ran on"),
    ] {
        let args = ["--with", r#"{"label":"x"}"#, "--to", to];
        let told = plugin("check", &drill, &[&args[..], &["--json"]].concat()).await;
        let (result, sentence) = point(&told, "process", name);
        assert!(result == "failed" && sentence.contains(words), "{to}: {sentence}: {}", said(&told));
    }
}

#[tokio::test]
async fn what_a_server_takes_and_its_operator_may_regret_is_a_warning() {
    let exports = villain(&["-DEXPORTS"]);
    let needs = villain(&["-Wl,--no-as-needed", "-lstdc++"]);
    for (file, name, words) in [
        (exports.as_path(), "exported names", "villain_helper"),
        (needs.as_path(), "needed libraries", "libstdc++.so.6"),
        (stdout(), "build", "cargo build --release"),
    ] {
        let out = plugin("check", file, &["--json"]).await;
        let (result, sentence) = point(&out, "file", name);
        assert_eq!(result, "warned", "{name}: {}", said(&out));
        assert!(sentence.contains(words), "{name}: {sentence}");
        assert!(out.status.success(), "a warning is no failure: {}", said(&out));
        let told = plugin("check", file, &[]).await;
        assert!(said(&told).contains(&format!("warning {name}: ")), "{}", said(&told));
        assert!(said(&told).contains("It passes, with one warning."), "{}", said(&told));
    }
}

#[tokio::test]
async fn a_bench_compares_the_levels_and_survives_what_it_measures() {
    let file = villain(&[]);
    let out = plugin("bench", &file, &["--json"]).await;
    assert!(out.status.success(), "{}", said(&out));
    let measured: Value = serde_json::from_slice(&out.stdout).unwrap();
    for level in ["process", "in_process", "ratio"] {
        for how in ["one_by_one", "fifty_under_way"] {
            assert!(measured[level][how].as_f64().is_some_and(|n| n > 0.0), "{level} {how}: {measured}");
        }
    }
    let crashed = plugin("bench", &file, &["--to", "segv"]).await;
    assert!(!crashed.status.success() && said(&crashed).contains("segmentation fault"), "{}", said(&crashed));
}
