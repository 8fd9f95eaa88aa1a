//! `/admin/settings`: what is in force and where it comes from, who may sign in, the nodes, one's own account and looks.

use super::{Frame, Role};
use crate::pieces::{Footer, Part, Tabs};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/settings.html")]
pub struct Settings {
    pub frame: Frame,
    pub tabs: Tabs,
    pub body: Body,
    pub foot: Footer,
}

#[derive(Debug)]
pub enum Body {
    Configuration(Configuration),
    Members(Part<Members>),
    Nodes(Nodes),
    Mail(Mail),
    You(You),
}

impl Body {
    fn html(&self) -> String {
        match self {
            Self::Configuration(b) => b.render().unwrap_or_default(),
            Self::Members(b) => b.to_string(),
            Self::Nodes(b) => b.render().unwrap_or_default(),
            Self::Mail(b) => b.render().unwrap_or_default(),
            Self::You(b) => b.render().unwrap_or_default(),
        }
    }
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/set_config.html")]
pub struct Configuration {
    /// The file that was read, if any.
    pub file: Option<String>,
    /// The file is newer than this start.
    pub stale: bool,
    pub sections: Vec<Section>,
    /// Only what somebody set.
    pub only_set: bool,
    pub tries: Tries,
    /// For the support bundle; empty for those who may not take it.
    pub csrf: String,
}

#[derive(Debug, Clone, Default)]
pub struct Section {
    pub name: String,
    pub values: Vec<Value>,
}

#[derive(Debug, Clone, Default)]
pub struct Value {
    pub name: String,
    /// Secrets are masked before they come here.
    pub shown: String,
    /// `default`, `the environment, CAMPANILE_…`, `campanile.toml`, `made by this server`.
    pub source: String,
    pub set: bool,
    pub about: String,
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/set_members.html")]
pub struct Members {
    pub rows: Vec<Member>,
    /// Empty for those who may not change them.
    pub csrf: String,
    pub link: Option<Link>,
    pub name: String,
    pub error: Option<String>,
}

impl Members {
    fn roles() -> [(Role, &'static str); 4] {
        ROLES
    }
}

/// What each role may do, most first.
pub const ROLES: [(Role, &str); 4] = [
    (Role::Owner, "everything, also keys, members and erasing"),
    (Role::Operator, "looks, and retries, pauses, disconnects, tests"),
    (Role::Viewer, "looks at everything"),
    (Role::Support, "looks at everything but what messages say"),
];

#[derive(Debug, Clone)]
pub struct Member {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub disabled: bool,
    pub has_password: bool,
    pub signed_in_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// Whoever looks.
    pub own: bool,
}

/// Shown once.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub name: String,
    pub url: String,
    pub hours: u64,
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/set_nodes.html")]
pub struct Nodes {
    /// Goes with each form; empty for those who may only look.
    pub csrf: String,
    pub rows: Vec<NodeRow>,
    /// Name and value: version, engines, protocol, system.
    pub build: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Default)]
pub struct NodeRow {
    /// Empty when it is not known to the others yet.
    pub id: String,
    pub address: String,
    pub host: String,
    pub version: String,
    pub up: String,
    pub connections: String,
    pub memory: String,
    /// Class and words.
    pub tone: &'static str,
    pub state: String,
    /// This one draws the page.
    pub own: bool,
}

/// Whether mail from this server is believed.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/set_mail.html")]
pub struct Mail {
    /// Goes with the form; empty for those who may only look.
    pub csrf: String,
    pub facts: Vec<(&'static str, String)>,
    /// After a check.
    pub found: Option<Vec<Finding>>,
}

#[derive(Debug, Clone, Default)]
pub struct Finding {
    pub what: &'static str,
    pub tone: &'static str,
    pub word: &'static str,
    pub text: String,
    /// What to do about it; empty when nothing.
    pub fix: String,
}

/// The tries of a delivery, drawn over time: each further to the right by the power of ten.
#[derive(Debug, Clone, Default)]
pub struct Tries {
    /// After the one before, and since the first, in words.
    pub steps: Vec<(String, String)>,
    /// Seconds since the first.
    pub at: Vec<f64>,
}

impl Tries {
    /// Of 60 columns, that in which each stands: none hides another.
    fn columns(&self) -> Vec<usize> {
        let last = self.at.last().copied().unwrap_or(1.0).max(1.0);
        let apart = (59 / self.at.len().max(1)).min(4);
        let mut columns: Vec<usize> =
            self.at.iter().map(|s| (59.0 * (1.0 + s).ln() / (1.0 + last).ln()).round() as usize).collect();
        // From the end, since the last one stands at the edge; the first ones then have room enough before them.
        for i in (0..columns.len().saturating_sub(1)).rev() {
            columns[i] = columns[i].min(columns[i + 1].saturating_sub(apart));
        }
        for i in 1..columns.len() {
            columns[i] = columns[i].max(columns[i - 1] + apart).min(59);
        }
        columns
    }
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/set_you.html")]
pub struct You {
    pub name: String,
    pub role: &'static str,
    pub about: &'static str,
    pub csrf: String,
    pub shortest: usize,
    pub error: Option<String>,
    /// `light`, `dark`, or empty to follow the system.
    pub theme: &'static str,
    pub looks: super::Looks,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{check, sample_frame};

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    fn page(body: Body) -> String {
        let foot = Footer { at: Timestamp::UNIX_EPOCH, note: None };
        let html =
            Settings { frame: sample_frame("/admin/settings"), tabs: Tabs::default(), body, foot }.render().unwrap();
        check(&html);
        assert!(!html.contains("<img"));
        html
    }

    #[test]
    fn each_try_has_its_place() {
        let of = |at: &[f64]| Tries { steps: Vec::new(), at: at.to_vec() }.columns();
        let days = of(&[0.0, 5.0, 10.0, 11.0, 40.0, 600.0, 86_400.0]);
        assert_eq!((days[0], days[6]), (0, 59));
        assert!(days.windows(2).all(|pair| pair[0] + 4 <= pair[1]), "{days:?}");
        let many: Vec<f64> = (0..70).map(f64::from).collect();
        assert!(of(&many).iter().all(|c| *c < 60) && of(&[]).is_empty());
    }

    #[test]
    fn every_tab_shows_text_and_only_owners_find_forms() {
        let evil = || EVIL.to_owned();
        let value = Value { name: evil(), shown: evil(), source: evil(), set: true, about: evil() };
        let sections = vec![Section { name: evil(), values: vec![value] }];
        let html = page(Body::Configuration(Configuration {
            file: Some(evil()),
            stale: true,
            sections: sections.clone(),
            tries: Tries { steps: vec![(evil(), evil()); 2], at: vec![0.0, 10.0] },
            ..Configuration::default()
        }));
        assert!(!html.contains("/bundle"));
        page(Body::Configuration(Configuration { sections, csrf: "t".into(), ..Configuration::default() }));
        let member = Member {
            id: evil(),
            name: evil(),
            role: Role::Owner,
            disabled: true,
            has_password: false,
            signed_in_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            own: false,
        };
        for csrf in ["", "t"] {
            let members = Members {
                rows: vec![member.clone()],
                csrf: csrf.into(),
                link: Some(Link { name: evil(), url: evil(), hours: 24 }),
                name: evil(),
                error: Some(evil()),
            };
            let html = page(Body::Members(Part::Well(members)));
            assert_eq!(html.contains("action=\"/admin/settings/members"), !csrf.is_empty());
        }
        let row = NodeRow { address: evil(), host: evil(), state: evil(), ..NodeRow::default() };
        for csrf in ["", "t"] {
            let rows = vec![NodeRow { id: evil(), ..row.clone() }];
            let html = page(Body::Nodes(Nodes { csrf: csrf.into(), rows, build: vec![("version", evil())] }));
            assert_eq!(html.contains("/drain\""), !csrf.is_empty());
        }
        let finding = Finding { what: "SPF", tone: "bad", word: "wrong", text: evil(), fix: evil() };
        for csrf in ["", "t"] {
            let mail = Mail { csrf: csrf.into(), facts: vec![("Relay", evil())], found: Some(vec![finding.clone()]) };
            assert_eq!(page(Body::Mail(mail)).contains("action=\"/admin/settings/mail\""), !csrf.is_empty());
        }
        page(Body::You(You { name: evil(), error: Some(evil()), csrf: "t".into(), ..You::default() }));
    }
}
