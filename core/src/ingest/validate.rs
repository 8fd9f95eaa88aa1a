//! What a request may say. Pure: JSON in; a checked request or every fault at once out.

use super::{Directory, Faults, Invalid, contact, names};
use campanile_model::{
    ChannelName, Content, Priority, Timestamp, UserId,
    notification::Data,
    plan::{Idempotency, RecipientSpec},
};
use chrono::{DateTime, SubsecRound, Utc};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

/// Everything a request may carry.
pub const FIELDS: [&str; 12] = [
    "user_id",
    "to",
    "title",
    "message",
    "notification_type",
    "channels",
    "data",
    "priority",
    "send_at",
    "expires_at",
    "collapse_key",
    "persist",
];
/// Of a recipient that is an object.
pub const RECIPIENT_FIELDS: [&str; 3] = ["user_id", "email", "addresses"];
/// Promised for later: refused with `not_available`, so that nobody believes they work.
pub const LATER_FIELDS: [&str; 12] = [
    "topic",
    "topics",
    "template",
    "template_data",
    "variables",
    "digest",
    "throttle",
    "escalation",
    "quiet_hours",
    "preferences",
    "dry_run",
    "explain",
];

const TITLE_MAX: usize = 200;
const MESSAGE_MAX: usize = 4_000;
const TYPE_MAX: usize = 128;
const COLLAPSE_KEY_MAX: usize = 255;
const KEY_MAX: usize = 255;
/// Bytes of `data`, serialised without blanks.
const DATA_MAX: usize = 16 * 1024;
const DEFAULT_TYPE: &str = "general";

/// What a request is judged by.
pub struct Rules<'a> {
    pub channels: &'a dyn Directory,
    pub max_recipients: usize,
    pub now: Timestamp,
}

/// A request that may be accepted.
#[derive(Clone, Debug)]
pub struct Request {
    pub content: Arc<Content>,
    /// In the caller's order, no user twice.
    pub recipients: Vec<RecipientSpec>,
    pub channels: Option<Vec<ChannelName>>,
    pub priority: Priority,
    /// Only when it lies ahead: a past one means now.
    pub send_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub collapse_key: Option<String>,
    pub persist: bool,
    pub idempotency: Option<Idempotency>,
    /// The request as given, without title, message and data.
    pub stored: Value,
}

/// Checks an idempotency key.
pub fn idempotency_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("must not be empty");
    }
    if key.chars().count() > KEY_MAX {
        return Err("must be at most 255 characters");
    }
    if key.chars().any(char::is_control) {
        return Err("must be printable");
    }
    Ok(())
}

/// Takes `idempotency_key` out of a batch's item: it is no part of what the item says.
pub fn take_key(item: &mut Value) -> Result<Option<String>, Invalid> {
    let given = item.as_object_mut().and_then(|item| item.remove("idempotency_key"));
    let verdict = match given {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(key)) => idempotency_key(&key).map(|()| Some(key)),
        Some(_) => Err("must be a string"),
    };
    verdict.map_err(|message| {
        let mut faults = Faults::default();
        faults.add("idempotency_key", message);
        faults.finish().err().unwrap_or(Invalid { code: "invalid", faults: Vec::new() })
    })
}

/// Reads and checks one request.
pub fn request(value: Value, idempotency: Option<Idempotency>, rules: &Rules<'_>) -> Result<Request, Invalid> {
    let mut faults = Faults::default();
    let Value::Object(mut body) = value else {
        faults.add("body", "must be a JSON object");
        return Err(faults.finish().err().unwrap_or(Invalid { code: "invalid", faults: Vec::new() }));
    };
    unknown_fields(&body, &mut faults);
    let recipients = recipients(&body, rules, &mut faults);
    let title = title(&mut body, &mut faults);
    let message = message(&mut body, &mut faults);
    let notification_type = notification_type(&body, &mut faults);
    let channels = channels(&body, rules.channels, &mut faults);
    let data = data(&mut body, &mut faults);
    let priority = priority(&body, &mut faults);
    let send_at = time("send_at", &body, &mut faults).filter(|t| *t > rules.now);
    let expires_at = time("expires_at", &body, &mut faults);
    expiry(expires_at, send_at, rules.now, &mut faults);
    let collapse_key = collapse_key(&body, &mut faults);
    let persist = persist(&body, &mut faults);
    if !persist {
        ephemeral(&body, idempotency.is_some(), &recipients, &mut faults);
    }
    faults.finish()?;
    Ok(Request {
        content: Arc::new(Content { title, message, notification_type, data }),
        recipients,
        channels,
        priority,
        send_at,
        expires_at,
        collapse_key,
        persist,
        idempotency,
        stored: Value::Object(body),
    })
}

fn unknown_fields(body: &Map<String, Value>, faults: &mut Faults) {
    for name in body.keys().map(String::as_str).filter(|k| !FIELDS.contains(k)) {
        if LATER_FIELDS.contains(&name) {
            faults.add_coded("not_available", name, "is not available yet; leave it out");
        } else if name == "idempotency_key" {
            faults.add(name, "belongs in the Idempotency-Key header; only the items of a batch carry it here");
        } else {
            faults.add_with(name.chars().take(64).collect::<String>(), || names::unknown("field", name, &FIELDS));
        }
    }
}

// --------------------------------------------------------------------------------------------------- who

fn recipients(body: &Map<String, Value>, rules: &Rules<'_>, faults: &mut Faults) -> Vec<RecipientSpec> {
    let user_id = body.get("user_id").filter(|v| !v.is_null());
    let to = body.get("to").filter(|v| !v.is_null());
    match (user_id, to) {
        (Some(_), Some(_)) => {
            faults.add("to", "can't stand beside user_id; give one of them");
            Vec::new()
        }
        (None, None) => {
            faults.add("user_id", "is required; give user_id, or to for several users");
            Vec::new()
        }
        (Some(one), None) => user("user_id", one, faults)
            .map(|user_id| RecipientSpec { user_id, addresses: BTreeMap::new() })
            .into_iter()
            .collect(),
        (None, Some(Value::Array(several))) => many(several, rules, faults),
        (None, Some(_)) => {
            faults.add("to", "must be an array of user ids or of objects with user_id");
            Vec::new()
        }
    }
}

fn many(given: &[Value], rules: &Rules<'_>, faults: &mut Faults) -> Vec<RecipientSpec> {
    if given.is_empty() {
        faults.add("to", "must name at least one user");
        return Vec::new();
    }
    let mut found: Vec<RecipientSpec> = Vec::with_capacity(given.len());
    let mut places: HashMap<UserId, usize> = HashMap::with_capacity(given.len());
    for (i, value) in given.iter().enumerate() {
        let Some(spec) = recipient(i, value, rules.channels, faults) else { continue };
        if let Some(&place) = places.get(&spec.user_id) {
            // Named twice counts once, with the addresses of both.
            merge(i, &mut found[place], spec, faults);
        } else {
            places.insert(spec.user_id.clone(), found.len());
            found.push(spec);
        }
    }
    if found.len() > rules.max_recipients {
        faults.add("to", format!("must name at most {} users; send the rest in further calls", rules.max_recipients));
    }
    found
}

fn merge(i: usize, first: &mut RecipientSpec, again: RecipientSpec, faults: &mut Faults) {
    for (channel, address) in again.addresses {
        if first.addresses.get(&channel).is_some_and(|a| *a != address) {
            faults.add(format!("to[{i}]"), format!("names a user for the second time, with another {channel} address"));
        } else {
            first.addresses.insert(channel, address);
        }
    }
}

fn recipient(i: usize, value: &Value, directory: &dyn Directory, faults: &mut Faults) -> Option<RecipientSpec> {
    let Value::Object(object) = value else {
        let user_id = user(&format!("to[{i}]"), value, faults)?;
        return Some(RecipientSpec { user_id, addresses: BTreeMap::new() });
    };
    for name in object.keys().filter(|k| !RECIPIENT_FIELDS.contains(&k.as_str())) {
        let field = format!("to[{i}].{}", name.chars().take(64).collect::<String>());
        faults.add_with(field, || names::unknown("field", name, &RECIPIENT_FIELDS));
    }
    let addresses = contact::addresses(&format!("to[{i}]."), object, directory, faults);
    let field = format!("to[{i}].user_id");
    let Some(id) = object.get("user_id").filter(|v| !v.is_null()) else {
        faults.add(field, "is required");
        return None;
    };
    user(&field, id, faults).map(|user_id| RecipientSpec { user_id, addresses })
}

fn user(field: &str, value: &Value, faults: &mut Faults) -> Option<UserId> {
    let verdict = match value {
        Value::String(id) => UserId::parse(id),
        _ => Err("must be a string"),
    };
    verdict.map_err(|message| faults.add(field, message)).ok()
}

// -------------------------------------------------------------------------------------------------- what

fn title(body: &mut Map<String, Value>, faults: &mut Faults) -> String {
    let Some(title) = take_text("title", body, faults) else { return String::new() };
    let Some(title) = title else {
        faults.add("title", "is required");
        return String::new();
    };
    if title.trim().is_empty() {
        faults.add("title", "must not be empty");
    }
    at_most("title", &title, TITLE_MAX, faults);
    // It becomes a mail's subject.
    if title.chars().any(char::is_control) {
        faults.add("title", "must not contain line breaks or other control characters");
    }
    title
}

fn message(body: &mut Map<String, Value>, faults: &mut Faults) -> String {
    let message = take_text("message", body, faults).flatten().unwrap_or_default();
    at_most("message", &message, MESSAGE_MAX, faults);
    if message.contains('\0') {
        faults.add("message", "must not contain NUL");
    }
    message
}

fn notification_type(body: &Map<String, Value>, faults: &mut Faults) -> String {
    let Some(kind) = text("notification_type", body, faults) else { return DEFAULT_TYPE.to_owned() };
    name("notification_type", kind, TYPE_MAX, faults);
    kind.to_owned()
}

fn data(body: &mut Map<String, Value>, faults: &mut Faults) -> Data {
    match body.remove("data") {
        None | Some(Value::Null) => Data::new(),
        Some(Value::Object(data)) => {
            let mut size = Size(0);
            // A map of JSON values can always be written, and counting can't fail.
            let _ = serde_json::to_writer(&mut size, &data);
            if size.0 > DATA_MAX {
                faults.add("data", format!("must be at most {DATA_MAX} bytes of JSON, not {}", size.0));
            }
            data
        }
        Some(_) => {
            faults.add("data", "must be an object");
            Data::new()
        }
    }
}

// ----------------------------------------------------------------------------------------------- the terms

fn channels(body: &Map<String, Value>, directory: &dyn Directory, faults: &mut Faults) -> Option<Vec<ChannelName>> {
    let given = match body.get("channels") {
        None | Some(Value::Null) => return None,
        Some(Value::Array(given)) => given,
        Some(_) => {
            faults.add("channels", "must be an array of channel names");
            return None;
        }
    };
    if given.is_empty() {
        faults.add("channels", "must name at least one channel; leave it out for every channel the user has");
    }
    let mut found: Vec<ChannelName> = Vec::with_capacity(given.len().min(16));
    for (i, value) in given.iter().enumerate() {
        let field = format!("channels[{i}]");
        let Value::String(name) = value else {
            faults.add(field, "must be a string");
            continue;
        };
        match directory.find(name) {
            None => faults.add_with(field, || contact::unknown_channel(name, directory)),
            Some(known) if !known.enabled => faults.add_coded(
                "channel_disabled",
                field,
                format!("the channel {name} is switched off on this server"),
            ),
            Some(known) if found.contains(&known.name) => {}
            Some(known) => found.push(known.name),
        }
    }
    Some(found)
}

fn priority(body: &Map<String, Value>, faults: &mut Faults) -> Priority {
    let Some(given) = text("priority", body, faults) else { return Priority::default() };
    given.parse().unwrap_or_else(|()| {
        faults.add_with("priority", || names::unknown("priority", given, &Priority::ALL.map(Priority::as_str)));
        Priority::default()
    })
}

fn time(field: &str, body: &Map<String, Value>, faults: &mut Faults) -> Option<Timestamp> {
    let given = text(field, body, faults)?;
    let parsed = DateTime::parse_from_rfc3339(given);
    if parsed.is_err() {
        faults.add(field, "must be a time in RFC 3339 with its zone, such as 2030-01-31T09:30:00Z");
    }
    // Rows keep milliseconds.
    parsed.ok().map(|t| t.with_timezone(&Utc).trunc_subsecs(3))
}

fn expiry(expires_at: Option<Timestamp>, send_at: Option<Timestamp>, now: Timestamp, faults: &mut Faults) {
    let Some(expires_at) = expires_at else { return };
    if expires_at <= now {
        faults.add("expires_at", "must lie in the future");
    } else if send_at.is_some_and(|t| expires_at <= t) {
        faults.add("expires_at", "must be later than send_at");
    }
}

fn collapse_key(body: &Map<String, Value>, faults: &mut Faults) -> Option<String> {
    let key = text("collapse_key", body, faults)?;
    name("collapse_key", key, COLLAPSE_KEY_MAX, faults);
    Some(key.to_owned())
}

fn persist(body: &Map<String, Value>, faults: &mut Faults) -> bool {
    match body.get("persist") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(persist)) => *persist,
        Some(_) => {
            faults.add("persist", "must be true or false");
            true
        }
    }
}

/// `persist: false` goes to open sockets and nowhere else; what it can't honour it must not take.
fn ephemeral(body: &Map<String, Value>, has_key: bool, recipients: &[RecipientSpec], faults: &mut Faults) {
    const WHY: &str = "can't be used with persist: false, which only reaches open sockets";
    let websocket = ChannelName::websocket();
    if let Some(Value::Array(channels)) = body.get("channels") {
        for (i, name) in channels.iter().enumerate() {
            if name.as_str().is_some_and(|name| name != websocket.as_str()) {
                faults.add(format!("channels[{i}]"), WHY);
            }
        }
    }
    for field in ["send_at", "expires_at", "collapse_key"] {
        if body.get(field).is_some_and(|v| !v.is_null()) {
            faults.add(field, WHY);
        }
    }
    if has_key {
        faults.add("idempotency_key", WHY);
    }
    for recipient in recipients.iter().filter(|r| !r.addresses.is_empty()) {
        faults.add_with("to", || format!("contact points (of {:?}) {WHY}", recipient.user_id.as_str()));
    }
}

// --------------------------------------------------------------------------------------------------- tools

/// `None`: absent, null, or not a string (then a fault).
fn text<'a>(field: &str, body: &'a Map<String, Value>, faults: &mut Faults) -> Option<&'a str> {
    match body.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(s)) => Some(s),
        Some(_) => {
            faults.add(field, "must be a string");
            None
        }
    }
}

/// Moves a string out. Outer `None`: it was something else (a fault); inner: it was absent or null.
#[expect(clippy::option_option, reason = "a wrong type must not be reported as missing too")]
fn take_text(field: &str, body: &mut Map<String, Value>, faults: &mut Faults) -> Option<Option<String>> {
    match body.remove(field) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(s)) => Some(Some(s)),
        Some(_) => {
            faults.add(field, "must be a string");
            None
        }
    }
}

/// A short name: not empty, not long, nothing that could break a header.
fn name(field: &str, value: &str, max: usize, faults: &mut Faults) {
    if value.trim().is_empty() {
        faults.add(field, "must not be empty; leave it out instead");
    }
    at_most(field, value, max, faults);
    if value.chars().any(char::is_control) {
        faults.add(field, "must not contain control characters");
    }
}

fn at_most(field: &str, value: &str, max: usize, faults: &mut Faults) {
    // A character has at least one byte: the usual case needs no counting.
    if value.len() > max {
        let count = value.chars().count();
        if count > max {
            faults.add(field, format!("must be at most {max} characters, not {count}"));
        }
    }
}

/// Counts what is written.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
