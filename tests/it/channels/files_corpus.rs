//! Plugins of every language and optimisation, built as their authors build them: each passes `plugin check` and delivers in
//! a host, at every level that it can be run at.

use super::{
    files_author::{plugin, warnings},
    files_kit::{BOTH, House, good, oldest, root, said, target, webhook},
    files_rust::{self, How},
    provider::Provider,
};
use campanile_tests::{host::binary, prelude::*};
use futures_util::future::join_all;
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A plugin, and what it needs to run.
struct Made {
    name: String,
    file: PathBuf,
    levels: &'static [&'static str],
    /// It posts to the configuration's `url`.
    posts: bool,
    /// The points of a check that say something of such a build.
    warned: &'static [&'static str],
}

/// Unoptimised, or with much for debuggers.
const BUILD: &[&str] = &["build"];

/// `campanile plugin new`, with nothing changed by hand.
fn new(name: &str, language: &str) -> PathBuf {
    let folder = target().join(format!("corpus/{name}"));
    let _ = fs::remove_dir_all(&folder);
    let mut campanile = Command::new(binary());
    campanile.args(["plugin", "new", name, "--lang", language, "--dir"]).arg(&folder);
    if language == "rust" {
        campanile.arg("--sdk-path").arg(root().join("plugins/sdk"));
    }
    good(&mut campanile);
    folder
}

fn template(name: &str, language: &str, levels: &'static [&'static str], build: impl FnOnce(&Path) -> PathBuf) -> Made {
    let folder = new(name, language);
    let file = build(&folder);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    Made { name: name.to_owned(), file, levels, posts: true, warned: &[] }
}

/// Written against the layout alone.
fn by_hand(name: &str, file: PathBuf) -> Made {
    // Rust's own library brings its debug information along, unless it is stripped.
    let warned = if matches!(name, "oldest_c" | "raw_rustopt") { &[] } else { BUILD };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    Made { name: name.to_owned(), file, levels: &BOTH, posts: false, warned }
}

/// `make`, and the file that it makes.
fn make(folder: &Path, name: &str, more: &[&str]) -> PathBuf {
    let cache = |tool: &str| target().join(format!("{tool}-cache"));
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(folder).args(more);
    make.env("ZIG_GLOBAL_CACHE_DIR", cache("zig")).env("GOCACHE", cache("go")).env("GOTOOLCHAIN", "local");
    good(&mut make);
    folder.join(format!("{name}.so"))
}

/// The compiler that `scripts/test tools` puts there, or another one.
fn zig() -> String {
    let ours = root().join("target/tools/zig/bin/python");
    let zig = env::var("ZIG").unwrap_or_else(|_| format!("{} -m ziglang", ours.display()));
    let program = zig.split(' ').next().unwrap_or_default();
    let found = Command::new(program).arg("--version").output();
    assert!(found.is_ok(), "no Zig: run `scripts/test tools`, or set ZIG ({program} does not run)");
    format!("ZIG={zig}")
}

fn go() -> String {
    let go = env::var("GO").unwrap_or_else(|_| "go".to_owned());
    let found = Command::new(&go).arg("version").output();
    assert!(found.is_ok(), "no Go: run `scripts/test tools`, or set GO ({go} does not run)");
    format!("GO={go}")
}

fn corpus() -> Vec<Made> {
    const PROCESS: &[&str] = &["process"];
    thread::scope(|scope| {
        let c = scope.spawn(|| {
            let levels = [("c_plain", "-O0"), ("c_fast", "-O2 -g"), ("c_small", "-Os")];
            levels.map(|(name, flags)| {
                template(name, "c", &BOTH, |folder| make(folder, name, &[&format!("CFLAGS={flags}")]))
            })
        });
        let zig = scope.spawn(|| template("in_zig", "zig", &BOTH, |f| make(f, "in_zig", &[&zig()])));
        let go = scope.spawn(|| template("in_go", "go", PROCESS, |f| make(f, "in_go", &[&go()])));
        let rust = scope.spawn(|| {
            // One after the other: cargo would only wait for itself.
            let builds = [("in_rust", How::Debug), ("rust_small", How::Small), ("rust_random", How::Random)];
            builds.map(|(name, how)| template(name, "rust", &BOTH, |folder| files_rust::template(folder, name, how)))
        });
        let [old_c, old_rust] = oldest();
        let raw = [("oldest_c", old_c), ("oldest_rust", old_rust)].into_iter().chain(files_rust::raw());
        let raw: Vec<_> = raw.map(|(name, file)| by_hand(name, file)).collect();
        let mut all: Vec<Made> = c.join().unwrap().into();
        all.push(zig.join().unwrap());
        // Its runtime shows its names.
        all.push(Made { warned: &["exported names"], ..go.join().unwrap() });
        let [debug, small, random] = rust.join().unwrap();
        all.extend([Made { warned: BUILD, ..debug }, small, Made { warned: BUILD, ..random }]);
        all.extend(raw);
        all
    })
}

#[tokio::test]
async fn every_language_passes_the_check_and_delivers() {
    let corpus = tokio::task::spawn_blocking(corpus).await.unwrap();
    let checked = corpus.iter().map(|made| async move {
        let out = plugin("check", &made.file, &["--level", "both"]).await;
        assert!(out.status.success(), "{}: {}", made.name, said(&out));
        assert!(
            said(&out).contains("ok      delivers: a message to \"ada\" was sent"),
            "{}: {}",
            made.name,
            said(&out)
        );
        let both = said(&out).matches("ok      each token ends once").count() == made.levels.len();
        assert!(both, "{}: {}", made.name, said(&out));
        let mut warned = warnings(&out);
        // A runtime that can't be ended begins threads when it likes.
        warned.retain(|point| !(made.name == "in_go" && point == "lets go of everything"));
        assert_eq!(warned, made.warned, "{}: {}", made.name, said(&out));
    });
    join_all(checked).await;

    for isolation in BOTH {
        let provider = Provider::start().await;
        let mut house = House::new(|b| b);
        let here: Vec<_> = corpus.iter().filter(|made| made.levels.contains(&isolation)).collect();
        for made in &here {
            house.add(&made.file, &["--private-host", "127.0.0.1", "--isolation", isolation]).await;
        }
        house.host.launch().await;
        for made in &here {
            let config = if made.posts { json!({"url": provider.url()}) } else { json!({}) };
            house.create(&json!({"name": made.name, "plugin": made.name, "config": config})).await;
            let id = house.send(&made.name, "ada").await;
            house.host.api().state(&id, &made.name, "sent").await;
        }
        let arrived = provider.seen().iter().filter(|request| request.contains("At nine.")).count();
        assert_eq!(arrived, here.iter().filter(|made| made.posts).count(), "{isolation}: {:?}", provider.seen());
        house.host.stop().await;
    }
}

#[tokio::test]
async fn a_channel_that_ships_passes_once_its_secret_is_given() {
    let bare = plugin("check", webhook(), &[]).await;
    // What a secret must look like stands in no schema, so the author is told which one is missing and how to give it.
    assert!(!bare.status.success(), "{}", said(&bare));
    assert!(said(&bare).contains("/secret") && said(&bare).contains("--with"), "{}", said(&bare));
    let config = json!({"url": "https://example.org/in", "secret": SECRET}).to_string();
    let given = plugin("check", webhook(), &["--level", "both", "--with", &config]).await;
    assert!(given.status.success(), "{}", said(&given));
}
