//! Text that never prints.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// Text that never prints. In a configuration's schema it is `writeOnly` and marked `x-campanile-secret`, so the host
/// masks it everywhere and accepts a handle such as `{"$secret": "env:SLACK_TOKEN"}`, which it resolves before `start`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(s: impl Into<String>) -> Self {
        Self(s.into())
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("«secret»")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true, "x-campanile-secret": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_and_says_so_in_the_schema() {
        #[derive(Deserialize, JsonSchema, Debug)]
        #[allow(dead_code)]
        struct Config {
            /// Bot token.
            #[serde(default)]
            token: Secret,
        }
        let config: Config = serde_json::from_str(r#"{"token": "hunter2"}"#).unwrap();
        assert_eq!((format!("{config:?}"), config.token.expose()), ("Config { token: «secret» }".into(), "hunter2"));
        let schema = schemars::schema_for!(Config).to_value();
        let token = &schema["properties"]["token"];
        assert_eq!((&token["writeOnly"], &token["x-campanile-secret"]), (&true.into(), &true.into()));
        assert_eq!((&token["description"], token.get("default")), (&"Bot token.".into(), None));
    }
}
