//! `plugins.lock`: which plugins may load, by the hash of their bytes.
//!
//! Owns: its form, reading, writing. It is read at start and when a reload is asked for, never by itself: a file that is
//! half copied must not load.

use crate::{Refusal, Step};
use campanile_plugin::Span;
use serde::Deserialize;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

const HEAD: &str = "# Which plugins may load. Written by `campanile plugin add FILE`, which shows what a file is before it\n\
                    # is listed. See docs/plugins.md.\n";
/// Larger than any honest one.
const SIZE_MAX: u64 = 1024 * 1024;

/// How a plugin is kept apart from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In a child process: whatever it does, the host goes on.
    #[default]
    Process,
    /// In the host: no design can contain a crash there, so only for plugins you trust.
    InProcess,
}

impl Isolation {
    pub fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::InProcess => "in-process",
        }
    }
}

/// A plugin that may load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As in its manifest.
    pub name: String,
    /// Name of the file in `plugins.dir`.
    pub file: String,
    pub version: String,
    /// Of the file, in hex.
    pub sha256: String,
    #[serde(default)]
    pub isolation: Isolation,
    /// Hosts that the plugin may call through this host: `api.example.org`, `*.example.org`, or `*` for every public one.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Hosts that may have a private address, such as one in your own network. They need not be in `allowed_hosts` too.
    #[serde(default)]
    pub private_hosts: Vec<String>,
    #[serde(default)]
    pub limits: Limits,
    /// In this process: take the library out of memory when its last instance has ended. Never with Go.
    #[serde(default)]
    pub unload: bool,
}

/// What a plugin may use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Of its process, in MiB: what it may reserve for itself, the stacks of its threads included.
    pub memory_mib: u64,
    /// Files and sockets of its process.
    pub files: u64,
    /// Deliveries under way at once, if less than it says itself.
    pub concurrency: Option<usize>,
    /// A delivery's time, if less than it says itself.
    pub timeout: Option<Span>,
    /// Of each of its threads that deliver, in KiB.
    pub stack_kib: usize,
    /// How long it may take to start.
    pub start_timeout: Span,
    /// How long deliveries under way are waited for when it stops.
    pub drain_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 1024,
            files: 256,
            concurrency: None,
            timeout: None,
            stack_kib: 2048,
            start_timeout: Span(Duration::from_secs(10)),
            drain_timeout: Span(Duration::from_secs(30)),
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    #[serde(default, rename = "plugin")]
    pub entries: Vec<Entry>,
}

impl Lock {
    /// A file that isn't there lists nothing.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let at = path.display();
        let size = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Step::Lock.refuses(format!("{at} can't be read: {e}")),
            Ok(meta) => meta.len(),
        };
        if size > SIZE_MAX {
            return Step::Lock.refuses(format!("{at} has {size} bytes; a lock file has at most {SIZE_MAX}"));
        }
        let text =
            fs::read_to_string(path).map_err(|e| Refusal::new(Step::Lock, format!("{at} can't be read: {e}")))?;
        Self::parse(&text).map_err(|why| Refusal::new(Step::Lock, format!("{at}: {why}")))
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let lock: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        for (n, entry) in lock.entries.iter().enumerate() {
            entry.check().map_err(|why| format!("plugin {:?}: {why}", entry.name))?;
            if lock.entries[..n].iter().any(|e| e.name == entry.name) {
                return Err(format!("plugin {:?} is listed twice", entry.name));
            }
        }
        Ok(lock)
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Takes the place of the entry of that name, if there is one.
    pub fn put(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|e| e.name == entry.name) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// False: there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.name != name);
        self.entries.len() < before
    }

    /// In one step: a reader sees the old file or the new one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let half = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let write = || {
            let mut file = fs::File::create(&half)?;
            if let Ok(old) = fs::metadata(path) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&half, path)
        };
        write().inspect_err(|_| drop(fs::remove_file(&half)))
    }

    fn text(&self) -> String {
        let mut out = HEAD.to_owned();
        for entry in &self.entries {
            entry.write(&mut out);
        }
        out
    }
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        let plain = !self.file.is_empty()
            && !self.file.starts_with('.')
            && self.file.len() <= 255
            && self.file.chars().all(|c| c != '/' && c != '\\' && !c.is_control());
        if !plain {
            return Err("file must be the plain name of a file in plugins.dir, without a path".to_owned());
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("sha256 must be 64 digits of 0-9 and a-f".to_owned());
        }
        for host in self.allowed_hosts.iter().chain(&self.private_hosts) {
            check_host(host)?;
        }
        if self.private_hosts.iter().any(|h| h == "*") {
            return Err("private_hosts must name each host: \"*\" would open your whole network".to_owned());
        }
        self.limits.check()
    }

    fn write(&self, out: &mut String) {
        let list = |hosts: &[String]| hosts.iter().map(|h| quoted(h)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "\n[[plugin]]");
        let texts = [("name", &self.name), ("file", &self.file), ("version", &self.version), ("sha256", &self.sha256)];
        for (key, text) in texts {
            let _ = writeln!(out, "{key} = {}", quoted(text));
        }
        let _ = writeln!(out, "isolation = {}", quoted(self.isolation.word()));
        let _ = writeln!(out, "allowed_hosts = [{}]", list(&self.allowed_hosts));
        if !self.private_hosts.is_empty() {
            let _ = writeln!(out, "private_hosts = [{}]", list(&self.private_hosts));
        }
        if self.unload {
            let _ = writeln!(out, "unload = true");
        }
        self.limits.write(out);
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        let within = |key: &str, n: u64, least: u64, most: u64| match n {
            n if (least..=most).contains(&n) => Ok(()),
            n => Err(format!("limits.{key} is {n}; it must be {least} to {most}")),
        };
        within("memory_mib", self.memory_mib, 32, 1024 * 1024)?;
        within("files", self.files, 16, 1024 * 1024)?;
        within("stack_kib", self.stack_kib as u64, 64, 64 * 1024)?;
        within("concurrency", self.concurrency.unwrap_or(1) as u64, 1, 1000)?;
        let ms = |span: Span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        within("timeout (in ms)", self.timeout.map_or(1000, ms), 1, 300_000)?;
        within("start_timeout (in ms)", ms(self.start_timeout), 1, 300_000)?;
        within("drain_timeout (in ms)", ms(self.drain_timeout), 0, 300_000)
    }

    /// Only what differs from the defaults.
    fn write(&self, out: &mut String) {
        let span = |s: Span| serde_json::to_string(&s).unwrap_or_default();
        let usual = Self::default();
        let mut lines = Vec::new();
        let mut line = |differs: bool, text: String| lines.extend(differs.then_some(text));
        line(self.memory_mib != usual.memory_mib, format!("memory_mib = {}", self.memory_mib));
        line(self.files != usual.files, format!("files = {}", self.files));
        line(self.concurrency.is_some(), format!("concurrency = {}", self.concurrency.unwrap_or_default()));
        line(self.timeout.is_some(), format!("timeout = {}", span(self.timeout.unwrap_or(usual.start_timeout))));
        line(self.stack_kib != usual.stack_kib, format!("stack_kib = {}", self.stack_kib));
        line(self.start_timeout != usual.start_timeout, format!("start_timeout = {}", span(self.start_timeout)));
        line(self.drain_timeout != usual.drain_timeout, format!("drain_timeout = {}", span(self.drain_timeout)));
        if !lines.is_empty() {
            let _ = writeln!(out, "limits = {{ {} }}", lines.join(", "));
        }
    }
}

/// A name as plugins have it.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if good { Ok(()) } else { Err("name must begin with a-z and be made of a-z, 0-9 and _, at most 64".to_owned()) }
}

/// A host, or a pattern for hosts.
pub fn check_host(host: &str) -> Result<(), String> {
    let plain = host.strip_prefix("*.").unwrap_or(host);
    let good = host == "*"
        || (!plain.is_empty()
            && plain.len() <= 253
            && plain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b)));
    if good {
        return Ok(());
    }
    Err(format!(
        "{host:?} is not a host; write it like api.example.org, *.example.org or *, in lower case, without a port"
    ))
}

/// A TOML string: JSON's escapes are a part of TOML's, but for DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            name: "sms".into(),
            file: "libsms.so".into(),
            version: "1.2.0".into(),
            sha256: "ab".repeat(32),
            isolation: Isolation::InProcess,
            allowed_hosts: vec!["api.example.org".into(), "*.example.org".into()],
            private_hosts: vec!["10.0.0.7".into()],
            limits: Limits { concurrency: Some(3), timeout: Some(Span(Duration::from_secs(5))), ..Limits::default() },
            unload: true,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugins.lock");
        assert_eq!(Lock::read(&path).unwrap(), Lock::default(), "no file lists nothing");
        let mut lock = Lock::default();
        lock.put(entry());
        lock.put(Entry { name: "other".into(), limits: Limits::default(), unload: false, ..entry() });
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        lock.put(Entry { version: "odd \"\u{7f}\n".into(), ..entry() });
        assert!(lock.remove("other") && !lock.remove("other"));
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half written is left");
    }

    #[test]
    fn the_careful_choice_is_the_default() {
        let text =
            format!("[[plugin]]\nname = \"a\"\nfile = \"a.so\"\nversion = \"1\"\nsha256 = \"{}\"", "0".repeat(64));
        let lock = Lock::parse(&text).unwrap();
        let entry = lock.get("a").unwrap();
        assert_eq!((entry.isolation, entry.unload), (Isolation::Process, false));
        assert!(entry.allowed_hosts.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |change: &dyn Fn(&mut Entry)| {
            let mut bad = entry();
            change(&mut bad);
            Lock::parse(&Lock { entries: vec![bad] }.text()).unwrap_err()
        };
        assert!(with(&|e| e.name = "Bad".into()).contains("name must begin"));
        for file in ["../x.so", "/x.so", "", ".x", "a\\b"] {
            assert!(with(&|e| e.file = file.into()).contains("plain name"), "{file}");
        }
        assert!(with(&|e| e.sha256 = "AB".repeat(32)).contains("sha256"));
        assert!(with(&|e| e.allowed_hosts = vec!["https://x".into()]).contains("is not a host"));
        assert!(with(&|e| e.private_hosts = vec!["*".into()]).contains("private_hosts"));
        assert!(with(&|e| e.limits.memory_mib = 1).contains("limits.memory_mib is 1; it must be 32"));
        assert!(with(&|e| e.limits.timeout = Some(Span(Duration::from_secs(301)))).contains("limits.timeout"));
        let twice = Lock { entries: vec![entry(), entry()] }.text();
        assert!(Lock::parse(&twice).unwrap_err().contains("listed twice"));
        assert!(Lock::parse("[[plugin]]\nnmae = \"x\"").unwrap_err().contains("nmae"));
        assert!(Lock::parse("[[plugin").is_err());
    }
}
