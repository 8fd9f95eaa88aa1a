//! A configuration to try a plugin with: the given one, or the least that its schema asks for.
//!
//! Made of defaults, examples and types; addresses become those of a receiver. Absent on purpose: secrets from anywhere.
//! In the place of a handle stands a word, for nobody is called who would know the difference.

use crate::channel::setup::{schema::Schema, secrets::HANDLE};
use campanile_loader::Plugin;
use campanile_plugin::Problem;
use serde_json::{Map, Value, json};

/// In the place of every secret.
const SECRET: &str = "a-secret-of-the-check";
/// Where the schema wants https.
const ELSEWHERE: &str = "https://example.org/in";
/// Deepest value that is made.
const DEPTH_MAX: usize = 16;

/// One that schema and plugin accept, or what stands in the way.
pub async fn made(plugin: &Plugin, schema: &Schema, given: Option<&Value>, url: &str) -> Result<Value, String> {
    if let Some(given) = given {
        let mut config = given.clone();
        without_handles(&mut config);
        return match accepted(plugin, schema, &config).await {
            Ok(()) => Ok(config),
            Err(problems) => Err(format!("the configuration given is refused: {}", told(&problems))),
        };
    }
    let mut why = String::new();
    for url in [url, ELSEWHERE] {
        let config = least(&plugin.description().config_schema, url);
        match accepted(plugin, schema, &config).await {
            Ok(()) => return Ok(config),
            Err(problems) => why = told(&problems),
        }
    }
    Err(format!(
        "none can be made from its schema ({why}); give one with --with '{{…}}' or --with @FILE, or put \"default\" \
         or \"examples\" into the schema"
    ))
}

/// In the host's order: the schema, then the plugin.
pub async fn accepted(plugin: &Plugin, schema: &Schema, config: &Value) -> Result<(), Vec<Problem>> {
    schema.check(config)?;
    plugin.validate(config).await
}

pub fn told(problems: &[Problem]) -> String {
    let one = |p: &Problem| {
        let pointer = p.pointer();
        if pointer.is_empty() { p.message.clone() } else { format!("{pointer} {}", p.message) }
    };
    problems.iter().take(3).map(one).collect::<Vec<_>>().join("; ")
}

fn without_handles(value: &mut Value) {
    match value {
        Value::Object(keys) if keys.contains_key(HANDLE) => *value = SECRET.into(),
        Value::Object(keys) => keys.values_mut().for_each(without_handles),
        Value::Array(items) => items.iter_mut().for_each(without_handles),
        _ => {}
    }
}

/// What the schema requires and no more.
fn least(schema: &Value, url: &str) -> Value {
    match value(schema, schema, "", url, 0) {
        Value::Null => json!({}),
        made => made,
    }
}

fn value(root: &Value, schema: &Value, name: &str, url: &str, deep: usize) -> Value {
    if deep > DEPTH_MAX {
        return Value::Null;
    }
    let first = |key: &str| schema.get(key)?.as_array()?.first();
    let said = schema.get("default").or_else(|| schema.get("const")).or_else(|| first("examples"));
    if let Some(said) = said.or_else(|| first("enum")).filter(|said| !said.is_null()) {
        return said.clone();
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|at| root.pointer(at)).unwrap_or(&Value::Null);
        return value(root, target, name, url, deep + 1);
    }
    if let Some(part) = ["allOf", "oneOf", "anyOf"].into_iter().find_map(first) {
        return value(root, part, name, url, deep + 1);
    }
    let kind = schema.get("type").and_then(|t| t.as_str().or_else(|| t.as_array()?.first()?.as_str()));
    match kind {
        Some("string") => text(schema, name, url).into(),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => false.into(),
        Some("array") => {
            let n = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(8);
            let item = schema.get("items").unwrap_or(&Value::Null);
            (0..n).map(|_| value(root, item, name, url, deep + 1)).collect()
        }
        Some("object") => object(root, schema, url, deep),
        _ if schema.get("properties").is_some() => object(root, schema, url, deep),
        _ => Value::Null,
    }
}

fn object(root: &Value, schema: &Value, url: &str, deep: usize) -> Value {
    let mut made = Map::new();
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let property = schema.get("properties").and_then(|p| p.get(key)).unwrap_or(&Value::Null);
        made.insert(key.to_owned(), value(root, property, key, url, deep + 1));
    }
    Value::Object(made)
}

fn text(schema: &Value, name: &str, url: &str) -> String {
    let has = |key: &str, part: &str| schema.get(key).and_then(Value::as_str).is_some_and(|text| text.contains(part));
    let secret = |mark: &str| schema.get(mark) == Some(&Value::Bool(true));
    let text = if has("format", "uri") || has("format", "url") || has("pattern", "http") || name.contains("url") {
        url
    } else if has("format", "email") {
        "check@example.org"
    } else if secret("writeOnly") || secret("x-campanile-secret") {
        SECRET
    } else {
        "check"
    };
    let short = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(1024) as usize;
    format!("{text}{}", "x".repeat(short.saturating_sub(text.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_what_the_schema_requires() {
        let schema = json!({
            "type": "object",
            "required": ["url", "token", "mode", "n", "list", "inner", "name"],
            "properties": {
                "url": {"type": "string", "pattern": "^https?://"},
                "token": {"$ref": "#/$defs/Secret"},
                "mode": {"enum": ["a", "b"]},
                "n": {"type": ["integer", "null"], "minimum": 5},
                "list": {"type": "array", "minItems": 1, "items": {"type": "boolean"}},
                "inner": {"allOf": [{"$ref": "#/$defs/Inner"}]},
                "name": {"type": "string", "minLength": 7},
                "more": {"type": "string"}
            },
            "$defs": {
                "Secret": {"type": "string", "writeOnly": true},
                "Inner": {"type": "object", "required": ["at"], "properties": {"at": {"default": 7}}}
            }
        });
        let made = least(&schema, "http://127.0.0.1:9/in");
        let expected = json!({
            "url": "http://127.0.0.1:9/in", "token": SECRET, "mode": "a", "n": 5, "list": [false], "inner": {"at": 7},
            "name": "checkxx"
        });
        assert_eq!(made, expected);
        Schema::compile(&schema).unwrap().check(&made).unwrap();
        assert_eq!(least(&Value::Null, ""), json!({}), "a plugin without a schema gets an empty one");
        assert_eq!(least(&json!({"$ref": "#"}), ""), json!({}), "a schema that goes in circles ends");
    }

    #[test]
    fn handles_become_words() {
        let mut config = json!({"a": {"$secret": "env:X"}, "b": [{"$secret": "file:y"}], "c": "kept"});
        without_handles(&mut config);
        assert_eq!(config, json!({"a": SECRET, "b": [SECRET], "c": "kept"}));
    }
}
