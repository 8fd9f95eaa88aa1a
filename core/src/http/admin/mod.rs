//! `/admin`: the console. Sessions, pages, actions, the live stream.
//!
//! Owns: who may look and act, from the cookie to the role. Absent on purpose: markup (`admin-ui`), figures over time
//! (`console`), SQL.

mod actions;
mod answer;
mod audit;
mod bulk;
mod carry;
mod channels;
mod complete;
mod connections;
mod dead;
mod export;
pub mod gate;
mod keys;
pub mod link;
mod live;
mod mail;
mod notification;
mod notifications;
mod overview;
mod password;
mod pause;
mod plots;
mod queues;
mod search;
mod send_test;
mod session;
mod settings;
mod sign_in;
mod throttle;
mod users;

pub use gate::Routes;
pub use password::Passwords;
pub use session::Signed;
pub use throttle::Throttle;

use super::{App, page, problem::ApiError};
use crate::{
    console::{Facts, standing},
    services::Services,
};
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::Redirect,
    routing::get,
};
use campanile_admin_ui::{
    format,
    pages::{Frame, Looks, NodeFacts, overview::Health},
    pieces::Footer,
};
use std::{fmt::Write as _, sync::Arc};

/// What the console keeps between requests.
#[derive(Default)]
pub struct Doorman {
    pub passwords: Passwords,
    pub throttle: Throttle,
    pub known: session::Known,
    pub drafts: channels::Drafts,
}

pub fn routes(s: &Arc<Services>) -> App {
    let app = App::new().route("/", get(home)).merge(page::routes());
    if s.config.admin.enabled { app.merge(console().guarded(s)) } else { app }
}

/// Every route of the console, with who may use it.
pub fn console() -> Routes {
    Routes::new()
        .merge(sign_in::routes())
        .merge(overview::routes())
        .merge(live::routes())
        .merge(answer::routes())
        .merge(actions::routes())
        .merge(connections::routes())
        .merge(keys::routes())
        .merge(audit::routes())
        .merge(users::routes())
        .merge(settings::routes())
        .merge(mail::routes())
        .merge(send_test::routes())
        .merge(search::routes())
        .merge(complete::routes())
        .merge(notifications::routes())
        .merge(notification::routes())
        .merge(queues::routes())
        .merge(channels::routes())
        .merge(dead::routes())
}

async fn home(State(s): State<Arc<Services>>) -> Result<Redirect, ApiError> {
    if s.config.admin.enabled { Ok(Redirect::to("/admin")) } else { Err(ApiError::not_found("page")) }
}

/// The frame of a development page at `path`.
pub fn frame(s: &Services, headers: &HeaderMap, path: &'static str) -> Frame {
    Frame {
        dev: s.dev,
        path,
        version: env!("CARGO_PKG_VERSION"),
        address: s.address.to_string(),
        theme: theme(headers),
        admin: None,
        looks: looks(headers),
        find: String::new(),
        flash: None,
    }
}

/// The frame of a console page for whoever is signed in.
fn console_frame(s: &Services, signed: &Signed, headers: &HeaderMap, facts: &Facts, path: &'static str) -> Frame {
    let up = (s.clock.now() - s.started_at).num_seconds().max(0).unsigned_abs();
    let engine = if s.config.database.is_embedded() { "SQLite" } else { "PostgreSQL" };
    let ping = facts.ping_ms.map_or_else(|| "silent".to_owned(), |ms| format::duration(ms).text());
    let memory = crate::observe::process::resident_bytes().map(|b| format!(" · {}", format::bytes(b)));
    let (dead, unwell) = badges(s, facts);
    Frame {
        flash: answer::flash(headers, signed),
        admin: Some(campanile_admin_ui::pages::Signed {
            name: signed.admin.name.clone(),
            role: signed.admin.role,
            csrf: signed.csrf.clone(),
            dead,
            unwell,
            node: NodeFacts {
                name: s.address.to_string(),
                uptime: format::uptime(up),
                database: format!("{engine} {ping}{}", memory.unwrap_or_default()),
                well: facts.database.is_none(),
            },
        }),
        ..frame(s, headers, path)
    }
}

/// Numbers of the menu: dead letters, and channels of which somebody should look at.
fn badges(s: &Services, facts: &Facts) -> (u64, u64) {
    let standing = standing::of(s, facts);
    let ill = s.channels.views().into_iter().filter(|v| v.enabled).filter(|v| {
        let suffers = standing.iter().any(|c| c.name == v.name.as_str() && c.suffers());
        matches!(overview::health(v, suffers, facts).0, Health::Failing | Health::Degraded)
    });
    (facts.queues.values().map(|q| q.dead).sum(), ill.count() as u64)
}

/// From the cookie that the page's own switch sets; anything else follows the system.
fn theme(headers: &HeaderMap) -> &'static str {
    match cookie(headers, "campanile-theme") {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "",
    }
}

/// From the cookies that Settings sets.
fn looks(headers: &HeaderMap) -> Looks {
    let on = |name| cookie(headers, name) == Some("1");
    Looks {
        compact: on("campanile-compact"),
        utc: on("campanile-utc"),
        no_keys: on("campanile-no-keys"),
        live_s: cookie(headers, "campanile-live").and_then(Looks::live),
    }
}

/// A cookie's value. The first of a name counts.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

/// The last line of a page.
fn foot(s: &Services, facts: &Facts) -> Footer {
    let note = facts.database.as_ref().map(|_| "The database does not answer".to_owned());
    Footer { at: s.clock.now(), note }
}

/// Where people reach this server, as far as it knows.
fn base_url(s: &Services) -> String {
    let base = s.config.server.public_url.clone().unwrap_or_else(|| format!("http://{}", s.address));
    base.trim_end_matches('/').to_owned()
}

/// A piece of a path: what people chose may hold a slash.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Asked by htmx. Forgeable: it chooses a shape, never a right.
fn by_htmx(headers: &HeaderMap) -> bool {
    headers.get("hx-request").is_some_and(|v| v == "true")
}
