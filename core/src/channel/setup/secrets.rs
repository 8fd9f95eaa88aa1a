//! Secrets of configurations: what is stored is a handle, what a plugin gets at its start is the secret.
//!
//! `{"$secret": "env:NAME"}` is a variable of the host's environment, `{"$secret": "file:NAME"}` a file in
//! `plugins.secrets_dir`, and `{"$secret": "sealed:…"}` text that was typed in and sealed with a key which the database
//! does not have. A handle is resolved anew at every start. Absent on purpose: reading any secret back out.

use crate::config::{Config, secrets};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use campanile_plugin::{Problem, Secret};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The one key of a handle.
pub const HANDLE: &str = "$secret";
const SEALED: &str = "sealed:";
/// How a sealed secret is shown, and how a form says that it is to stay as it is.
const KEEP: &str = "sealed";
const FILE_MAX: u64 = 64 * 1024;
/// Shorter ones are no secrets, and covering them would garble every text.
const COVER_MIN: usize = 4;

/// Who wrote a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Whoever has the configuration file has everything: any variable, any file, plain text.
    File,
    /// A caller of the API, an admin: handles within bounds, so that managing instances does not give the host's own secrets
    /// away.
    Managed,
}

/// Variables by name.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

pub struct Vault {
    dir: PathBuf,
    key: Option<LessSafeKey>,
    environment: Environment,
}

/// A configuration with its secrets in it, and which those are.
pub struct Resolved {
    pub value: Value,
    pub resolved: Vec<String>,
}

impl Vault {
    /// The key is `plugins.secret_key`; a host with the embedded database makes one for itself. Without a key nothing is
    /// sealed, and typed secrets are refused.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let plugins = &config.plugins;
        let key = match &plugins.secret_key {
            key if !key.is_empty() => Some(key.clone()),
            _ if config.database.is_embedded() => {
                Some(secrets::load_or_create(&config.server.data_dir, "plugin_secret_key")?)
            }
            _ => None,
        };
        let dir = plugins.secrets_dir.clone().unwrap_or_else(|| config.server.data_dir.join("secrets"));
        Ok(Self::new(dir, key.as_ref(), Arc::new(|name: &str| env::var(name).ok())))
    }

    pub fn new(dir: PathBuf, key: Option<&Secret>, environment: Environment) -> Self {
        let key = key.and_then(|key| {
            let digest = Sha256::new().chain_update("campanile plugin secrets\0").chain_update(key.expose()).finalize();
            UnboundKey::new(&CHACHA20_POLY1305, &digest).ok().map(LessSafeKey::new)
        });
        Self { dir, key, environment }
    }

    /// Puts the secrets in the handles' places.
    pub fn resolve(&self, trust: Trust, instance: &str, config: &Value) -> Result<Resolved, Vec<Problem>> {
        let (mut value, mut resolved, mut problems) = (config.clone(), Vec::new(), Vec::new());
        each_handle(&mut value, &mut String::new(), &mut |at, value| match self.secret(trust, instance, value) {
            Ok(secret) => {
                resolved.push(secret.clone());
                *value = Value::String(secret);
            }
            Err(why) => problems.push(Problem::new(at, why)),
        });
        if problems.is_empty() { Ok(Resolved { value, resolved }) } else { Err(problems) }
    }

    fn secret(&self, trust: Trust, instance: &str, handle: &Value) -> Result<String, String> {
        let text = handle.as_object().filter(|o| o.len() == 1).and_then(|o| o[HANDLE].as_str());
        let Some(text) = text else {
            return Err(format!("write {{\"{HANDLE}\": \"env:NAME\"}} and nothing beside it"));
        };
        match text.split_once(':') {
            Some(("env", name)) => self.variable(trust, name),
            Some(("file", name)) => self.file(trust, name),
            Some(("sealed", sealed)) => self.unseal(instance, sealed),
            _ => Err(format!("{text:?} is no handle; write env:NAME or file:NAME")),
        }
    }

    fn variable(&self, trust: Trust, name: &str) -> Result<String, String> {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(format!("{name:?} is not the name of an environment variable"));
        }
        if trust == Trust::Managed && name.starts_with("CAMPANILE_") {
            return Err("variables of the host's own configuration are not handed to plugins".to_owned());
        }
        match (self.environment)(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("the host's environment has no {name}")),
        }
    }

    fn file(&self, trust: Trust, name: &str) -> Result<String, String> {
        let path = self.dir.join(name);
        // The text of a failure names what the operator wrote, not where a link leads.
        let unreadable = |e: std::io::Error| format!("the file {} can't be read: {}", path.display(), e.kind());
        let real = path.canonicalize().map_err(unreadable)?;
        if trust == Trust::Managed && !self.dir.canonicalize().is_ok_and(|dir| real.starts_with(dir)) {
            return Err(format!("must be a file in {}; plugins.secrets_dir says where", self.dir.display()));
        }
        read(&real).map_err(unreadable)
    }

    /// What is stored in place of a configuration that somebody sent: plain secrets are sealed, those that are to stay are
    /// taken from `before`, and nothing secret is left in plain text.
    pub fn store(
        &self,
        schema: &super::schema::Schema,
        instance: &str,
        config: Value,
        before: Option<&Value>,
    ) -> Result<Value, Vec<Problem>> {
        let (mut config, mut problems) = (config, Vec::new());
        schema.secrets(&mut config, &mut |at, value| {
            let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { return };
            match self.seal(instance, text) {
                Some(sealed) => *value = json!({ HANDLE: sealed }),
                None => problems.push(Problem::new(at, NO_KEY)),
            }
        });
        each_handle(&mut config, &mut String::new(), &mut |at, value| {
            if value[HANDLE] == KEEP {
                let old = before.and_then(|b| b.pointer(&Problem::new(at, "").pointer()));
                match old.filter(|old| old[HANDLE].as_str().is_some_and(|text| text.starts_with(SEALED))) {
                    Some(old) => *value = old.clone(),
                    None => {
                        problems
                            .push(Problem::new(at, "there is no sealed secret here that could stay; write it anew"));
                    }
                }
            }
        });
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// For one instance, or whatever else has a name of its own. None without a key.
    pub fn seal(&self, instance: &str, text: &str) -> Option<String> {
        let key = self.key.as_ref()?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut bytes = text.as_bytes().to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(instance), &mut bytes).ok()?;
        Some(format!("{SEALED}{}", STANDARD_NO_PAD.encode([&nonce[..], &bytes].concat())))
    }

    /// What [`Self::seal`] made for the same name.
    pub fn open_sealed(&self, name: &str, text: &str) -> Option<String> {
        self.unseal(name, text.strip_prefix(SEALED)?).ok()
    }

    fn unseal(&self, instance: &str, sealed: &str) -> Result<String, String> {
        let other = || "was sealed with another key; write the secret anew".to_owned();
        let key = self.key.as_ref().ok_or("is sealed, and this host has no key; set plugins.secret_key_file")?;
        let bytes = STANDARD_NO_PAD.decode(sealed).map_err(|_| other())?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(other)?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, Aad::from(instance), &mut rest).map_err(|_| other())?;
        String::from_utf8(plain.to_vec()).map_err(|_| other())
    }
}

const NO_KEY: &str = "is a secret, and this host has no key to seal it with: set plugins.secret_key_file to the same key on \
     all nodes, or write {\"$secret\": \"env:NAME\"} or {\"$secret\": \"file:NAME\"}";

fn read(path: &Path) -> std::io::Result<String> {
    let about = fs::metadata(path)?;
    if !about.is_file() || about.len() > FILE_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let text = fs::read_to_string(path)?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned())
}

/// Every object with the key of a handle, with its place.
fn each_handle(value: &mut Value, at: &mut String, each: &mut dyn FnMut(&str, &mut Value)) {
    let mut below = |value: &mut Value, name: &str| {
        let before = at.len();
        if before > 0 {
            at.push('.');
        }
        at.push_str(name);
        each_handle(value, at, each);
        at.truncate(before);
    };
    match value {
        Value::Object(fields) if fields.contains_key(HANDLE) => each(at, value),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| below(field, name)),
        Value::Array(items) => items.iter_mut().enumerate().for_each(|(i, item)| below(item, &i.to_string())),
        _ => {}
    }
}

/// How a secret that must not be seen is shown.
pub fn shown(what: &str) -> Value {
    Value::Object(Map::from_iter([(HANDLE.to_owned(), what.into())]))
}

/// Names of variables and files may be seen; sealed text is of no use to anybody.
pub fn without_sealed_text(config: &mut Value) {
    each_handle(config, &mut String::new(), &mut |_, value| {
        if value[HANDLE].as_str().is_none_or(|text| text.starts_with(SEALED)) {
            *value = shown(KEEP);
        }
    });
}

/// Covers secrets in what a plugin says.
#[derive(Clone, Debug, Default)]
pub struct Veil(Arc<[Secret]>);

impl Veil {
    pub fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|s| s.len() >= COVER_MIN);
        // The longer first: one may be a part of another.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        secrets.dedup();
        Self(secrets.into_iter().map(Secret::new).collect())
    }

    pub fn over(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.expose()) { text.replace(secret.expose(), "«secret»") } else { text }
        })
    }

    /// The same in every text of it.
    pub fn over_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.over(text)),
            Value::Array(items) => items.into_iter().map(|item| self.over_json(item)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(k, v)| (self.over(k), self.over_json(v))).collect(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::schema::Schema, *};

    fn vault(dir: &Path, key: Option<&str>) -> Vault {
        let environment = |name: &str| match name {
            "TOKEN" => Some("from-env".to_owned()),
            "CAMPANILE_AUTH__API_KEY" => Some("the host's own".to_owned()),
            _ => None,
        };
        Vault::new(dir.to_owned(), key.map(Secret::new).as_ref(), Arc::new(environment))
    }

    fn schema() -> Schema {
        let secret = json!({"type": "string", "writeOnly": true, "x-campanile-secret": true});
        Schema::compile(&json!({"properties": {"token": secret, "list": {"items": secret}}})).unwrap()
    }

    fn wrong(vault: &Vault, trust: Trust, handle: &str) -> String {
        let config = json!({"a": [{HANDLE: handle}]});
        let problems = vault.resolve(trust, "i", &config).err().unwrap_or_else(|| panic!("{handle} was taken"));
        assert_eq!(problems[0].pointer(), "/a/0");
        problems[0].message.clone()
    }

    #[test]
    fn handles_are_resolved_where_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("t"), "from-file\n").unwrap();
        let vault = vault(dir.path(), None);
        let config = json!({"a": {HANDLE: "env:TOKEN"}, "b": [1, {HANDLE: "file:t"}], "c": "plain"});
        let done = vault.resolve(Trust::Managed, "i", &config).ok().unwrap();
        assert_eq!(done.value, json!({"a": "from-env", "b": [1, "from-file"], "c": "plain"}));
        assert_eq!(done.resolved, ["from-env", "from-file"]);
    }

    #[test]
    fn who_manages_instances_gets_none_of_the_hosts_own_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("secrets"), dir.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::write(&outside, "not yours").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let vault = vault(&inside, None);
        let outside = format!("file:{}", outside.display());
        for handle in ["file:../outside", "file:link", "file:/etc/passwd", outside.as_str()] {
            assert!(wrong(&vault, Trust::Managed, handle).contains("must be a file in"), "{handle}");
        }
        assert!(wrong(&vault, Trust::Managed, "env:CAMPANILE_AUTH__API_KEY").contains("not handed to plugins"));
        for handle in ["env:NONE", "env:", "env:A=B", "file:none", "file:.", "x", "http://x", "sealed:AAAA"] {
            wrong(&vault, Trust::Managed, handle);
        }
        let config = json!({ HANDLE: outside });
        assert_eq!(vault.resolve(Trust::File, "i", &config).ok().unwrap().value, json!("not yours"));
    }

    #[test]
    fn typed_secrets_are_sealed_for_their_instance_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let ours = vault(dir.path(), Some("k".repeat(32).as_str()));
        let typed = json!({"token": "hunter2", "list": ["s3cret", {HANDLE: "env:TOKEN"}], "open": "o"});
        let stored = ours.store(&schema(), "i", typed, None).ok().unwrap();
        let text = stored.to_string();
        assert!(!text.contains("hunter2") && !text.contains("s3cret") && text.contains("env:TOKEN"), "{text}");
        let opened = |vault: &Vault, name: &str| vault.resolve(Trust::Managed, name, &stored);
        assert_eq!(opened(&ours, "i").ok().unwrap().value["token"], "hunter2");
        assert!(opened(&ours, "other").is_err(), "another instance's name opens nothing");
        assert!(opened(&vault(dir.path(), Some("another")), "i").is_err());
        assert!(opened(&vault(dir.path(), None), "i").err().unwrap()[0].message.contains("plugins.secret_key_file"));

        let shown = schema().masked(&stored);
        assert_eq!(shown["token"], json!({HANDLE: "sealed"}));
        assert_eq!(shown["list"][1], json!({HANDLE: "env:TOKEN"}));
        let again = ours.store(&schema(), "i", shown, Some(&stored)).ok().unwrap();
        assert_eq!(again, stored, "what was shown and sent back stays as it is");
        let nothing = ours.store(&schema(), "i", json!({"token": {HANDLE: "sealed"}}), None);
        assert_eq!(nothing.err().unwrap()[0].key, "token");
    }

    #[test]
    fn without_a_key_a_typed_secret_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let problems = vault(dir.path(), None).store(&schema(), "i", json!({"token": "hunter2"}), None).err().unwrap();
        assert_eq!(problems[0].key, "token");
        assert!(problems[0].message.contains("env:NAME") && !problems[0].message.contains("hunter2"));
    }
}
