//! What one key did since it was last written down: how often, from where, for which routes.
//!
//! Counted in memory by every call, so it is small and bounded: the first few names of each kind in an hour are told apart,
//! and what comes after them is one number. Absent on purpose: the database (the key cache writes once a minute).

use axum::http::StatusCode;
use campanile_model::{
    KeyId, Timestamp,
    ports::{KeyUse, KeyUseBy, UseKind},
};
use std::net::IpAddr;

/// Routes, and addresses, that are told apart within an hour.
const NAMES: usize = 16;
const HOUR_S: i64 = 3_600;

#[derive(Default)]
pub struct Used {
    at: Timestamp,
    last: Option<IpAddr>,
    /// Its place among the routes.
    route: Option<usize>,
    calls: u64,
    refused: u64,
    denied: u64,
    routes: Names<Route>,
    addresses: Names<IpAddr>,
}

/// Method and path of a call, as the router names them.
#[derive(PartialEq, Eq)]
struct Route {
    method: &'static str,
    path: String,
}

/// Few enough to be looked through, which costs a call less than a table would.
struct Names<T> {
    known: Vec<(T, u64)>,
    rest: u64,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { known: Vec::new(), rest: 0 }
    }
}

impl<T> Names<T> {
    /// Its place; `None`: among the rest.
    fn count(&mut self, is: impl Fn(&T) -> bool, name: impl FnOnce() -> T) -> Option<usize> {
        let place = self.known.iter().position(|(known, _)| is(known));
        let place = place.or_else(|| {
            (self.known.len() < NAMES).then(|| {
                self.known.push((name(), 0));
                self.known.len() - 1
            })
        });
        match place {
            Some(place) => self.known[place].1 += 1,
            None => self.rest += 1,
        }
        place
    }

    fn told(&mut self, kind: UseKind, name: impl Fn(&T) -> String, out: &mut Vec<KeyUseBy>) {
        for (known, calls) in self.known.iter_mut().filter(|(_, calls)| *calls > 0) {
            out.push(KeyUseBy { kind, name: name(known), calls: std::mem::take(calls) });
        }
        if self.rest > 0 {
            out.push(KeyUseBy { kind, name: String::new(), calls: std::mem::take(&mut self.rest) });
        }
    }

    fn forget(&mut self) {
        self.known.retain(|(_, calls)| *calls > 0);
    }
}

impl Route {
    fn text(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn hour(at: Timestamp) -> i64 {
    at.timestamp().div_euclid(HOUR_S)
}

impl Used {
    /// A new hour tells names apart anew.
    pub fn is_now(&mut self, at: Timestamp) {
        if hour(at) != hour(self.at) {
            (self.route, self.last) = (None, None);
            self.routes.forget();
            self.addresses.forget();
        }
        self.at = at;
    }

    pub fn called(&mut self, from: Option<IpAddr>, method: &'static str, path: &str) {
        self.calls += 1;
        self.last = from;
        self.route = self
            .routes
            .count(|route| route.method == method && route.path == path, || Route { method, path: path.to_owned() });
        if let Some(from) = from {
            self.addresses.count(|address| *address == from, || from);
        }
    }

    /// A call that was noted before was answered so.
    pub fn refused(&mut self, status: StatusCode) {
        self.refused += 1;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.denied += 1;
        }
    }

    /// Somebody came with this key's id and was sent away at the door.
    pub fn denied(&mut self) {
        self.denied += 1;
    }

    pub fn told(&mut self, key: KeyId) -> Option<KeyUse> {
        if self.calls + self.refused + self.denied == 0 {
            return None;
        }
        let route = self.route.and_then(|place| self.routes.known.get(place)).map(|(route, _)| route.text());
        let mut by = Vec::new();
        self.routes.told(UseKind::Route, Route::text, &mut by);
        self.addresses.told(UseKind::Address, ToString::to_string, &mut by);
        Some(KeyUse {
            key,
            at: self.at,
            address: self.last.map(|a| a.to_string()),
            route: route.unwrap_or_default(),
            calls: std::mem::take(&mut self.calls),
            refused: std::mem::take(&mut self.refused),
            denied: std::mem::take(&mut self.denied),
            by,
        })
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        hour(now) != hour(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_few_names_are_told_apart_and_the_rest_is_one_number() {
        let mut used = Used::default();
        used.is_now(at("2026-11-29T10:00:00Z"));
        for n in 0..40u8 {
            used.called(Some(IpAddr::from([10, 0, 0, n])), "GET", &format!("/{n}"));
        }
        used.called(Some(IpAddr::from([10, 0, 0, 3])), "GET", "/3");
        let told = used.told(KeyId::new()).unwrap();
        assert_eq!((told.calls, told.route.as_str(), told.address.as_deref()), (41, "GET /3", Some("10.0.0.3")));
        for kind in [UseKind::Route, UseKind::Address] {
            let of: Vec<_> = told.by.iter().filter(|by| by.kind == kind).collect();
            assert_eq!(of.len(), NAMES + 1);
            assert_eq!(of.iter().map(|by| by.calls).sum::<u64>(), 41, "none is lost");
            assert_eq!(of.iter().find(|by| by.name.is_empty()).unwrap().calls, 24);
        }
        assert!(used.told(KeyId::new()).is_none(), "told once");

        // Within the hour the names stay the same, however often they are written down.
        used.called(Some(IpAddr::from([10, 9, 9, 9])), "GET", "/new");
        assert!(used.told(KeyId::new()).unwrap().by.iter().all(|by| by.name.is_empty()));
        used.is_now(at("2026-11-29T11:00:00Z"));
        used.called(Some(IpAddr::from([10, 9, 9, 9])), "GET", "/new");
        assert!(used.told(KeyId::new()).unwrap().by.iter().any(|by| by.name == "GET /new"));
        assert!(used.is_over(at("2026-11-29T12:00:00Z")) && !used.is_over(at("2026-11-29T11:59:00Z")));
    }

    #[test]
    fn who_is_sent_away_is_counted_and_is_no_call() {
        let mut used = Used::default();
        used.is_now(at("2026-11-29T10:00:00Z"));
        used.denied();
        let told = used.told(KeyId::new()).unwrap();
        assert_eq!((told.calls, told.refused, told.denied, told.by.len()), (0, 0, 1, 0));
        used.called(None, "GET", "/a");
        used.refused(StatusCode::FORBIDDEN);
        used.refused(StatusCode::UNPROCESSABLE_ENTITY);
        let told = used.told(KeyId::new()).unwrap();
        assert_eq!((told.calls, told.refused, told.denied), (1, 2, 1));
    }
}
