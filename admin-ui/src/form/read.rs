//! What was posted → a value, and how two values differ.

use super::{
    DEPTH, Wrong,
    schema::{self, Shape},
};
use serde_json::{Map, Number, Value, json};

/// The value that a posted form stands for. `before` is the value as it was shown: what the form does not ask for stays,
/// and so does a secret whose box was left empty.
///
/// # Errors
/// What can't be read, by place, and the value with the text that was typed there, so that the form loses nothing. Whether the
/// value is allowed is not asked here.
pub fn read(schema: &Value, posted: &[(String, String)], before: &Value) -> Result<Value, (Value, Vec<Wrong>)> {
    let mut wrong = Vec::new();
    let value = Value::Object(object(&Form { root: schema, posted }, schema, before, "", 0, &mut wrong));
    if wrong.is_empty() { Ok(value) } else { Err((value, wrong)) }
}

struct Form<'a> {
    root: &'a Value,
    posted: &'a [(String, String)],
}

impl Form<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.posted.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

fn object(
    form: &Form,
    schema: &Value,
    before: &Value,
    at: &str,
    depth: usize,
    wrong: &mut Vec<Wrong>,
) -> Map<String, Value> {
    // Keys that the schema does not name have no field and are kept.
    let mut out = before.as_object().cloned().unwrap_or_default();
    for p in schema::properties(form.root, schema) {
        let pointer = schema::below(at, &p.name);
        let old = before.get(&p.name).unwrap_or(&Value::Null);
        let value = match schema::shape(&p.schema, depth + 1 >= DEPTH) {
            Shape::Group => {
                let inner = object(form, &p.schema, old, &pointer, depth + 1, wrong);
                let wanted = p.required || !inner.is_empty() || old.is_object();
                wanted.then_some(Value::Object(inner))
            }
            shape => match leaf(form, &shape, &p.schema, old, &pointer) {
                Ok(value) => value,
                Err(message) => {
                    let typed = form.get(&pointer).unwrap_or_default().replace("\r\n", "\n");
                    wrong.push(Wrong { pointer, message });
                    Some(Value::String(typed))
                }
            },
        };
        match value {
            Some(value) => drop(out.insert(p.name, value)),
            None => drop(out.remove(&p.name)),
        }
    }
    out
}

/// `None`: not set.
fn leaf(form: &Form, shape: &Shape, schema: &Value, old: &Value, pointer: &str) -> Result<Option<Value>, String> {
    if *shape == Shape::Switch {
        let on = form.get(pointer).is_some();
        let default = schema.get("default").and_then(Value::as_bool).unwrap_or_default();
        return Ok((!old.is_null() || on != default).then_some(Value::Bool(on)));
    }
    let text = form.get(pointer).unwrap_or_default().replace("\r\n", "\n");
    if *shape == Shape::Secret {
        return Ok(secret(form, &text, old, pointer));
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value = match shape {
        Shape::Number { whole } => number(text.trim(), *whole)?,
        Shape::Choice(options) => options
            .iter()
            .find(|o| schema::shown(o) == text)
            .cloned()
            .ok_or_else(|| "is none of the choices".to_owned())?,
        Shape::Items => {
            let kind = schema.get("items").and_then(schema::kind).unwrap_or("string");
            let items = text.lines().map(str::trim).filter(|l| !l.is_empty());
            let item = |line: &str| if kind == "string" { Ok(line.into()) } else { number(line, kind == "integer") };
            Value::Array(items.map(item).collect::<Result<_, _>>()?)
        }
        Shape::Pairs => {
            let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
            let pair = |line: &str| {
                let (name, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is no name = value"))?;
                Ok::<_, String>((name.trim().to_owned(), Value::from(value.trim())))
            };
            Value::Object(lines.map(pair).collect::<Result<_, _>>()?)
        }
        Shape::Json | Shape::Group => {
            serde_json::from_str(&text).map_err(|e| format!("is no JSON: line {}, column {}", e.line(), e.column()))?
        }
        Shape::Text { .. } | Shape::Secret | Shape::Switch => Value::String(text),
    };
    Ok(Some(value))
}

/// Typed anew, kept, or taken away. `env:NAME` and `file:NAME` are handles, everything else is the secret itself.
fn secret(form: &Form, text: &str, old: &Value, pointer: &str) -> Option<Value> {
    let text = text.trim();
    if text.starts_with("env:") || text.starts_with("file:") {
        return Some(json!({ "$secret": text }));
    }
    if !text.is_empty() {
        return Some(Value::String(text.to_owned()));
    }
    // Typed a moment ago and not saved yet: it was not sent back to the browser, so it is kept here.
    if old.as_str().is_some_and(|t| !t.is_empty()) && form.get(&format!("{pointer}#clear")).is_none() {
        return Some(old.clone());
    }
    let known = schema::known_secret(old);
    if known.is_empty() || form.get(&format!("{pointer}#clear")).is_some() {
        return None;
    }
    Some(if known == "set" { json!({ "$secret": "sealed" }) } else { json!({ "$secret": known }) })
}

fn number(text: &str, whole: bool) -> Result<Value, String> {
    if whole {
        let read = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
        return read.map(Value::Number).map_err(|_| format!("{text:?} is no whole number"));
    }
    let read = text.parse::<f64>().ok().and_then(Number::from_f64);
    read.map(Value::Number).ok_or_else(|| format!("{text:?} is no number"))
}

/// A place at which two values differ, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub label: String,
    pub from: String,
    pub to: String,
}

/// What applying `after` would change. Secrets are never told, only that they change.
pub fn differences(schema: &Value, before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(schema, schema, before, after, "", 0, &mut found);
    found
}

fn compare(
    root: &Value,
    schema: &Value,
    before: &Value,
    after: &Value,
    path: &str,
    depth: usize,
    found: &mut Vec<Difference>,
) {
    for p in schema::properties(root, schema) {
        let (old, new) = (before.get(&p.name).unwrap_or(&Value::Null), after.get(&p.name).unwrap_or(&Value::Null));
        let label = schema::label(&p.name, &p.schema);
        let label = if path.is_empty() { label } else { format!("{path} › {label}") };
        match schema::shape(&p.schema, depth + 1 >= DEPTH) {
            Shape::Group => compare(root, &p.schema, old, new, &label, depth + 1, found),
            Shape::Secret => {
                let told = |v: &Value| match schema::known_secret(v) {
                    known if known.is_empty() => "–".to_owned(),
                    known => known,
                };
                let typed = new.as_str().is_some_and(|t| !t.is_empty());
                if typed || told(old) != told(new) {
                    let to = if typed { "a new secret".to_owned() } else { told(new) };
                    found.push(Difference { label, from: told(old), to });
                }
            }
            _ if old != new => {
                let told = |v: &Value| if v.is_null() { "–".to_owned() } else { schema::shown(v) };
                found.push(Difference { label, from: told(old), to: told(new) });
            }
            _ => {}
        }
    }
}
