//! Rust plugins, built by every compiler and in every way that an author may choose: the SDK's template, and one that is
//! written against nothing but the layout.
//!
//! A plugin that let a Rust type across the line would work in one of these builds and not in the next: sizes and the order of
//! fields change with the compiler, and at random where that is asked for.

use super::files_kit::{built_by_cargo_as, good, root, target};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A nightly option, which the stable compiler takes when it is told that it may.
const RANDOM: [(&str, &str); 2] = [("RUSTC_BOOTSTRAP", "1"), ("RUSTFLAGS", "-Zrandomize-layout")];

/// The template in that folder, in a way of building it; its file.
pub fn template(folder: &Path, name: &str, how: How) -> PathBuf {
    // The versions that are here already.
    fs::copy(root().join("plugins/Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let manifest = folder.join("Cargo.toml");
    let (profile, at) = match how {
        How::Debug => {
            built_by_cargo_as(&["build"], &manifest, &target(), &[]);
            ("debug", target())
        }
        // As the template's own profile says: for size, with link-time optimisation over everything, stripped.
        How::Small => {
            built_by_cargo_as(&["build", "--release"], &manifest, &target(), &[]);
            ("release", target())
        }
        How::Random => {
            let apart = target().join("random");
            built_by_cargo_as(&["build"], &manifest, &apart, &RANDOM);
            ("debug", apart)
        }
    };
    at.join(format!("{profile}/lib{name}.so"))
}

#[derive(Clone, Copy)]
pub enum How {
    Debug,
    Small,
    Random,
}

/// The compiler that `scripts/test tools` puts there, or another one.
fn oldest_rustc() -> Command {
    let ours = root().join("target/tools/rust-1.63/rustc");
    let rustc = env::var_os("RUSTC_1_63").unwrap_or_else(|| ours.into());
    let version = Command::new(&rustc).arg("--version").output();
    let version = version.unwrap_or_else(|e| {
        let rustc = Path::new(&rustc).display();
        panic!("no Rust 1.63: run `scripts/test tools`, or set RUSTC_1_63 ({rustc} does not run: {e})")
    });
    let said = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(said.starts_with("rustc 1.63."), "RUSTC_1_63 is {said}");
    Command::new(rustc)
}

/// The oldest Rust plugin's source in four more builds, each under a name of its own.
pub fn raw() -> [(&'static str, PathBuf); 4] {
    let rustc = || Command::new("rustc");
    let mut random = rustc();
    random.envs([RANDOM[0]]).args(["-O", RANDOM[1].1]);
    let mut small = rustc();
    small.args(["-Copt-level=z", "-Clto=fat", "-Ctarget-cpu=native", "-Cpanic=abort", "-Cstrip=symbols"]);
    let mut oldest = oldest_rustc();
    oldest.arg("-O");
    let (debug, source) = (rustc(), fs::read_to_string(root().join("plugins/examples/oldest/plugin.rs")).unwrap());
    // The names have the length of the source's own, for its manifest is an array of so many bytes.
    let builds = [("raw_rust163", oldest), ("raw_rustdbg", debug), ("raw_rustopt", small), ("raw_rustrnd", random)];
    builds.map(|(name, mut build)| {
        let at = target().join(format!("host-{}-{name}", std::process::id()));
        let (renamed, file) = (at.with_extension("rs"), at.with_extension("so"));
        fs::write(&renamed, source.replace("oldest_rust", name)).unwrap();
        good(build.args(["--edition", "2018", "--crate-type", "cdylib"]).arg(&renamed).arg("-o").arg(&file));
        (name, file)
    })
}
