//! `/admin/keys`: the keys that applications call with.

use super::Frame;
use crate::pieces::{Empty, Footer, Part};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/keys.html")]
pub struct Keys {
    pub frame: Frame,
    /// Just made: shown this once.
    pub made: Option<Made>,
    pub form: NewKey,
    pub list: Part<List>,
    pub may_manage: bool,
    pub foot: Footer,
}

#[derive(Debug, Clone)]
pub struct Made {
    pub name: String,
    pub key: String,
    /// A call with it, ready to run.
    pub curl: String,
    /// Of a rotation: when the one before ends.
    pub before_ends: Option<Timestamp>,
}

/// The form as it was typed, so that a wrong field costs nothing else.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    pub name: String,
    pub scopes: Vec<String>,
    pub expires: String,
    /// From where it may be used.
    pub networks: String,
    pub errors: Vec<(String, String)>,
}

impl NewKey {
    fn error(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|(f, _)| f == field).map(|(_, e)| e.as_str())
    }
    fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }
}

/// What each scope allows.
pub const SCOPES: [(&str, &str); 3] = [
    ("send", "accept notifications"),
    ("read", "look at notifications, queues, connections and this log"),
    ("manage", "change users, keys, channels; retry and cancel"),
];

/// Until when a new key may work.
pub const EXPIRES: [(&str, &str); 4] =
    [("", "never"), ("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year")];

/// For how many hours a rotated key works beside its successor.
pub const OVERLAPS: [(u64, &str); 5] =
    [(1, "1 hour"), (24, "24 hours"), (72, "3 days"), (168, "7 days"), (720, "30 days")];

/// What used a key within a day, most calls first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    pub routes: Vec<(String, u64)>,
    pub addresses: Vec<(String, u64)>,
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/key_list.html")]
pub struct List {
    pub rows: Vec<Row>,
    pub csrf: String,
    pub empty: Option<Empty>,
}

#[derive(Debug, Clone, Default)]
pub struct Row {
    pub id: String,
    pub name: String,
    /// `cmp_0192…`
    pub prefix: String,
    pub scopes: Vec<&'static str>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub last_used: Option<Timestamp>,
    /// The address that used it last, and what it called.
    pub used_from: String,
    pub used_for: String,
    /// In the last day, and those of them that were answered with 4xx.
    pub calls: u64,
    pub refused: u64,
    /// Why somebody should look at it.
    pub flag: Option<String>,
    pub uses: Uses,
    /// Of a revocation.
    pub consequence: String,
    /// From where it may be used; empty: from anywhere.
    pub networks: Vec<String>,
    pub expires_at: Option<Timestamp>,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Active,
    /// It has a successor, or a short life.
    Ending,
    Expired,
    Revoked,
}

impl State {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Ending => "Ending",
            Self::Expired => "Expired",
            Self::Revoked => "Revoked",
        }
    }
    const fn class(self) -> &'static str {
        match self {
            Self::Active => "ok",
            Self::Ending => "warn",
            Self::Expired | Self::Revoked => "off",
        }
    }
    pub fn works(self) -> bool {
        matches!(self, Self::Active | Self::Ending)
    }
}

impl Row {
    fn share(&self) -> String {
        match self.calls {
            0 => String::new(),
            n => format!("{} % refused", crate::format::percent(self.refused as f64 / n as f64)),
        }
    }
    /// Most of what it asks is refused: a wrong set-up, or somebody trying what it can do.
    fn odd(&self) -> bool {
        self.calls >= 20 && self.refused * 2 > self.calls
    }
    fn from(&self) -> String {
        if self.networks.is_empty() { "anywhere".to_owned() } else { self.networks.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    fn page(may_manage: bool) -> Keys {
        let csrf = if may_manage { "t".to_owned() } else { String::new() };
        let row = |state| Row {
            id: EVIL.into(),
            name: EVIL.into(),
            created_by: EVIL.into(),
            state,
            used_from: EVIL.into(),
            used_for: EVIL.into(),
            networks: vec![EVIL.into()],
            calls: 40,
            refused: 30,
            flag: Some(EVIL.into()),
            consequence: EVIL.into(),
            uses: Uses { routes: vec![(EVIL.into(), 40)], addresses: vec![(EVIL.into(), 40)] },
            ..Row::default()
        };
        let rows = vec![row(State::Active), row(State::Ending), row(State::Expired), row(State::Revoked)];
        Keys {
            frame: sample_frame("/admin/keys"),
            made: may_manage.then(|| Made {
                name: EVIL.into(),
                key: "cmp_1_2".into(),
                curl: EVIL.into(),
                before_ends: Some(Timestamp::UNIX_EPOCH),
            }),
            form: NewKey { name: EVIL.into(), errors: vec![("name".into(), EVIL.into())], ..NewKey::default() },
            list: Part::Well(List { rows, csrf, empty: None }),
            may_manage,
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        }
    }

    #[test]
    fn names_are_text_and_only_an_owner_finds_forms() {
        let html = page(true).render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && html.contains("cmp_1_2") && html.contains("Revoke"));
        assert_eq!(html.matches("/revoke\"").count(), 2, "what has ended can't be ended again");
        assert_eq!(html.matches("name=\"overlap\"").count(), 2, "nor rotated");
        let html = page(false).render().unwrap();
        check(&html);
        assert!(!html.contains("/revoke") && !html.contains("action=\"/admin/keys\""));
        let mut empty = page(true);
        empty.list = Part::Well(List { empty: Some(Empty::default()), ..List::default() });
        check(&empty.render().unwrap());
    }
}
