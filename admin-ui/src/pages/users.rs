//! `/admin/users`: people, how they are reached, what they got; and one person.

use super::Frame;
use crate::pieces::{Empty, Footer, Here, Pager, Part};
use askama::Template;
use campanile_model::Timestamp;

#[derive(Template, Debug)]
#[template(path = "pages/users.html")]
pub struct Users {
    pub frame: Frame,
    pub here: Here,
    /// The beginning of an id, or a whole e-mail address.
    pub query: String,
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
}

impl Figures {
    fn count(&self, n: &u64) -> String {
        let more = if *n >= self.most { "+" } else { "" };
        format!("{}{more}", crate::format::count(*n))
    }
    fn sum(held: &[Held]) -> u64 {
        held.iter().map(|h| h.count).sum()
    }
}

#[derive(Template, Debug, Clone, Default)]
#[template(path = "parts/user_list.html")]
pub struct List {
    pub rows: Vec<Row>,
    pub pager: Pager,
    pub empty: Option<Empty>,
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
    pub email: String,
    pub locale: String,
    pub timezone: String,
    /// Channel and address, for every channel that has addresses of its own.
    pub addresses: Vec<(String, String)>,
    pub errors: Vec<String>,
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
                addresses: vec![(evil(), evil())],
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
            figures: Part::Well(Figures {
                known: 7,
                most: 7,
                opted_out: vec![Held { channel: EVIL.into(), what: EVIL.into(), count: 2 }],
                suppressed: vec![Held { channel: EVIL.into(), what: EVIL.into(), count: 3 }],
                ..Figures::default()
            }),
            list: Part::Well(List { rows: vec![row], ..List::default() }),
            foot: Footer { at: Timestamp::UNIX_EPOCH, note: None },
        };
        let html = page.render().unwrap();
        check(&html);
        assert!(!html.contains("<img") && html.contains(">7+<"), "a count that stopped says so");
        page.list = Part::Well(List { empty: Some(Empty::default()), ..List::default() });
        check(&page.render().unwrap());
    }
}
