//! What a schema says of one place: references followed, `null` taken off, the rest left as it stands.

use serde_json::{Map, Value, json};

/// References followed for one place.
const HOPS: usize = 8;

pub struct Property {
    pub name: String,
    /// Without references at its top.
    pub schema: Value,
    pub required: bool,
}

#[derive(Debug, PartialEq)]
pub enum Shape {
    Secret,
    Switch,
    Number { whole: bool },
    Choice(Vec<Value>),
    Text { long: bool },
    Items,
    Pairs,
    Group,
    Json,
}

/// The properties of an object, required ones first, each group in its own order.
pub fn properties(root: &Value, schema: &Value) -> Vec<Property> {
    let schema = plain(root, schema);
    let required: Vec<&str> = list(&schema, "required").iter().filter_map(Value::as_str).collect();
    let named = schema.get("properties").and_then(Value::as_object);
    let mut all: Vec<_> = named
        .into_iter()
        .flatten()
        .map(|(name, s)| Property {
            name: name.clone(),
            schema: plain(root, s),
            required: required.contains(&name.as_str()),
        })
        .collect();
    all.sort_by_key(|p| !p.required);
    all
}

/// The schema with references followed and an optional `null` taken off; what stands beside a reference counts more.
pub fn plain(root: &Value, schema: &Value) -> Value {
    let mut now = schema.clone();
    for _ in 0..HOPS {
        let Value::Object(keys) = &now else { return json!({}) };
        let next = if let Some(target) = keys.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|p| root.pointer(p)).cloned().unwrap_or_else(|| json!({}));
            merged(target, keys, "$ref")
        } else if let Some([only]) = keys.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            merged(only.clone(), keys, "allOf")
        } else if let Some((word, some)) = optional(keys) {
            merged(some, keys, word)
        } else {
            return now;
        };
        now = next;
    }
    json!({})
}

fn merged(below: Value, above: &Map<String, Value>, without: &str) -> Value {
    let Value::Object(mut keys) = below else { return json!({}) };
    for (key, value) in above.iter().filter(|(key, _)| *key != without) {
        keys.insert(key.clone(), value.clone());
    }
    Value::Object(keys)
}

/// `anyOf: [X, null]` → X.
fn optional(keys: &Map<String, Value>) -> Option<(&'static str, Value)> {
    for word in ["anyOf", "oneOf"] {
        let Some(choices) = keys.get(word).and_then(Value::as_array) else { continue };
        let null = |v: &&Value| v.get("type").and_then(Value::as_str) == Some("null");
        if let ([some], true) = (choices.iter().filter(|v| !null(v)).collect::<Vec<_>>().as_slice(), choices.len() == 2)
        {
            return Some((word, (*some).clone()));
        }
    }
    None
}

pub fn shape(schema: &Value, deepest: bool) -> Shape {
    let marked = |mark: &str| schema.get(mark) == Some(&Value::Bool(true));
    if marked("x-campanile-secret") || marked("writeOnly") {
        return Shape::Secret;
    }
    let simple = |v: &&Value| !v.is_object() && !v.is_array() && !v.is_null();
    let options: Vec<_> = list(schema, "enum").iter().filter(simple).cloned().collect();
    if !options.is_empty() {
        return Shape::Choice(options);
    }
    // Choices with a description each.
    let named: Option<Vec<Value>> = list(schema, "oneOf").iter().map(|c| c.get("const").cloned()).collect();
    if let Some(options) = named.filter(|o| !o.is_empty() && o.iter().all(|v| simple(&v))) {
        return Shape::Choice(options);
    }
    if schema.get("oneOf").is_some() || schema.get("anyOf").is_some() {
        return Shape::Json;
    }
    match kind(schema) {
        Some("boolean") => Shape::Switch,
        Some("integer") => Shape::Number { whole: true },
        Some("number") => Shape::Number { whole: false },
        Some("string") => {
            let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or_default();
            let long = schema.get("x-campanile-multiline") == Some(&Value::Bool(true)) || most > 300;
            Shape::Text { long }
        }
        Some("array") if simple_items(schema) => Shape::Items,
        Some("object") if schema.get("properties").is_some_and(Value::is_object) => {
            if deepest {
                Shape::Json
            } else {
                Shape::Group
            }
        }
        Some("object") if schema.get("additionalProperties").and_then(kind) == Some("string") => Shape::Pairs,
        _ => Shape::Json,
    }
}

/// The one type beside `null`.
pub fn kind(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => Some(one),
        Some(Value::Array(several)) => {
            let mut known = several.iter().filter_map(Value::as_str).filter(|t| *t != "null");
            known.next().filter(|_| known.next().is_none())
        }
        _ => None,
    }
}

fn simple_items(schema: &Value) -> bool {
    schema.get("items").and_then(kind).is_some_and(|k| matches!(k, "string" | "integer" | "number"))
}

fn list<'a>(schema: &'a Value, word: &str) -> &'a [Value] {
    schema.get(word).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub fn text(schema: &Value, word: &str) -> String {
    schema.get(word).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

/// `api_url` → `Api url`, unless the schema has a title.
pub fn label(name: &str, schema: &Value) -> String {
    let title = text(schema, "title");
    // A title of a shared definition is the name of a type.
    if !title.is_empty() && !title.chars().all(char::is_alphanumeric) {
        return title;
    }
    let words = name.replace(['_', '-'], " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

pub fn unit(name: &str, schema: &Value) -> String {
    let said = text(schema, "x-campanile-unit");
    if !said.is_empty() {
        return said;
    }
    [("_ms", "ms"), ("_seconds", "s"), ("_secs", "s"), ("_minutes", "min"), ("_bytes", "bytes"), ("_percent", "%")]
        .into_iter()
        .find(|(end, _)| name.ends_with(end))
        .map_or_else(String::new, |(_, unit)| unit.to_owned())
}

/// A value of its own holds when nothing is typed.
pub fn has_default(schema: &Value) -> bool {
    schema.get("default").is_some_and(|d| !d.is_null() && d.as_str() != Some(""))
}

/// For an input: text as it is, nothing as nothing.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What may be told of a secret's place: that it is set, or where it comes from.
pub fn known_secret(value: &Value) -> String {
    match value.get("$secret").and_then(Value::as_str) {
        Some(handle) if handle.starts_with("env:") || handle.starts_with("file:") => handle.to_owned(),
        None if value.is_null() || value.as_str() == Some("") => String::new(),
        _ => "set".to_owned(),
    }
}

/// A pointer one step further.
pub fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}
