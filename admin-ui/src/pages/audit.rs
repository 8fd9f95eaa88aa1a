//! `/admin/audit`: who did what, to whom, from where; and whether the log is whole.

use super::{Frame, notifications::Chip};
use crate::pieces::{Empty, Footer, Here, Pager, Part, Pill};
use askama::Template;
use campanile_model::{Timestamp, ports::AuditSource};
use serde_json::{Map, Value};

#[derive(Template, Debug)]
#[template(path = "pages/audit.html")]
pub struct Audit {
    pub frame: Frame,
    pub here: Here,
    /// Of the newest row shown: the stream counts what came after it.
    pub top: i64,
    pub chain: Chain,
    pub pill: Pill,
    /// What of the filters means nothing.
    pub hint: Option<String>,
    pub sift: Sift,
    pub list: Part<List>,
    /// Where the same entries are as a file; empty for those who may not take them away.
    pub export: String,
    pub foot: Footer,
}

/// The filters as a form and as chips.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/audit_sift.html")]
pub struct Sift {
    pub actor: String,
    pub action: String,
    pub target: String,
    pub source: String,
    pub address: String,
    pub request: String,
    pub since: String,
    pub until: String,
    pub chips: Vec<Chip>,
}

/// Where an act came from, for people.
pub const fn source_words(source: AuditSource) -> &'static str {
    match source {
        AuditSource::Web => "web",
        AuditSource::Api => "API",
        AuditSource::Cli => "command line",
        AuditSource::Link => "link in a mail",
        AuditSource::System => "system",
    }
}

/// Whether the log is whole.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/audit_chain.html")]
pub struct Chain {
    pub up_to: Option<i64>,
    pub at: Option<Timestamp>,
    pub broken: Option<i64>,
    /// Still following a long log.
    pub under_way: bool,
    /// It could not be read.
    pub unknown: bool,
}

impl Chain {
    fn tone(&self) -> &'static str {
        match (self.broken, self.unknown) {
            (Some(_), _) => "bad",
            (None, true) => "warn",
            _ => "ok",
        }
    }
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/audit_list.html")]
pub struct List {
    pub here: Here,
    pub rows: Vec<Row>,
    pub pager: Pager,
    pub empty: Option<Empty>,
}

#[derive(Debug, Clone)]
pub struct Row {
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub target: String,
    pub detail: Vec<Change>,
    pub address: String,
    pub request_id: String,
    pub source: AuditSource,
    /// Where the target is shown.
    pub page: Option<String>,
    pub refused: bool,
}

impl Row {
    /// Without the word that says where it came from: that has a column of its own.
    fn who(&self) -> &str {
        self.actor.strip_prefix("admin:").unwrap_or(&self.actor)
    }
}

/// One thing of an entry: what it became, and what it was where that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    /// It was something else, or nothing.
    pub before: Option<String>,
    pub after: String,
}

/// Shown where there is nothing.
const NOTHING: &str = "nothing";
/// As deep as names are joined: `limits.per second`.
const DEEP: usize = 4;

/// What an entry says, as lines: `{"before": …, "after": …}` is shown as what changed, everything else as it is.
pub fn changes(detail: Option<&Value>) -> Vec<Change> {
    let Some(Value::Object(detail)) = detail else {
        return detail.map(|d| vec![Change { after: plain(d), ..Change::default() }]).unwrap_or_default();
    };
    let mut out = Vec::new();
    let both = (detail.get("before"), detail.get("after"));
    if let (Some(before @ Value::Object(_)), Some(after @ Value::Object(_))) = both {
        compare("", Some(before), Some(after), 0, &mut out);
    }
    for (name, value) in detail {
        if !(is_nothing(value) || value.is_object() && ["before", "after"].contains(&name.as_str())) {
            out.push(Change { name: words(name), before: None, after: plain(value) });
        }
    }
    out
}

/// Down to what differs: what stayed is not told.
fn compare(name: &str, before: Option<&Value>, after: Option<&Value>, deep: usize, out: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let empty = Map::new();
    let object = |value: Option<&Value>| matches!(value, Some(Value::Object(_)));
    if deep < DEEP && (object(before) || object(after)) && [before, after].iter().all(|v| v.is_none() || object(*v)) {
        let fields = |value: Option<&Value>| value.and_then(Value::as_object).unwrap_or(&empty).clone();
        let (before, after) = (fields(before), fields(after));
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        for key in after.keys().chain(gone) {
            let name = if name.is_empty() { words(key) } else { format!("{name}.{}", words(key)) };
            compare(&name, before.get(key), after.get(key), deep + 1, out);
        }
        return;
    }
    let said = |value: Option<&Value>| value.filter(|v| !is_nothing(v)).map_or_else(|| NOTHING.to_owned(), plain);
    let (before, after) = (said(before), said(after));
    if before != after {
        out.push(Change { name: name.to_owned(), before: Some(before), after });
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_str().is_some_and(str::is_empty)
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    if text.chars().count() > 200 { format!("{}…", text.chars().take(200).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};
    use serde_json::json;

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    #[test]
    fn entries_are_text_and_filters_are_chips() {
        let row = Row {
            id: 7,
            actor: EVIL.into(),
            action: EVIL.into(),
            target: EVIL.into(),
            detail: changes(Some(&json!({EVIL: EVIL}))),
            address: EVIL.into(),
            request_id: EVIL.into(),
            source: AuditSource::Web,
            page: Some(EVIL.into()),
            at: Timestamp::UNIX_EPOCH,
            refused: false,
        };
        let here = Here::new("/admin/audit").put("actor", EVIL);
        let mut page = Audit {
            frame: sample_frame("/admin/audit"),
            top: 7,
            chain: Chain { up_to: Some(7), at: Some(Timestamp::UNIX_EPOCH), ..Chain::default() },
            pill: Pill::default(),
            hint: Some(EVIL.into()),
            sift: Sift {
                actor: EVIL.into(),
                source: "web".into(),
                since: EVIL.into(),
                chips: vec![Chip { text: EVIL.into(), without: here.without("actor") }],
                ..Sift::default()
            },
            list: Part::Well(List { here: here.clone(), rows: vec![row], ..List::default() }),
            export: here.url(),
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
            here,
        };
        let html = page.render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && html.contains("Verified up to entry 7"));
        page.chain = Chain { broken: Some(3), ..Chain::default() };
        page.list = Part::Well(List { empty: Some(Empty::default()), ..List::default() });
        let html = page.render().unwrap();
        check(&html);
        assert!(html.contains("Entry 3"));
    }

    #[test]
    fn a_change_shows_what_it_was_and_what_it_is() {
        let detail = json!({"before": {"role": "viewer", "disabled": false}, "after": {"role": "owner", "disabled": false},
                            "why": "asked"});
        let all = changes(Some(&detail));
        assert_eq!(all[0], Change { name: "role".into(), before: Some("viewer".into()), after: "owner".into() });
        assert_eq!(all[1], Change { name: "why".into(), before: None, after: "asked".into() });
        assert_eq!(all.len(), 2, "what stayed is not told");
        let deep = json!({"before": {"limits": {"per_second": 5, "burst": 9}, "networks": ["10.0.0.0/8"], "on": true, "gone": "x"},
                          "after": {"limits": {"per_second": 7, "burst": 9}, "networks": [], "on": false, "new": 1}});
        let change = |name: &str, before: &str, after: &str| Change {
            name: name.into(),
            before: Some(before.into()),
            after: after.into(),
        };
        let mut told = changes(Some(&deep));
        told.sort_by(|a, b| a.name.cmp(&b.name));
        let expected = [
            change("gone", "x", "nothing"),
            change("limits.per second", "5", "7"),
            change("networks", "10.0.0.0/8", "nothing"),
            change("new", "nothing", "1"),
            change("on", "yes", "no"),
        ];
        assert_eq!(told, expected, "what came, what went, and only what differs within");
        assert_eq!(changes(Some(&json!({"scopes": ["a", "b"], "none": null})))[0].after, "a, b");
        assert!(changes(None).is_empty());
    }
}
