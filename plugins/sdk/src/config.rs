//! Types for configurations that check themselves: [`Url`], [`Span`].

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use std::{borrow::Cow, fmt, ops::Deref, time::Duration};

/// An absolute `http://` or `https://` address without credentials in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else { return Err("must begin with https:// or http://".into()) };
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || "\"<>\\^`{|}".contains(c)) {
            return Err("must not contain spaces, control characters, or any of \"<>\\^`{|}".into());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || authority.starts_with(':') {
            return Err("must name a host".into());
        }
        if authority.contains('@') {
            return Err("must not carry credentials; put them in a key of their own".into());
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This address with more path; one slash between.
    pub fn join(&self, path: &str) -> Self {
        Self(format!("{}/{}", self.0.trim_end_matches('/'), path.trim_start_matches('/')))
    }

    /// `host` or `host:port`.
    pub fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

impl AsRef<str> for Url {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Paths often are secrets (incoming webhooks): only the host part prints.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({}…)", self.authority())
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

impl serde::Serialize for Url {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl JsonSchema for Url {
    fn schema_name() -> Cow<'static, str> {
        "Url".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

/// A duration as people write it: `250ms`, `10s`, `5m`, `2h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a duration; write a number and a unit: 250ms, 10s, 5m, 2h or 7d");
        let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let n: u64 = text[..at].parse().map_err(|_| wrong())?;
        let unit = match &text[at..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        // A century is enough for every key and far from any overflow in time arithmetic.
        let ms = n.checked_mul(unit).filter(|ms| *ms <= 36_500 * 86_400_000);
        ms.map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| format!("{text:?} is too long; at most 36500d"))
    }
}

impl Deref for Span {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for Span {
    fn from(time: Duration) -> Self {
        Self(time)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// Defaults in schemas are written as they are read.
impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.as_millis();
        let (n, unit) = if ms % 1000 == 0 { (ms / 1000, "s") } else { (ms, "ms") };
        s.collect_str(&format_args!("{n}{unit}"))
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "examples": ["10s"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_and_without_credentials() {
        for good in ["https://example.org", "http://127.0.0.1:8080/x?y=z#w", "https://[::1]/"] {
            assert_eq!(Url::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "example.org", "ftp://x", "https://", "https:///x", "http://:80", "https://u:p@h", "https://h/a b"]
        {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        let url = Url::parse("https://hooks.example.org/T0/secret/").unwrap();
        assert_eq!(url.join("/send").as_str(), "https://hooks.example.org/T0/secret/send");
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, ms) in [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.as_millis(), ms, "{text}");
            let written = serde_json::to_string(&span).unwrap();
            assert_eq!(serde_json::from_str::<Span>(&written).unwrap(), span);
        }
        for bad in ["", "5", "s", "5 s", "-1s", "1.5s", "99999999999999999999s", "40000d"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }
}
