//! What an operator sets.

use crate::{codes::Class, template};
use campanile_plugin::prelude::*;
use std::collections::BTreeMap;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Twilio: the Account SID, `AC…`. Other providers: the user name, or whatever `{account}` stands for.
    #[serde(default)]
    pub(crate) account: String,
    /// Twilio: the Auth Token. Other providers: password or API key.
    pub(crate) token: Secret,
    /// Who sends: a number such as `+4915112345678`, a sender's name, or Twilio's Messaging Service SID, `MG…`.
    pub(crate) from: String,
    /// Twilio's API, or one that speaks like it.
    #[serde(default = "twilio")]
    pub(crate) api_url: Url,
    /// Longest message in segments; each is paid for. A longer one is cut.
    #[serde(default = "three")]
    pub(crate) max_segments: u8,
    /// Set it for a provider that does not speak like Twilio.
    #[serde(default)]
    pub(crate) custom: Option<Custom>,
}

/// Another provider's request. `{to}`, `{from}`, `{text}`, `{account}`, `{token}` and `{id}` stand for values; each is
/// escaped for the place it stands in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// Where to post. `{token}` can't stand here: addresses are logged.
    pub(crate) url: String,
    /// The fields of a form. Set this or `json`.
    #[serde(default)]
    pub(crate) form: BTreeMap<String, String>,
    /// A JSON body; its texts are templates.
    #[serde(default)]
    pub(crate) json: Option<Value>,
    /// How the request proves who we are.
    #[serde(default)]
    pub(crate) auth: Auth,
    /// Header for the token with `auth` = `header`.
    #[serde(default)]
    pub(crate) auth_header: String,
    /// JSON pointer to the message's id in the answer: `/messages/0/id`.
    #[serde(default)]
    pub(crate) id_pointer: String,
    /// JSON pointer to an error code in the answer: `/error/code`. It is looked at whatever the status.
    #[serde(default)]
    pub(crate) code_pointer: String,
    /// What these codes mean. A code that is not in the table is judged by the status.
    #[serde(default)]
    pub(crate) codes: BTreeMap<String, Class>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Auth {
    /// `account` and `token` as user and password.
    #[default]
    Basic,
    /// `token` as bearer token.
    Bearer,
    /// `token` in the header that `auth_header` names.
    Header,
    /// The token stands in the body.
    None,
}

fn twilio() -> Url {
    Url::parse("https://api.twilio.com").unwrap_or_else(|_| unreachable!("a good address"))
}
fn three() -> u8 {
    3
}

/// E.164: `+`, a country code, at most 15 digits in all.
pub(crate) fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

impl Config {
    pub(crate) fn problems(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut wrong = |key: &str, why: &str| problems.push(Problem::new(key, why));
        if self.from.is_empty() || self.from.len() > 64 || self.from.chars().any(char::is_control) {
            wrong("from", "must be a number such as +4915112345678, a name, or a service's id");
        }
        if !(1..=10).contains(&self.max_segments) {
            wrong("max_segments", "must be 1 to 10");
        }
        let sid = self.account.len() == 34 && self.account.bytes().all(|b| b.is_ascii_alphanumeric());
        match &self.custom {
            // It becomes a part of the request's path.
            None if !sid => wrong("account", "must be the 34 letters and digits of an Account SID: AC…"),
            None => {}
            Some(custom) => custom.problems(&self.account, &mut wrong),
        }
        if self.token.is_empty() {
            wrong("token", "must not be empty");
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Custom {
    fn problems(&self, account: &str, wrong: &mut impl FnMut(&str, &str)) {
        if let Err(why) = template::check(&self.url, false) {
            wrong("custom.url", &why);
        } else if let Err(why) = Url::parse(&template::sample(&self.url)) {
            wrong("custom.url", &why);
        } else if self.url.split('/').nth(2).is_some_and(|host| host.contains('{')) {
            wrong("custom.url", "the host must stand there as it is, without anything in braces");
        }
        for (field, text) in &self.form {
            if let Err(why) = template::check(text, true) {
                wrong(&format!("custom.form.{field}"), &why);
            }
        }
        if let Some(json) = &self.json
            && let Err((path, why)) = template::check_json(json)
        {
            wrong(&format!("custom.json{path}"), &why);
        }
        if self.form.is_empty() == self.json.is_none() {
            wrong("custom", "set form or json, one of them");
        }
        if self.auth == Auth::Basic && account.is_empty() {
            wrong("account", "must be the user name, as custom.auth is basic");
        }
        if (self.auth == Auth::Header) == self.auth_header.is_empty() {
            wrong("custom.auth_header", "belongs to auth = header; set both or none");
        }
        for (key, pointer) in [("custom.id_pointer", &self.id_pointer), ("custom.code_pointer", &self.code_pointer)] {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                wrong(key, "must be a JSON pointer such as /messages/0/id");
            }
        }
        if !self.codes.is_empty() && self.code_pointer.is_empty() {
            wrong("custom.code_pointer", "must say where the codes of custom.codes stand");
        }
    }
}
