//! Building plugins as their authors would.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Beside the workspace's own build, shared by all tests that build plugins.
fn target() -> PathBuf {
    let target = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("plugins");
    fs::create_dir_all(&target).unwrap();
    target
}

fn good(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
}

fn compiled(compiler: &str, flags: &[&str], source: &Path) -> PathBuf {
    static NTH: AtomicU64 = AtomicU64::new(0);
    let n = NTH.fetch_add(1, Ordering::Relaxed);
    let out = target().join(format!("corpus-{}-{n}.so", std::process::id()));
    let mut command = Command::new(compiler);
    command.args(["-O1", "-fPIC", "-fvisibility=hidden", "-shared", "-pthread", "-Wall", "-Wextra", "-Werror"]);
    command.arg("-I").arg(root().join("plugins/abi/include")).args(flags).arg(source).arg("-o").arg(&out);
    good(&mut command);
    out
}

/// The villain with these lies built in.
pub fn villain(lies: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/villain.c");
    // A plugin that lacks a symbol is what `-z defs` would stop.
    let strict = if lies.contains(&"-DMISSING") { "-Wl,-z,lazy" } else { "-Wl,-z,defs" };
    // It overflows its stack and leaves parts of itself unused on purpose.
    let calm = ["-Wno-infinite-recursion", "-Wno-unused-function", "-Wno-array-bounds"];
    let all: Vec<_> =
        ["-std=gnu99", "-D_GNU_SOURCE", strict].into_iter().chain(calm).chain(lies.iter().copied()).collect();
    compiled("gcc", &all, &source)
}

/// A villain that tells no lies.
pub fn plain() -> &'static Path {
    static PLAIN: LazyLock<PathBuf> = LazyLock::new(|| villain(&[]));
    &PLAIN
}

/// The example in C, by its author's own means.
pub fn c_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let out = target().join(format!("corpus-{}-c_file.so", std::process::id()));
        good(
            Command::new("make")
                .arg("-s")
                .arg("-C")
                .arg(root().join("plugins/examples/c"))
                .arg(format!("OUT={}", out.display())),
        );
        out
    });
    &FILE
}

pub fn liar() -> &'static Path {
    static FILE: LazyLock<PathBuf> =
        LazyLock::new(|| compiled("g++", &["-std=c++17"], &root().join("plugins/sdk/tests/liar.cc")));
    &FILE
}

pub fn thrower() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        compiled("g++", &["-std=c++17"], &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/thrower.cc"))
    });
    &FILE
}

/// The drill in Rust. One build at a time: cargo would only wait.
pub fn drill(name: &str, flags: &[&str]) -> PathBuf {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--manifest-path"]).arg(root().join("plugins/examples/drill/Cargo.toml"));
    cargo.arg("--target-dir").arg(target()).args(flags);
    // The flags of the build that runs us are not the author's.
    for (key, _) in env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        if (key.starts_with("CARGO") && key != "CARGO_HOME") || key.starts_with("RUSTFLAGS") {
            cargo.env_remove(key);
        }
    }
    good(&mut cargo);
    let out = target().join(format!("corpus-{}-drill-{name}.so", std::process::id()));
    let profile = if flags.contains(&"--release") { "release" } else { "debug" };
    fs::copy(target().join(profile).join("libcampanile_drill.so"), &out).unwrap();
    out
}

/// Unoptimised, on the SDK's own executor.
pub fn drill_debug() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| drill("debug", &[]));
    &FILE
}

/// Unoptimised, on tokio.
pub fn drill_tokio() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| drill("tokio", &["--features", "tokio"]));
    &FILE
}
