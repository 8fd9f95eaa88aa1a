//! What `campanile plugin new` writes, and the oldest plugins there may be: built as their authors build them, loaded with
//! dlopen and driven through the C table.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    HttpError, HttpReply,
    testing::{Plugin, Sample, Script, block_on},
    wire::{Outcome, Status},
};
use libloading::{Library, Symbol};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Beside the workspace's own build, shared by all tests that build plugins.
fn target() -> PathBuf {
    let exe = env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap().join("plugins");
    fs::create_dir_all(&target).unwrap();
    target
}

/// A folder of its own, in the shared one.
fn folder(name: &str) -> PathBuf {
    let folder = target().join(format!("templates-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn good(command: &mut Command) {
    // One build at a time: cargo would only wait, and say so.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let out = command.output().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
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

/// A template as it is.
fn copied(language: &str, name: &str) -> PathBuf {
    let folder = folder(name);
    for entry in fs::read_dir(plugins().join("templates").join(language)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let header = plugins().join("abi/include/campanile_plugin.h");
    fs::copy(header, folder.join("campanile_plugin.h")).unwrap();
    folder
}

/// Every template posts to a URL and knows what the usual answers mean.
fn delivers(file: &Path) {
    let plugin = load(file);
    let problems = plugin.validate(r#"{"url": "ftp://x"}"#).unwrap();
    assert_eq!(problems.first().map(|p| p.key.as_str()), Some("url"), "{problems:?}");
    let script = Script::new();
    let config = json!({ "url": "https://example.org/in" });
    let instance = block_on(plugin.start(&config.to_string(), script.clone()));
    let instance = instance.unwrap_or_else(|o| panic!("does not start: {o:?}"));
    let sample = Sample::to("ada");
    let send = || -> Outcome { block_on(instance.deliver(&sample.0)) };

    assert_eq!(send().status, Status::Ok);
    let request = &script.requests()[0];
    assert_eq!((&*request.method, &*request.url), ("POST", "https://example.org/in"));
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["idempotency-key"], sample.0.idempotency_key);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert!(body.to_string().contains("Hello Ada."), "{body}");
    for (answer, status) in [
        (401, Status::Misconfigured),
        (404, Status::Permanent),
        (410, Status::RecipientGone),
        (429, Status::Throttled),
        (503, Status::Retry),
    ] {
        script.reply(HttpReply::new(answer, "so it is").with_header("retry-after", "7"));
        let ended = send();
        assert_eq!((ended.status, ended.code), (status, format!("http_{answer}")));
    }
    script.fail(HttpError::parse("connect: no route"));
    assert_eq!(send().status, Status::Retry);
    script.fail(HttpError::parse("refused: a private address"));
    assert_eq!(send().status, Status::Permanent);
    assert_eq!(instance.faults(), 0);
    instance.destroy();
}

#[test]
fn the_c_template_delivers() {
    let folder = copied("c", "c");
    good(Command::new("make").arg("-s").arg("-C").arg(&folder));
    delivers(&folder.join("my_channel.so"));
    // As C++, too.
    let strict = ["-std=c++17", "-x", "c++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fPIC", "-shared"];
    let (source, out) = (folder.join("plugin.c"), folder.join("cc.so"));
    good(Command::new("g++").args(strict).args(["-fvisibility=hidden", "-Wl,-z,defs"]).arg(source).arg("-o").arg(&out));
    delivers(&out);
}

#[test]
fn the_rust_template_delivers() {
    let mut build = Command::new(env!("CARGO"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        // The flags of the build that runs us are not the author's.
        if (name.starts_with("CARGO") && name != "CARGO_HOME") || name.starts_with("RUSTFLAGS") {
            build.env_remove(name);
        }
    }
    // Where it stands, with the versions that are here already; nothing is written beside it.
    let (folder, template) = (folder("rust"), plugins().join("templates/rust"));
    let sdk = fs::canonicalize(plugins().join("sdk")).unwrap();
    let manifest = fs::read_to_string(template.join("Cargo.toml")).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest.replace("../../sdk", &sdk.display().to_string())).unwrap();
    fs::copy(plugins().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    fs::create_dir(folder.join("src")).unwrap();
    fs::copy(template.join("src/lib.rs"), folder.join("src/lib.rs")).unwrap();
    build.args(["build", "--offline", "--target-dir"]).arg(target()).current_dir(&folder);
    good(&mut build);
    delivers(&target().join("debug/libmy_channel.so"));
}

#[test]
fn the_oldest_plugins_still_run() {
    let folder = folder("oldest");
    let source = plugins().join("examples/oldest");
    let (rust, c) = (folder.join("rust.so"), folder.join("c.so"));
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2018", "--crate-type", "cdylib", "-O"]).arg(source.join("plugin.rs"));
    good(rustc.arg("-o").arg(&rust));
    let strict = ["-std=c89", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden", "-fPIC", "-shared"];
    good(Command::new("gcc").args(strict).arg(source.join("plugin.c")).arg("-o").arg(&c));
    for file in [rust, c] {
        let script: Arc<Script> = Script::new();
        let instance = block_on(load(&file).start("{}", script)).unwrap_or_else(|o| panic!("does not start: {o:?}"));
        let sent = block_on(instance.deliver(&Sample::to("ada").timeout(Duration::from_secs(5)).0));
        assert_eq!((sent.status, sent.provider_id.as_deref()), (Status::Ok, Some("ada")));
        assert_eq!(block_on(instance.deliver(&Sample::to("gone").0)).status, Status::RecipientGone);
        assert_eq!(instance.faults(), 0);
        instance.destroy();
    }
}
