//! The JSON Schema that a plugin brings for its configuration.
//!
//! A schema is a stranger's text: it is measured before it is compiled, may refer only into itself, and its patterns run on
//! an engine whose time is linear. Owns also: which values of a configuration are secret, by the schema's marks. Absent on
//! purpose: retrieving anything. The compiler is built without the code that could.

use super::secrets::{HANDLE, Veil};
use campanile_plugin::{Problem, wire::Description};
use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use serde_json::{Map, Value};

/// Longest schema, as text.
const SCHEMA_MAX: usize = 256 * 1024;
/// Deepest schema or configuration.
const DEPTH_MAX: usize = 64;
/// Longest configuration, as text.
const CONFIG_MAX: usize = 256 * 1024;
/// A pattern that compiles to more than this is not a pattern for a configuration.
const PATTERN_MAX: usize = 1 << 20;
/// Problems that are told at once.
const TOLD: usize = 50;

pub struct Schema {
    root: Value,
    validator: Validator,
}

/// Says no to every document that a schema asks for.
struct Nothing;

impl Retrieve for Nothing {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("refers to {uri}; a schema may refer only into itself").into())
    }
}

impl Schema {
    /// Of a plugin that describes none: an object of whatever keys, which its own check then judges.
    pub fn of(description: &Description) -> Result<Self, String> {
        match &description.config_schema {
            Value::Null => Self::compile(&Value::Object(Map::from_iter([("type".to_owned(), "object".into())]))),
            schema => Self::compile(schema),
        }
    }

    pub fn compile(schema: &Value) -> Result<Self, String> {
        if depth(schema) > DEPTH_MAX {
            return Err(format!("the plugin's schema is nested deeper than {DEPTH_MAX}"));
        }
        if schema.to_string().len() > SCHEMA_MAX {
            return Err(format!("the plugin's schema is longer than {} KiB", SCHEMA_MAX / 1024));
        }
        if let Some(reference) = foreign_reference(schema) {
            return Err(format!(
                "the plugin's schema refers to {reference:?}; it may refer only into itself, as in \"#/$defs/x\""
            ));
        }
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_retriever(Nothing)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX))
            .should_validate_formats(false)
            .build(schema)
            .map_err(|e| format!("the plugin's schema can't be used: {}", e.masked()))?;
        Ok(Self { root: schema.clone(), validator })
    }

    /// Everything that is wrong, by key; values are never repeated.
    pub fn check(&self, config: &Value) -> Result<(), Vec<Problem>> {
        if depth(config) > DEPTH_MAX || config.to_string().len() > CONFIG_MAX {
            return Err(vec![Problem::new(
                "",
                format!("must be at most {} KiB and {DEPTH_MAX} deep", CONFIG_MAX / 1024),
            )]);
        }
        let problems: Vec<_> = self
            .validator
            .iter_errors(config)
            .take(TOLD)
            .map(|e| Problem::new(dotted(e.instance_path().as_str()), plain(&e.masked().to_string())))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Calls `each` with every value that the schema marks as secret.
    pub fn secrets(&self, config: &mut Value, each: &mut dyn FnMut(&str, &mut Value)) {
        self.walk(&self.root, config, &mut String::new(), 0, each);
    }

    /// Covers the secrets of a configuration: those that were resolved, and those that stand in it as plain text.
    pub fn veil(&self, config: &Value, mut known: Vec<String>) -> Veil {
        let mut copy = config.clone();
        self.secrets(&mut copy, &mut |_, value| known.extend(value.as_str().map(str::to_owned)));
        Veil::new(known)
    }

    /// For eyes: plain secrets are masked; of handles only the sealed text is.
    pub fn masked(&self, config: &Value) -> Value {
        let mut shown = config.clone();
        self.secrets(&mut shown, &mut |_, value| {
            if value.as_str().is_some_and(|text| !text.is_empty()) {
                *value = super::secrets::shown("plain");
            }
        });
        super::secrets::without_sealed_text(&mut shown);
        shown
    }

    fn walk(
        &self,
        schema: &Value,
        value: &mut Value,
        at: &mut String,
        deep: usize,
        each: &mut dyn FnMut(&str, &mut Value),
    ) {
        if deep > DEPTH_MAX {
            return;
        }
        let Value::Object(keys) = schema else { return };
        if marked(keys) {
            each(at, value);
            return;
        }
        if let Some(target) = keys.get("$ref").and_then(Value::as_str).and_then(|r| self.local(r)) {
            self.walk(target, value, at, deep + 1, each);
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            for part in keys.get(word).and_then(Value::as_array).into_iter().flatten() {
                self.walk(part, value, at, deep + 1, each);
            }
        }
        for word in ["if", "then", "else"] {
            if let Some(part) = keys.get(word) {
                self.walk(part, value, at, deep + 1, each);
            }
        }
        match value {
            Value::Object(fields) if !fields.contains_key(HANDLE) => {
                let named = keys.get("properties").and_then(Value::as_object);
                for (name, field) in fields {
                    let schema = named.and_then(|n| n.get(name)).or_else(|| keys.get("additionalProperties"));
                    let Some(schema) = schema else { continue };
                    self.below(schema, field, name, at, deep, each);
                }
            }
            Value::Array(items) => {
                let first = keys.get("prefixItems").and_then(Value::as_array);
                for (i, item) in items.iter_mut().enumerate() {
                    let schema = first.and_then(|f| f.get(i)).or_else(|| keys.get("items"));
                    let Some(schema) = schema else { continue };
                    self.below(schema, item, &i.to_string(), at, deep, each);
                }
            }
            _ => {}
        }
    }

    fn below(
        &self,
        schema: &Value,
        value: &mut Value,
        name: &str,
        at: &mut String,
        deep: usize,
        each: &mut dyn FnMut(&str, &mut Value),
    ) {
        let before = at.len();
        if before > 0 {
            at.push('.');
        }
        at.push_str(name);
        self.walk(schema, value, at, deep + 1, each);
        at.truncate(before);
    }

    fn local(&self, reference: &str) -> Option<&Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }
}

fn marked(schema: &Map<String, Value>) -> bool {
    ["x-campanile-secret", "writeOnly"].iter().any(|mark| schema.get(*mark) == Some(&Value::Bool(true)))
}

/// `/server/url` → `server.url`, as [`Problem`] has its keys.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~")
}

fn plain(text: &str) -> String {
    // The compiler's words for a value that it does not show.
    text.strip_prefix("value is ").map_or_else(|| text.to_owned(), |rest| format!("is {rest}"))
}

fn foreign_reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(keys) => keys.iter().find_map(|(key, value)| match (key.as_str(), value.as_str()) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Some(to)) if !to.starts_with('#') => Some(to),
            // Data, not schemas: what stands in them refers to nothing.
            ("const" | "enum" | "default" | "examples", _) => None,
            _ => foreign_reference(value),
        }),
        Value::Array(items) => items.iter().find_map(foreign_reference),
        _ => None,
    }
}

fn depth(value: &Value) -> usize {
    // With a stack of its own: the text may be deeper than ours.
    let (mut deepest, mut open) = (0, vec![(value, 1)]);
    while let Some((value, deep)) = open.pop() {
        deepest = deepest.max(deep);
        match value {
            Value::Object(keys) => open.extend(keys.values().map(|v| (v, deep + 1))),
            Value::Array(items) => open.extend(items.iter().map(|v| (v, deep + 1))),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::{
        net::TcpListener,
        time::{Duration, Instant},
    };

    fn schema() -> Schema {
        Schema::compile(&json!({
            "type": "object",
            "required": ["url"],
            "additionalProperties": false,
            "properties": {
                "url": {"type": "string", "pattern": "^https://"},
                "token": {"$ref": "#/$defs/Secret"},
                "more": {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Pair"}]}},
                "n": {"type": "integer", "maximum": 9}
            },
            "$defs": {
                "Secret": {"type": "string", "writeOnly": true, "x-campanile-secret": true},
                "Pair": {"type": "object", "properties": {"key": {"$ref": "#/$defs/Secret"}}}
            }
        }))
        .unwrap()
    }

    #[test]
    fn every_problem_is_told_with_its_place_and_without_its_value() {
        let problems =
            schema().check(&json!({"url": "hunter2", "n": 10, "more": [null, {"key": 7}], "x": 1})).unwrap_err();
        let mut places: Vec<_> = problems.iter().map(Problem::pointer).collect();
        places.sort();
        assert_eq!(places, ["", "/more/1", "/n", "/url"]);
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        assert_eq!(schema().check(&json!({})).unwrap_err().len(), 1);
        schema().check(&json!({"url": "https://x", "token": "t"})).unwrap();
    }

    #[test]
    fn secrets_are_found_through_references_lists_and_choices() {
        let mut config =
            json!({"url": "https://x", "token": "t0p-s3cret", "more": [null, {"key": "k3y-s3cret", "other": "o"}]});
        let mut found = Vec::new();
        schema().secrets(&mut config, &mut |at, _| found.push(at.to_owned()));
        found.sort();
        assert_eq!(found, ["more.1.key", "token"]);
        let masked = schema().masked(&config);
        assert_eq!((&masked["url"], &masked["more"][1]["other"]), (&json!("https://x"), &json!("o")));
        assert!(!masked.to_string().contains("s3cret"), "{masked}");
        let veil = schema().veil(&config, vec!["resolved".into()]);
        assert_eq!(
            veil.over("t0p-s3cret and k3y-s3cret but o, resolved".into()),
            "«secret» and «secret» but o, «secret»"
        );
    }

    /// Row 18 of the acceptance table.
    #[test]
    fn a_schema_opens_no_address_and_no_file() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"type\": \"string\"}").unwrap();
        let http = format!("http://{}/schema.json", server.local_addr().unwrap());
        let path = format!("file://{}", file.path().display());
        for foreign in [http.as_str(), path.as_str(), "other.json", "//host/x"] {
            for schema in [
                json!({"$ref": foreign}),
                json!({"properties": {"a": {"$dynamicRef": foreign}}}),
                json!({"$id": foreign, "$ref": "x.json"}),
            ] {
                let compiled = Schema::compile(&schema);
                assert!(compiled.is_err(), "{schema}");
            }
        }
        // A name for a dialect is no document that is opened.
        let _ = Schema::compile(&json!({"$schema": http}));
        assert!(server.accept().is_err(), "somebody called");
        // Even past our own look at the references, the compiler has nothing to open them with.
        let built = jsonschema::options().with_retriever(Nothing).build(&json!({"$ref": path}));
        assert!(built.unwrap_err().to_string().contains("only into itself"));
        Schema::compile(&json!({"properties": {"a": {"default": {"$ref": "http://x"}}}})).unwrap();
    }

    #[test]
    fn a_schema_is_measured_and_its_patterns_take_linear_time() {
        let mut deep = json!({"type": "object"});
        for _ in 0..100_000 {
            // Not by the macro, which would walk down what it is given.
            deep = Value::Object(Map::from_iter([("not".to_owned(), deep)]));
        }
        assert!(Schema::compile(&deep).err().unwrap().contains("deeper"));
        // Dropping it recursively would need the depth that we just refused.
        std::mem::forget(deep);
        let long = json!({"description": "x".repeat(SCHEMA_MAX)});
        assert!(Schema::compile(&long).err().unwrap().contains("longer than 256 KiB"));
        assert!(Schema::compile(&json!({"pattern": "(?=a)b"})).is_err(), "an engine with look-around backtracks");
        assert!(Schema::compile(&json!({"pattern": "((a{1,1000}){1,1000}){1,1000}"})).is_err());
        assert!(Schema::compile(&json!({"type": 7})).is_err());
        let slow = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        let began = Instant::now();
        assert!(slow.check(&json!("a".repeat(20_000) + "!")).is_err());
        assert!(began.elapsed() < Duration::from_secs(20), "a backtracking engine would not have come back");
    }
}
