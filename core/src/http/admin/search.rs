//! The one search box: `channel:email status:dead user:u_12 since:1h`, or a pasted id.
//!
//! Owns: reading the words, and where a search leads. Absent on purpose: what is found (the store's).

use super::{Routes, Signed, gate::LOOK, live::Query, segment};
use crate::{http::problem::ApiResult, services::Services};
use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Redirect, Response},
};
use campanile_admin_ui::pieces::Here;
use campanile_model::{
    AppId, ChannelName, DeliveryId, NotificationId, Timestamp, UserId, UserKey,
    api::ShownState,
    ports::{NotificationFilter, UserFilter, Whole},
};
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// Longer than any honest search.
const LONGEST: usize = 500;

pub fn routes() -> Routes {
    Routes::new().get("/admin/search", LOOK, search)
}

/// What may be asked for, in the order in which it is written back.
pub const KEYS: [&str; 8] = ["channel", "status", "user", "type", "error", "key", "since", "until"];

/// A search as it was read: one value a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    found: Vec<(&'static str, String)>,
    /// Words without a key.
    pub bare: Vec<String>,
    /// `key:value` whose key nobody knows.
    pub unknown: Vec<String>,
}

impl Terms {
    pub fn parse(text: &str) -> Self {
        let mut terms = Self::default();
        for word in words(text) {
            match word.split_once(':') {
                Some((key, value)) if !value.is_empty() => match KEYS.iter().find(|k| **k == key) {
                    Some(&known) => terms = terms.with(known, value),
                    // An id or a key of the caller may hold a colon.
                    None if key.chars().all(|c| c.is_ascii_lowercase()) => terms.unknown.push(word),
                    None => terms.bare.push(word),
                },
                _ => terms.bare.push(word),
            }
        }
        terms
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.found.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    /// With another value; an empty one takes the term away.
    #[must_use]
    pub fn with(&self, key: &'static str, value: &str) -> Self {
        let mut terms = self.clone();
        terms.found.retain(|(k, _)| *k != key);
        if !value.is_empty() {
            terms.found.push((key, value.to_owned()));
        }
        terms.found.sort_by_key(|(k, _)| KEYS.iter().position(|known| known == k));
        terms
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.found.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// It has words of which only a look tells what they are.
    pub fn wants_a_key(&self) -> bool {
        !self.bare.is_empty() && self.get("user").is_none() && self.get("key").is_none()
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.bare.is_empty()
    }

    /// What the list is filtered by, and a sentence about what of it means nothing.
    pub fn filter(&self, app: &AppId, now: Timestamp) -> (NotificationFilter, Option<String>) {
        let mut wrong: Vec<String> = self.unknown.iter().map(|w| format!("“{w}” names nothing to search by")).collect();
        let mut filter = NotificationFilter { app: app.clone(), ..NotificationFilter::default() };
        for (key, value) in self.iter() {
            match key {
                "channel" => filter.channel = Some(ChannelName::from(value)),
                "user" => filter.user = Some(UserId::from(value)),
                "type" => filter.notification_type = Some(value.to_owned()),
                "error" => filter.error = Some(value.to_owned()),
                "key" => filter.idempotency_key = Some(value.to_owned()),
                "status" => match status(value) {
                    Some(Wanted::HandedOver) => filter.handed_over = true,
                    Some(Wanted::State(state)) => filter.state = Some(state),
                    Some(Wanted::Whole(whole)) => filter.whole = Some(whole),
                    None => wrong.push(format!("“{value}” is no status")),
                },
                "since" => match moment(value, now) {
                    Some(at) => filter.since = Some(at),
                    None => wrong.push(format!("“{value}” is no time: write 30m, 1h, 2d or 2026-11-03")),
                },
                _ => match moment(value, now) {
                    Some(at) => filter.until = Some(at),
                    None => wrong.push(format!("“{value}” is no time: write 30m, 1h, 2d or 2026-11-03")),
                },
            }
        }
        if !self.bare.is_empty() {
            wrong.push(format!("“{}” was not looked for", self.bare.join(" ")));
        }
        (filter, (!wrong.is_empty()).then(|| format!("{}.", wrong.join("; "))))
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut put = |f: &mut fmt::Formatter<'_>, word: &str| {
            let space = if first { "" } else { " " };
            first = false;
            write!(f, "{space}{word}")
        };
        for (key, value) in self.iter() {
            let quoted = value.contains(char::is_whitespace);
            put(f, &if quoted { format!("{key}:\"{value}\"") } else { format!("{key}:{value}") })?;
        }
        for word in self.unknown.iter().chain(&self.bare) {
            put(f, word)?;
        }
        Ok(())
    }
}

/// Parted by blanks; quotes hold a value together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars().take(LONGEST) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c if c.is_control() => {}
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

/// A state as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Sent, or confirmed too: what people call delivered.
    HandedOver,
    State(ShownState),
    /// All of a notification together.
    Whole(Whole),
}

pub fn status(word: &str) -> Option<Wanted> {
    match word {
        "delivered" | "sent" => Some(Wanted::HandedOver),
        "waiting" | "accepted" => "pending".parse().ok().map(Wanted::State),
        "failed" => Some(Wanted::Whole(Whole::Failed)),
        "partly" => Some(Wanted::Whole(Whole::Partly)),
        word => word.parse().ok().map(Wanted::State),
    }
}

/// Whether a delivery in this state is what was asked for.
pub fn is(wanted: Wanted, shown: ShownState) -> bool {
    match wanted {
        Wanted::HandedOver => matches!(shown.as_str(), "sent" | "delivered"),
        Wanted::State(state) => state == shown,
        // No delivery is: its notification is.
        Wanted::Whole(_) => false,
    }
}

/// `30m`, `1h`, `2d` ago; a day; a time.
pub fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Some(day.and_time(NaiveTime::MIN).and_utc());
    }
    let unit = text.chars().last()?;
    let n: i64 = text.strip_suffix(unit)?.parse().ok().filter(|n| (0..100_000).contains(n))?;
    let ago = match unit {
        's' => TimeDelta::seconds(n),
        'm' => TimeDelta::minutes(n),
        'h' => TimeDelta::hours(n),
        'd' => TimeDelta::days(n),
        _ => return None,
    };
    now.checked_sub_signed(ago)
}

async fn search(State(s): State<Arc<Services>>, _: Signed, RawQuery(query): RawQuery) -> ApiResult<Response> {
    let text = Query::parse(query.as_deref().unwrap_or_default()).get("q").trim().to_owned();
    Ok(Redirect::to(&leads_to(&s, &text).await?).into_response())
}

/// Somebody of this id to whom nothing was sent, or whose address this is: their own page says more than an empty list.
async fn quiet_user(s: &Services, app: &AppId, word: &str) -> ApiResult<Option<UserId>> {
    if word.contains('@') {
        let filter = UserFilter { app: app.clone(), email: Some(word.to_owned()), limit: 1, ..UserFilter::default() };
        if let Some(user) = s.store.users(&filter).await?.pop() {
            return Ok(Some(user.user_id));
        }
    }
    let sent = NotificationFilter {
        app: app.clone(),
        user: Some(UserId::from(word)),
        limit: 1,
        ..NotificationFilter::default()
    };
    if !s.store.notifications(&sent).await?.is_empty() {
        return Ok(None);
    }
    let key = UserKey { app: app.clone(), user: UserId::from(word) };
    Ok(s.store.get_user(&key).await?.map(|_| key.user))
}

/// A pasted id jumps; a bare word is a key or a person; the rest is a filter.
pub async fn leads_to(s: &Services, text: &str) -> ApiResult<String> {
    let app = AppId::default();
    let mut terms = Terms::parse(text);
    if let ([word], true) = (&terms.bare[..], terms.found.is_empty() && terms.unknown.is_empty()) {
        if let Ok(id) = word.parse::<Uuid>() {
            if let Some(of) = s.store.notification_of(&app, DeliveryId(id)).await? {
                return Ok(format!("/admin/notifications/{of}"));
            }
            // Unknown or removed: its page says which.
            return Ok(format!("/admin/notifications/{}", NotificationId(id)));
        }
        if s.channels.get(&ChannelName::from(word.as_str())).is_some() {
            return Ok(Here::new("/admin/notifications").put("q", format!("channel:{word}")).url());
        }
    }
    if terms.wants_a_key() {
        let word = terms.bare.join(" ");
        terms.bare.clear();
        let by_key = NotificationFilter {
            app: app.clone(),
            idempotency_key: Some(word.clone()),
            limit: 1,
            ..NotificationFilter::default()
        };
        let known = !s.store.notifications(&by_key).await?.is_empty();
        if !known
            && terms.found.is_empty()
            && let Some(user) = quiet_user(s, &app, &word).await?
        {
            return Ok(format!("/admin/users/{}", segment(user.as_str())));
        }
        terms = terms.with(if known { "key" } else { "user" }, &word);
    }
    Ok(Here::new("/admin/notifications").put("q", terms).url())
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::DeliveryState;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn words_become_terms_and_terms_words_again() {
        let terms = Terms::parse("status:dead  channel:email error:\"550 5.1.1\" u_12 flavour:sweet status:retrying");
        assert_eq!(terms.get("status"), Some("retrying"), "the last one counts");
        assert_eq!(terms.get("error"), Some("550 5.1.1"));
        assert_eq!((terms.bare.len(), terms.unknown.len()), (1, 1));
        assert_eq!(terms.to_string(), "channel:email status:retrying error:\"550 5.1.1\" flavour:sweet u_12");
        assert_eq!(Terms::parse(&terms.to_string()), terms);
        assert_eq!(terms.with("status", "").get("status"), None);
        assert_eq!(Terms::parse("order:").bare, ["order:"]);
        assert_eq!(Terms::parse("Order:7").bare, ["Order:7"], "an id of the caller's may hold a colon");
        assert_eq!(Terms::parse(&"x".repeat(9_000)).bare[0].len(), LONGEST);
        assert!(Terms::parse(" \u{0}\n ").is_empty());
    }

    #[test]
    fn a_term_becomes_a_filter_or_a_sentence() {
        let now = at("2026-11-28T12:00:00Z");
        let read = |text: &str| Terms::parse(text).filter(&AppId::default(), now);
        let (filter, hint) = read("channel:email status:dead user:u since:1h until:2026-11-28T11:30:00Z key:k type:t");
        assert_eq!(hint, None);
        assert_eq!(filter.state, Some(ShownState::Stored(DeliveryState::Dead)));
        assert_eq!((filter.since, filter.until), (Some(at("2026-11-28T11:00:00Z")), Some(at("2026-11-28T11:30:00Z"))));
        assert_eq!(read("since:2026-11-03").0.since, Some(at("2026-11-03T00:00:00Z")));
        assert!(read("status:delivered").0.handed_over);
        assert_eq!(read("status:failed").0.whole, Some(Whole::Failed));
        assert_eq!(read("status:partly").0.whole, Some(Whole::Partly));
        assert_eq!(read("status:waiting").0.state, Some(ShownState::Stored(DeliveryState::Pending)));
        for wrong in ["status:happy", "since:yesterday", "since:999999999d", "flavour:sweet", "lost words"] {
            let (filter, hint) = read(wrong);
            assert!(hint.is_some() && filter.state.is_none() && filter.since.is_none(), "{wrong}");
        }
    }
}
