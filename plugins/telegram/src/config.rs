//! What an operator sets.

use campanile_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The bot's token, as BotFather gave it: `123456:ABC…`.
    pub(crate) token: Secret,
    /// How the text is shown.
    #[serde(default)]
    pub(crate) format: Format,
    /// Whether Telegram shows a preview of the first link.
    #[serde(default)]
    pub(crate) link_preview: bool,
    /// Deliver notifications of low priority without a sound.
    #[serde(default = "yes")]
    pub(crate) low_is_silent: bool,
    /// Another Bot API server, such as one of your own.
    #[serde(default = "public")]
    pub(crate) api_url: Url,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The title in bold; everything in title and message is shown as it is.
    #[default]
    Bold,
    /// No markup at all.
    Plain,
}

fn yes() -> bool {
    true
}
fn public() -> Url {
    Url::parse("https://api.telegram.org").unwrap_or_else(|_| unreachable!("a good address"))
}

/// The number of a chat, or the name of a public group or channel.
pub(crate) fn is_chat(text: &str) -> bool {
    match text.strip_prefix('@') {
        Some(name) => (4..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        None => text.parse::<i64>().is_ok_and(|n| n != 0) && !text.starts_with('+'),
    }
}

impl Config {
    pub(crate) fn problems(&self) -> Result<(), Vec<Problem>> {
        // It becomes a part of the request's path.
        let parts = self.token.expose().split_once(':');
        let good = parts.is_some_and(|(id, key)| {
            (1..=20).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_digit())
                && (20..=100).contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
        if good {
            return Ok(());
        }
        Err(vec![Problem::new("token", "must be a bot's token: digits, a colon, and its key; BotFather shows it")])
    }
}
