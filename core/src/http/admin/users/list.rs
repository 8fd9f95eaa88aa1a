//! The list of people: all of them in the order of their ids, or those of whom something is so, newest first.

use super::{
    super::{Signed, answer::part, console_frame, foot, live::Query},
    NEW, PATH,
};
use crate::{
    http::{page::page, problem::ApiResult},
    services::Services,
};
use axum::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    format,
    pages::users as ui,
    pieces::{Empty, Here, Pager, Tab, Tabs},
};
use campanile_model::{
    AppId, ChannelName, Timestamp, UserId,
    ports::{FIGURES_MAX, HeldFilter, PeopleFigures, Seen, SeenFilter, StoreResult, Suppression, UserFilter},
    user::User,
};
use std::{sync::Arc, time::Duration};

const ROWS: usize = 50;
/// Lines of what is held back, and choices to narrow those lists by.
const HELD: u32 = 8;
const DAY: Duration = Duration::from_hours(24);

/// Of whom something is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    All,
    /// Who said no.
    Out,
    /// Addresses that nothing is sent to.
    Held,
    Day,
    Month,
}

impl Which {
    const ALL: [Self; 5] = [Self::All, Self::Out, Self::Held, Self::Day, Self::Month];

    /// Anything else is everybody.
    fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|w| w.as_str() == text).unwrap_or(Self::All)
    }
    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Out => "out",
            Self::Held => "held",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
    const fn label(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Out => "Opted out",
            Self::Held => "Addresses held back",
            Self::Day => "Here in 24 h",
            Self::Month => "Here in 30 days",
        }
    }
    const fn is_held(self) -> bool {
        matches!(self, Self::Out | Self::Held)
    }
}

/// The page's address, read.
struct Asked {
    q: String,
    which: Which,
    /// `email:news` or `email:bounced`: a channel, and a type or a reason.
    of: String,
    after: String,
}

impl Asked {
    fn read(query: &Query) -> Self {
        let which = Which::parse(query.get("show"));
        let text = |key, counts: bool| if counts { query.get(key).trim().to_owned() } else { String::new() };
        Self { q: text("q", which == Which::All), of: text("of", which.is_held()), after: text("after", true), which }
    }

    fn here(&self) -> Here {
        Here::new(PATH).put("q", &self.q).put("show", self.which.as_str()).put("of", &self.of).put("after", &self.after)
    }

    fn of(&self) -> Option<(ChannelName, String)> {
        self.of.split_once(':').map(|(channel, what)| (ChannelName::from(channel), what.to_owned()))
    }
}

pub async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let asked = Asked::read(&Query::parse(query.as_deref().unwrap_or_default()));
    let facts = s.console.facts.get(&s).await;
    let figures = s.store.people_figures(&AppId::default(), HELD).await.map(figures);
    let list = match asked.which {
        Which::All => everybody(&s, &asked).await,
        Which::Out | Which::Held => held(&s, &asked).await,
        Which::Day => here_within(&s, &asked, DAY).await,
        Which::Month => here_within(&s, &asked, DAY * 30).await,
    };
    let choices = choices(&asked, figures.as_ref().ok());
    let tabs = tabs(&asked, figures.as_ref().ok());
    page(&ui::Users {
        figures: part(&s, "figures", "Figures of people", figures),
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        list: part(&s, "list", "The list of users", list),
        foot: foot(&s, &facts),
        here: asked.here(),
        new: NEW,
        by_name: asked.which == Which::All,
        query: asked.q,
        of: asked.of,
        choices,
        tabs,
    })
}

/// Whose list a line of the figures opens.
fn list_of(which: Which, channel: &ChannelName, what: &str) -> String {
    Here::new(PATH).put("show", which.as_str()).put("of", format!("{channel}:{what}")).url()
}

fn figures(f: PeopleFigures) -> ui::Figures {
    ui::Figures {
        known: f.known,
        active_day: f.active_day,
        active_month: f.active_month,
        most: FIGURES_MAX,
        opted_out: f
            .opted_out
            .into_iter()
            .map(|o| ui::Held {
                href: list_of(Which::Out, &o.channel, &o.notification_type),
                value: format!("{}:{}", o.channel, o.notification_type),
                channel: o.channel.to_string(),
                what: o.notification_type,
                count: o.people,
            })
            .collect(),
        suppressed: f
            .suppressed
            .into_iter()
            .map(|b| ui::Held {
                href: list_of(Which::Held, &b.channel, &b.reason),
                value: format!("{}:{}", b.channel, b.reason),
                channel: b.channel.to_string(),
                what: b.reason.replace('_', " "),
                count: b.addresses,
            })
            .collect(),
    }
}

fn tabs(asked: &Asked, figures: Option<&ui::Figures>) -> Tabs {
    let tab = |which: Which| Tab {
        label: which.label().to_owned(),
        href: Here::new(PATH).put("show", which.as_str()).url(),
        count: figures.map(|f| match which {
            Which::All => f.count(f.known),
            Which::Out => format::count(ui::Figures::sum(&f.opted_out)),
            Which::Held => format::count(ui::Figures::sum(&f.suppressed)),
            Which::Day => f.count(f.active_day),
            Which::Month => f.count(f.active_month),
        }),
        current: which == asked.which,
        ..Tab::default()
    };
    Tabs { id: "which", label: "Which people", tabs: Which::ALL.into_iter().map(tab).collect() }
}

/// What a list of those held back can be narrowed to: what there is most of, and what it is narrowed to now.
fn choices(asked: &Asked, figures: Option<&ui::Figures>) -> Vec<(String, String)> {
    let words = |channel: &str, what: &str| format!("{what} by {channel}");
    let all = match (asked.which, figures) {
        (Which::Out, Some(f)) => &f.opted_out[..],
        (Which::Held, Some(f)) => &f.suppressed[..],
        _ => &[],
    };
    let mut choices: Vec<_> = all.iter().map(|h| (h.value.clone(), words(&h.channel, &h.what))).collect();
    if let Some((channel, what)) = asked.of()
        && !choices.iter().any(|(value, _)| *value == asked.of)
    {
        choices.push((asked.of.clone(), words(channel.as_str(), &what.replace('_', " "))));
    }
    choices
}

/// A page of what was found, and whether more lie behind it.
fn page_of<T>(mut found: Vec<T>) -> (Vec<T>, bool) {
    let more = found.len() > ROWS;
    found.truncate(ROWS);
    (found, more)
}

fn list(asked: &Asked, rows: ui::Rows, order: &str, older: Option<String>) -> ui::List {
    let words = format!("{} shown, {order}", rows.count());
    let newer = (!asked.after.is_empty()).then(|| asked.here().without("after"));
    let empty = (rows.count() == 0).then(|| empty(asked));
    ui::List { pager: Pager { words, newer, older }, empty, rows }
}

async fn everybody(s: &Services, asked: &Asked) -> StoreResult<ui::List> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let by_email = asked.q.contains('@');
    let filter = UserFilter {
        app: AppId::default(),
        prefix: given(&asked.q).filter(|_| !by_email),
        email: given(&asked.q).filter(|_| by_email),
        after: given(&asked.after).map(UserId::from),
        limit: ROWS as u32 + 1,
    };
    let mut found = s.store.users(&filter).await?;
    // Where people are named by their address.
    if by_email && found.is_empty() {
        found = s.store.users(&UserFilter { prefix: filter.email.clone(), email: None, ..filter }).await?;
    }
    let (found, more) = page_of(found);
    let older = found.last().filter(|_| more).map(|u| asked.here().at("after", &u.user_id));
    let rows = ui::Rows::People(found.into_iter().map(row).collect());
    Ok(list(asked, rows, "in the order of their ids", older))
}

async fn held(s: &Services, asked: &Asked) -> StoreResult<ui::List> {
    let filter = HeldFilter {
        app: AppId::default(),
        chosen: asked.which == Which::Out,
        of: asked.of(),
        before: Some(asked.after.clone()).filter(|id| !id.is_empty()),
        limit: ROWS as u32 + 1,
    };
    let (found, more) = page_of(s.store.held_lines(&filter).await?);
    let older = found.last().filter(|_| more).map(|(line, _)| asked.here().at("after", &line.id));
    let rows = found.into_iter().map(held_row).collect();
    let rows = if filter.chosen { ui::Rows::Out(rows) } else { ui::Rows::Held(rows) };
    Ok(list(asked, rows, "newest first", older))
}

fn held_row((line, owner): (Suppression, Option<UserId>)) -> ui::HeldRow {
    let what = line.notification_type.unwrap_or_else(|| {
        if line.address.is_some() { line.reason.replace('_', " ") } else { super::preferences::EVERYTHING.to_owned() }
    });
    ui::HeldRow {
        user: line.user_id.or(owner).map(|u| u.to_string()),
        address: line.address.as_deref().map(format::masked).unwrap_or_default(),
        channel: line.channel.to_string(),
        what,
        since: line.created_at,
    }
}

async fn here_within(s: &Services, asked: &Asked, within: Duration) -> StoreResult<ui::List> {
    let filter = SeenFilter { app: AppId::default(), within, before: place(&asked.after), limit: ROWS as u32 + 1 };
    let (found, more) = page_of(s.store.seen_lately(&filter).await?);
    let older = found.last().filter(|_| more).map(|s| asked.here().at("after", written(s)));
    let rows = found.into_iter().map(|Seen { user_id, at, user }| ui::SeenRow {
        id: user_id.to_string(),
        at,
        disabled: user.as_ref().is_some_and(|u| u.disabled_at.is_some()),
        person: user.map(row),
    });
    Ok(list(asked, ui::Rows::Seen(rows.collect()), "latest first", older))
}

/// A place among those who were here, as the address has it.
fn written(seen: &Seen) -> String {
    format!("{}~{}", seen.at.timestamp_millis(), seen.user_id)
}

fn place(text: &str) -> Option<(Timestamp, UserId)> {
    let (ms, id) = text.split_once('~')?;
    Some((Timestamp::from_timestamp_millis(ms.parse().ok()?)?, UserId::from(id)))
}

fn empty(asked: &Asked) -> Empty {
    let clear = Some(PATH.to_owned());
    let (title, why) = match asked.which {
        Which::All if asked.q.is_empty() => {
            return Empty {
                title: "Nobody is registered".to_owned(),
                why: "An application registers people with their addresses; who only has a live feed needs none."
                    .to_owned(),
                command: Some("campanile user add ada --email ada@example.org".to_owned()),
                clear: None,
            };
        }
        Which::All if asked.q.contains('@') => ("Nobody fits", "Here an e-mail address is looked for as a whole."),
        Which::All => ("Nobody fits", "Here an id is looked for from its beginning."),
        Which::Out if asked.of.is_empty() => ("Nobody has said no", "Who unsubscribes from a type appears here."),
        Which::Held if asked.of.is_empty() => (
            "Every address is sent to",
            "Addresses that bounce or complain, or that an operator holds back, appear here.",
        ),
        Which::Out | Which::Held => ("Nothing fits", "Others may be held back for another reason."),
        Which::Day => ("Nobody connected within a day", "Who opens a live feed appears here, to the hour."),
        Which::Month => ("Nobody connected within thirty days", "Who opens a live feed appears here, to the hour."),
    };
    Empty { title: title.to_owned(), why: why.to_owned(), command: None, clear }
}

fn row(u: User) -> ui::Row {
    ui::Row {
        email: u.contact.email.as_deref().map_or_else(|| "–".to_owned(), format::masked),
        channels: u.contact.addresses.keys().map(ToString::to_string).collect(),
        locale: u.contact.locale.unwrap_or_else(|| "–".to_owned()),
        disabled: u.disabled_at.is_some(),
        created_at: u.created_at,
        id: u.user_id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_and_keeps_only_what_its_list_knows() {
        let url = |text: &str| Asked::read(&Query::parse(text)).here().url();
        assert_eq!(url("q=ada&show=happy&of=email:news"), "/admin/users?q=ada");
        assert_eq!(url("q=ada&show=out&of=email:news&after=x"), "/admin/users?show=out&of=email:news&after=x");
        assert_eq!(url("show=day&of=email:news"), "/admin/users?show=day");
        let of = |text: &str| Asked::read(&Query::parse(text)).of();
        assert_eq!(
            of("show=out&of=email:a:b"),
            Some((ChannelName::email(), "a:b".to_owned())),
            "a type may hold a colon"
        );
        assert_eq!(of("show=out&of=email"), None);
    }

    #[test]
    fn a_place_reads_back_whatever_an_id_holds() {
        let at = Timestamp::from_timestamp_millis(1_700_000_000_123).unwrap();
        let seen = Seen { user_id: UserId::from("a~b/\u{1f514}"), at, user: None };
        assert_eq!(place(&written(&seen)), Some((at, seen.user_id)));
        assert!(place("x~y").is_none() && place("").is_none() && place("99999999999999999999~y").is_none());
    }
}
