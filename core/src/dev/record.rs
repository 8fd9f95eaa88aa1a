//! `dev.json`: how the client commands find the dev server of this machine.
//!
//! Mode 600, under `$XDG_RUNTIME_DIR/campanile` or `~/.cache/campanile`; removed when the server ends.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `http://127.0.0.1:8000`.
    pub server: String,
    /// The operator key.
    pub key: String,
    pub data_dir: PathBuf,
    /// The file given with `--config`, if any: `token` signs as that server checks.
    pub config: Option<PathBuf>,
    pub pid: u32,
}

/// Where it lies; `None` when neither variable names a folder.
pub fn path(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = match set("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("campanile"),
        None => set("HOME")?.join(".cache/campanile"),
    };
    Some(folder.join("dev.json"))
}

/// [`path`] from this process's environment.
pub fn own_path() -> Option<PathBuf> {
    path(|name| std::env::var(name).ok())
}

impl Record {
    pub fn write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().context("dev.json needs a folder")?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        // Written beside and moved, so that a reader never sees half of it and the mode holds from the first byte.
        let fresh = folder.join(format!("dev.json.{}", self.pid));
        let write = || -> Result<()> {
            let _ = fs::remove_file(&fresh);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            fs::rename(&fresh, path)?;
            Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// `None`: there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
        };
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} is not ours", path.display()))
    }

    /// Removes the file if it is still this server's; a newer dev server may have replaced it.
    pub fn remove(&self, path: &Path) {
        if matches!(Self::read(path), Ok(Some(found)) if found.pid == self.pid) {
            let _ = fs::remove_file(path);
        }
    }

    /// Whether the process that wrote it still runs.
    pub fn is_alive(&self) -> bool {
        i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn record(pid: u32) -> Record {
        Record { server: "http://127.0.0.1:8000".into(), key: "k".into(), data_dir: "/tmp/x".into(), config: None, pid }
    }

    #[test]
    fn the_runtime_folder_wins_over_the_cache() {
        let both = |n: &str| Some(format!("/{n}"));
        assert_eq!(path(both), Some("/XDG_RUNTIME_DIR/campanile/dev.json".into()));
        let home = |n: &str| (n == "HOME").then(|| "/h".to_owned());
        assert_eq!(path(home), Some("/h/.cache/campanile/dev.json".into()));
        assert_eq!(path(|_| None), None);
    }

    #[test]
    fn only_its_owner_reads_it_and_only_its_writer_removes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("campanile/dev.json");
        assert_eq!(Record::read(&path).unwrap(), None);
        record(1).write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        record(2).write(&path).unwrap();
        record(1).remove(&path);
        assert_eq!(Record::read(&path).unwrap(), Some(record(2)));
        record(2).remove(&path);
        assert_eq!(Record::read(&path).unwrap(), None);
    }

    #[test]
    fn knows_whether_its_process_runs() {
        assert!(record(std::process::id()).is_alive());
        assert!(!record(u32::MAX).is_alive());
    }
}
