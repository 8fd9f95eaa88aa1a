//! Secrets that a host makes for itself: files of mode 600 in `server.data_dir`.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_plugin::Secret;
use rand::Rng;
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// 256 random bits as text.
pub fn fresh() -> String {
    let mut random = [0u8; 32];
    rand::rng().fill_bytes(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

/// Reads `<data_dir>/<name>`, or makes it with 256 random bits.
pub fn load_or_create(data_dir: &Path, name: &str) -> Result<Secret> {
    fs::create_dir_all(data_dir).with_context(|| format!("creating the data folder {}", data_dir.display()))?;
    let path = data_dir.join(name);
    let fresh = fresh();
    // `create_new`: of two starts at once, one writes and the other reads.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(fresh.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
            Ok(Secret::new(fresh))
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            anyhow::ensure!(
                text.trim().len() >= 32,
                "{} holds no secret; remove it to have a new one made",
                path.display()
            );
            Ok(Secret::new(text.trim()))
        }
        Err(e) => Err(e).with_context(|| format!("creating {}", path.display())),
    }
}
