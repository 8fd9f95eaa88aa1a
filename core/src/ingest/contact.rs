//! Contact points: the checks that `PUT /users/{id}` and a request's inline recipients share.

use super::{Directory, Faults, names};
use campanile_model::{ChannelName, user::Contact};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The longest language tag (RFC 5646 §4.4.1 asks for 35 at least).
const LOCALE_MAX: usize = 35;
const TIMEZONE_MAX: usize = 64;
/// Fields of `PUT /users/{user_id}`.
pub const FIELDS: [&str; 4] = ["email", "locale", "timezone", "addresses"];

/// The body of `PUT /users/{user_id}`: all of it optional, null the same as absent.
pub fn parse(body: &Value, directory: &dyn Directory) -> Result<Contact, super::Invalid> {
    let mut faults = Faults::default();
    let mut contact = Contact::default();
    if let Value::Object(body) = body {
        for name in body.keys().filter(|k| !FIELDS.contains(&k.as_str())) {
            faults.add_with(name.clone(), || names::unknown("field", name, &FIELDS));
        }
        contact.addresses = addresses("", body, directory, &mut faults);
        contact.email = contact.addresses.remove(ChannelName::email().as_str());
        contact.locale = text("locale", body, &mut faults).filter(|s| checked("locale", locale(s), &mut faults));
        contact.timezone =
            text("timezone", body, &mut faults).filter(|s| checked("timezone", timezone(s), &mut faults));
    } else {
        faults.add("body", "must be a JSON object");
    }
    faults.finish().map(|()| contact)
}

/// `email` and `addresses` of an object; `email` ends up under the channel's name. `path` is what stands before a
/// field's name in an error, such as `to[3].`.
pub fn addresses(
    path: &str,
    object: &Map<String, Value>,
    directory: &dyn Directory,
    faults: &mut Faults,
) -> BTreeMap<ChannelName, String> {
    let mut found = BTreeMap::new();
    let email = ChannelName::email();
    if let Some(address) = object.get("email").filter(|v| !v.is_null())
        && let Some(address) = address_of(&format!("{path}email"), &email, address, directory, faults)
    {
        found.insert(email.clone(), address);
    }
    match object.get("addresses") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => {
            for (name, address) in given {
                let field = format!("{path}addresses.{}", name.chars().take(64).collect::<String>());
                let Some(known) = directory.find(name) else {
                    faults.add_with(field, || unknown_channel(name, directory));
                    continue;
                };
                if known.in_app {
                    faults.add(field, format!("the channel {name} needs no address; leave it out"));
                } else if known.name == email && found.contains_key(&email) {
                    faults.add(field, "is given as `email` too; leave one of them out");
                } else if address.is_null() {
                    // The same as absent, as everywhere.
                } else if let Some(address) = address_of(&field, &known.name, address, directory, faults) {
                    found.insert(known.name, address);
                }
            }
        }
        Some(_) => faults.add(format!("{path}addresses"), "must be an object of channel names and addresses"),
    }
    found
}

pub fn unknown_channel(name: &str, directory: &dyn Directory) -> String {
    let all = directory.all();
    let known: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
    names::unknown("channel", name, &known)
}

fn address_of(
    field: &str,
    channel: &ChannelName,
    value: &Value,
    directory: &dyn Directory,
    faults: &mut Faults,
) -> Option<String> {
    let Value::String(address) = value else {
        faults.add(field, "must be a string");
        return None;
    };
    let verdict = if address.trim().is_empty() {
        Err("must not be empty; leave it out instead".to_owned())
    } else if address.chars().any(char::is_control) {
        Err("must not contain control characters".to_owned())
    } else {
        directory.check_address(channel, address)
    };
    match verdict {
        Ok(()) => Some(address.clone()),
        Err(message) => {
            faults.add(field, message);
            None
        }
    }
}

fn text(field: &str, body: &Map<String, Value>, faults: &mut Faults) -> Option<String> {
    match body.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(s)) => Some(s.clone()),
        Some(_) => {
            faults.add(field, "must be a string");
            None
        }
    }
}

fn checked(field: &str, verdict: Result<(), &str>, faults: &mut Faults) -> bool {
    match verdict {
        Ok(()) => true,
        Err(message) => {
            faults.add(field, message);
            false
        }
    }
}

/// The shape of a BCP 47 language tag; whether the language exists is not our business.
fn locale(s: &str) -> Result<(), &'static str> {
    let mut parts = s.split('-');
    let language = parts.next().unwrap_or_default();
    let fits = s.len() <= LOCALE_MAX
        && (2..=8).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|p| (1..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric()));
    if fits { Ok(()) } else { Err("must be a language tag such as en, de-DE or zh-Hant-TW") }
}

/// The shape of an IANA time zone name; the list itself changes several times a year.
fn timezone(s: &str) -> Result<(), &'static str> {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic())
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    let parts = s.split('/').count();
    if s.len() <= TIMEZONE_MAX && parts <= 3 && s.split('/').all(part) {
        Ok(())
    } else {
        Err("must be an IANA time zone name such as Europe/Berlin or UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::directory::fake::Fake, *};
    use serde_json::json;

    fn faults_of(body: Value) -> Vec<(String, String)> {
        parse(&body, &Fake).unwrap_err().faults.into_iter().map(|f| (f.field, f.message)).collect()
    }

    #[test]
    fn every_field_is_read() {
        let c = parse(
            &json!({"email": "a@b.c", "locale": "de-DE", "timezone": "Europe/Berlin", "addresses": {"chat": "x", "sms": null}}),
            &Fake,
        )
        .unwrap();
        assert_eq!(c.email.as_deref(), Some("a@b.c"));
        assert_eq!(c.locale.as_deref(), Some("de-DE"));
        assert_eq!(c.timezone.as_deref(), Some("Europe/Berlin"));
        assert_eq!(c.addresses, [("chat".into(), "x".to_owned())].into());
        assert_eq!(parse(&json!({"addresses": {"email": "a@b.c"}}), &Fake).unwrap().email.as_deref(), Some("a@b.c"));
        assert_eq!(parse(&json!({}), &Fake).unwrap(), Contact::default());
    }

    #[test]
    fn every_fault_is_named() {
        let faults = faults_of(json!({
            "email": "nobody", "locale": "de_DE", "timezone": "Europe/", "emial": 1,
            "addresses": {"websocket": "x", "caht": "y", "chat": 5}
        }));
        let fields: Vec<_> = faults.iter().map(|(f, _)| f.as_str()).collect();
        assert_eq!(
            fields,
            ["emial", "email", "addresses.caht", "addresses.chat", "addresses.websocket", "locale", "timezone"]
        );
        assert!(faults[0].1.contains("did you mean \"email\"?"), "{}", faults[0].1);
        assert!(faults[2].1.contains("did you mean \"chat\"?"), "{}", faults[2].1);
    }

    #[test]
    fn addresses_stay_out_of_headers() {
        for bad in ["a@b.c\r\nBcc: x@y.z", "a@b.c\0", " ", ""] {
            assert_eq!(faults_of(json!({"email": bad})).len(), 1, "{bad:?}");
        }
        assert_eq!(faults_of(json!({"email": "a@b.c", "addresses": {"email": "a@b.c"}})).len(), 1);
        assert_eq!(faults_of(json!([])).len(), 1);
    }

    #[test]
    fn shapes_of_tags_and_zones() {
        for ok in ["en", "de-DE", "zh-Hant-TW", "sl-rozaj-biske-1994", "gsw"] {
            assert!(locale(ok).is_ok(), "{ok}");
        }
        for bad in ["", "e", "de_DE", "de-", "-de", "de DE", "ümlaut"] {
            assert!(locale(bad).is_err(), "{bad}");
        }
        for ok in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+3", "America/Port-au-Prince"] {
            assert!(timezone(ok).is_ok(), "{ok}");
        }
        for bad in ["", "/", "Europe/", "../etc/passwd", "+02:00", "Europe Berlin"] {
            assert!(timezone(bad).is_err(), "{bad}");
        }
    }
}
