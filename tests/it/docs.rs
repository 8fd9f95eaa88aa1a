//! The documents are true: their examples run, their settings and metrics exist.

use campanile_tests::{
    host::{API_KEY, binary},
    prelude::*,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn documents() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("docs")).unwrap().map(|f| f.unwrap().path()).collect();
    files.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|f| root().join(f)));
    files.retain(|f| f.extension().is_some_and(|e| e == "md") && f.exists());
    files.iter().map(|f| (f.display().to_string(), std::fs::read_to_string(f).unwrap())).collect()
}

/// One of them, by its path.
pub fn document(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Bodies of fenced blocks whose info line is exactly this.
pub fn blocks(text: &str, info: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(&format!("```{info}\n")) {
        let body = &rest[at + info.len() + 4..];
        let end = body.find("```").expect("a fence is closed");
        found.push(body[..end].to_owned());
        rest = &body[end + 3..];
    }
    found
}

#[tokio::test]
async fn marked_examples_run() {
    let host = TestHost::start().await;
    let mut ran = 0;
    for (name, text) in documents() {
        for block in blocks(&text, "sh run") {
            let bin = binary();
            let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
            let mut bash = Command::new("bash");
            bash.args(["-euo", "pipefail", "-c", &block])
                .current_dir(host.folder())
                .env("PATH", path)
                .env("SERVER", host.url(""))
                .env("KEY", API_KEY)
                .env("TOKEN", token::user("ada"))
                // A dev server of an example is found by its own commands, and by nobody else's.
                .env("XDG_RUNTIME_DIR", host.folder())
                // `doctor` and `config check` look at this host's own file.
                .env("CAMPANILE_SERVER__DATA_DIR", host.folder().join("doctor"));
            let output = tokio::task::spawn_blocking(move || bash.output().unwrap()).await.unwrap();
            assert!(
                output.status.success(),
                "an example of {name} failed:\n{block}\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            ran += 1;
        }
    }
    assert!(ran >= 5, "only {ran} examples are marked");
}

#[test]
fn settings_named_in_the_documents_exist() {
    let defaults = std::fs::read_to_string(root().join("config/default.toml")).unwrap();
    let mut known = std::collections::BTreeSet::new();
    let mut section = String::new();
    for line in defaults.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" =") {
            known.insert(format!("{section}.{key}"));
        }
    }
    let sections: std::collections::BTreeSet<_> =
        known.iter().map(|k| k.split('.').next().unwrap().to_owned()).collect();
    for (name, text) in documents() {
        for word in text.split('`').skip(1).step_by(2) {
            let Some((section, key)) = word.split_once('.') else { continue };
            let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            // `ingest.md` and the like are files, not settings.
            if sections.contains(section) && plain(key) && !["rs", "toml", "md", "json"].contains(&key) {
                assert!(known.contains(word), "{name} names the setting {word}, which does not exist");
            }
        }
    }
}

#[test]
fn metrics_named_in_the_documents_exist() {
    // The source, not a page: a counter that has not counted yet is not on the page.
    let page = std::fs::read_to_string(root().join("core/src/observe/metrics.rs")).unwrap();
    for (name, text) in documents() {
        for word in text.split('`').filter(|w| w.starts_with("campanile_") && !w.contains(' ')) {
            let family = word.trim_end_matches("_total");
            assert!(page.contains(&format!("\"{family}\"")), "{name} names the metric {word}, which does not exist");
        }
    }
}

/// All Rust below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

#[test]
fn tests_named_in_the_documents_exist() {
    let all: Vec<_> = ["core", "plugins", "tests"].iter().flat_map(|folder| sources(&root().join(folder))).collect();
    let table = document("CONTRIBUTING.md");
    let table = table.split("## What proves that").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: Vec<_> = table.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 50, "{named:?}");
    for (module, test) in named {
        let found = all.iter().filter(|path| path.file_stem().is_some_and(|stem| stem == module)).any(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let before = text.split_once(&format!("fn {test}()")).map(|(before, _)| before.trim_end().to_owned());
            before.is_some_and(|text| ["#[test]", "#[tokio::test]\nasync"].iter().any(|mark| text.ends_with(mark)))
        });
        assert!(found, "CONTRIBUTING.md names the test {module}::{test}, which does not exist");
    }
}

#[test]
fn paths_named_in_the_map_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut checked = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let first = word.split('/').next().unwrap_or_default();
        if ["core", "plugins", "admin-ui", "templates", "migrations", "config", "tests"].contains(&first)
            && !word.contains(['{', ' ', '='])
        {
            assert!(root().join(word).exists(), "ARCHITECTURE.md names {word}, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 15);
}
