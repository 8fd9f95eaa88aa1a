//! What one message says: its body is the JSON of `POST /api/v1/notifications`, its properties do what headers do there.
//!
//! Pure: bytes and properties in; a request for ingest or the reason to put the message aside out. Absent on purpose: what
//! makes a request valid (`ingest::validate`).

use crate::{
    amqp::raw::RawMessage,
    ingest::{self, IngestError},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use campanile_model::{AppId, TraceContext};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Names the app a message belongs to.
pub const APP_HEADER: &str = "x-app";
/// A reason that is longer than this says nothing more.
const REASON_MAX: usize = 4096;
/// As much of one property as the poison list repeats.
const SHOWN: usize = 255;
/// Names of other headers that the poison list repeats.
const NAMES_SHOWN: usize = 50;
/// As much of a body that is too large as the poison list keeps.
const KEPT_OF_TOO_LARGE: usize = 64 * 1024;

/// A message that can be read.
#[derive(Debug)]
pub struct Letter {
    pub app: AppId,
    pub request: Value,
    /// The checked `message_id`; none when the request is not stored, since then there is nothing to repeat.
    pub key: Option<String>,
    /// Of the header `traceparent`.
    pub trace: Option<TraceContext>,
}

/// Why a message is put aside. Its sender must change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// From a closed set: a metric's label.
    pub code: &'static str,
    /// For the poison list: names the field and what to do.
    pub reason: String,
}

impl Unfit {
    pub fn new(code: &'static str, reason: &str) -> Self {
        // Field names are the sender's text: no control character of it may reach a terminal, nor a NUL the database.
        let reason = reason.chars().take(REASON_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { code, reason }
    }

    pub fn unreadable() -> Self {
        let reason = "a property, a header's name or the routing key is not UTF-8, or a header has an unknown type";
        Self::new("unreadable", reason)
    }

    pub fn unknown_app(app: &AppId) -> Self {
        let app: String = app.as_str().chars().take(64).collect();
        Self::new(
            "unknown_app",
            &format!("header {APP_HEADER}: there is no app {app:?}; leave the header out for the app \"default\""),
        )
    }

    /// The words for what ingest refused for good.
    pub fn refused(e: &IngestError, key: Option<&str>) -> Self {
        match (e.code(), key) {
            (code @ "idempotency_key_reused", Some(key)) => Self::new(
                code,
                &format!("message_id: {key:?} was used with another body before; give each message an id of its own"),
            ),
            (code, _) => Self::new(code, &e.to_string()),
        }
    }
}

/// Reads one message. `body_max` is the limit of a request over HTTP.
pub fn read(properties: &BasicProperties, body: &[u8], body_max: usize) -> Result<Letter, Unfit> {
    if body.len() > body_max {
        let reason = format!("the body has {} bytes; at most {body_max} are taken", body.len());
        return Err(Unfit::new("too_large", &reason));
    }
    is_plain_json(properties)?;
    let app = app(properties.headers().as_ref())?;
    let request: Value = serde_json::from_slice(body)
        .map_err(|e| Unfit::new("malformed_json", &format!("the body is not JSON: {e}")))?;
    if request.get("notifications").is_some() {
        let reason = "notifications: a batch is for HTTP; publish each notification as a message of its own";
        return Err(Unfit::new("invalid", reason));
    }
    if request.get("idempotency_key").is_some() {
        let reason = "idempotency_key: is no field of a message; put it into the property message_id";
        return Err(Unfit::new("invalid", reason));
    }
    // Many clients give every message an id, also those for which it could mean nothing.
    let stored = request.get("persist") != Some(&Value::Bool(false));
    let key = properties.message_id().as_ref().filter(|_| stored).map(|id| id.as_str().to_owned());
    if let Some(Err(why)) = key.as_deref().map(ingest::idempotency_key) {
        return Err(Unfit::new("invalid", &format!("message_id: {why}; it is the idempotency key")));
    }
    let trace = trace(properties.headers().as_ref());
    Ok(Letter { app, request, key, trace })
}

fn is_plain_json(properties: &BasicProperties) -> Result<(), Unfit> {
    let given = |property: &Option<ShortString>| property.as_ref().map(|p| p.as_str().trim().to_ascii_lowercase());
    if let Some(kind) = given(properties.content_type()).filter(|kind| !kind.is_empty()) {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json")) {
            let reason = format!("content_type: is {kind:?}; send JSON as application/json, or leave it out");
            return Err(Unfit::new("unsupported_media_type", &reason));
        }
    }
    match given(properties.content_encoding()).as_deref() {
        None | Some("" | "utf-8" | "utf8" | "identity") => Ok(()),
        Some(other) => {
            let reason = format!("content_encoding: is {other:?}; send the JSON as it is, in UTF-8");
            Err(Unfit::new("unsupported_media_type", &reason))
        }
    }
}

fn app(headers: Option<&FieldTable>) -> Result<AppId, Unfit> {
    let given = headers.and_then(|h| h.inner().get(APP_HEADER));
    match given {
        None | Some(AMQPValue::Void) => Ok(AppId::default()),
        Some(value) => match text(value) {
            Some(app) if !app.is_empty() => Ok(AppId::from(app)),
            _ => Err(Unfit::new("invalid", &format!("header {APP_HEADER}: must be the name of an app, as text"))),
        },
    }
}

/// One that can't be read is none: tracing must not cost a message.
fn trace(headers: Option<&FieldTable>) -> Option<TraceContext> {
    headers.and_then(|h| h.inner().get("traceparent")).and_then(text).and_then(TraceContext::parse)
}

fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(s) => std::str::from_utf8(s.as_bytes()).ok(),
        AMQPValue::ShortString(s) => Some(s.as_str()),
        _ => None,
    }
}

/// What the poison list keeps of a body: all of one that could have been taken, the beginning of another.
pub fn kept(body: &[u8], body_max: usize) -> &[u8] {
    if body.len() > body_max { &body[..KEPT_OF_TOO_LARGE.min(body.len())] } else { body }
}

/// What the poison list shows of a message's envelope, as JSON. The same for every delivery of the same message.
///
/// Headers are the sender's own and may hold a secret: of all but ours only the names are kept.
pub fn envelope(exchange: &str, routing_key: &str, properties: &BasicProperties, bytes: usize) -> String {
    let mut shown = Map::new();
    let mut tell = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            shown.insert(name.to_owned(), Value::from(value.chars().take(SHOWN).collect::<String>()));
        }
    };
    tell("exchange", Some(exchange));
    tell("routing_key", Some(routing_key));
    for (name, value) in [
        ("message_id", properties.message_id()),
        ("correlation_id", properties.correlation_id()),
        ("type", properties.kind()),
        ("app_id", properties.app_id()),
        ("user_id", properties.user_id()),
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
    ] {
        tell(name, value.as_ref().map(ShortString::as_str));
    }
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    tell(APP_HEADER, headers.and_then(|h| h.get(APP_HEADER)).and_then(text));
    // The broker counts returns in a header of its own, which differs from delivery to delivery.
    let others: Vec<_> = headers
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != APP_HEADER && *name != "x-delivery-count")
        .take(NAMES_SHOWN)
        .collect();
    if !others.is_empty() {
        shown.insert("other_headers".to_owned(), json!(others));
    }
    if let Some(at) = properties.timestamp() {
        shown.insert("timestamp".to_owned(), json!(at));
    }
    shown.insert("bytes".to_owned(), json!(bytes));
    Value::Object(shown).to_string()
}

/// The same of a message of which only the bytes are known. Its properties show as their hash: they may hold a secret.
pub fn unread_envelope(message: &RawMessage) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let hash = BASE64_STANDARD.encode(Sha256::digest(&message.properties));
    json!({
        "exchange": text(&message.exchange),
        "routing_key": text(&message.routing_key),
        "properties_sha256": hash,
        "bytes": message.body.len(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Fault, Invalid};
    use campanile_model::ports::AcceptError;
    use proptest::prelude::*;

    const BODY: &[u8] = br#"{"user_id":"ada","title":"hi"}"#;

    fn plain() -> BasicProperties {
        BasicProperties::default()
    }

    fn with_header(name: &str, value: AMQPValue) -> BasicProperties {
        let mut table = FieldTable::default();
        table.insert(name.into(), value);
        plain().with_headers(table)
    }

    fn refused(properties: &BasicProperties, body: &[u8]) -> Unfit {
        read(properties, body, 1024).unwrap_err()
    }

    #[test]
    fn a_bare_message_belongs_to_the_default_app_and_has_no_key() {
        let letter = read(&plain(), BODY, 1024).unwrap();
        assert_eq!((letter.app, letter.key), (AppId::default(), None));
        assert_eq!(letter.request["user_id"], "ada");
    }

    #[test]
    fn message_id_is_the_key_unless_nothing_is_stored() {
        let named = |id: &str| plain().with_message_id(id.into());
        assert_eq!(read(&named("order-17"), BODY, 1024).unwrap().key.as_deref(), Some("order-17"));
        let ephemeral = br#"{"user_id":"ada","title":"hi","persist":false}"#;
        assert_eq!(read(&named("order-17"), ephemeral, 1024).unwrap().key, None);
        assert_eq!(read(&named("bad\nid"), ephemeral, 1024).unwrap().key, None);
        for bad in ["", "a\nb"] {
            let e = refused(&named(bad), BODY);
            assert!(e.reason.starts_with("message_id: must"), "{e:?}");
        }
    }

    #[test]
    fn the_header_names_the_app() {
        let app = |value| read(&with_header(APP_HEADER, value), BODY, 1024).map(|l| l.app);
        assert_eq!(app(AMQPValue::LongString("shop".into())), Ok(AppId::from("shop")));
        assert_eq!(app(AMQPValue::ShortString("shop".into())), Ok(AppId::from("shop")));
        assert_eq!(app(AMQPValue::Void), Ok(AppId::default()));
        let bad = [AMQPValue::LongString("".into()), AMQPValue::LongInt(3), AMQPValue::LongString(vec![0xff].into())];
        for value in bad {
            assert_eq!(app(value.clone()).unwrap_err().code, "invalid", "{value:?}");
        }
    }

    #[test]
    fn json_in_utf8_is_taken_and_nothing_else() {
        let of =
            |kind: &str, encoding: &str| plain().with_content_type(kind.into()).with_content_encoding(encoding.into());
        for (kind, encoding) in [
            ("application/json", "utf-8"),
            ("Application/JSON; charset=utf-8", ""),
            ("application/x+json", "UTF-8"),
            ("", ""),
        ] {
            assert!(read(&of(kind, encoding), BODY, 1024).is_ok(), "{kind} {encoding}");
        }
        assert_eq!(refused(&of("text/plain", ""), BODY).code, "unsupported_media_type");
        assert_eq!(refused(&of("application/json", "gzip"), BODY).code, "unsupported_media_type");
        let e = refused(&plain(), b"{\n \"a\": }");
        assert_eq!(e.code, "malformed_json");
        assert!(e.reason.ends_with("at line 2 column 7"), "{e:?}");
        assert_eq!(refused(&plain(), b"\xff\xfe").code, "malformed_json");
        assert_eq!(refused(&plain(), b"").code, "malformed_json");
    }

    #[test]
    fn what_only_http_knows_is_said_to_be_so() {
        assert!(refused(&plain(), br#"{"notifications":[]}"#).reason.contains("a batch is for HTTP"));
        assert!(refused(&plain(), br#"{"title":"t","idempotency_key":"k"}"#).reason.contains("message_id"));
    }

    #[test]
    fn a_large_body_is_refused_unread_and_kept_in_part() {
        let e = read(&plain(), &[b' '; 20], 10).unwrap_err();
        assert_eq!((e.code, &*e.reason), ("too_large", "the body has 20 bytes; at most 10 are taken"));
        let huge = vec![b'x'; 300_000];
        assert_eq!(kept(&huge, 262_144).len(), KEPT_OF_TOO_LARGE);
        assert_eq!(kept(BODY, 262_144), BODY);
        assert_eq!(kept(&[b'x'; 20], 10).len(), 20);
    }

    #[test]
    fn reasons_name_the_field_and_carry_no_control_characters() {
        let fault = Fault { field: "to\0\u{1b}[31m".into(), message: "x".repeat(10_000) };
        let e = IngestError::Invalid(Invalid { code: "invalid", faults: vec![fault] });
        let unfit = Unfit::refused(&e, None);
        assert!(unfit.reason.starts_with("invalid: to\u{fffd}\u{fffd}[31m: x"), "{}", &unfit.reason[..40]);
        assert_eq!(unfit.reason.chars().count(), REASON_MAX);
        let reused = Unfit::refused(&AcceptError::KeyMismatch.into(), Some("order-17"));
        assert_eq!(reused.code, "idempotency_key_reused");
        assert!(reused.reason.contains("\"order-17\""));
        assert!(Unfit::unknown_app(&"x".repeat(9000).into()).reason.len() < 200);
    }

    #[test]
    fn the_envelope_keeps_names_of_headers_and_no_values() {
        let mut table = FieldTable::default();
        table.insert("authorization".into(), AMQPValue::LongString("Bearer secret".into()));
        table.insert(APP_HEADER.into(), AMQPValue::LongString("shop".into()));
        let properties = plain().with_headers(table.clone()).with_message_id("m1".into());
        let first = envelope("notifications", "order.paid", &properties, 7);
        let shown: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(shown["routing_key"], "order.paid");
        assert_eq!((&shown["message_id"], &shown["x-app"]), (&json!("m1"), &json!("shop")));
        assert_eq!((&shown["other_headers"], &shown["bytes"]), (&json!(["authorization"]), &json!(7)));
        assert!(!first.contains("secret"));
        table.insert("x-delivery-count".into(), AMQPValue::LongLongInt(1));
        let again = plain().with_headers(table).with_message_id("m1".into());
        assert_eq!(
            envelope("notifications", "order.paid", &again, 7),
            first,
            "delivered again, still the same message"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), app in ".{0,20}", id in ".{0,20}") {
            let properties = with_header(APP_HEADER, AMQPValue::LongString(app.as_str().into())).with_message_id(id.into());
            let _ = read(&properties, &body, 100);
            let shown = envelope("e", "k", &properties, body.len());
            prop_assert!(serde_json::from_str::<Value>(&shown).is_ok());
        }
    }
}
