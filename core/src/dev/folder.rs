//! The data folder of `serve --dev`: temporary, private, gone when the server ends.

use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

const PREFIX: &str = "campanile-dev-";

/// A new folder of mode 700.
pub fn create() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
    fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// Removes a folder that [`create`] made, and no other.
pub fn remove(path: &Path) {
    let ours = path.parent() == Some(std::env::temp_dir().as_path())
        && path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
    if ours {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_its_own_folders_only() {
        let ours = create().unwrap();
        fs::write(ours.join("x"), "x").unwrap();
        remove(&ours);
        assert!(!ours.exists());
        let foreign = tempfile::tempdir().unwrap();
        remove(foreign.path());
        assert!(foreign.path().exists());
    }
}
