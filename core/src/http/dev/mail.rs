//! `/dev/mail`: what was caught, newest first; the HTML part in a sandbox of its own.

use super::{
    super::{
        App,
        admin::frame,
        page::{document, page},
        problem::{ApiError, ApiResult},
    },
    changes,
};
use crate::{dev::mailbox::Caught, services::Services};
use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use campanile_admin_ui::{
    MAIL_CSP,
    pages::mail::{Mail, MailPage, View},
};
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> App {
    App::new()
        .route("/dev/mail", get(list))
        .route("/dev/mail/live", get(live))
        .route("/dev/mail/{id}", get(open))
        .route("/dev/mail/{id}/html", get(html))
}

async fn list(State(s): State<Arc<Services>>, headers: HeaderMap) -> ApiResult<Response> {
    page(&mailbox(&s, &headers, None, View::default()))
}

#[derive(Deserialize)]
struct Shown {
    view: Option<String>,
}

async fn open(
    State(s): State<Arc<Services>>,
    headers: HeaderMap,
    Path(id): Path<u64>,
    Query(shown): Query<Shown>,
) -> ApiResult<Response> {
    let mail = find(&s, id)?;
    let view = shown.view.as_deref().and_then(View::parse).unwrap_or_default();
    page(&mailbox(&s, &headers, Some(&mail), view))
}

/// The mail's own HTML: no script, no form, no picture from elsewhere, and no right to be anything but this frame.
async fn html(State(s): State<Arc<Services>>, Path(id): Path<u64>) -> ApiResult<Response> {
    let mail = find(&s, id)?;
    Ok(document(mail.html.clone(), MAIL_CSP))
}

/// One event per change of the list; it says only that there is something to fetch.
async fn live(State(s): State<Arc<Services>>) -> Response {
    changes(&s, s.mailbox.as_ref().map(|m| m.watch())).into_response()
}

fn find(s: &Services, id: u64) -> ApiResult<Arc<Caught>> {
    s.mailbox.as_ref().and_then(|m| m.get(id)).ok_or_else(|| ApiError::not_found("mail"))
}

fn mailbox(s: &Services, headers: &HeaderMap, open: Option<&Caught>, view: View) -> MailPage {
    let mails = s.mailbox.as_ref().map(|m| m.list()).unwrap_or_default();
    MailPage {
        frame: frame(s, headers, "/dev/mail"),
        mails: mails.iter().rev().map(|m| row(m)).collect(),
        open: open.map(row),
        view,
        relayed: s.mailbox.is_none(),
    }
}

fn row(mail: &Caught) -> Mail {
    Mail {
        id: mail.id,
        at: mail.at,
        from: mail.from.clone(),
        to: mail.to.clone(),
        subject: mail.subject.clone(),
        text: mail.text.clone(),
        has_html: !mail.html.is_empty(),
        source: String::from_utf8_lossy(&mail.source).into_owned(),
    }
}
