//! Private copies of plugins, named by their hashes: what was checked is what is opened, and replacing a file in the folder
//! touches nothing that runs.

use crate::{Refusal, Step, admit::hash};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Where those bytes lie, written if they don't lie there yet.
pub(crate) fn keep(dir: &Path, sha256: &str, bytes: &[u8]) -> Result<PathBuf, Refusal> {
    prepare(dir)?;
    let path = dir.join(sha256);
    let failed = |e: io::Error| Refusal::new(Step::Cache, format!("{} can't be written: {e}", path.display()));
    // A crash may have cut it.
    if fs::read(&path).is_ok_and(|old| hash(&old) == sha256) {
        return Ok(path);
    }
    static COPY: AtomicU64 = AtomicU64::new(0);
    let n = COPY.fetch_add(1, Ordering::Relaxed);
    let half = dir.join(format!("{sha256}.{}.{n}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o500).open(&half)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&half, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&half))).map_err(failed)?;
    Ok(path)
}

/// A folder that nobody else can even look into.
fn prepare(dir: &Path) -> Result<(), Refusal> {
    let refuse = |why: String| Step::Cache.refuses(format!("the cache {} {why}", dir.display()));
    // On a host whose database is elsewhere nobody has made the data folder.
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return refuse(format!("can't be made: {e}")),
        _ => {}
    }
    match fs::symlink_metadata(dir) {
        Err(e) => refuse(format!("can't be looked at: {e}")),
        Ok(meta) if !meta.is_dir() => refuse("is not a folder".to_owned()),
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            refuse("belongs to another user; remove it".to_owned())
        }
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            refuse("is open to others; run chmod 700 on it, or remove it".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// Removes copies that nothing lists any more. What is mapped stays mapped.
pub(crate) fn clean(dir: &Path, keep: &[&str]) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !keep.iter().any(|k| name == *k) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn copies_are_private_whole_and_cleaned_up() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("data/cache");
        let sha = hash(b"bytes");
        let path = keep(&cache, &sha, b"bytes").unwrap();
        assert_eq!(fs::metadata(&cache).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o500);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"byt").unwrap();
        assert_eq!(fs::read(keep(&cache, &sha, b"bytes").unwrap()).unwrap(), b"bytes", "a cut copy is replaced");
        let other = keep(&cache, &hash(b"other"), b"other").unwrap();
        clean(&cache, &[&sha]);
        assert!(path.exists() && !other.exists());
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(keep(&cache, &sha, b"bytes").unwrap_err().reason.contains("open to others"));
    }
}
