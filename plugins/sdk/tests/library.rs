//! Real libraries, built as their authors build them, loaded with dlopen and driven through the C table.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    HttpReply, Level, MetricKind,
    testing::{Handed, Instance, Plugin, Sample, Script, block_on},
    wire::{Manifest, Outcome, Status},
};
use libloading::{Library, Symbol};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Beside the workspace's own build, shared by all tests that build plugins.
fn target() -> PathBuf {
    let exe = env::current_exe().unwrap();
    exe.ancestors().nth(3).unwrap().join("plugins")
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"))
}

fn good(command: &mut Command) -> String {
    let out = run(command);
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn cargo(verb: &str, target: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([verb, "--locked", "--manifest-path"]).arg(examples().join("drill/Cargo.toml"));
    cargo.arg("--target-dir").arg(target);
    // The flags of the build that runs us are not the author's.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if (name.starts_with("CARGO") && name != "CARGO_HOME") || name.starts_with("RUSTFLAGS") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// One build at a time: cargo would only wait, and say so.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drill(name: &str, features: &[&str]) -> PathBuf {
    let _alone = alone();
    let target = target();
    good(cargo("build", &target).args(features));
    copied(&target.join("debug/libcampanile_drill.so"), &format!("libdrill-{name}.so"))
}

/// A file of its own: what is loaded is never written to.
fn copied(from: &Path, name: &str) -> PathBuf {
    let (file, half) = (target().join(name), target().join(format!("{name}.{}", std::process::id())));
    fs::copy(from, &half).unwrap();
    fs::rename(half, &file).unwrap();
    file
}

static PLAIN: LazyLock<PathBuf> = LazyLock::new(|| drill("plain", &[]));
static TOKIO: LazyLock<PathBuf> = LazyLock::new(|| drill("tokio", &["--features", "tokio"]));

fn compiled(source: &Path, out: &str, compiler: &str, flags: &[&str]) -> PathBuf {
    let _alone = alone();
    fs::create_dir_all(target()).unwrap();
    let out = target().join(out);
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/include");
    let strict = ["-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-shared", "-Wl,-z,defs"];
    good(Command::new(compiler).args(flags).args(strict).arg("-I").arg(include).arg(source).arg("-o").arg(&out));
    out
}

fn c_file() -> PathBuf {
    let _alone = alone();
    fs::create_dir_all(target()).unwrap();
    let made = target().join("libc_file.so");
    good(Command::new("make").arg("-s").arg("-C").arg(examples().join("c")).arg(format!("OUT={}", made.display())));
    made
}

/// Stays loaded for the rest of the process.
#[allow(unsafe_code)]
fn load(file: &Path) -> Plugin {
    // SAFETY: our own library; it is never unloaded; the entry has the type that the interface gives it.
    unsafe {
        let library: &'static Library = Box::leak(Box::new(Library::new(file).unwrap()));
        let entry: Symbol<'_, campanile_plugin::abi::EntryFn> = library.get(campanile_plugin::abi::ENTRY).unwrap();
        Plugin::at(entry()).unwrap()
    }
}

fn start(plugin: Plugin, config: &Value) -> (Instance, Arc<Script>) {
    let script = Script::new();
    let instance = block_on(plugin.start(&config.to_string(), script.clone()));
    (instance.unwrap_or_else(|o| panic!("does not start: {o:?}")), script)
}

fn send(instance: &Instance, order: &str) -> Outcome {
    block_on(instance.deliver(&Sample::to(order).text("word").0))
}

fn hand(instance: &Instance, order: &str) -> Handed {
    instance.hand_over(&[Sample::to(order).0]).pop().unwrap()
}

#[test]
fn a_library_exports_two_names_and_its_manifest_survives_strip() {
    for file in [&*PLAIN, &c_file()] {
        let names = good(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(file));
        let mut names: Vec<_> = names.lines().filter_map(|l| l.split(' ').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["campanile_plugin_manifest", "campanile_plugin_v1"], "{}", file.display());
        let stripped = file.with_extension("stripped");
        good(Command::new("strip").arg("-o").arg(&stripped).arg(file));
        let bytes = fs::read(&stripped).unwrap();
        let begin = b"{\"campanile_abi\":";
        let found: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(begin)).collect();
        assert_eq!(found.len(), 1, "{}", file.display());
        let text = bytes[found[0]..].split(|b| *b == 0).next().unwrap();
        let manifest: Manifest = serde_json::from_slice(text).unwrap();
        assert_eq!((manifest.campanile_abi, manifest.min_minor), (1, 0));
        assert_eq!(manifest.target, campanile_plugin::abi::TARGET);
        let described: Value = serde_json::from_slice(&load(&stripped).describe()).unwrap();
        assert_eq!((&described["name"], &described["version"]), (&json!(manifest.name), &json!(manifest.version)));
    }
}

/// Everything that both executors must do alike.
fn drilled(file: &Path) {
    let plugin = load(file);
    let (instance, script) = start(plugin, &json!({ "label": "one", "token": "hunter2" }));
    assert_eq!(send(&instance, "ok").provider_id.as_deref(), Some("one"));

    // Outcomes keep their words.
    let retry = send(&instance, "retry");
    assert_eq!((retry.status, retry.retry_after_ms(), retry.code.as_str()), (Status::Retry, 5000, "told_to"));
    assert!(retry.into_delivery().unwrap_err().reason().uncertain);
    for (order, status) in [
        ("throttled", Status::Throttled),
        ("permanent", Status::Permanent),
        ("gone", Status::RecipientGone),
        ("misconfigured", Status::Misconfigured),
    ] {
        assert_eq!(send(&instance, order).status, status);
    }

    // Panics stay in and say where.
    for order in ["panic", "bomb"] {
        let outcome = send(&instance, order);
        assert_eq!((outcome.status, outcome.code.as_str()), (Status::Internal, "panic"), "{outcome:?}");
        assert_eq!(send(&instance, "ok").status, Status::Ok, "after {order}");
    }
    assert!(send(&instance, "panic").message.contains("told to in deliver (at src/lib.rs:"));
    let logs = script.logs();
    let said = logs.iter().find(|l| l.message.contains("told to in deliver")).unwrap();
    assert_eq!((said.level, said.target.as_str(), &said.fields["file"]), (Level::Error, "panic", &json!("src/lib.rs")));
    assert_eq!(send(&instance, "thread").status, Status::Ok);
    let logs = script.logs();
    let said = logs.iter().find(|l| l.message.contains("told to in a thread")).expect("a thread of the channel's own");
    assert_eq!(said.fields["unattributed"], true);

    // Services.
    script.reply(HttpReply::new(201, "").with_header("X-Id", "7"));
    assert_eq!(send(&instance, "http https://example.org/in?a=b").status, Status::Ok);
    let request = script.requests().pop().unwrap();
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://example.org/in?a=b"));
    assert_eq!((request.headers["authorization"].as_str(), &request.body[..]), ("Bearer hunter2", &b"word"[..]));
    script.reply(HttpReply::new(429, "").with_header("retry-after", "3"));
    assert_eq!(send(&instance, "http https://x").retry_after_ms(), 3000);
    let slept = hand(&instance, "sleep 60000");
    script.wait_until("it sleeps", |s| s.sleeping() == 1);
    script.advance(std::time::Duration::from_secs(60));
    assert_eq!(block_on(slept.end()).status, Status::Ok);
    send(&instance, "log");
    let logs = script.logs();
    let said = logs.iter().find(|l| l.message == "said word").unwrap();
    assert_eq!((said.level, said.target.as_str()), (Level::Warn, "campanile_drill"));
    assert_eq!(said.fields, json!({ "number": 7, "name": "x" }));
    send(&instance, "metric");
    let measured = script.metrics().pop().unwrap();
    assert_eq!((measured.kind, measured.name.as_str(), measured.value), (MetricKind::Counter, "sent", 2.0));
    assert_eq!(send(&instance, "instant").status, Status::Ok);

    // A cancelled delivery ends, its future is dropped, and nobody is told that nothing was sent when it may have been.
    let dropped =
        |n| script.wait_until("it was dropped", |s| s.logs().iter().filter(|l| l.message == "dropped").count() == n);
    let hung = hand(&instance, "hang");
    instance.cancel(hung.token);
    let outcome = block_on(hung.end());
    assert_eq!(outcome.status, Status::Cancelled);
    assert!(!outcome.into_delivery().unwrap_err().reason().uncertain, "it never asked");
    let before = script.logs().iter().filter(|l| l.message == "dropped").count();
    let asked = hand(&instance, "ask");
    // Its turn has come when one handed over later is through.
    send(&instance, "ok");
    instance.cancel(asked.token);
    assert!(block_on(asked.end()).into_delivery().unwrap_err().reason().uncertain, "it was let past the point");
    dropped(before + 1);
    instance.cancel(u64::MAX);

    // Several in one call; one of them hangs, and the others' ends are true.
    let batch: Vec<_> = ["ok", "hang", "permanent"].map(|o| Sample::to(o).0).into();
    let handed = instance.hand_over(&batch);
    let tokens: Vec<_> = handed.iter().map(|h| h.token).collect();
    for token in &tokens {
        instance.cancel(*token);
    }
    for handed in handed {
        assert_eq!(block_on(handed.end()).status, Status::Cancelled);
    }
    let slow: Vec<_> = ["sleep 5000", "sleep 5000"].map(|o| Sample::to(o).0).into();
    let mut handed = instance.hand_over(&slow);
    script.wait_until("both sleep", |s| s.sleeping() == 2);
    instance.cancel(handed[0].token);
    script.advance(std::time::Duration::from_secs(5));
    for handed in handed.drain(..) {
        assert_eq!(block_on(handed.end()).status, Status::Ok, "half a call can't be cut, so nothing was");
    }
    let whole: Vec<_> = ["ok", "retry", "permanent"].map(|o| Sample::to(o).0).into();
    let ends: Vec<_> = instance.hand_over(&whole).into_iter().map(|h| block_on(h.end()).status).collect();
    assert_eq!(ends, [Status::Ok, Status::Retry, Status::Permanent]);

    assert_eq!(block_on(instance.health()).unwrap().message, "one");
    assert_eq!(block_on(instance.stop()).unwrap().status, Status::Ok);
    assert!(script.logs().iter().any(|l| l.message == "stopped"));
    // What still runs ends with the instance, once.
    let left = hand(&instance, "hang");
    assert_eq!(instance.faults(), 0);
    let faults = instance.watch();
    instance.destroy();
    assert_eq!((block_on(left.end()).status, faults()), (Status::Cancelled, 0));
}

#[test]
fn a_channel_on_its_own_executor_obeys() {
    drilled(&PLAIN);
}

#[test]
fn a_channel_on_tokio_obeys() {
    drilled(&TOKIO);
}

#[test]
fn two_instances_of_one_library_never_cross() {
    for file in [&*PLAIN, &*TOKIO] {
        let plugin = load(file);
        let (one, script_one) = start(plugin, &json!({ "label": "one", "token": "1" }));
        let (two, script_two) = start(plugin, &json!({ "label": "two", "token": "2" }));
        let hung = hand(&one, "hang");
        for _ in 0..50 {
            assert_eq!(send(&one, "ok").provider_id.as_deref(), Some("one"));
            assert_eq!(send(&two, "ok").provider_id.as_deref(), Some("two"));
            send(&one, "log");
            send(&two, "panic");
            send(&one, "http https://one.example");
            send(&two, "http https://two.example");
        }
        // A token of one means nothing to two.
        two.cancel(hung.token);
        let logs = |script: &Script, text: &str| script.logs().iter().filter(|l| l.message.contains(text)).count();
        assert_eq!((logs(&script_one, "said"), logs(&script_two, "said")), (50, 0));
        assert_eq!((logs(&script_one, "told to"), logs(&script_two, "told to")), (0, 50));
        let all = |script: &Script, token: &str| {
            script.requests().len() == 50 && script.requests().iter().all(|r| r.headers["authorization"] == token)
        };
        assert!(all(&script_one, "Bearer 1") && all(&script_two, "Bearer 2"));
        two.destroy();
        assert_eq!(send(&one, "ok").status, Status::Ok);
        let (faults, end) = (one.watch(), hung);
        one.destroy();
        assert_eq!((block_on(end.end()).status, faults()), (Status::Cancelled, 0));
    }
}

#[test]
fn panics_in_start_validate_health_stop_and_drop_stay_in() {
    let plugin = load(&PLAIN);
    let panicking = |place: &str| json!({ "label": "x", "panic_in": [place] });
    let Err(outcome) = block_on(plugin.start(&panicking("start").to_string(), Script::new())) else {
        panic!("it starts")
    };
    assert_eq!(outcome.status, Status::Internal);
    assert!(outcome.message.contains("told to in start"), "{outcome:?}");
    assert!(plugin.validate(&panicking("validate").to_string()).unwrap()[0].message.contains("told to in validate"));
    let (instance, _script) = start(plugin, &panicking("health"));
    assert_eq!(block_on(instance.health()).unwrap().status, Status::Internal);
    assert_eq!(send(&instance, "ok").status, Status::Ok);
    let (instance, _script) = start(plugin, &panicking("stop"));
    assert_eq!(block_on(instance.stop()).unwrap().status, Status::Internal);
    let (instance, script) = start(plugin, &panicking("drop"));
    assert_eq!(send(&instance, "ok").status, Status::Ok);
    instance.destroy();
    assert!(script.logs().iter().any(|l| l.message.contains("told to in drop")), "before the line was closed");
}

#[test]
fn a_configuration_is_refused_with_the_key() {
    let plugin = load(&TOKIO);
    for (config, key) in [
        (json!({ "label": "" }), "label"),
        (json!({ "label": 7 }), "label"),
        (json!({ "label": "x", "panic_in": ["a", 1] }), "panic_in.1"),
        (json!({}), ""),
    ] {
        assert_eq!(plugin.validate(&config.to_string()).unwrap()[0].key, key);
        let Err(outcome) = block_on(plugin.start(&config.to_string(), Script::new())) else {
            panic!("{config} starts")
        };
        assert_eq!((outcome.status, outcome.code.as_str()), (Status::Misconfigured, "config"));
    }
    let Err(refused) =
        block_on(plugin.start(&json!({ "label": "x", "refuse": "no route" }).to_string(), Script::new()))
    else {
        panic!("it starts")
    };
    assert_eq!((refused.status, refused.message.as_str()), (Status::Retry, "no route"));
}

/// The host's table is promised only until `destroy` returns.
#[test]
fn a_thread_that_outlives_its_instance_calls_nobody() {
    let plugin = load(&PLAIN);
    let (instance, script) = start(plugin, &json!({ "label": "x" }));
    assert_eq!(send(&instance, "linger").status, Status::Ok);
    let lines = |s: &Script| s.logs().iter().filter(|l| l.message == "lingering").count();
    script.wait_until("the thread talks", |s| lines(s) > 2);
    instance.destroy();
    let said = lines(&script);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(lines(&script), said);
}

/// The schema of this channel can't be made the second time.
#[test]
fn a_panic_in_describe_is_an_answer() {
    let plugin = load(&copied(&PLAIN, "libdrill-describe.so"));
    let text = || String::from_utf8(plugin.describe()).unwrap();
    assert!(text().contains("\"name\":\"drill\""));
    let second: Value = serde_json::from_str(&text()).unwrap();
    assert!(second["error"].as_str().unwrap().contains("told to in describe"));
    assert!(text().contains("\"name\":\"drill\""), "and the next call works");
}

#[test]
fn a_channel_that_could_not_catch_panics_does_not_build() {
    let _alone = alone();
    let out = run(cargo("rustc", &target()).args(["--lib", "--", "-C", "panic=abort"]));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("a channel must be able to catch its panics"), "{said}");
}

#[test]
fn a_channel_in_c_delivers() {
    let plugin = load(&c_file());
    let path = target().join(format!("c-file-{}.txt", std::process::id()));
    assert_eq!(plugin.validate(r#"{"path": "relative"}"#).unwrap()[0].key, "path");
    assert_eq!(plugin.validate(&json!({ "path": path }).to_string()), Ok(vec![]));
    let Err(refused) = block_on(plugin.start(r#"{"path": "/no/such/folder/file"}"#, Script::new())) else { panic!() };
    assert_eq!((refused.status, refused.code.as_str()), (Status::Misconfigured, "open"));
    let (instance, _script) = start(plugin, &json!({ "path": path }));
    let items: Vec<_> = (0..20).map(|n| Sample::to(format!("user-{n}")).text("Grüße").0).collect();
    for handed in instance.hand_over(&items) {
        let end = block_on(handed.end());
        assert_eq!((end.status, end.provider_id.is_some()), (Status::Ok, true));
    }
    assert_eq!(block_on(instance.health()).unwrap().status, Status::Ok);
    assert!(block_on(instance.stop()).is_none(), "it has no stop()");
    assert_eq!(instance.faults(), 0);
    instance.destroy();
    let lines = fs::read_to_string(&path).unwrap();
    assert_eq!((lines.lines().count(), lines.lines().next()), (20, Some("user-0: Grüße")));
    fs::remove_file(path).unwrap();
}

/// What no SDK does: completes twice, makes tokens up, lies about sizes, and speaks of things that don't exist.
#[test]
fn a_liar_in_cpp_is_counted() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/liar.cc");
    let plugin = load(&compiled(&source, "libliar.so", "g++", &["-std=c++17"]));
    let (instance, script) = start(plugin, &json!({}));
    let end = send(&instance, "x");
    assert_eq!((end.status, end.code.as_str()), (Status::Internal, "far_future"), "{end:?}");
    assert!(end.message.contains("77") && end.detail.is_none());
    assert_eq!(instance.faults(), 3, "a second end and two made-up tokens");
    assert_eq!(script.logs()[0].level, Level::Info, "an unknown level is info");
    assert!(script.metrics().is_empty(), "an unknown kind is nothing");
}
