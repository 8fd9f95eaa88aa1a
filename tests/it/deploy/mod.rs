//! What is shipped for production is what runs: every file of `deploy/`, the image and the compose file are read, checked
//! by their own tools, and their commands run as processes of this machine.

mod balance;
mod compose;
mod image;
mod native;
mod observe;
mod probe;
mod rolling;
mod settings;

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// A tool that `scripts/test tools` fetched, or one of the path.
fn tool(name: &str) -> PathBuf {
    let own = ["target/tools/python/bin", "target/tools/prometheus/usr/bin"].map(|dir| root().join(dir));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = own.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join(name)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: run `scripts/test tools`"))
}
