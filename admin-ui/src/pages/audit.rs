//! `/admin/audit`: who did what, to whom, from where; and whether the log is whole.

use super::Frame;
use crate::pieces::{Empty, Footer, Here, Pager, Part, Pill};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/audit.html")]
pub struct Audit {
    pub frame: Frame,
    pub here: Here,
    /// Of the newest row shown: the stream counts what came after it.
    pub top: i64,
    pub chain: Chain,
    pub pill: Pill,
    pub chips: Vec<Chip>,
    pub since: String,
    pub list: Part<List>,
    /// Where the same entries are as a file; empty for those who may not take them away.
    pub export: String,
    pub foot: Footer,
}

/// A filter in force.
#[derive(Debug, Clone)]
pub struct Chip {
    pub name: &'static str,
    pub value: String,
    /// The page without it.
    pub without: String,
}

/// How far back the list goes.
pub const SINCE: [(&str, &str); 5] =
    [("", "any time"), ("1h", "last hour"), ("24h", "last 24 hours"), ("7d", "last 7 days"), ("30d", "last 30 days")];

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

#[derive(Debug, Clone, Default)]
pub struct Row {
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub target: String,
    pub detail: Vec<Change>,
    pub address: String,
    pub request_id: String,
    /// `web`, `API`, `command line`, `system`, `link in a mail`.
    pub source: &'static str,
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
    pub before: Option<String>,
    pub after: String,
}

/// What an entry says, as lines: `{"before": …, "after": …}` is shown as what changed, everything else as it is.
pub fn changes(detail: Option<&serde_json::Value>) -> Vec<Change> {
    let Some(serde_json::Value::Object(detail)) = detail else {
        return detail.map(|d| vec![Change { after: plain(d), ..Change::default() }]).unwrap_or_default();
    };
    let mut out = Vec::new();
    if let (Some(serde_json::Value::Object(before)), Some(serde_json::Value::Object(after))) =
        (detail.get("before"), detail.get("after"))
    {
        for (name, value) in after {
            let was = before.get(name);
            if was != Some(value) {
                out.push(Change { name: words(name), before: was.map(plain), after: plain(value) });
            }
        }
    }
    for (name, value) in detail {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !(empty || value.is_object() && ["before", "after"].contains(&name.as_str())) {
            out.push(Change { name: words(name), before: None, after: plain(value) });
        }
    }
    out
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn plain(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::String(s) => s.clone(),
        serde_json::Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
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
            source: "web",
            ..Row::default()
        };
        let here = Here::new("/admin/audit").put("actor", EVIL);
        let mut page = Audit {
            frame: sample_frame("/admin/audit"),
            top: 7,
            chain: Chain { up_to: Some(7), at: Some(Timestamp::UNIX_EPOCH), ..Chain::default() },
            pill: Pill::default(),
            chips: vec![Chip { name: "who", value: EVIL.into(), without: here.without("actor") }],
            since: "24h".into(),
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
        assert_eq!(changes(Some(&json!({"scopes": ["a", "b"], "none": null})))[0].after, "a, b");
        assert!(changes(None).is_empty());
    }
}
