//! What the search box offers while somebody types: keys, values that exist, people.
//!
//! Each look is bounded: names that are in memory, a handful of people by the beginning of their id, types of the newest
//! notifications. Absent on purpose: what a search finds, and anything out of a message or an address.

use super::{Routes, Signed, gate::LOOK, live::Query, search::KEYS};
use crate::{http::problem::ApiResult, services::Services};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use campanile_model::{
    AppId,
    ports::{NotificationFilter, StoreResult, UserFilter},
};
use serde::Serialize;
use std::{collections::BTreeSet, sync::Arc};

/// Longer than any honest search.
const LONGEST: usize = 500;
const OFFERS: usize = 10;
const PEOPLE: u32 = 5;
/// Newest notifications whose types are offered.
const TYPES_OF: u32 = 100;
const STATUSES: [&str; 9] =
    ["delivered", "waiting", "scheduled", "sending", "retrying", "dead", "expired", "suppressed", "cancelled"];
const TIMES: [(&str, &str); 5] =
    [("15m", "15 minutes"), ("1h", "an hour"), ("6h", "6 hours"), ("24h", "a day"), ("7d", "a week")];

pub fn routes() -> Routes {
    Routes::new().get("/admin/search/complete", LOOK, complete)
}

/// One line of the list.
#[derive(Serialize, Debug, PartialEq, Eq)]
struct Offer {
    /// The whole search with it.
    whole: String,
    word: String,
    about: String,
}

/// The search is parted into what stands and the word that is being written.
struct Typed<'a> {
    head: &'a str,
    key: Option<&'a str>,
    begun: &'a str,
}

impl<'a> Typed<'a> {
    fn read(text: &'a str) -> Self {
        let mut quoted = false;
        let mut at = 0;
        for (i, c) in text.char_indices() {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => at = i + c.len_utf8(),
                _ => {}
            }
        }
        let (head, word) = text.split_at(at);
        match word.split_once(':') {
            Some((key, begun)) if KEYS.contains(&key) => Self { head, key: Some(key), begun: begun.trim_matches('"') },
            _ => Self { head, key: None, begun: word },
        }
    }

    fn offer(&self, key: &str, value: &str, about: &str) -> Offer {
        let word =
            if value.contains(char::is_whitespace) { format!("{key}:\"{value}\"") } else { format!("{key}:{value}") };
        Offer { whole: format!("{}{word}", self.head), word, about: about.to_owned() }
    }

    /// Those of these that begin so, whatever the case.
    fn among<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> Vec<&'v str> {
        let begun = self.begun.to_lowercase();
        values.into_iter().filter(|v| v.to_lowercase().starts_with(&begun)).collect()
    }
}

fn about(key: &str) -> &'static str {
    match key {
        "channel" => "sent by it",
        "status" => "how far it came",
        "user" => "sent to them",
        "type" => "of this type",
        "error" => "failed with this code",
        "key" => "of this idempotency key",
        "since" => "accepted since",
        _ => "accepted until",
    }
}

async fn complete(State(s): State<Arc<Services>>, _: Signed, RawQuery(query): RawQuery) -> ApiResult<Json<Vec<Offer>>> {
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let text: String = query.get("q").chars().take(LONGEST).collect();
    Ok(Json(offers(&s, &Typed::read(&text)).await?))
}

async fn offers(s: &Services, typed: &Typed<'_>) -> StoreResult<Vec<Offer>> {
    let channels: Vec<String> = s.channels.guards().iter().map(|c| c.name().to_string()).collect();
    let channels = typed.among(channels.iter().map(String::as_str));
    let mut offers: Vec<Offer> = match typed.key {
        Some("channel") => channels.into_iter().map(|c| typed.offer("channel", c, "")).collect(),
        Some("status") => typed.among(STATUSES).into_iter().map(|w| typed.offer("status", w, "")).collect(),
        Some("user") => people(s, typed).await?,
        Some("type") => {
            let types = types(s).await?;
            typed.among(types.iter().map(String::as_str)).into_iter().map(|t| typed.offer("type", t, "")).collect()
        }
        Some(key @ ("since" | "until")) => TIMES
            .into_iter()
            .filter(|(time, _)| time.starts_with(typed.begun))
            .map(|(time, words)| typed.offer(key, time, &format!("{words} ago")))
            .collect(),
        // Codes and keys are the caller's own: nobody lists them.
        Some(_) => Vec::new(),
        None => {
            let mut offers: Vec<_> =
                typed.among(KEYS).into_iter().map(|key| typed.offer(key, "", about(key))).collect();
            if !typed.begun.is_empty() {
                offers.extend(channels.into_iter().map(|c| typed.offer("channel", c, about("channel"))));
                offers.extend(typed.among(STATUSES).into_iter().map(|w| typed.offer("status", w, about("status"))));
                offers.extend(people(s, typed).await?);
            }
            offers
        }
    };
    offers.truncate(OFFERS);
    Ok(offers)
}

async fn people(s: &Services, typed: &Typed<'_>) -> StoreResult<Vec<Offer>> {
    let prefix = Some(typed.begun.to_owned()).filter(|p| !p.is_empty());
    let filter = UserFilter { app: AppId::default(), prefix, limit: PEOPLE, ..UserFilter::default() };
    let found = s.store.users(&filter).await?;
    Ok(found.iter().map(|u| typed.offer("user", u.user_id.as_str(), about("user"))).collect())
}

async fn types(s: &Services) -> StoreResult<BTreeSet<String>> {
    let filter = NotificationFilter { app: AppId::default(), limit: TYPES_OF, ..NotificationFilter::default() };
    let found = s.store.notifications(&filter).await?;
    Ok(found.into_iter().map(|(row, _)| row.notification.content.notification_type.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::search::status;

    #[test]
    fn only_the_word_that_is_written_is_completed() {
        let read = |text: &'static str| {
            let typed = Typed::read(text);
            (typed.head, typed.key, typed.begun)
        };
        assert_eq!(read(""), ("", None, ""));
        assert_eq!(read("sta"), ("", None, "sta"));
        assert_eq!(read("channel:email st"), ("channel:email ", None, "st"));
        assert_eq!(read("channel:email status:"), ("channel:email ", Some("status"), ""));
        assert_eq!(read("error:\"550 5"), ("", Some("error"), "550 5"), "a quote holds a value together");
        assert_eq!(read("order:7"), ("", None, "order:7"), "an id may hold a colon");
        assert_eq!(read("user:a "), ("user:a ", None, ""));
    }

    #[test]
    fn an_offer_is_the_whole_search_and_reads_back() {
        let typed = Typed::read("channel:email us");
        assert_eq!(typed.offer("user", "ada l", "").whole, "channel:email user:\"ada l\"");
        assert_eq!(typed.offer("user", "", "").word, "user:");
        assert_eq!(Typed::read("S").among(["status", "since", "user"]), ["status", "since"]);
        for word in STATUSES {
            assert!(status(word).is_some(), "{word} is offered and means nothing");
        }
    }
}
