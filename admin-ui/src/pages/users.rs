//! `/admin/users`: people, how they are reached, what they got; and one person.

use super::Frame;
use crate::pieces::{Empty, Footer, Here, Pager, Part, Tabs};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/users.html")]
pub struct Users {
    pub frame: Frame,
    pub here: Here,
    /// The beginning of an id, or a whole e-mail address.
    pub query: String,
    /// All people, who are looked up so; else those of whom something is so.
    pub by_name: bool,
    /// What the list of those held back is narrowed to, and what it can be: as the address has it, and in words.
    pub of: String,
    pub choices: Vec<(String, String)>,
    pub tabs: Tabs,
    /// Where somebody is registered.
    pub new: &'static str,
    pub figures: Part<Figures>,
    pub list: Part<List>,
    pub foot: Footer,
}

/// How many there are, and why some of them get less than is sent.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_figures.html")]
pub struct Figures {
    pub known: u64,
    pub active_day: u64,
    pub active_month: u64,
    /// Counts stop here.
    pub most: u64,
    pub opted_out: Vec<Held>,
    pub suppressed: Vec<Held>,
}

/// What a channel does not send, of how many.
#[derive(Debug, Clone, Default)]
pub struct Held {
    pub channel: String,
    /// A type, or why an address is not sent to.
    pub what: String,
    pub count: u64,
    /// Their list, and what its address calls it.
    pub href: String,
    pub value: String,
}

impl Figures {
    /// A count that stopped says so.
    pub fn count(&self, n: u64) -> String {
        let more = if n >= self.most { "+" } else { "" };
        format!("{}{more}", crate::format::count(n))
    }
    pub fn sum(held: &[Held]) -> u64 {
        held.iter().map(|h| h.count).sum()
    }
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_list.html")]
pub struct List {
    pub rows: Rows,
    pub pager: Pager,
    pub empty: Option<Empty>,
}

/// Each list has its own columns.
#[derive(Debug, Clone)]
pub enum Rows {
    People(Vec<Row>),
    /// Who said no to what.
    Out(Vec<HeldRow>),
    /// Addresses that nothing is sent to.
    Held(Vec<HeldRow>),
    Seen(Vec<SeenRow>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::People(Vec::new())
    }
}

impl Rows {
    pub fn count(&self) -> usize {
        match self {
            Self::People(rows) => rows.len(),
            Self::Out(rows) | Self::Held(rows) => rows.len(),
            Self::Seen(rows) => rows.len(),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct HeldRow {
    /// Whose no it is; of an address, whose e-mail address, if anybody's.
    pub user: Option<String>,
    /// Masked.
    pub address: String,
    pub channel: String,
    /// A type, or why an address is not sent to.
    pub what: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct SeenRow {
    pub id: String,
    /// To the hour.
    pub at: Timestamp,
    pub disabled: bool,
    /// `None`: they are not registered, and have a feed all the same.
    pub person: Option<Row>,
}

#[derive(Debug, Clone, Default)]
pub struct Row {
    pub id: String,
    /// Masked.
    pub email: String,
    /// Channels with an address.
    pub channels: Vec<String>,
    pub locale: String,
    pub disabled: bool,
    pub created_at: Timestamp,
}

#[derive(Template, Debug)]
#[template(path = "pages/user.html")]
pub struct User {
    pub frame: Frame,
    pub id: String,
    pub known: bool,
    pub disabled_at: Option<Timestamp>,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    pub locale: String,
    pub timezone: String,
    pub addresses: Vec<Address>,
    /// Addresses are shown in full, which was written to the audit log.
    pub revealed: bool,
    pub preferences: Preferences,
    pub consents: Part<Consents>,
    /// The audit log's entries about them.
    pub log: String,
    pub live: Live,
    pub recent: Part<Recent>,
    /// Shown once.
    pub token: Option<Token>,
    pub edit: Option<Edit>,
    pub channels: Vec<String>,
    pub foot: Footer,
}

impl User {
    fn may_act(&self) -> bool {
        self.frame.may_act()
    }
    fn role(&self) -> Option<super::Role> {
        self.frame.admin.as_ref().map(|a| a.role)
    }
    fn may_reveal(&self) -> bool {
        self.role().is_some_and(super::Role::may_read_content) && !self.addresses.is_empty() && !self.revealed
    }
    fn may_erase(&self) -> bool {
        self.role().is_some_and(super::Role::may_manage)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Address {
    pub channel: String,
    /// Masked, unless it was revealed.
    pub shown: String,
    /// Why nothing is sent to it, since when, and the id to lift that by.
    pub suppressed: Option<(String, Timestamp, String)>,
}

/// What this person gets by which channel: the default, what they chose, what can't be chosen.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_preferences.html")]
pub struct Preferences {
    pub user: String,
    /// Goes with each form; empty for those who may only look.
    pub csrf: String,
    pub channels: Vec<String>,
    /// Types this person got lately or said no to.
    pub rows: Vec<PreferenceRow>,
}

#[derive(Debug, Clone, Default)]
pub struct PreferenceRow {
    pub kind: String,
    /// One for each channel.
    pub cells: Vec<Preference>,
}

/// Whether a type is sent by a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Preference {
    /// As nobody said otherwise.
    #[default]
    On,
    /// It can't be switched off: the feed takes everything, and some mail must be sent.
    Always(&'static str),
    /// They said no: since when, and the id to lift that by.
    Off { since: Timestamp, id: String },
    /// Nothing can be sent there.
    Cannot(&'static str),
}

/// What moves by itself.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_live.html")]
pub struct Live {
    pub user: String,
    pub csrf: String,
    pub connections: Vec<(String, String)>,
    pub more_connections: bool,
    pub unread: i64,
    pub unseen: i64,
    pub total: i64,
    pub head: i64,
    /// When they last connected, to the hour.
    pub last_seen: Option<Timestamp>,
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_recent.html")]
pub struct Recent {
    pub rows: Vec<RecentRow>,
    pub user: String,
}

#[derive(Debug, Clone, Default)]
pub struct RecentRow {
    pub id: String,
    pub at: Timestamp,
    /// Empty for those who may not read messages.
    pub title: String,
    pub kind: String,
    /// Class of the shape, and the words: `2 delivered, 1 dead`.
    pub tone: &'static str,
    pub state: String,
}

#[derive(Debug, Clone, Default)]
pub struct Token {
    pub text: String,
    pub minutes: u64,
}

/// The form of contact points, as typed or as stored.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// One for every channel that has addresses of its own, e-mail first.
    pub fields: Vec<AddressField>,
    pub locale: String,
    pub timezone: String,
    /// The fields show what is stored; else those that stay empty keep it.
    pub revealed: bool,
    pub errors: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct AddressField {
    pub channel: String,
    pub name: String,
    pub is_email: bool,
    pub value: String,
    /// What stays when nothing is written, masked; empty: there is nothing.
    pub kept: String,
    pub remove: bool,
}

/// Somebody whom no application has registered.
#[derive(Template, Debug)]
#[template(path = "pages/new_user.html")]
pub struct NewUser {
    pub frame: Frame,
    pub id: String,
    pub edit: Edit,
    pub action: &'static str,
    pub foot: Footer,
}

/// What somebody said no and yes to, newest first.
#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_consents.html")]
pub struct Consents {
    pub rows: Vec<Consent>,
}

#[derive(Debug, Clone)]
pub struct Consent {
    pub at: Timestamp,
    pub what: String,
    pub channel: String,
    pub agreed: bool,
    pub by: ConsentBy,
}

#[derive(Debug, Clone)]
pub enum ConsentBy {
    /// They themselves.
    User,
    /// Somebody for them, and what else they did.
    Actor(String, String),
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Role, check, sample_frame};

    const EVIL: &str = "\"><img src=x onerror=alert(1)>";

    fn person(role: Role) -> User {
        let mut frame = sample_frame("/admin/users");
        frame.admin.as_mut().unwrap().role = role;
        let csrf = if role.may_act() { "t".to_owned() } else { String::new() };
        let evil = || EVIL.to_owned();
        User {
            frame,
            id: evil(),
            known: true,
            disabled_at: None,
            created_at: Some(Timestamp::UNIX_EPOCH),
            updated_at: None,
            locale: evil(),
            timezone: evil(),
            addresses: vec![Address {
                channel: evil(),
                shown: evil(),
                suppressed: Some((evil(), Timestamp::UNIX_EPOCH, evil())),
            }],
            revealed: role == Role::Owner,
            preferences: Preferences {
                user: evil(),
                csrf: csrf.clone(),
                channels: vec![evil(); 4],
                rows: vec![PreferenceRow {
                    kind: evil(),
                    cells: vec![
                        Preference::On,
                        Preference::Always("the feed takes everything"),
                        Preference::Off { since: Timestamp::UNIX_EPOCH, id: evil() },
                        Preference::Cannot("no address"),
                    ],
                }],
            },
            consents: Part::Well(Consents {
                rows: [ConsentBy::User, ConsentBy::Unknown, ConsentBy::Actor(evil(), evil())]
                    .map(|by| Consent { at: Timestamp::UNIX_EPOCH, what: evil(), channel: evil(), agreed: true, by })
                    .to_vec(),
            }),
            log: evil(),
            live: Live { user: evil(), csrf, connections: vec![(evil(), evil())], ..Live::default() },
            recent: Part::Well(Recent {
                rows: vec![RecentRow {
                    id: evil(),
                    title: evil(),
                    kind: evil(),
                    state: evil(),
                    ..RecentRow::default()
                }],
                user: evil(),
            }),
            token: (role == Role::Owner).then(|| Token { text: evil(), minutes: 15 }),
            edit: (role == Role::Owner).then(|| Edit {
                fields: vec![AddressField {
                    channel: evil(),
                    name: evil(),
                    value: evil(),
                    kept: evil(),
                    ..AddressField::default()
                }],
                errors: vec![evil()],
                ..Edit::default()
            }),
            channels: vec![evil()],
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        }
    }

    #[test]
    fn everything_is_text_and_who_may_only_look_finds_no_form_but_the_reveal() {
        for role in Role::ALL {
            let html = person(role).render().unwrap();
            check(&html);
            assert!(!html.contains("<img"), "{role:?}");
            let posts = html.matches("method=\"post\" action=\"/admin/users").count();
            match role {
                Role::Support => assert_eq!(posts, 0),
                Role::Viewer => assert!(posts == 1 && html.contains("/reveal")),
                Role::Operator => assert!(posts > 3 && !html.contains("/erase") && !html.contains("/merge")),
                Role::Owner => assert!(html.contains("/erase") && html.contains("/merge") && html.contains("/edit")),
            }
        }
    }

    #[test]
    fn the_list_shows_people_or_how_to_get_some() {
        let row = Row { id: EVIL.into(), email: EVIL.into(), channels: vec![EVIL.into()], ..Row::default() };
        let mut page = Users {
            frame: sample_frame("/admin/users"),
            here: Here::new("/admin/users").put("q", EVIL),
            query: EVIL.into(),
            by_name: true,
            of: EVIL.into(),
            choices: vec![(EVIL.into(), EVIL.into())],
            tabs: Tabs::default(),
            new: "/admin/new-user",
            figures: Part::Well(Figures {
                known: 7,
                most: 7,
                opted_out: vec![Held {
                    channel: EVIL.into(),
                    what: EVIL.into(),
                    href: EVIL.into(),
                    count: 2,
                    ..Held::default()
                }],
                suppressed: vec![Held {
                    channel: EVIL.into(),
                    what: EVIL.into(),
                    href: EVIL.into(),
                    count: 3,
                    ..Held::default()
                }],
                ..Figures::default()
            }),
            list: Part::Well(List { rows: Rows::People(vec![row.clone()]), ..List::default() }),
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        };
        let html = page.render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && html.contains(">7+<"), "a count that stopped says so");
        let held = || HeldRow { address: EVIL.into(), channel: EVIL.into(), what: EVIL.into(), ..HeldRow::default() };
        let seen = SeenRow { id: EVIL.into(), person: Some(row), ..SeenRow::default() };
        for rows in [
            Rows::Out(vec![HeldRow { user: Some(EVIL.into()), ..held() }]),
            Rows::Held(vec![held(), HeldRow { user: Some(EVIL.into()), ..held() }]),
            Rows::Seen(vec![seen.clone(), SeenRow { person: None, ..seen }]),
        ] {
            page.by_name = false;
            page.list = Part::Well(List { rows, ..List::default() });
            let html = page.render().unwrap();
            check(&html);
            assert!(!html.contains("<img"));
        }
        page.list = Part::Well(List { empty: Some(Empty::default()), ..List::default() });
        check(&page.render().unwrap());
    }

    #[test]
    fn somebody_new_gets_a_form_that_keeps_what_was_typed() {
        let field =
            AddressField { channel: EVIL.into(), name: EVIL.into(), value: EVIL.into(), ..AddressField::default() };
        let edit = Edit {
            fields: vec![AddressField { is_email: true, ..field.clone() }, field],
            revealed: true,
            errors: vec![EVIL.into()],
            ..Edit::default()
        };
        let page = NewUser {
            frame: sample_frame("/admin/users"),
            id: EVIL.into(),
            edit,
            action: "/admin/new-user",
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        };
        let html = page.render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && !html.contains("name=\"remove\""), "there is nothing to remove");
    }
}
