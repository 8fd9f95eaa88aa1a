//! The Dockerfile, without an engine: its linter, and everything in it that this repository can contradict.

use super::{root, text, tool};
use campanile_tests::{host::binary, prelude::*};
use std::{collections::BTreeSet, process::Command};

/// Instructions with their continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let mut joined = String::new();
    for line in text("Dockerfile").lines().filter(|l| !l.trim_start().starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => joined.push_str(part),
            None => joined.extend([line, "\n"]),
        }
    }
    let lines = joined.lines().filter(|l| !l.trim().is_empty());
    lines.map(|l| l.split_once(' ').map(|(a, b)| (a.to_owned(), b.trim().to_owned())).unwrap()).collect()
}

fn all(name: &str) -> Vec<String> {
    instructions().into_iter().filter(|(n, _)| n == name).map(|(_, rest)| rest).collect()
}

/// The words of `CMD ["a", "b"]`.
fn words(list: &str) -> Vec<String> {
    serde_json::from_str(&list[list.find('[').expect("the exec form")..]).expect("a JSON list")
}

#[test]
fn the_linter_is_content() {
    let ran = Command::new(tool("hadolint")).arg("Dockerfile").current_dir(root()).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn what_is_copied_exists_and_is_sent_to_the_engine() {
    let sent: BTreeSet<String> =
        text(".dockerignore").lines().filter_map(|l| l.strip_prefix('!')).map(str::to_owned).collect();
    let mut copied = BTreeSet::new();
    for copy in all("COPY").iter().filter(|c| !c.starts_with("--from")) {
        let mut sources: Vec<_> = copy.split_whitespace().map(str::to_owned).collect();
        sources.pop();
        for source in sources {
            assert!(root().join(&source).exists(), "the Dockerfile copies {source}, which does not exist");
            assert!(sent.contains(&source), ".dockerignore keeps {source} from the engine");
            copied.insert(source);
        }
    }
    assert_eq!(copied, sent, "copied and sent are not the same");
    let manifest = text("Cargo.toml");
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    for member in members.split(',').map(|m| m.trim().trim_matches('"')).filter(|m| !m.is_empty()) {
        let top = member.split('/').next().unwrap();
        assert!(copied.contains(top), "{member} is a member of the workspace and not copied");
    }
}

#[test]
fn stages_resolve_and_bases_are_pinned() {
    let mut stages = BTreeSet::new();
    for from in all("FROM") {
        let (image, stage) = from.split_once(" AS ").unwrap_or((&from, ""));
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(stages.contains(image) || tag.is_some_and(|t| t != "latest" && t.contains(char::is_numeric)), "{from}");
        stages.insert(stage.to_owned());
    }
    for copy in all("COPY") {
        if let Some(from) = copy.strip_prefix("--from=") {
            assert!(stages.contains(from.split(' ').next().unwrap()), "{copy}");
        }
    }
    let manifest = text("Cargo.toml");
    let needed = manifest.lines().find_map(|l| l.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let minor = |v: &str| v.split('.').nth(1).unwrap().split('-').next().unwrap().parse::<u32>().unwrap();
    let rust = all("FROM").iter().find_map(|f| f.strip_prefix("rust:").map(minor)).expect("a Rust image builds");
    assert!(rust >= minor(needed), "the image brings Rust 1.{rust}, the workspace needs {needed}");
}

#[test]
fn it_builds_the_binary_that_exists() {
    let run = all("RUN").into_iter().find(|r| r.contains("cargo build")).expect("something is built");
    let after = |flag: &str| run.split(flag).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let manifest = text("core/Cargo.toml");
    assert!(manifest.contains(&format!("name = \"{}\"", after("--package"))), "{run}");
    assert!(manifest.contains(&format!("name = \"{}\"", after("--bin"))), "{run}");
    assert!(run.contains("--release --locked") && !run.contains("failpoints"), "{run}");
    let libraries = Command::new("ldd").arg(binary()).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for line in libraries.lines().filter(|l| l.contains("=>")) {
        let name = line.split_whitespace().next().unwrap();
        let known = ["libc.so", "libm.so", "libgcc_s.so", "libpthread.so", "libdl.so", "librt.so", "ld-linux"];
        assert!(known.iter().any(|k| name.starts_with(k)), "a slim image has no {name}");
    }
}

#[test]
fn it_runs_as_nobody_in_particular() {
    let user = all("USER").pop().expect("a USER");
    let uid: u32 = user.split(':').next().unwrap().parse().expect("a number, so that Kubernetes can tell it from root");
    assert!(uid > 0);
    assert!(all("RUN").iter().any(|r| r.contains(&format!("install -d -o {uid} ")) && r.contains("/data")));
    assert_eq!((all("VOLUME"), all("STOPSIGNAL")), (vec!["/data".to_owned()], vec!["SIGTERM".to_owned()]));
}

/// Entry point, command, variables and health check as a process of this machine; only port and folder are ours.
#[tokio::test]
async fn its_commands_run() {
    let (entry, cmd) = (words(&all("ENTRYPOINT")[0]), words(&all("CMD")[0]));
    assert_eq!((entry.join(" "), cmd.join(" ")), ("campanile".into(), "serve".into()), "as the harness starts it");
    let mut host = TestHost::builder().unset("server.listen").unset("auth.jwt_secret");
    for pair in all("ENV").iter().flat_map(|e| e.split_whitespace()) {
        let (name, value) = pair.split_once('=').unwrap();
        match name {
            "CAMPANILE_SERVER__LISTEN" => {
                let (all_addresses, port) = value.rsplit_once(':').unwrap();
                assert_eq!(all("EXPOSE"), [port]);
                host = host.env(name, format!("{all_addresses}:0"));
            }
            "CAMPANILE_SERVER__DATA_DIR" => assert_eq!(value, "/data"),
            _ => host = host.env(name, value),
        }
    }
    let host = host.start().await;
    let health = words(&all("HEALTHCHECK")[0]);
    assert_eq!(health[0], "campanile");
    let mut command = host.command();
    command.args(&health[1..]).env("CAMPANILE_SERVER__LISTEN", format!("0.0.0.0:{}", host.address().port()));
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
