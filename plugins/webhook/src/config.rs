//! What an operator sets.

use crate::sign::Key;
use campanile_plugin::prelude::*;
use std::collections::BTreeMap;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where every message goes. Leave it out when each user has an endpoint: the user's address in this channel is then
    /// its URL.
    #[serde(default)]
    pub(crate) url: Option<Url>,
    /// Signs the requests: `whsec_` and 24 to 64 bytes in base64. The receiver checks with the same one.
    pub(crate) secret: Secret,
    /// Secrets that receivers may still check with. While you rotate, put the old one here; every one of them signs.
    #[serde(default)]
    pub(crate) old_secrets: Vec<Secret>,
    /// The header `Authorization`, whole, for endpoints that ask for one: `Bearer …`.
    #[serde(default)]
    pub(crate) authorization: Secret,
    /// More headers, by name: `x-…`, `accept` or `user-agent`.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Say that the channel is failing once nothing has been accepted for so long.
    #[serde(default = "days")]
    pub(crate) fail_after: Span,
}

fn days() -> Span {
    Duration::from_hours(5 * 24).into()
}

/// What an operator may set without breaking the request: neither its framing nor its signature.
fn may_be_set(header: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = header.to_ascii_lowercase();
    header.chars().all(token)
        && (matches!(name.as_str(), "accept" | "user-agent") || name.len() > 2 && name.starts_with("x-"))
}

impl Config {
    pub(crate) fn problems(&self) -> Result<(), Vec<Problem>> {
        let mut problems = self.keys().err().unwrap_or_default();
        let printable = |text: &str| text.chars().all(|c| c == '\t' || !c.is_control());
        for (name, value) in &self.headers {
            if !may_be_set(name) {
                problems.push(Problem::new("headers", format!("{name:?} can't be set; use x-…, accept or user-agent")));
            }
            if !printable(value) {
                problems.push(Problem::new("headers", format!("the value of {name:?} has control characters in it")));
            }
        }
        if !printable(self.authorization.expose()) {
            problems.push(Problem::new("authorization", "must not have control characters in it"));
        }
        if self.fail_after.is_zero() {
            problems.push(Problem::new("fail_after", "must be more than nothing: 5d"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    pub(crate) fn keys(&self) -> Result<Vec<Key>, Vec<Problem>> {
        let named = std::iter::once(("secret".to_owned(), &self.secret))
            .chain(self.old_secrets.iter().enumerate().map(|(i, s)| (format!("old_secrets.{i}"), s)));
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for (name, secret) in named {
            match Key::parse(secret) {
                Ok(key) => keys.push(key),
                Err(why) => problems.push(Problem::new(name, why)),
            }
        }
        if problems.is_empty() { Ok(keys) } else { Err(problems) }
    }
}
