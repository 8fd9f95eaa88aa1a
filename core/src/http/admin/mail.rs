//! The mail tab of Settings: whether mail from this server is believed. Asked of the relay and the name servers when somebody
//! presses the button, never by itself; it sends no mail.

use super::{
    Routes, Signed,
    answer::Posted,
    gate::{ACT, LOOK},
    settings,
};
use crate::{
    doctor::{self, Verdict},
    http::problem::ApiResult,
    services::Services,
};
use axum::{extract::State, http::HeaderMap, response::Response};
use campanile_admin_ui::pages::settings::{self as ui, Body};
use campanile_model::ports::Role;
use std::sync::Arc;

pub const TAB: &str = "mail";

pub fn routes() -> Routes {
    Routes::new().get("/admin/settings/mail", LOOK, show).post("/admin/settings/mail", ACT, check)
}

/// An address that was copied from the bar after a check.
async fn show(State(s): State<Arc<Services>>, signed: Signed, headers: HeaderMap) -> ApiResult<Response> {
    draw(&s, &signed, &headers, None).await
}

async fn check(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let found = doctor::mail::check(&s.config).await;
    let line = |f: doctor::Finding| {
        let (tone, word) = match f.verdict {
            Verdict::Good => ("ok", "good"),
            Verdict::Look => ("warn", "look"),
            Verdict::Wrong => ("bad", "wrong"),
        };
        ui::Finding { what: f.what, tone, word, text: f.text, fix: f.fix.unwrap_or_default() }
    };
    draw(&s, &signed, &headers, Some(found.into_iter().map(line).collect())).await
}

/// Before and after a check.
pub fn tab(s: &Services, signed: &Signed, found: Option<Vec<ui::Finding>>) -> ui::Mail {
    let relay = match (&s.mailbox, s.config.email.url.is_empty()) {
        (Some(_), _) => "none: mail is caught here".to_owned(),
        (None, true) => "none: the e-mail channel is off".to_owned(),
        // Its password is part of the address.
        (None, false) => url::Url::parse(s.config.email.url.expose())
            .map_or_else(|_| "–".to_owned(), |u| format!("{}, {}", u.host_str().unwrap_or("–"), u.scheme())),
    };
    let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "–".to_owned());
    ui::Mail {
        csrf: signed.token_to_act(),
        facts: vec![
            ("Relay", relay),
            ("From", or_dash(s.config.email.from.as_ref())),
            ("DKIM domain", or_dash(s.config.email.dkim_domain.as_ref())),
            ("DKIM selector", or_dash(s.config.email.dkim_selector.as_ref())),
        ],
        found,
    }
}

async fn draw(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    found: Option<Vec<ui::Finding>>,
) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    settings::draw(s, signed, headers, &facts, TAB, Body::Mail(tab(s, signed, found)))
}
