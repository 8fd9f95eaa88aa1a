//! Compresses our own styles and scripts, so that the binary serves them as they lie. What is vendored brings its
//! compressed form along.

#![allow(clippy::expect_used, reason = "a build that can't go on says why and stops")]

use flate2::{Compression, write::GzEncoder};
use std::{env, error::Error, fs, io::Write as _, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    println!("cargo:rerun-if-changed=build.rs");
    for name in [
        "app.css",
        "pages.css",
        "app.js",
        "find.js",
        "demo.js",
        "mail.js",
        "bell.svg",
        "vendor/htmx-4.0.1.min.js",
        "vendor/hx-sse-4.0.1.min.js",
    ] {
        let path = Path::new("assets").join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let body = fs::read(&path)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&body)?;
        let target = Path::new(&out).join(format!("{}.gz", name.trim_start_matches("vendor/")));
        fs::write(target, gzip.finish()?)?;
    }
    Ok(())
}
