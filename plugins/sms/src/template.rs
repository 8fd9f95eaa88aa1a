//! Words of other providers' requests. A template is text with names in braces and nothing else: no conditions, no
//! nesting, and every value is escaped by the place it stands in.

use campanile_plugin::prelude::*;
use std::fmt::Write;

#[derive(Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    pub(crate) to: &'a str,
    pub(crate) from: &'a str,
    pub(crate) text: &'a str,
    pub(crate) account: &'a str,
    pub(crate) token: &'a str,
    pub(crate) id: &'a str,
}

impl<'a> Values<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        Some(match name {
            "to" => self.to,
            "from" => self.from,
            "text" => self.text,
            "account" => self.account,
            "token" => self.token,
            "id" => self.id,
            _ => return None,
        })
    }
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(inner) = rest.strip_prefix('{')
            && let Some((name, after)) = inner.split_once('}')
        {
            rest = after;
            return Some(Piece::Name(name));
        }
        let end = rest[1..].find('{').map_or(rest.len(), |at| at + 1);
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Text(text))
    })
}

/// Every name in braces must be known.
pub(crate) fn check(template: &str, token_too: bool) -> Result<(), String> {
    for piece in pieces(template) {
        match piece {
            Piece::Name("token") if !token_too => {
                return Err("{token} can't stand in an address, which is logged".into());
            }
            Piece::Name(name) if Values::default().get(name).is_none() => {
                return Err(format!(
                    "{{{name}}} is unknown; there are {{to}} {{from}} {{text}} {{account}} {{token}} {{id}}"
                ));
            }
            Piece::Text(text) if text.contains(['{', '}']) => return Err("has a brace without its partner".into()),
            _ => {}
        }
    }
    Ok(())
}

/// The same for every text in a JSON value; with a pointer to the wrong one.
pub(crate) fn check_json(json: &Value) -> Result<(), (String, String)> {
    let inside = |key: String, inner: &Value| check_json(inner).map_err(|(path, why)| (format!(".{key}{path}"), why));
    match json {
        Value::String(text) => check(text, true).map_err(|why| (String::new(), why)),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(i, item)| inside(i.to_string(), item)),
        Value::Object(map) => map.iter().try_for_each(|(key, item)| inside(key.clone(), item)),
        _ => Ok(()),
    }
}

/// The address with harmless values, to see whether it is one.
pub(crate) fn sample(url: &str) -> String {
    fill(url, &Values { to: "1", from: "1", text: "1", account: "1", token: "1", id: "1" }, str::to_owned)
}

pub(crate) fn plain(template: &str, values: &Values<'_>) -> String {
    fill(template, values, str::to_owned)
}

pub(crate) fn url(template: &str, values: &Values<'_>) -> String {
    fill(template, values, |value| {
        value.bytes().fold(String::new(), |mut out, b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                out.push(char::from(b));
            } else {
                let _ = write!(out, "%{b:02X}");
            }
            out
        })
    })
}

/// Texts are filled and then written as JSON, so no value can leave its quotes.
pub(crate) fn json(template: &Value, values: &Values<'_>) -> Value {
    match template {
        Value::String(text) => plain(text, values).into(),
        Value::Array(items) => items.iter().map(|item| json(item, values)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), json(item, values))).collect(),
        other => other.clone(),
    }
}

fn fill(template: &str, values: &Values<'_>, escape: impl Fn(&str) -> String) -> String {
    pieces(template).fold(String::new(), |out, piece| match piece {
        Piece::Text(text) => out + text,
        Piece::Name(name) => out + &escape(values.get(name).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_put() {
        let values = Values { to: "+1", text: "a&b {token} \"/..", token: "s3", ..Values::default() };
        assert_eq!(url("https://x/{to}?t={text}", &values), "https://x/%2B1?t=a%26b%20%7Btoken%7D%20%22%2F..");
        assert_eq!(
            json(&json!({ "m": [{ "t": "{text}", "n": 1 }] }), &values).to_string(),
            r#"{"m":[{"n":1,"t":"a&b {token} \"/.."}]}"#
        );
        assert_eq!(plain("{to}{token}", &values), "+1s3");
    }

    #[test]
    fn only_known_names_stand_in_braces() {
        for good in ["", "x", "{to}", "a{to}b{text}"] {
            assert!(check(good, true).is_ok(), "{good}");
        }
        for bad in ["{", "}", "{to", "{TO}", "{{to}}", "{}", "a{b}c", "{token.x}"] {
            assert!(check(bad, true).is_err(), "{bad}");
        }
        assert!(check("{token}", false).is_err());
        assert_eq!(check_json(&json!({ "a": [1, "{b}"] })).unwrap_err().0, ".a.1");
    }
}
