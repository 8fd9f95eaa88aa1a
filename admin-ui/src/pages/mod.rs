//! One file per page; each has its fields, its template in `templates/admin/pages/` and a sample for the tests.

pub mod audit;
pub mod channel;
pub mod channels;
pub mod connections;
pub mod dead;
pub mod demo;
pub mod dev;
pub mod hooks;
pub mod keys;
pub mod mail;
pub mod notification;
pub mod notifications;
pub mod overview;
pub mod plot;
pub mod queues;
pub mod range;
pub mod send_test;
pub mod settings;
pub mod sign_in;
pub mod users;

use crate::pieces::Toast;
use askama::Template;
pub use campanile_model::ports::Role;

/// What the frame around every page needs.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `serve --dev`: the development pages are in the menu.
    pub dev: bool,
    /// Path of the current menu entry.
    pub path: &'static str,
    pub version: &'static str,
    /// Where this server listens.
    pub address: String,
    /// `light`, `dark`, or empty to follow the system.
    pub theme: &'static str,
    /// Who is signed in; development pages are drawn without.
    pub admin: Option<Signed>,
    /// How this browser likes its pages.
    pub looks: Looks,
    /// What the search box says.
    pub find: String,
    /// What became of the act before this page.
    pub flash: Option<Toast>,
}

/// What a browser remembers of Settings, beside the theme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Lower rows.
    pub compact: bool,
    /// Times in UTC.
    pub utc: bool,
    /// Single keys do nothing.
    pub no_keys: bool,
    /// Seconds between two looks of a page's stream; none: as it is.
    pub live_s: Option<u8>,
}

impl Looks {
    /// Seconds that can be chosen, and those that are so anyway.
    pub const LIVE: [u8; 5] = [1, 2, 5, 10, 30];
    pub const LIVE_DEFAULT: u8 = 2;

    /// As a cookie or a form has it; anything else is nothing.
    pub fn live(text: &str) -> Option<u8> {
        text.parse().ok().filter(|s| (1..=30).contains(s))
    }
    pub fn live_every(self) -> u8 {
        self.live_s.unwrap_or(Self::LIVE_DEFAULT)
    }
}

/// The admin behind a page, and what the menu says beside its entries.
#[derive(Clone, Debug)]
pub struct Signed {
    pub name: String,
    pub role: Role,
    /// Goes with every form.
    pub csrf: String,
    pub dead: u64,
    /// Channels that are not healthy.
    pub unwell: u64,
    pub node: NodeFacts,
}

/// The node that drew the page.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub name: String,
    pub uptime: String,
    /// `PostgreSQL 3 ms · 214 MB`.
    pub database: String,
    pub well: bool,
}

/// Console pages that exist: nothing links to one that does not.
const PAGES: [&str; 14] = [
    "/admin",
    "/admin/notifications",
    "/admin/connections",
    "/admin/queues",
    "/admin/channels",
    "/admin/plugins",
    "/admin/dead",
    "/admin/search",
    "/admin/users",
    "/admin/keys",
    "/admin/audit",
    "/admin/settings",
    "/admin/send-test",
    "/admin/sign-in",
];

/// Whether a link to this path leads anywhere.
pub fn leads(path: &str) -> bool {
    let page = path.split(['?', '#']).next().unwrap_or(path);
    PAGES
        .iter()
        .any(|p| page == *p || (*p != "/admin" && page.strip_prefix(p).is_some_and(|rest| rest.starts_with('/'))))
}

impl Frame {
    /// Whether a menu entry is the page itself.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        self.path == path
    }
    pub fn may_act(&self) -> bool {
        self.admin.as_ref().is_some_and(|a| a.role.may_act())
    }
    pub fn may_manage(&self) -> bool {
        self.admin.as_ref().is_some_and(|a| a.role.may_manage())
    }
    pub fn csrf(&self) -> &str {
        self.admin.as_ref().map_or("", |a| &a.csrf)
    }
    /// The menu, in its sections.
    pub(crate) fn menu(&self) -> Vec<(&'static str, Vec<Entry>)> {
        let Some(admin) = &self.admin else { return Vec::new() };
        let entry = |label, path, icon, key| Entry { label, path, icon, key, badge: None };
        let mut queues = entry("Queues", "/admin/queues", "queue", "g q");
        queues.badge = Some(Badge::dead(admin.dead));
        let mut channels = entry("Channels", "/admin/channels", "channel", "g h");
        channels.badge = Some(Badge::unwell(admin.unwell));
        let all = vec![
            (
                "Monitor",
                vec![
                    entry("Overview", "/admin", "overview", "g o"),
                    entry("Notifications", "/admin/notifications", "notif", "g n"),
                    entry("Connections", "/admin/connections", "conn", "g c"),
                    queues,
                ],
            ),
            (
                "Configure",
                vec![
                    channels,
                    entry("Users", "/admin/users", "users", "g u"),
                    entry("API keys", "/admin/keys", "key", "g k"),
                ],
            ),
            (
                "System",
                vec![
                    entry("Audit log", "/admin/audit", "audit", "g a"),
                    entry("Settings", "/admin/settings", "gear", "g s"),
                ],
            ),
        ];
        all.into_iter()
            .map(|(section, entries)| (section, entries.into_iter().filter(|e| leads(e.path)).collect::<Vec<_>>()))
            .filter(|(_, entries)| !entries.is_empty())
            .collect()
    }
}

/// A line of the menu.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) label: &'static str,
    pub(crate) path: &'static str,
    pub(crate) icon: &'static str,
    /// Keys that lead there.
    pub(crate) key: &'static str,
    pub(crate) badge: Option<Badge>,
}

/// A number at a line of the menu; there, and hidden, while it is 0.
#[derive(Template, Clone, Debug)]
#[template(path = "parts/badge.html")]
pub struct Badge {
    id: &'static str,
    tone: &'static str,
    count: u64,
    /// For those who hear the page.
    word: &'static str,
}

impl Badge {
    pub const DEAD: &str = "badge-queues";
    pub const UNWELL: &str = "badge-channels";

    pub fn dead(count: u64) -> Self {
        Self { id: "queues", tone: "bad", count, word: "dead" }
    }

    pub fn unwell(count: u64) -> Self {
        Self { id: "channels", tone: "warn", count, word: "unwell" }
    }
}

#[cfg(test)]
pub(crate) fn sample_frame(path: &'static str) -> Frame {
    let node = NodeFacts {
        name: "127.0.0.1:8000".into(),
        uptime: "12 d 4 h".into(),
        database: "SQLite 3 ms · 214 MB".into(),
        well: true,
    };
    let admin = Signed { name: "dana".into(), role: Role::Owner, csrf: "token".into(), dead: 7, unwell: 1, node };
    Frame {
        dev: true,
        path,
        version: "0.1.0",
        address: "127.0.0.1:8000".into(),
        theme: "",
        admin: Some(admin),
        looks: Looks::default(),
        find: String::new(),
        flash: None,
    }
}

/// Rules that hold for every page's text.
#[cfg(test)]
pub(crate) fn check(html: &str) {
    assert_eq!(html.matches("<h1").count(), 1, "one h1");
    for banned in [" style=", "<script>", "onclick=", "onload=", "javascript:"] {
        assert!(!html.contains(banned), "the content security policy forbids {banned:?}");
    }
}
