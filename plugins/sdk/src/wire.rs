//! How a channel's words go over a line as numbers and JSON, and back. Shared by both sides: a plugin writes with it, a
//! loader reads with it, and the pipe to a child process does both.
//!
//! What comes back is trusted no further than its shape: texts are cut and made valid UTF-8, details must be JSON
//! objects, unknown statuses are internal errors. Absent on purpose: pointers (`ffi`), policy.

use crate::{Channel, DeliveryError, Health, Info, Problem, Reason, Receipt};
use campanile_plugin_abi::{UNSET, status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeSet, sync::Mutex, time::Duration};

const CODE_MAX: usize = 64;
const MESSAGE_MAX: usize = 4096;
const ID_MAX: usize = 1024;
const DETAIL_MAX: usize = 64 * 1024;
/// Keys of a detail that are the host's, not the reader's.
const UNCERTAIN: &str = "campanile_uncertain";
const SUSPECT: &str = "campanile_suspect";
/// Kinds of suspicion that a host knows.
const SUSPECTS: [&str; 3] = ["mailbox_full", "disabled", "suspect"];

/// How work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    Ok = status::OK,
    Retry = status::RETRY,
    Throttled = status::THROTTLED,
    Permanent = status::PERMANENT,
    RecipientGone = status::RECIPIENT_GONE,
    Misconfigured = status::MISCONFIGURED,
    Cancelled = status::CANCELLED,
    Internal = status::INTERNAL,
}

impl Status {
    /// An unknown one is `Internal`; hosts say so in their log.
    pub fn from_number(n: u32) -> Self {
        let gone_or_ours = [Self::RecipientGone, Self::Misconfigured, Self::Cancelled];
        let mut all = [Self::Ok, Self::Retry, Self::Throttled, Self::Permanent].into_iter().chain(gone_or_ours);
        all.find(|s| *s as u32 == n).unwrap_or(Self::Internal)
    }
}

/// How work ended, with all that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub status: Status,
    pub retry_after: Option<Duration>,
    pub code: String,
    pub message: String,
    pub provider_id: Option<String>,
    pub detail: Option<Value>,
}

impl Outcome {
    pub fn new(status: Status, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { status, retry_after: None, code, message, provider_id: None, detail: None }
    }
    pub fn ok() -> Self {
        Self::new(Status::Ok, "", "")
    }

    /// From the raw parts, trusting none.
    pub fn read(status: u32, retry_after_ms: u64, code: &[u8], message: &[u8], id: &[u8], detail: &[u8]) -> Self {
        let known = Status::from_number(status);
        let message = match cut(message, MESSAGE_MAX) {
            m if m.is_empty() && known as u32 != status => format!("the plugin gave the unknown status {status}"),
            m => m,
        };
        let detail = (detail.len() <= DETAIL_MAX).then(|| serde_json::from_slice(detail).ok()).flatten();
        Self {
            status: known,
            retry_after: (retry_after_ms != UNSET).then(|| Duration::from_millis(retry_after_ms)),
            code: cut(code, CODE_MAX),
            message,
            provider_id: Some(cut(id, ID_MAX)).filter(|id| !id.is_empty()),
            detail: detail.filter(Value::is_object),
        }
    }

    /// [`UNSET`] for none.
    pub fn retry_after_ms(&self) -> u64 {
        self.retry_after.map_or(UNSET, |t| u64::try_from(t.as_millis()).unwrap_or(UNSET - 1))
    }
    /// Empty for none.
    pub fn detail_json(&self) -> String {
        self.detail.as_ref().map(Value::to_string).unwrap_or_default()
    }

    pub fn of_delivery(result: Result<Receipt, DeliveryError>) -> Self {
        let error = match result {
            Ok(receipt) => {
                let detail = receipt.detail.map(object).map(Value::Object);
                return Self { provider_id: receipt.provider_id, detail, ..Self::ok() };
            }
            Err(error) => error,
        };
        let (status, retry_after, reason) = match error {
            DeliveryError::Retry { after, reason } => (Status::Retry, after, reason),
            DeliveryError::Throttled { after, reason } => (Status::Throttled, after, reason),
            DeliveryError::Permanent { reason } => (Status::Permanent, None, reason),
            DeliveryError::RecipientGone { reason } => (Status::RecipientGone, None, reason),
            DeliveryError::Misconfigured { reason } => (Status::Misconfigured, None, reason),
        };
        let mut detail = reason.detail.map(object).unwrap_or_default();
        if reason.uncertain {
            detail.insert(UNCERTAIN.into(), true.into());
        }
        if let Some((kind, limit, days)) = reason.suspect {
            detail.insert(SUSPECT.into(), json!({ "kind": kind, "limit": limit, "days": days }));
        }
        let detail = (!detail.is_empty()).then_some(Value::Object(detail));
        Self { retry_after, detail, ..Self::new(status, reason.code, reason.message) }
    }

    /// A cancelled delivery wasn't sent; of an internal error nobody knows.
    pub fn into_delivery(self) -> Result<Receipt, DeliveryError> {
        let mut detail = match self.detail {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let uncertain = detail.remove(UNCERTAIN).is_some_and(|v| v == Value::Bool(true));
        let suspect = detail.remove(SUSPECT).as_ref().and_then(suspect);
        let detail = (!detail.is_empty()).then_some(Value::Object(detail));
        if self.status == Status::Ok {
            return Ok(Receipt { provider_id: self.provider_id, detail });
        }
        let code = match (self.code.is_empty(), self.status) {
            (false, _) => Cow::Owned(self.code),
            (true, Status::Cancelled) => "cancelled".into(),
            (true, Status::Internal) => "internal".into(),
            (true, _) => "unknown".into(),
        };
        let uncertain = uncertain || self.status == Status::Internal;
        let reason = Reason { uncertain, suspect, detail, ..Reason::new(code, self.message) };
        let after = self.retry_after;
        Err(match self.status {
            Status::Throttled => DeliveryError::Throttled { after, reason },
            Status::Permanent => DeliveryError::Permanent { reason },
            Status::RecipientGone => DeliveryError::RecipientGone { reason },
            Status::Misconfigured => DeliveryError::Misconfigured { reason },
            Status::Ok | Status::Retry | Status::Cancelled | Status::Internal => DeliveryError::Retry { after, reason },
        })
    }

    pub fn of_health(health: Health) -> Self {
        match health {
            Health::Ok => Self::ok(),
            Health::Degraded(why) => Self::new(Status::Retry, "degraded", why),
            Health::Failing(why) => Self::new(Status::Permanent, "failing", why),
        }
    }

    pub fn into_health(self) -> Health {
        let why = if self.message.is_empty() { self.code } else { self.message };
        match self.status {
            Status::Ok => Health::Ok,
            Status::Retry | Status::Throttled => Health::Degraded(why),
            _ => Health::Failing(why),
        }
    }
}

fn object(detail: Value) -> Map<String, Value> {
    match detail {
        Value::Object(map) => map,
        other => Map::from_iter([("detail".to_owned(), other)]),
    }
}

fn suspect(value: &Value) -> Option<(&'static str, u32, u32)> {
    let kind = value.get("kind")?.as_str()?;
    let kind = SUSPECTS.into_iter().find(|k| *k == kind).unwrap_or("suspect");
    let number = |key| u32::try_from(value.get(key)?.as_u64()?).ok().filter(|n| (1..=365).contains(n));
    Some((kind, number("limit")?, number("days")?))
}

/// Valid UTF-8 of at most `max` bytes.
fn cut(text: &[u8], max: usize) -> String {
    // A character that is cut in two shows as a replacement character; take it off again.
    let mut out = String::from_utf8_lossy(&text[..text.len().min(max)]).into_owned();
    while text.len() > max && (out.len() > max || out.ends_with('\u{FFFD}')) {
        out.pop();
    }
    out
}

/// What `describe` writes. Everything but name and version may be left out; unknown keys are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub name: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// People, a colon between two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authors: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub documentation: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub changelog: String,
    /// Hosts that it asks to call. What it may call, the operator's list says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub recipient: Recipient,
    #[serde(default = "one")]
    pub max_batch: usize,
    #[serde(default = "eight")]
    pub max_concurrency: usize,
    #[serde(default = "half_a_minute")]
    pub timeout_ms: u64,
    #[serde(default)]
    pub idempotent: bool,
    #[serde(default)]
    pub asks_permission: bool,
    #[serde(default = "all_content")]
    pub content: Vec<String>,
    #[serde(default)]
    pub config_schema: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_isolation: Option<String>,
    /// Of a plugin that this SDK made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Built>,
}

/// How a plugin was built, for `plugin check`: what can't be seen in its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The SDK's version.
    pub sdk: String,
    /// With debug assertions, so without optimisation, unless the author's profile says otherwise.
    #[serde(default)]
    pub debug: bool,
    /// `unwind`, or else no panic can be caught.
    pub panic: String,
}

impl Built {
    fn here() -> Self {
        let panic = if cfg!(panic = "unwind") { "unwind" } else { "abort" };
        Self { sdk: env!("CARGO_PKG_VERSION").to_owned(), debug: cfg!(debug_assertions), panic: panic.to_owned() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    #[serde(default = "plain")]
    pub format: String,
    #[serde(default = "yes")]
    pub required: bool,
}

impl Default for Recipient {
    fn default() -> Self {
        Self { format: plain(), required: true }
    }
}

fn one() -> usize {
    1
}
fn eight() -> usize {
    8
}
fn half_a_minute() -> u64 {
    30_000
}
fn all_content() -> Vec<String> {
    ["subject", "text", "html"].map(str::to_owned).into()
}
fn plain() -> String {
    "text".to_owned()
}
fn yes() -> bool {
    true
}

impl Description {
    pub fn of<C: Channel>() -> Self {
        let info = C::INFO;
        Self {
            name: info.name.to_owned(),
            version: info.version.to_owned(),
            display_name: info.display_name.to_owned(),
            description: info.description.to_owned(),
            license: info.license.to_owned(),
            homepage: info.homepage.to_owned(),
            authors: info.authors.to_owned(),
            documentation: info.documentation.to_owned(),
            changelog: info.changelog.to_owned(),
            hosts: info.hosts.iter().map(|host| (*host).to_owned()).collect(),
            recipient: Recipient { format: info.recipient.to_owned(), required: info.recipient != "none" },
            max_batch: info.max_batch,
            max_concurrency: info.max_concurrency,
            timeout_ms: u64::try_from(info.timeout.as_millis()).unwrap_or(u64::MAX),
            idempotent: info.idempotent,
            asks_permission: info.asks_permission,
            content: info.content.iter().map(|part| (*part).to_owned()).collect(),
            config_schema: schemars::schema_for!(C::Config).to_value(),
            message_schema: None,
            recommended_isolation: info.recommended_isolation.map(str::to_owned),
            built: Some(Built::here()),
        }
    }

    /// As [`Info`], which borrows for ever: each distinct text is kept for the life of the process, once. For hosts,
    /// which load few plugins.
    pub fn info(&self) -> Info {
        let parts = ["subject", "text", "html"];
        let content: Vec<&str> = parts.into_iter().filter(|p| self.content.iter().any(|c| c == p)).collect();
        let mut info = Info::new(keep(&self.name), keep(&self.version))
            .display_name(keep(&self.display_name))
            .description(keep(&self.description))
            .license(keep(&self.license))
            .homepage(keep(&self.homepage))
            .authors(keep(&self.authors))
            .documentation(keep(&self.documentation))
            .changelog(keep(&self.changelog))
            .hosts(keep_all(&self.hosts))
            .recipient(keep(&self.recipient.format))
            .max_batch(self.max_batch.clamp(1, 1000))
            .max_concurrency(self.max_concurrency.clamp(1, 1000))
            .timeout(Duration::from_millis(self.timeout_ms.clamp(1, 300_000)))
            .idempotent(self.idempotent)
            .asks_permission(self.asks_permission)
            .content(SUBSETS.into_iter().find(|s| **s == content).unwrap_or(&["subject", "text", "html"]));
        if let Some(level) =
            ["process", "in-process"].into_iter().find(|l| self.recommended_isolation.as_deref() == Some(l))
        {
            info = info.recommended_isolation(level);
        }
        info
    }
}

const SUBSETS: [&[&str]; 8] = [
    &[],
    &["subject"],
    &["text"],
    &["html"],
    &["subject", "text"],
    &["subject", "html"],
    &["text", "html"],
    &["subject", "text", "html"],
];

/// Longest text of a description that a host keeps.
const KEPT_MAX: usize = 512;

/// The same text for the rest of the process's life, one copy of each.
fn keep(text: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let text = cut(text.as_bytes(), KEPT_MAX);
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(same) = kept.get(text.as_str()) {
        return same;
    }
    let text: &'static str = text.leak();
    kept.insert(text);
    text
}

/// More than any plugin calls.
const HOSTS_MAX: usize = 64;

/// [`keep`] for a list.
fn keep_all(texts: &[String]) -> &'static [&'static str] {
    static KEPT: Mutex<BTreeSet<&'static [&'static str]>> = Mutex::new(BTreeSet::new());
    let texts: Vec<&'static str> = texts.iter().take(HOSTS_MAX).map(|text| keep(text)).collect();
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(same) = kept.get(texts.as_slice()) {
        return same;
    }
    let texts: &'static [&'static str] = texts.leak();
    kept.insert(texts);
    texts
}

/// A problem of a configuration as `validate` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireProblem {
    #[serde(default)]
    pub pointer: String,
    pub message: String,
}

impl From<&Problem> for WireProblem {
    fn from(p: &Problem) -> Self {
        Self { pointer: p.pointer(), message: p.message.clone() }
    }
}

impl From<WireProblem> for Problem {
    fn from(p: WireProblem) -> Self {
        let key = p.pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
        Self { key, message: p.message }
    }
}

/// What `validate` writes.
pub fn problems_json(problems: &[Problem]) -> String {
    json!(problems.iter().map(WireProblem::from).collect::<Vec<_>>()).to_string()
}

/// Reads it; nothing at all means that all is well.
pub fn problems(json: &[u8]) -> Result<Vec<Problem>, String> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let list: Vec<WireProblem> =
        serde_json::from_slice(json).map_err(|e| format!("validate() wrote no list of problems: {e}"))?;
    Ok(list.into_iter().map(Problem::from).collect())
}

/// The manifest that a plugin's file carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub campanile_abi: u32,
    #[serde(default)]
    pub min_minor: u32,
    pub name: String,
    pub version: String,
    pub target: String,
}

/// A configuration from its text, checked by its types and then by the channel itself.
pub fn config<C: Channel>(json: &[u8]) -> Result<C::Config, Vec<Problem>> {
    // A struct can also be read from a list of its values, and one with defaults from an empty list; nobody means that.
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err(vec![Problem::new("", "must be an object")]);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let config: C::Config = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let key = e.path().iter().map(segment).collect::<Vec<_>>().join(".");
        let text = e.inner().to_string();
        // The position is of no use to who fills in a form.
        vec![Problem::new(key, text.split(" at line ").next().unwrap_or_default())]
    })?;
    reader.end().map_err(|e| vec![Problem::new("", e.to_string())])?;
    C::validate(&config)?;
    Ok(config)
}

fn segment(segment: &serde_path_to_error::Segment) -> String {
    match segment {
        serde_path_to_error::Segment::Seq { index } => index.to_string(),
        serde_path_to_error::Segment::Map { key } => key.clone(),
        serde_path_to_error::Segment::Enum { variant } => variant.clone(),
        serde_path_to_error::Segment::Unknown => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests;
