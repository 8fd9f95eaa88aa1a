//! What used keys within a day, by route and by address, as rows and as a sentence.

use campanile_admin_ui::{format, pages::keys::Uses};
use campanile_model::{
    KeyId, Timestamp,
    ports::{KeyUsed, UseKind},
};
use std::collections::HashMap;

/// Names that a sentence holds.
const SAID: usize = 4;

pub fn by_key(uses: Vec<KeyUsed>) -> HashMap<KeyId, Uses> {
    let mut out: HashMap<KeyId, Uses> = HashMap::new();
    for KeyUsed { key, by } in uses {
        let of = out.entry(key).or_default();
        let name = if by.name.is_empty() { "others".to_owned() } else { by.name };
        match by.kind {
            UseKind::Route => of.routes.push((name, by.calls)),
            UseKind::Address => of.addresses.push((name, by.calls)),
        }
    }
    out
}

/// What a revocation cuts off.
pub fn cut_off(last: Option<Timestamp>, calls: u64, uses: &Uses) -> String {
    match last {
        None => "It was never used.".to_owned(),
        Some(last) => format!("It was last used on {} UTC. {}", format::day_clock(last), said(calls, uses)),
    }
}

/// What stands in the question before one.
pub fn consequence(cut_off: &str) -> String {
    format!("{cut_off} Calls with it fail from now on, on all nodes.")
}

/// `In the last 24 h it was used 412 times: POST /api/v1/notifications 400, …; from 10.0.0.7 400, … and 3 more.`
fn said(calls: u64, uses: &Uses) -> String {
    if calls == 0 {
        return "Nothing used it in the last 24 h.".to_owned();
    }
    let list = |names: &[(String, u64)]| {
        let named: Vec<_> = names.iter().take(SAID).map(|(name, n)| format!("{name} {}", format::count(*n))).collect();
        let more = names.len().saturating_sub(SAID);
        if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
    };
    let times = if calls == 1 { "once".to_owned() } else { format!("{} times", format::count(calls)) };
    let routes = if uses.routes.is_empty() { String::new() } else { format!(": {}", list(&uses.routes)) };
    let from = if uses.addresses.is_empty() { String::new() } else { format!("; from {}", list(&uses.addresses)) };
    format!("In the last 24 h it was used {times}{routes}{from}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::ports::KeyUseBy;

    #[test]
    fn what_used_a_key_is_one_sentence_however_much_it_was() {
        let (one, two) = (KeyId::new(), KeyId::new());
        let use_of = |key, kind, name: &str, calls| KeyUsed { key, by: KeyUseBy { kind, name: name.into(), calls } };
        let all = by_key(vec![
            use_of(one, UseKind::Route, "POST /api/v1/notifications", 1_400),
            use_of(two, UseKind::Route, "GET /x", 1),
            use_of(one, UseKind::Address, "10.0.0.7", 1_399),
            use_of(one, UseKind::Address, "", 1),
        ]);
        let said_one = "In the last 24 h it was used 1,400 times: POST /api/v1/notifications 1,400; from 10.0.0.7 1,399, others 1.";
        assert_eq!(said(1_400, &all[&one]), said_one);
        assert_eq!(said(1, &all[&two]), "In the last 24 h it was used once: GET /x 1.");
        assert_eq!(said(0, &Uses::default()), "Nothing used it in the last 24 h.");
        let many = Uses { routes: (0..9).map(|n| (format!("GET /{n}"), 1)).collect(), addresses: Vec::new() };
        assert!(said(9, &many).ends_with("GET /3 1 and 5 more."));
        assert_eq!(cut_off(None, 0, &many), "It was never used.");
        let last = "2026-11-29T10:00:00Z".parse().unwrap();
        assert!(cut_off(Some(last), 0, &many).starts_with("It was last used on 29 Nov 10:00:00 UTC. Nothing used it"));
    }
}
