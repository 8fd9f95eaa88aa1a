use super::*;
use serde_json::json;

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["url", "token"],
        "properties": {
            "url": {"type": "string", "format": "uri", "description": "Where to post."},
            "token": {"$ref": "#/$defs/Secret", "description": "From the provider."},
            "retries": {"type": "integer", "minimum": 0, "maximum": 9, "default": 3},
            "ratio": {"type": ["number", "null"]},
            "verify": {"type": "boolean", "default": true},
            "mode": {"type": "string", "enum": ["live", "test"], "default": "live"},
            "level": {"oneOf": [{"const": "low", "description": "x"}, {"const": "high"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "timeout_ms": {"type": "integer"},
            "proxy": {"anyOf": [{"$ref": "#/$defs/Proxy"}, {"type": "null"}]},
            "odd": {"type": "array", "items": {"type": "object"}}
        },
        "$defs": {
            "Secret": {"type": "string", "writeOnly": true, "x-campanile-secret": true},
            "Proxy": {
                "title": "Proxy", "type": "object", "required": ["host"],
                "properties": {"host": {"type": "string"}, "key": {"$ref": "#/$defs/Secret"}}
            }
        }
    })
}

fn value() -> Value {
    json!({
        "url": "https://x.example", "token": {"$secret": "sealed"}, "retries": 5, "tags": ["a", "b"],
        "headers": {"X-One": "1"}, "proxy": {"host": "h", "key": {"$secret": "env:PROXY_KEY"}}, "unnamed": [1]
    })
}

fn find<'a>(fields: &'a [Field], pointer: &str) -> &'a Field {
    fields
        .iter()
        .find_map(|f| match &f.kind {
            _ if f.pointer == pointer => Some(f),
            Kind::Group { fields } => fields.iter().find(|f| f.pointer == pointer),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no {pointer}"))
}

/// A form as a browser posts it when nothing was touched.
fn untouched(fields: &[Field]) -> Vec<(String, String)> {
    let mut posted = Vec::new();
    for f in fields {
        match &f.kind {
            Kind::Text { value, .. }
            | Kind::Number { value, .. }
            | Kind::Choice { value, .. }
            | Kind::Area { value, .. } => posted.push((f.pointer.clone(), value.replace('\n', "\r\n"))),
            Kind::Switch { on } => posted.extend(on.then(|| (f.pointer.clone(), "on".to_owned()))),
            Kind::Secret { .. } => posted.push((f.pointer.clone(), String::new())),
            Kind::Group { fields } => posted.extend(untouched(fields)),
        }
    }
    posted
}

fn set(posted: &mut Vec<(String, String)>, name: &str, value: &str) {
    posted.retain(|(n, _)| n != name);
    posted.push((name.to_owned(), value.to_owned()));
}

#[test]
fn each_place_gets_a_field_that_fits() {
    let (fields, rest) = fields(&schema(), &value(), &[]);
    assert!(rest.is_empty());
    assert_eq!(fields[0].pointer, "/token", "what is required comes first");
    assert!(fields[0].must && fields[0].render().unwrap().contains("type=\"password\""));
    let host = find(&fields, "/proxy/host");
    assert!(host.required && !host.must, "a group that may be left out holds nobody up");
    assert!(!host.render().unwrap().contains(" required>") && !host.render().unwrap().contains(" required "));
    let kind = |pointer: &str| find(&fields, pointer).kind.clone();
    assert!(matches!(kind("/url"), Kind::Text { input: "url", .. }));
    assert_eq!(kind("/token"), Kind::Secret { known: "set".into() });
    assert!(matches!(kind("/retries"), Kind::Number { step: "1", max, .. } if max == "9"));
    assert!(matches!(kind("/ratio"), Kind::Number { step: "any", .. }));
    assert_eq!(kind("/verify"), Kind::Switch { on: true });
    assert!(matches!(kind("/mode"), Kind::Choice { options, .. } if options == ["live", "test"]));
    assert!(matches!(kind("/level"), Kind::Choice { options, .. } if options == ["low", "high"]));
    assert_eq!(kind("/tags"), Kind::Area { value: "a\nb".into(), how: "items" });
    assert_eq!(kind("/headers"), Kind::Area { value: "X-One = 1".into(), how: "pairs" });
    assert_eq!(kind("/proxy/key"), Kind::Secret { known: "env:PROXY_KEY".into() });
    assert!(matches!(kind("/odd"), Kind::Area { how: "json", .. }));
    assert_eq!(
        (find(&fields, "/timeout_ms").unit.as_str(), find(&fields, "/url").help.as_str()),
        ("ms", "Where to post.")
    );
    assert_eq!(
        (find(&fields, "/timeout_ms").label.as_str(), find(&fields, "/proxy").label.as_str()),
        ("Timeout ms", "Proxy")
    );
}

#[test]
fn a_form_that_nobody_touched_changes_nothing() {
    let (fields, _) = fields(&schema(), &value(), &[]);
    let read = read(&schema(), &untouched(&fields), &value()).unwrap();
    assert_eq!(read, value());
    assert!(differences(&schema(), &value(), &read).is_empty());
}

#[test]
fn what_was_typed_is_read_by_kind() {
    let (fields, _) = fields(&schema(), &value(), &[]);
    let mut posted = untouched(&fields);
    for (name, text) in [
        ("/token", "n3w s3cret"),
        ("/retries", ""),
        ("/ratio", "0.5"),
        ("/mode", "test"),
        ("/tags", " one \r\n\r\ntwo"),
        ("/headers", "A = b=c"),
        ("/proxy/key#clear", "on"),
        ("/odd", "[{\"x\": 1}]"),
    ] {
        set(&mut posted, name, text);
    }
    posted.retain(|(n, _)| n != "/verify");
    let read = read(&schema(), &posted, &value()).unwrap();
    let expected = json!({
        "url": "https://x.example", "token": "n3w s3cret", "ratio": 0.5, "verify": false, "mode": "test",
        "tags": ["one", "two"], "headers": {"A": "b=c"}, "proxy": {"host": "h"}, "odd": [{"x": 1}], "unnamed": [1]
    });
    assert_eq!(read, expected);
    let told = differences(&schema(), &value(), &read);
    let of = |label: &str| told.iter().find(|d| d.label == label).map(|d| (d.from.as_str(), d.to.as_str()));
    assert_eq!(of("Token"), Some(("set", "a new secret")));
    assert_eq!(of("Retries"), Some(("5", "–")));
    assert_eq!(of("Proxy › Key"), Some(("env:PROXY_KEY", "–")));
    assert_eq!(of("Url"), None);
    assert!(!format!("{told:?}").contains("n3w"), "a secret is never told");
    // Reviewed, drawn again without it, and posted once more.
    let (again, _) = super::fields(&schema(), &read, &[]);
    assert!(!again.iter().map(|f| f.render().unwrap()).collect::<String>().contains("n3w"));
    assert_eq!(super::read(&schema(), &untouched(&again), &read).unwrap(), read);
}

#[test]
fn what_cannot_be_read_is_said_at_its_place() {
    let mut posted = Vec::new();
    for (name, text) in [("/retries", "many"), ("/odd", "[1,"), ("/mode", "dead"), ("/headers", "nonsense")] {
        set(&mut posted, name, text);
    }
    let (typed, wrong) = read(&schema(), &posted, &json!({})).unwrap_err();
    let (kept, _) = fields(&schema(), &typed, &wrong);
    for (name, text) in &posted {
        let kind = &find(&kept, name).kind;
        let (Kind::Number { value, .. } | Kind::Area { value, .. } | Kind::Choice { value, .. }) = kind else {
            panic!("{name}: {kind:?}")
        };
        assert_eq!(value, text, "what was typed at {name} is still there");
    }
    let mut places: Vec<_> = wrong.iter().map(|w| w.pointer.as_str()).collect();
    places.sort_unstable();
    assert_eq!(places, ["/headers", "/mode", "/odd", "/retries"]);
    let at = |pointer: &str, message: &str| Wrong { pointer: pointer.into(), message: message.into() };
    let problems =
        [at("/retries", "is too large"), at("/odd/0/x", "is missing"), at("", "has no sense"), at("/gone", "is it")];
    let (fields, rest) = fields(&schema(), &value(), &problems);
    assert_eq!(find(&fields, "/retries").problem, "is too large");
    assert_eq!(find(&fields, "/odd").problem, "is missing");
    assert_eq!(rest, ["has no sense", "/gone: is it"]);
}

#[test]
fn a_hostile_schema_draws_something_and_never_runs_away() {
    for schema in [
        json!(7),
        json!({"properties": 7}),
        json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/nowhere"}, "c": {"$ref": "http://x"}}}),
        json!({"properties": {"a": {"$ref": "#/properties/a"}}}),
        json!({"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}}),
        json!({"properties": {"<img>": {"title": "<img src=x onerror=alert(1)>", "enum": ["<b>"]}}}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}},
               "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}}),
    ] {
        let (fields, _) = fields(&schema, &json!({}), &[]);
        let html: String = fields.iter().map(|f| f.render().unwrap()).collect();
        assert!(!html.contains("<img") && !html.contains("<b>"), "{html}");
        assert!(html.len() < 100_000);
        let _ = read(&schema, &[("/a".to_owned(), "x".to_owned())], &json!({}));
    }
}

#[test]
fn a_field_is_drawn_with_its_label_help_and_problem() {
    let problems = [Wrong { pointer: "/url".into(), message: "answers \"404\"".into() }];
    let (fields, _) = fields(&schema(), &value(), &problems);
    let html = find(&fields, "/url").render().unwrap();
    for part in [
        "<label",
        "for=\"f-url\"",
        "name=\"/url\"",
        "type=\"url\"",
        "required",
        "Where to post.",
        "aria-invalid=\"true\"",
        "404",
    ] {
        assert!(html.contains(part), "no {part} in {html}");
    }
    let secret = find(&fields, "/token").render().unwrap();
    assert!(
        secret.contains("type=\"password\"") && secret.contains("Replace") && !secret.contains("value=\"sealed"),
        "{secret}"
    );
    super::super::pages::check(&format!("<h1></h1>{html}{secret}"));
}
