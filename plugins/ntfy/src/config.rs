//! What an operator sets.

use campanile_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server.
    #[serde(default = "public")]
    pub(crate) server: Url,
    /// Access token (`tk_…`), for servers and topics that ask for one.
    #[serde(default)]
    pub(crate) token: Secret,
    /// User name, for servers that know passwords only.
    #[serde(default)]
    pub(crate) user: String,
    /// Password of that user.
    #[serde(default)]
    pub(crate) password: Secret,
    /// Priorities on the phone, 1 (silent) to 5 (insistent), for `low`, `normal` and `high` ones here.
    #[serde(default)]
    pub(crate) priorities: Priorities,
    /// Tags of every message; names of emojis become emojis.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The key of a notification's `data` with the URL to open on a click. Empty: none.
    #[serde(default = "url")]
    pub(crate) click_key: String,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Priorities {
    pub(crate) low: u8,
    pub(crate) normal: u8,
    pub(crate) high: u8,
}

impl Default for Priorities {
    fn default() -> Self {
        Self { low: 2, normal: 3, high: 4 }
    }
}

fn public() -> Url {
    Url::parse("https://ntfy.sh").unwrap_or_else(|_| unreachable!("a good address"))
}
fn url() -> String {
    "url".into()
}

/// As the server has it.
pub(crate) fn is_topic(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl Config {
    pub(crate) fn problems(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for (key, value) in
            [("low", self.priorities.low), ("normal", self.priorities.normal), ("high", self.priorities.high)]
        {
            if !(1..=5).contains(&value) {
                problems.push(Problem::new(format!("priorities.{key}"), "must be 1 to 5"));
            }
        }
        if !self.token.is_empty() && !self.user.is_empty() {
            problems.push(Problem::new("token", "set a token or a user with a password, not both"));
        }
        if self.user.is_empty() != self.password.is_empty() {
            problems.push(Problem::new("user", "user and password belong together; set both or none"));
        }
        if self.user.contains(':') {
            problems.push(Problem::new("user", "must not contain a colon"));
        }
        if self.tags.iter().any(|t| t.is_empty() || t.contains(',')) {
            problems.push(Problem::new("tags", "must be words without commas"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}
