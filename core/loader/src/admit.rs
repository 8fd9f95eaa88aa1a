//! From a file to bytes that may be loaded, without running any of them.
//!
//! Owns: the rules for the folder and the file, the hash, the manifest, machine and versions. The file is read once; what
//! is checked is what is loaded later.

use crate::{Entry, Refusal, Step, elf};
use campanile_plugin::wire::Manifest;
use campanile_plugin_abi::{MAJOR, MINOR, TARGET};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, lstat, open, openat},
    process::geteuid,
};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

/// Largest plugin.
pub const SIZE_MAX: u64 = 64 * 1024 * 1024;

/// What may go to the probe.
pub struct Admitted {
    pub manifest: Manifest,
    pub bytes: Vec<u8>,
    /// Of the bytes, in hex.
    pub sha256: String,
}

/// Every rule before the probe, for a file that the lock lists.
pub(crate) fn admit(dir: &Path, entry: &Entry) -> Result<Admitted, Refusal> {
    check_folder(dir)?;
    let bytes = read(dir, &entry.file)?;
    let sha256 = hash(&bytes);
    if sha256 != entry.sha256 {
        return Step::Hash.refuses(format!(
            "the file has changed since it was listed (it is {}…, the lock says {}…); if you trust it, run campanile \
             plugin add again",
            &sha256[..12],
            entry.sha256.get(..12).unwrap_or_default()
        ));
    }
    let manifest = manifest(&bytes)?;
    if (manifest.name.as_str(), manifest.version.as_str()) != (entry.name.as_str(), entry.version.as_str()) {
        return Step::Manifest.refuses(format!(
            "it is {} {}, the lock lists {} {}; run campanile plugin add again",
            manifest.name, manifest.version, entry.name, entry.version
        ));
    }
    Ok(Admitted { manifest, bytes, sha256 })
}

/// Whether a file that the lock lists would be admitted.
pub fn check_entry(dir: &Path, entry: &Entry) -> Result<(), Refusal> {
    admit(dir, entry).map(drop)
}

/// As much as can be said of a file that no lock lists yet.
pub fn check_file(path: &Path) -> Result<Admitted, Refusal> {
    let name = path.file_name().and_then(|n| n.to_str());
    let (Some(dir), Some(name)) = (path.parent(), name) else {
        return Step::File.refuses(format!("{} names no file", path.display()));
    };
    let bytes = read(dir, name)?;
    Ok(Admitted { manifest: manifest(&bytes)?, sha256: hash(&bytes), bytes })
}

fn mine(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Nobody but root and this user may change what is in it, nor what it is.
pub fn check_folder(dir: &Path) -> Result<(), Refusal> {
    let refuse = |at: &Path, why: &str| Step::Folder.refuses(format!("{} {why}", at.display()));
    if !dir.is_absolute() {
        return refuse(dir, "is not an absolute path");
    }
    let mut at = PathBuf::new();
    for part in dir.components() {
        if part == Component::ParentDir {
            return refuse(dir, "contains \"..\"; write the path without it");
        }
        at.push(part);
        let stat = match lstat(&at) {
            Ok(stat) => stat,
            Err(e) => return refuse(&at, &format!("can't be looked at: {e}")),
        };
        match kind(&stat) {
            FileType::Directory => {}
            FileType::Symlink => return refuse(&at, "is a symbolic link; name the folder that it leads to"),
            _ => return refuse(&at, "is not a folder"),
        }
        if !mine(&stat) {
            return refuse(&at, "belongs to another user; it must belong to root or to the user of this service");
        }
        // In a sticky folder such as /tmp nobody can rename or remove what is ours, so it may be a parent.
        let sticky = stat.st_mode & 0o1000 != 0 && at != dir;
        if stat.st_mode & 0o022 != 0 && !sticky {
            return refuse(&at, "can be written to by its group or by others; run chmod go-w on it");
        }
    }
    Ok(())
}

/// Opened once, without following a link at its end, and read through that one descriptor.
fn read(dir: &Path, name: &str) -> Result<Vec<u8>, Refusal> {
    let at = dir.join(name);
    let refuse = |why: String| Step::File.refuses(format!("{} {why}", at.display()));
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // NONBLOCK: opening a pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let opened = open(dir, folder, Mode::empty()).and_then(|dir| openat(dir, name, flags, Mode::empty()));
    let file = match opened {
        Ok(file) => file,
        Err(rustix::io::Errno::LOOP) => return refuse("is a symbolic link; put the file itself there".to_owned()),
        Err(e) => return refuse(format!("can't be opened: {e}")),
    };
    let stat = match fstat(&file) {
        Ok(stat) => stat,
        Err(e) => return refuse(format!("can't be looked at: {e}")),
    };
    if kind(&stat) != FileType::RegularFile {
        return refuse("is not a regular file".to_owned());
    }
    if !mine(&stat) {
        return refuse("belongs to another user; it must belong to root or to the user of this service".to_owned());
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse("can be written to by its group or by others; run chmod go-w on it".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(SIZE_MAX + 1).read_to_end(&mut bytes);
    match read {
        Err(e) => refuse(format!("can't be read: {e}")),
        Ok(n) if n as u64 > SIZE_MAX => {
            refuse(format!("has more than {} MiB; strip it (strip -g, or strip = true)", SIZE_MAX / 1024 / 1024))
        }
        Ok(_) => Ok(bytes),
    }
}

/// In hex.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The manifest of a library for this machine and this interface.
fn manifest(file: &[u8]) -> Result<Manifest, Refusal> {
    let text = elf::manifest(file)?;
    let manifest: Manifest = serde_json::from_str(text)
        .map_err(|e| Refusal::new(Step::Manifest, format!("its manifest is not what it should be: {e}")))?;
    if let Err(why) = crate::lock::check_name(&manifest.name) {
        return Step::Manifest.refuses(format!("in its manifest, {why}"));
    }
    let version = &manifest.version;
    if version.is_empty() || version.len() > 64 || !version.bytes().all(|b| b.is_ascii_graphic()) {
        return Step::Manifest.refuses("in its manifest, version must be 1 to 64 printable characters without spaces");
    }
    check_target(&manifest.target)?;
    if manifest.campanile_abi != MAJOR {
        return Step::Version.refuses(format!(
            "it is built for plugin interface {}, this host has {MAJOR}; get a build of it for {MAJOR}",
            manifest.campanile_abi
        ));
    }
    if manifest.min_minor > MINOR {
        return Step::Version.refuses(format!(
            "it needs plugin interface {MAJOR}.{} of the host, this is {MAJOR}.{MINOR}; update the host",
            manifest.min_minor
        ));
    }
    Ok(manifest)
}

fn check_target(target: &str) -> Result<(), Refusal> {
    if target == TARGET {
        return Ok(());
    }
    let shown: String = target.chars().take(64).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if target.ends_with("-musl") && TARGET.ends_with("-gnu") {
        return Step::Target.refuses(format!(
            "it is linked against musl ({shown}), which a glibc host can't load; build it for {TARGET}"
        ));
    }
    Step::Target.refuses(format!("it is built for {shown}, this host is {TARGET}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::library;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn text(abi: u32, minor: u32, target: &str) -> Vec<u8> {
        format!(
            "{{\"campanile_abi\":{abi},\"min_minor\":{minor},\"name\":\"x\",\"version\":\"1\",\"target\":\"{target}\"}}\0"
        )
        .into_bytes()
    }

    fn refused(manifest_text: &[u8]) -> String {
        manifest(&library(&[(".camp", manifest_text)])).unwrap_err().to_string()
    }

    #[test]
    fn machine_and_versions_are_known_from_bytes() {
        assert!(manifest(&library(&[(".camp", &text(1, 0, TARGET))])).is_ok());
        assert!(refused(&text(9, 0, TARGET)).contains("built for plugin interface 9, this host has 1"));
        assert!(refused(&text(1, 3, TARGET)).contains("needs plugin interface 1.3 of the host, this is 1.0"));
        let musl = TARGET.replace("-gnu", "-musl");
        assert!(refused(&text(1, 0, &musl)).contains("musl"));
        assert!(refused(&text(9, 9, "sparc-solaris")).contains("built for sparc-solaris"), "the machine comes first");
        assert!(refused(b"{\"campanile_abi\":1}\0").contains("missing field"));
        assert!(refused(b"not JSON\0").contains("not what it should be"));
        let bad = String::from_utf8(text(1, 0, TARGET)).unwrap().replace("\"x\"", "\"../x\"");
        assert!(refused(bad.as_bytes()).contains("name must begin"));
    }

    /// A folder of ours with a good plugin in it.
    fn folder() -> (tempfile::TempDir, PathBuf, Entry) {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().canonicalize().unwrap().join("plugins");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        let bytes = library(&[(".camp", &text(1, 0, TARGET))]);
        let mode = fs::Permissions::from_mode(0o644);
        fs::write(inner.join("x.so"), &bytes).unwrap();
        fs::set_permissions(inner.join("x.so"), mode).unwrap();
        let lock = format!("[[plugin]]\nname = \"x\"\nfile = \"x.so\"\nversion = \"1\"\nsha256 = \"{}\"", hash(&bytes));
        let entry = crate::Lock::parse(&lock).unwrap().entries.remove(0);
        (dir, inner, entry)
    }

    fn why(dir: &Path, entry: &Entry) -> String {
        admit(dir, entry).err().map(|r| r.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_what_the_lock_says_is_admitted() {
        let (_dir, folder, entry) = folder();
        assert_eq!(admit(&folder, &entry).unwrap().sha256, entry.sha256);
        let other = Entry { version: "2".into(), ..entry.clone() };
        assert!(why(&folder, &other).contains("it is x 1, the lock lists x 2"));
        let mut bytes = fs::read(folder.join("x.so")).unwrap();
        bytes.push(0);
        fs::write(folder.join("x.so"), bytes).unwrap();
        assert!(why(&folder, &entry).contains("step \"hash\": the file has changed"));
    }

    #[test]
    fn folders_that_others_can_change_are_refused() {
        let (dir, folder, entry) = folder();
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o775, 0o757, 0o1777] {
            chmod(&folder, mode);
            assert!(why(&folder, &entry).contains("can be written to by its group"), "{mode:o}");
        }
        chmod(&folder, 0o755);
        let parent = dir.path().canonicalize().unwrap();
        chmod(&parent, 0o775);
        assert!(why(&folder, &entry).contains("can be written to by its group"), "a parent");
        chmod(&parent, 0o755);
        let link = parent.join("link");
        symlink(&folder, &link).unwrap();
        assert!(why(&link, &entry).contains("symbolic link"));
        assert!(why(Path::new("plugins"), &entry).contains("not an absolute path"));
        assert!(why(&folder.join("../plugins"), &entry).contains(".."));
        assert!(why(&folder.join("none"), &entry).contains("can't be looked at"));
        assert!(why(&folder.join("x.so"), &entry).contains("is not a folder"));
        assert_eq!(why(&folder, &entry), "");
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let (_dir, folder, entry) = folder();
        let file = folder.join("x.so");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(why(&folder, &entry).contains("can be written to by its group"));
        fs::rename(&file, folder.join("y.so")).unwrap();
        assert!(why(&folder, &entry).contains("can't be opened"));
        symlink(folder.join("y.so"), &file).unwrap();
        assert!(why(&folder, &entry).contains("is a symbolic link; put the file itself there"));
        fs::remove_file(&file).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(why(&folder, &entry).contains("is not a regular file"));
        fs::remove_file(&file).unwrap();
        File::create(&file).unwrap().set_len(SIZE_MAX + 1).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(why(&folder, &entry).contains("has more than 64 MiB"));
    }
}
