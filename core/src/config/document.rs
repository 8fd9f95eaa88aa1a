//! `config/default.toml` read as a document: which keys exist, in which order, which of them are secrets or lists.
//!
//! A test holds it to the structs, so that neither can know a key the other lacks.

use super::DEFAULTS;
use std::collections::HashSet;

/// One key of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    /// Stands as a comment: no default.
    pub optional: bool,
    /// Its default is a list.
    pub list: bool,
    /// Has a `…_file` twin: never printed.
    pub secret: bool,
}

impl Key {
    /// `section.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
    /// For a `…_file` twin, the name of the secret it stands for.
    pub fn twin_of(&self, all: &[Self]) -> Option<&'static str> {
        let base = self.name.strip_suffix("_file")?;
        all.iter().any(|k| k.section == self.section && k.name == base).then_some(base)
    }
}

/// Every key, in the document's order.
pub fn keys() -> Vec<Key> {
    let mut found = Vec::new();
    let mut section = "";
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = setting(line) {
            let optional = line.starts_with('#');
            found.push(Key { section, name, optional, list: value.starts_with('['), secret: false });
        }
    }
    let files: HashSet<_> = found.iter().map(|k| (k.section, k.name)).collect();
    for key in &mut found {
        let twin = format!("{}_file", key.name);
        key.secret = files.contains(&(key.section, twin.as_str()));
    }
    found
}

/// `name = value`, or `# name =` for a key without a default.
fn setting(line: &'static str) -> Option<(&'static str, &'static str)> {
    let (name, value) = line.strip_prefix("# ").unwrap_or(line).split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    // A sentence of the commentary may hold `=`, but never as its second word with nothing after it.
    (is_name && (!line.starts_with('#') || value.is_empty())).then_some((name, value))
}

/// The known name nearest to `wrong`, if one is near at all.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(wrong, k), k))
        .min()
        .filter(|(distance, k)| *distance <= (k.len().max(wrong.len()) / 2).max(2))
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_plain_optional_list_and_secret_keys() {
        let keys = keys();
        let key = |path: &str| keys.iter().find(|k| k.path() == path).unwrap_or_else(|| panic!("{path}"));
        assert!(!key("server.listen").optional);
        assert!(key("server.public_url").optional);
        assert!(key("websocket.origins").list);
        assert!(key("auth.jwt_secret").secret && key("email.url").secret && key("metrics.token").secret);
        assert!(!key("auth.jwt_public_key_file").secret);
        assert_eq!(key("auth.jwt_secret_file").twin_of(&keys), Some("jwt_secret"));
        assert_eq!(key("auth.jwt_public_key_file").twin_of(&keys), None);
    }

    #[test]
    fn every_key_has_a_comment_of_its_own() {
        let mut above = "";
        for line in DEFAULTS.lines() {
            if setting(line).is_some() {
                assert!(above.starts_with("# ") && setting(above).is_none(), "{line:?} stands without a comment");
            }
            if line.starts_with('[') {
                assert!(above.starts_with("# "), "{line:?} stands without a comment");
            }
            above = line;
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(nearest("lisen", ["listen", "data_dir"]), Some("listen"));
        assert_eq!(nearest("zzzzzzzzzz", ["listen", "data_dir"]), None);
    }
}
