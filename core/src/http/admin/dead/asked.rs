//! Which dead letters are meant: by the page's address, and by the form of an act, which says the same.
//!
//! A time that can't be read hides nothing on the page, which says so; an act that carries one is refused, so that it
//! never takes more than was meant.

use super::PATH;
use crate::{
    http::{
        admin::{answer::Posted, live::Query, search::moment},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use campanile_admin_ui::{
    format,
    pages::{dead::Sift, notifications::Chip},
    pieces::Here,
};
use campanile_model::{
    AppId, ChannelName, DeliveryId, Timestamp, UserId, clock,
    ports::{DeadGroup, DeadPlace, DeadWhich},
    state::reason,
};

/// The names of a cause, in addresses and forms, and what people call them.
const CAUSE: [(&str, &str); 5] =
    [("channel", "channel"), ("reason", "why"), ("error", "error"), ("destination", "to"), ("user", "user")];
const TIMES: [&str; 2] = ["since", "until"];
/// Why deliveries are given up on.
const REASONS: [&str; 6] =
    [reason::PERMANENT, reason::MAX_ATTEMPTS, reason::MAX_AGE, reason::RECIPIENT_GONE, reason::BOUNCED, reason::POISON];

fn cause(get: impl Fn(&str) -> Option<String>) -> DeadWhich {
    DeadWhich {
        app: AppId::default(),
        channel: get("channel").filter(|c| !c.is_empty()).map(ChannelName::from),
        reason: get("reason").filter(|r| !r.is_empty()),
        // An empty error or destination is one: none was given.
        error: get("error"),
        destination: get("destination"),
        user: get("user").filter(|u| !u.is_empty()).map(UserId::from),
        since: None,
        until: None,
    }
}

fn value(which: &DeadWhich, key: &str) -> Option<String> {
    match key {
        "channel" => which.channel.as_ref().map(ToString::to_string),
        "reason" => which.reason.clone(),
        "error" => which.error.clone(),
        "destination" => which.destination.clone(),
        _ => which.user.as_ref().map(ToString::to_string),
    }
}

/// `email, 550, northwind.example, since 28 Nov 10:00 UTC`; `all dead letters`.
pub fn named(which: &DeadWhich) -> String {
    let mut parts: Vec<String> =
        CAUSE.into_iter().filter_map(|(key, _)| value(which, key)).filter(|v| !v.is_empty()).collect();
    let times = [("since", which.since), ("until", which.until)];
    parts.extend(times.into_iter().filter_map(|(word, at)| Some(format!("{word} {} UTC", format::day_clock(at?)))));
    if parts.is_empty() { "all dead letters".to_owned() } else { parts.join(", ") }
}

/// With its times as moments: what is asked about is what is done, however long the answer takes.
pub fn settled(posted: Posted, now: Timestamp) -> ApiResult<Posted> {
    TIMES.into_iter().try_fold(posted, |posted, key| match posted.get(key) {
        "" => Ok(posted),
        text => {
            let at = moment(text, now).ok_or_else(|| ApiError::invalid(vec![FieldError::new(key, no_time(text))]))?;
            Ok(posted.with(key, clock::rfc3339(at)))
        }
    })
}

/// What an act is about, once its times are moments.
pub fn which(posted: &Posted) -> DeadWhich {
    DeadWhich {
        since: posted.get("since").parse().ok(),
        until: posted.get("until").parse().ok(),
        ..cause(|key| posted.has(key).then(|| posted.get(key).to_owned()))
    }
}

fn no_time(text: &str) -> String {
    format!("“{text}” is no time: write 30m, 1h, 2d or 2026-11-03")
}

/// The page as its address says it.
#[derive(Clone)]
pub struct Asked {
    pub poison: bool,
    /// Items, not groups.
    pub open: bool,
    pub which: DeadWhich,
    /// As they were written: `24h` goes on with the clock.
    times: [String; 2],
    pub before: String,
}

impl Asked {
    pub fn read(query: &Query, now: Timestamp) -> Self {
        let form = query.has("f");
        let which = cause(|key| {
            let value = query.has(key).then(|| query.get(key).trim().to_owned())?;
            // A field that was left empty asks for nothing, but where nothing is what was asked for.
            (!form || !value.is_empty() || query.get("keep").split(',').any(|k| k == key)).then_some(value)
        });
        let asked = Self {
            poison: query.get("tab") == "poison",
            open: query.has("all") || whole(&which),
            which,
            times: TIMES.map(|key| query.get(key).trim().chars().take(40).collect()),
            before: query.get("before").to_owned(),
        };
        asked.at(now)
    }

    /// The same address at another time.
    pub fn at(mut self, now: Timestamp) -> Self {
        let [since, until] = self.times.each_ref().map(|text| moment(text, now));
        (self.which.since, self.which.until) = (since, until);
        self
    }

    /// The group's own page.
    pub fn group(&self, g: &DeadGroup) -> Self {
        let which = DeadWhich {
            channel: Some(g.channel.clone()),
            reason: Some(g.reason.clone()),
            error: Some(g.error.clone()),
            destination: Some(g.destination.clone()),
            ..self.which.clone()
        };
        Self { poison: false, open: true, which, times: self.times.clone(), before: String::new() }
    }

    /// The same, not grouped.
    pub fn one_by_one(&self) -> Self {
        Self { open: true, before: String::new(), ..self.clone() }
    }

    /// All that is asked for, for forms and files.
    pub fn fields(&self) -> Vec<(String, String)> {
        let cause = CAUSE.into_iter().filter_map(|(key, _)| Some((key.to_owned(), value(&self.which, key)?)));
        cause.chain(self.written_times()).collect()
    }

    /// As it is asked for: a heading that does not move with the clock.
    pub fn name(&self) -> String {
        let said = self.fields().into_iter().filter(|(_, value)| !value.is_empty());
        let parts: Vec<String> = said
            .map(|(key, value)| if TIMES.contains(&key.as_str()) { format!("{key} {value}") } else { value })
            .collect();
        if parts.is_empty() { "all dead letters".to_owned() } else { parts.join(", ") }
    }

    /// What a group's form carries beside its cause.
    pub fn beside(&self) -> Vec<(String, String)> {
        self.fields().into_iter().filter(|(key, _)| key == "user" || TIMES.contains(&key.as_str())).collect()
    }

    fn written_times(&self) -> impl Iterator<Item = (String, String)> {
        let times = TIMES.into_iter().zip(&self.times).filter(|(_, text)| !text.is_empty());
        times.map(|(key, text)| (key.to_owned(), text.clone()))
    }

    pub fn is_filtered(&self) -> bool {
        !self.fields().is_empty()
    }

    pub fn on(&self, path: &str) -> Here {
        // An empty value says something here, and an address can't say it but by the key alone.
        self.fields().iter().fold(Here::new(path), |here, (key, value)| here.put_even_empty(key, value))
    }

    pub fn here(&self) -> Here {
        let mut here = self.on(PATH).put("tab", if self.poison { "poison" } else { "" });
        if self.open && !whole(&self.which) {
            here = here.put("all", "1");
        }
        here.put("before", &self.before)
    }

    pub fn place(&self) -> Option<DeadPlace> {
        let (at, id) = self.before.split_once('.')?;
        Some(DeadPlace { at: Timestamp::from_timestamp_millis(at.parse().ok()?)?, id: DeliveryId(id.parse().ok()?) })
    }

    pub fn behind(&self, place: DeadPlace) -> String {
        self.here().at("before", format!("{}.{}", place.at.timestamp_millis(), place.id))
    }

    fn hint(&self) -> Option<String> {
        let read = [self.which.since, self.which.until];
        let wrong = self.times.iter().zip(read).find(|(text, at)| !text.is_empty() && at.is_none());
        wrong.map(|(text, _)| format!("{}.", no_time(text)))
    }

    fn chips(&self) -> Vec<Chip> {
        let here = self.here();
        let chip = |name: &str, key: &str, value: &str| {
            let value = if value.is_empty() { "none" } else { value };
            Chip { text: format!("{name}: {value}"), without: here.without(key) }
        };
        let name = |key: &str| CAUSE.into_iter().find(|(k, _)| *k == key).map_or(key.to_owned(), |(_, n)| n.to_owned());
        self.fields().iter().map(|(key, value)| chip(&name(key), key, value)).collect()
    }

    pub fn sift(&self, s: &Services) -> Sift {
        let text = |key| value(&self.which, key).unwrap_or_default();
        let none = ["error", "destination"].into_iter().filter(|key| value(&self.which, key).as_deref() == Some(""));
        let mut hidden =
            vec![("f".to_owned(), "1".to_owned()), ("keep".to_owned(), none.collect::<Vec<_>>().join(","))];
        if self.open {
            hidden.push(("all".to_owned(), "1".to_owned()));
        }
        let known = |given: String, all: Vec<String>| {
            let missing = (!given.is_empty() && !all.contains(&given)).then_some(given);
            all.into_iter().chain(missing).collect()
        };
        let channels = s.channels.views().into_iter().map(|v| v.name.to_string()).collect();
        Sift {
            hidden,
            channels: known(text("channel"), channels),
            reasons: known(text("reason"), REASONS.map(str::to_owned).to_vec()),
            channel: text("channel"),
            reason: text("reason"),
            error: text("error"),
            destination: text("destination"),
            user: text("user"),
            since: self.times[0].clone(),
            until: self.times[1].clone(),
            hint: self.hint(),
            chips: self.chips(),
            clear: if self.open { format!("{PATH}?all=1") } else { PATH.to_owned() },
        }
    }
}

/// One cause, told to its end.
fn whole(which: &DeadWhich) -> bool {
    which.channel.is_some() && which.reason.is_some() && which.error.is_some() && which.destination.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn now() -> Timestamp {
        "2026-11-29T12:00:00Z".parse().unwrap()
    }

    fn read(query: &str) -> Asked {
        Asked::read(&Query::parse(query), now())
    }

    #[test]
    fn a_group_s_address_leads_to_that_group_within_the_same_time() {
        let group = DeadGroup {
            channel: ChannelName::email(),
            reason: "permanent".into(),
            error: String::new(),
            destination: "x.example".into(),
            count: 1,
            first: now(),
            last: now(),
            sample: DeliveryId::new(),
            said: None,
        };
        let here = read("since=24h&user=ada").group(&group).here().url();
        let back = read(here.split_once('?').unwrap().1);
        assert!(back.open, "{here}");
        assert_eq!((back.which.error.as_deref(), back.which.destination.as_deref()), (Some(""), Some("x.example")));
        assert_eq!(back.which.since, Some(now() - TimeDelta::hours(24)));
        assert_eq!(named(&back.which), "email, permanent, x.example, ada, since 28 Nov 12:00:00 UTC");
        assert_eq!(back.name(), "email, permanent, x.example, ada, since 24h");
        let beside: Vec<_> = back.beside().into_iter().map(|(key, _)| key).collect();
        assert_eq!(beside, ["user", "since"], "a group's form takes no more than is shown");
        assert!(!read("channel=email&error=550").open, "what is not one cause is still grouped");
        assert!(read("all=1").open);
    }

    #[test]
    fn a_field_that_is_left_empty_asks_for_nothing() {
        let asked = read("f=1&channel=&error=&destination=&since=&until=&keep=");
        assert_eq!(asked.here().url(), PATH);
        let kept = read("f=1&channel=email&error=&destination=&since=1h&keep=destination");
        assert_eq!((kept.which.error.as_deref(), kept.which.destination.as_deref()), (None, Some("")));
        assert_eq!(kept.here().url(), "/admin/dead?channel=email&destination=&since=1h");
        let chips: Vec<_> = kept.chips().into_iter().map(|c| c.text).collect();
        assert_eq!(chips, ["channel: email", "to: none", "since: 1h"]);
    }

    #[test]
    fn a_time_that_is_none_is_said_and_no_act_takes_it() {
        let asked = read("since=yesterday");
        assert!(asked.hint().unwrap().contains("yesterday") && asked.which.since.is_none());
        let posted = |text: &str| settled(Posted::of(&[("since", text), ("channel", "email")]), now());
        assert!(posted("yesterday").is_err());
        let fixed = posted("1h").unwrap();
        assert_eq!(fixed.get("since"), "2026-11-29T11:00:00.000Z", "what was counted is what is done");
        assert_eq!(which(&fixed).since, Some(now() - TimeDelta::hours(1)));
        assert_eq!(which(&posted("").unwrap()).since, None);
    }

    #[test]
    fn a_place_in_the_list_survives_its_address() {
        let place = DeadPlace { at: now(), id: DeliveryId::new() };
        let url = read("channel=email").behind(place);
        let back = read(url.split_once('?').unwrap().1);
        assert_eq!(back.place(), Some(place));
        assert_eq!(read("before=nonsense").place(), None);
    }
}
