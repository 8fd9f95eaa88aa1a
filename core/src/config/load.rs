//! Layers the configuration: embedded defaults ← file ← environment ← flags, and remembers where each value came from.
//!
//! Owns: layering, unknown keys, `…_file` twins, conversion. Absent on purpose: what a value means (each section's
//! `validate`), and reading the process's environment (the caller passes it, so that tests can).

use super::{
    Config, DEFAULTS,
    check::{Check, Complaint, Invalid},
    document::{self, Key, nearest},
    instances::Instance,
};
use config::{ConfigError, File, FileFormat, Source, Value, ValueKind};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// The file that is read from the working directory when none is named.
pub const DEFAULT_FILE: &str = "campanile.toml";
/// Only names with this prefix and a `__` after it are configuration.
const PREFIX: &str = "CAMPANILE_";

/// A value laid over all others, with the words that say why (`--listen`, `--dev`).
#[derive(Clone, Debug)]
pub struct Flag {
    pub key: &'static str,
    pub value: String,
    pub source: &'static str,
    /// Gives way to file and environment: `--dev` sets a temporary data folder only where nobody named one.
    pub weak: bool,
}

/// The configuration with the source of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub file: Option<PathBuf>,
    pub settings: Vec<Setting>,
}

#[derive(Clone, Debug)]
pub struct Setting {
    pub key: Key,
    /// As it may be shown: secrets are masked.
    pub shown: String,
    /// `None`: the default.
    pub source: Option<String>,
}

impl Loaded {
    /// Whether somebody set this key (file, environment or flag).
    pub fn is_set(&self, path: &str) -> bool {
        self.settings.iter().any(|s| s.source.is_some() && s.key.path() == path)
    }
}

type Values = BTreeMap<String, Value>;

struct Layers {
    keys: Vec<Key>,
    values: Values,
    sources: HashMap<String, String>,
    complaints: Vec<Complaint>,
    instances: Vec<Instance>,
}

/// Reads and checks everything. `file`: as named by `--config`; without it `campanile.toml` in the working directory.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[Flag],
) -> Result<Loaded, Invalid> {
    let mut layers = Layers {
        keys: document::keys(),
        values: flatten(File::from_str(DEFAULTS, FileFormat::Toml).collect().unwrap_or_default()),
        sources: HashMap::new(),
        complaints: Vec::new(),
        instances: Vec::new(),
    };
    let set = |flag: &Flag| (flag.key.to_owned(), Value::from(flag.value.clone()), flag.source.to_owned());
    layers.lay(flags.iter().filter(|f| f.weak).map(set));
    let file = match file {
        Some(f) => Some(f.to_owned()),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|f| f.exists()),
    };
    if let Some(file) = &file {
        layers.read_file(file);
    }
    layers.read_environment(env);
    layers.lay(flags.iter().filter(|f| !f.weak).map(set));
    layers.resolve_files();
    layers.finish(file)
}

impl Layers {
    fn complain(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.complaints.push(Complaint { key: key.into(), text: text.into() });
    }

    fn lay(&mut self, layer: impl IntoIterator<Item = (String, Value, String)>) {
        for (path, value, source) in layer {
            let Some(key) = self.keys.iter().find(|k| k.path() == path) else {
                let text = self.unknown(&path, &source);
                self.complain(path, text);
                continue;
            };
            // A key without a default that is set to nothing is unset: `CAMPANILE_SERVER__PUBLIC_URL=` in a compose file.
            if key.optional && matches!(&value.kind, ValueKind::String(s) if s.is_empty()) {
                self.values.remove(&path);
                self.sources.remove(&path);
                continue;
            }
            self.values.insert(path.clone(), value);
            self.sources.insert(path, source);
        }
    }

    fn unknown(&self, path: &str, source: &str) -> String {
        let paths: Vec<_> = self.keys.iter().map(Key::path).collect();
        let (section, name) = path.split_once('.').unwrap_or(("", path));
        let known_section = self.keys.iter().any(|k| k.section == section);
        // Inside a section only its own keys are near; a key that lost its section is looked for in all of them.
        let here = known_section
            .then(|| nearest(name, self.keys.iter().filter(|k| k.section == section).map(|k| k.name)))
            .flatten()
            .map(|name| format!("{section}.{name}"));
        let moved = self.keys.iter().find(|k| k.name == name).map(Key::path);
        let near = here.or(moved).or_else(|| nearest(path, paths.iter().map(String::as_str)).map(str::to_owned));
        let section = (!known_section).then(|| nearest(section, self.keys.iter().map(|k| k.section))).flatten();
        match (near, section) {
            (Some(near), _) => format!("unknown key in {source}; did you mean {near}?"),
            (None, Some(section)) => format!("unknown key in {source}; did you mean the section [{section}]?"),
            (None, None) => format!("unknown key in {source}; `campanile config check` lists all keys"),
        }
    }

    fn read_file(&mut self, file: &Path) {
        let name = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => return self.complain(name, format!("can't be read: {e}")),
        };
        match File::from_str(&text, FileFormat::Toml).collect() {
            Ok(mut tables) => {
                if let Some(list) = tables.remove("instances") {
                    self.read_instances(list, &name);
                }
                self.lay(flatten(tables).into_iter().map(|(k, v)| (k, v, name.clone())));
            }
            Err(e) => self.complain(name, format!("is not TOML: {}", plain(&e))),
        }
    }

    /// `[[instances]]`: a list, so nothing is laid over it.
    fn read_instances(&mut self, list: Value, source: &str) {
        let ValueKind::Array(items) = list.kind else {
            return self.complain("instances", format!("is a list; write [[instances]] (from {source})"));
        };
        for (i, item) in items.into_iter().enumerate() {
            match item.try_deserialize::<Instance>() {
                Ok(instance) => self.instances.push(instance),
                Err(e) => self.complain(format!("instances.{i}"), format!("{} (from {source})", plain(&e))),
            }
        }
    }

    fn read_environment(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        let mut layer = Vec::new();
        for (name, text) in env {
            let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|n| n.split_once("__")) else { continue };
            let path = format!("{section}.{key}").to_lowercase();
            let list = self.keys.iter().any(|k| k.list && k.path() == path);
            let value = if list { read_list(&text) } else { Ok(Value::from(text)) };
            match value {
                Ok(value) => layer.push((path, value, format!("the environment, {name}"))),
                Err(e) => self.complain(path, format!("{e} (from the environment, {name})")),
            }
        }
        layer.sort_by(|a, b| a.0.cmp(&b.0));
        self.lay(layer);
    }

    /// `x_file` → `x`, read once.
    fn resolve_files(&mut self) {
        for twin in self.keys.clone() {
            let Some(base) = twin.twin_of(&self.keys) else { continue };
            let (file_key, base_key) = (twin.path(), format!("{}.{base}", twin.section));
            let Some(file) = self.values.get(&file_key).and_then(text).filter(|f| !f.is_empty()) else { continue };
            // A default (`queue.url`) gives way; what somebody set does not.
            let set = self.sources.contains_key(&base_key);
            if set && self.values.get(&base_key).and_then(text).is_some_and(|v| !v.is_empty()) {
                self.complain(base_key, format!("both this and {file_key} are set; keep one"));
                continue;
            }
            match std::fs::read_to_string(&file) {
                Ok(secret) if secret.trim().is_empty() => self.complain(file_key, format!("{file} is empty")),
                Ok(secret) => {
                    self.values.insert(base_key.clone(), Value::from(secret.trim().to_owned()));
                    self.sources.insert(base_key, format!("the file {file}"));
                }
                Err(e) => self.complain(file_key, format!("{file} can't be read: {e}")),
            }
        }
    }

    fn finish(mut self, file: Option<PathBuf>) -> Result<Loaded, Invalid> {
        let defaults = flatten(File::from_str(DEFAULTS, FileFormat::Toml).collect().unwrap_or_default());
        // Each set value is tried alone over the defaults, so that all wrong ones are told of, not the first.
        let mut set: Vec<_> = self.sources.keys().cloned().collect();
        set.sort();
        for path in set {
            let Some(value) = self.values.get(&path) else { continue };
            let mut alone = defaults.clone();
            alone.insert(path.clone(), value.clone());
            if let Err(e) = deserialize(alone) {
                let text = plain(&e);
                self.complain(path.clone(), text);
                match defaults.get(&path) {
                    Some(value) => self.values.insert(path, value.clone()),
                    None => self.values.remove(&path),
                };
            }
        }
        let settings = self.settings();
        match deserialize(self.values) {
            Ok(mut config) => {
                config.instances = self.instances;
                let mut check = Check::default();
                config.validate(&mut check);
                self.complaints.extend(check.done());
                if self.complaints.is_empty() {
                    return Ok(Loaded { config, file, settings });
                }
            }
            Err(e) => self.complaints.push(Complaint { key: "configuration".into(), text: plain(&e) }),
        }
        Err(Invalid { complaints: self.complaints, sources: self.sources })
    }

    fn settings(&self) -> Vec<Setting> {
        self.keys
            .iter()
            .map(|key| {
                let path = key.path();
                let shown = self.values.get(&path).map_or_else(|| "unset".to_owned(), |v| show(key, v));
                Setting { key: key.clone(), shown, source: self.sources.get(&path).cloned() }
            })
            .collect()
    }
}

/// The configuration that the defaults alone make.
pub fn defaults() -> Result<Config, ConfigError> {
    deserialize(flatten(File::from_str(DEFAULTS, FileFormat::Toml).collect()?))
}

fn deserialize(values: Values) -> Result<Config, ConfigError> {
    // The document itself comes first: a section whose keys have no defaults exists only there.
    let mut builder = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    for (path, value) in values {
        builder = builder.set_override(&path, value)?;
    }
    builder.build()?.try_deserialize()
}

/// Tables by section → `section.key`. Deeper tables stay values: no key is one, so their conversion complains.
fn flatten(tables: config::Map<String, Value>) -> Values {
    let mut flat = Values::new();
    for (section, value) in tables {
        match value.kind {
            ValueKind::Table(keys) => {
                flat.extend(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
            }
            _ => {
                flat.insert(section, value);
            }
        }
    }
    flat
}

/// `a, b` or a TOML array.
fn read_list(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.starts_with('[') {
        let mut table = File::from_str(&format!("list = {text}"), FileFormat::Toml)
            .collect()
            .map_err(|_| format!("{text:?} is not a TOML array; write [\"a\", \"b\"] or a, b"))?;
        return table.remove("list").ok_or_else(|| "is not a list".to_owned());
    }
    let items = text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| Value::from(s.to_owned()));
    Ok(Value::from(items.collect::<Vec<_>>()))
}

fn text(value: &Value) -> Option<String> {
    value.clone().into_string().ok()
}

/// The message without the crate's own paths and origins: the complaint names the key already.
fn plain(e: &ConfigError) -> String {
    match e {
        ConfigError::At { error, .. } => plain(error),
        ConfigError::Type { unexpected, expected, .. } => format!("expected {expected}, found {unexpected}"),
        ConfigError::Message(text) => text.clone(),
        ConfigError::FileParse { cause, .. } => cause.to_string().trim().to_owned(),
        other => other.to_string(),
    }
}

fn show(key: &Key, value: &Value) -> String {
    match &value.kind {
        ValueKind::String(s) if s.is_empty() => "unset".to_owned(),
        _ if key.secret => "(secret)".to_owned(),
        ValueKind::String(s) => format!("{:?}", mask_password(s)),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|v| show(key, v)).collect();
            format!("[{}]", items.join(", "))
        }
        kind => kind.to_string(),
    }
}

/// `scheme://user:password@host` without its password.
pub fn mask_password(s: &str) -> String {
    match url::Url::parse(s) {
        Ok(mut url) if url.password().is_some() => {
            // Fails only for URLs that can't have one, and this one has.
            let _ = url.set_password(Some("…"));
            url.to_string().replace("%E2%80%A6", "…")
        }
        _ => s.to_owned(),
    }
}
