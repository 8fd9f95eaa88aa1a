//! A form made from a plugin's JSON Schema: what to ask, and what was answered.
//!
//! A schema is a stranger's text and may say anything; what this form does not understand is asked for as JSON, and judged by
//! the host's own check. Owns: labels, kinds of fields, the way from a value to fields and back, the difference of two values.
//! Absent on purpose: judging values (the schema's compiler and the plugin), secrets' texts, which never come here.

mod read;
mod schema;

pub use read::{Difference, differences, read};

use askama::Template;
use schema::Shape;
use serde_json::Value;

/// Groups deeper than this are asked for as JSON.
const DEPTH: usize = 4;

/// Something that is wrong with a value: a JSON pointer and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub pointer: String,
    pub message: String,
}

#[derive(Template, Clone, Debug, PartialEq)]
#[template(path = "parts/field.html")]
pub struct Field {
    /// JSON pointer, and the name of the input.
    pub pointer: String,
    pub label: String,
    pub help: String,
    pub unit: String,
    /// Where its group is filled in at all.
    pub required: bool,
    /// The form can't do without it: it is required, and so is each group around it.
    pub must: bool,
    pub problem: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text {
        value: String,
        /// `text`, `url` or `email`.
        input: &'static str,
        /// What holds when nothing is typed.
        default: String,
    },
    Number {
        value: String,
        min: String,
        max: String,
        step: &'static str,
        default: String,
    },
    Switch {
        on: bool,
    },
    Choice {
        value: String,
        options: Vec<String>,
        /// What holds when nothing is chosen; a choice that need not be made has a way to say so.
        default: String,
    },
    /// Several lines of text: `items` a line each, `pairs` of name and value, `json`, or plain `text`.
    Area {
        value: String,
        how: &'static str,
    },
    /// Never shown. What is known of it: empty, `set`, `env:NAME`, `file:NAME`.
    Secret {
        known: String,
    },
    Group {
        fields: Vec<Field>,
    },
}

impl Field {
    /// An id for markup.
    fn id(&self) -> String {
        let plain: String = self.pointer.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("f{plain}")
    }
    fn described_by(&self) -> String {
        let id = self.id();
        let mut ids = Vec::new();
        if !self.help.is_empty() {
            ids.push(format!("{id}-help"));
        }
        if !self.problem.is_empty() {
            ids.push(format!("{id}-problem"));
        }
        ids.join(" ")
    }
    /// What an empty box means.
    fn placeholder(default: &str) -> String {
        if default.is_empty() { String::new() } else { format!("{default} if empty") }
    }
    fn area_note(how: &str) -> &'static str {
        match how {
            "items" => "One a line.",
            "pairs" => "One a line: name = value.",
            "json" => "JSON.",
            _ => "",
        }
    }
}

/// Fields for this value. Problems whose place has no field come back, for the top of the form.
pub fn fields(schema: &Value, value: &Value, problems: &[Wrong]) -> (Vec<Field>, Vec<String>) {
    let mut left: Vec<Wrong> = problems.to_vec();
    let drawn = group(&Around { root: schema, must: true, depth: 0 }, schema, value, "", &mut left);
    let rest = left
        .into_iter()
        .map(|w| if w.pointer.is_empty() { w.message } else { format!("{}: {}", w.pointer, w.message) })
        .collect();
    (drawn, rest)
}

/// Where a group stands.
struct Around<'a> {
    root: &'a Value,
    must: bool,
    depth: usize,
}

fn group(around: &Around, schema: &Value, value: &Value, at: &str, left: &mut Vec<Wrong>) -> Vec<Field> {
    let mut properties = schema::properties(around.root, schema);
    // What must be said, then what nobody else says, then what has a value already, and groups last.
    properties.sort_by_key(|p| {
        let is_group = schema::shape(&p.schema, false) == Shape::Group;
        (is_group, !p.required, schema::has_default(&p.schema))
    });
    properties
        .into_iter()
        .map(|p| {
            let must = around.must && p.required;
            let pointer = schema::below(at, &p.name);
            let known = value.get(&p.name).unwrap_or(&Value::Null);
            let shape = schema::shape(&p.schema, around.depth + 1 >= DEPTH);
            let kind = match &shape {
                Shape::Group => {
                    let inside = Around { root: around.root, must, depth: around.depth + 1 };
                    Kind::Group { fields: group(&inside, &p.schema, known, &pointer, left) }
                }
                _ => kind(&shape, &p.schema, known),
            };
            Field {
                label: schema::label(&p.name, &p.schema),
                help: schema::text(&p.schema, "description").replace('`', ""),
                unit: schema::unit(&p.name, &p.schema),
                required: p.required,
                must,
                problem: problem_at(&pointer, left),
                pointer,
                kind,
            }
        })
        .collect()
}

/// Takes what is said of this place, and of places inside it that have no field of their own.
fn problem_at(pointer: &str, left: &mut Vec<Wrong>) -> String {
    let inside = format!("{pointer}/");
    let mut said = Vec::new();
    left.retain(|w| {
        let here = w.pointer == pointer || w.pointer.starts_with(&inside);
        if here {
            said.push(w.message.clone());
        }
        !here
    });
    said.dedup();
    said.join("; ")
}

fn kind(shape: &Shape, schema: &Value, value: &Value) -> Kind {
    let shown = schema::shown(value);
    let default = schema.get("default").map(schema::shown).unwrap_or_default();
    match shape {
        Shape::Secret => Kind::Secret { known: schema::known_secret(value) },
        Shape::Switch => {
            let fallback = schema.get("default").and_then(Value::as_bool).unwrap_or_default();
            Kind::Switch { on: value.as_bool().unwrap_or(fallback) }
        }
        Shape::Number { whole } => Kind::Number {
            value: shown,
            min: schema.get("minimum").map(schema::shown).unwrap_or_default(),
            max: schema.get("maximum").map(schema::shown).unwrap_or_default(),
            step: if *whole { "1" } else { "any" },
            default,
        },
        Shape::Choice(options) => {
            Kind::Choice { value: shown, options: options.iter().map(schema::shown).collect(), default }
        }
        Shape::Text { long: true } => Kind::Area { value: shown, how: "text" },
        Shape::Text { long: false } => {
            let input = match schema.get("format").and_then(Value::as_str) {
                Some("uri" | "url") => "url",
                Some("email") => "email",
                _ => "text",
            };
            Kind::Text { value: shown, input, default }
        }
        // What was typed and could not be read.
        Shape::Items if value.is_string() => Kind::Area { value: shown, how: "items" },
        Shape::Pairs if value.is_string() => Kind::Area { value: shown, how: "pairs" },
        Shape::Items => {
            let lines: Vec<_> = value.as_array().into_iter().flatten().map(schema::shown).collect();
            Kind::Area { value: lines.join("\n"), how: "items" }
        }
        Shape::Pairs => {
            let pairs = value.as_object().into_iter().flatten();
            let lines: Vec<_> = pairs.map(|(k, v)| format!("{k} = {}", schema::shown(v))).collect();
            Kind::Area { value: lines.join("\n"), how: "pairs" }
        }
        Shape::Json | Shape::Group => {
            let text = match value {
                Value::Null => String::new(),
                // Typed and no JSON; what was read shows its quotes.
                Value::String(typed) if serde_json::from_str::<Value>(typed).is_err() => typed.clone(),
                value => serde_json::to_string_pretty(value).unwrap_or_default(),
            };
            Kind::Area { value: text, how: "json" }
        }
    }
}

#[cfg(test)]
mod tests;
