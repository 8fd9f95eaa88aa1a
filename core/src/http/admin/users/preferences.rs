//! What a person gets by which channel: the default, what they chose, what can't be chosen.
//!
//! A type is known here once it was sent to them or they said no to it. Absent on purpose: topics, quiet hours and choices of
//! a finer grain than type and channel, which the product does not have yet.

use crate::{http::admin::Signed, services::Services, store::rules::fold_address};
use campanile_admin_ui::{
    pages::users::{self as ui, Preference},
    pieces::Part,
};
use campanile_model::{ChannelName, UserKey, ports::Suppression, user::Contact};
use std::collections::BTreeSet;

/// Types shown.
const TYPES: usize = 30;
/// What an unsubscription without a type is from.
pub const EVERYTHING: &str = "everything";

/// A channel, and what stands against it for this person whatever the type.
struct Way {
    name: ChannelName,
    in_app: bool,
    cannot: Option<&'static str>,
}

pub fn draw(
    s: &Services,
    signed: &Signed,
    key: &UserKey,
    contact: &Contact,
    held: &[Suppression],
    recent: &Part<ui::Recent>,
) -> ui::Preferences {
    let guards = s.channels.guards();
    let ways: Vec<Way> = guards
        .iter()
        .filter(|g| g.enabled())
        .map(|g| Way {
            name: g.name().clone(),
            in_app: g.in_app(),
            cannot: if g.in_app() { None } else { cannot(g.name(), contact, held) },
        })
        .collect();
    let sent = recent.well().into_iter().flat_map(|r| &r.rows).map(|r| r.kind.clone());
    let refused = held.iter().filter(|h| h.user_id.is_some()).map(kind);
    let kinds: BTreeSet<String> = refused.chain(sent).take(TYPES).collect();
    let must = &s.config.email.transactional;
    ui::Preferences {
        user: key.user.to_string(),
        csrf: signed.token_to_act(),
        channels: ways.iter().map(|w| w.name.to_string()).collect(),
        rows: kinds
            .into_iter()
            .map(|kind| ui::PreferenceRow { cells: ways.iter().map(|w| cell(&kind, w, held, must)).collect(), kind })
            .collect(),
    }
}

fn kind(s: &Suppression) -> String {
    s.notification_type.clone().unwrap_or_else(|| EVERYTHING.to_owned())
}

fn cannot(channel: &ChannelName, contact: &Contact, held: &[Suppression]) -> Option<&'static str> {
    let Some(address) = contact.address(channel) else { return Some("no address") };
    let folded = fold_address(address);
    let suppressed = held.iter().any(|h| h.channel == *channel && h.address.as_deref() == Some(folded.as_str()));
    suppressed.then_some("address held back")
}

fn cell(kind_: &str, way: &Way, held: &[Suppression], must: &[String]) -> Preference {
    let said_no = held.iter().find(|h| h.user_id.is_some() && h.channel == way.name && kind(h) == kind_);
    if let Some(no) = said_no {
        return Preference::Off { since: no.created_at, id: no.id.clone() };
    }
    if way.in_app {
        return Preference::Always("the feed takes everything");
    }
    if let Some(why) = way.cannot {
        return Preference::Cannot(why);
    }
    if way.name == ChannelName::email() && must.iter().any(|m| m == kind_) {
        return Preference::Always("transactional");
    }
    Preference::On
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::UserId;

    fn no(channel: &str, kind: &str) -> Suppression {
        Suppression {
            id: format!("{channel}-{kind}"),
            channel: channel.into(),
            address: None,
            user_id: Some(UserId::from("ada")),
            notification_type: Some(kind.to_owned()),
            reason: "unsubscribed".to_owned(),
            created_at: campanile_model::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_they_chose_stands_before_what_is_so_anyway() {
        let contact = Contact { email: Some("Ada@x".to_owned()), ..Contact::default() };
        let mut held = vec![no("email", "news")];
        let way = |name: &str, held: &[Suppression]| Way {
            name: name.into(),
            in_app: name == "websocket",
            cannot: if name == "websocket" { None } else { cannot(&name.into(), &contact, held) },
        };
        let must = ["receipt".to_owned()];
        let of = |kind: &str, name: &str, held: &[Suppression]| cell(kind, &way(name, held), held, &must);
        assert!(matches!(of("news", "email", &held), Preference::Off { ref id, .. } if id == "email-news"));
        assert_eq!(of("offers", "email", &held), Preference::On);
        assert_eq!(of("receipt", "email", &held), Preference::Always("transactional"));
        assert_eq!(of("news", "websocket", &held), Preference::Always("the feed takes everything"));
        assert_eq!(of("news", "sms", &held), Preference::Cannot("no address"));
        held.push(Suppression { address: Some("ada@x".to_owned()), user_id: None, ..no("email", "x") });
        assert_eq!(of("offers", "email", &held), Preference::Cannot("address held back"));
    }
}
