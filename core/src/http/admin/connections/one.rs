//! One connection: its facts, live; the frames of the last minutes when somebody asked for them.

use super::{
    super::{
        Signed,
        answer::part,
        console_frame,
        live::{self, Drawn, Live},
    },
    Names, PATH, foot,
    list::row,
    short_time,
};
use crate::{
    console::{Facts, connections},
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::pages::connections as ui;
use campanile_model::{AppId, ConnId, ports::StoreError};
use std::sync::Arc;

struct One {
    id: String,
    user: String,
}

pub async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let parsed: ConnId = id.parse().map_err(|_| ApiError::not_found("connection"))?;
    let facts = s.console.facts.get(&s).await;
    let shown = facts_of(&s, &signed, &facts, parsed, "").await;
    let user = shown.as_ref().ok().and_then(|f| f.row.as_ref()).map(|r| r.user.clone());
    let Some(user) = user.or_else(|| shown.is_err().then(|| "somebody".to_owned())) else {
        return Err(ApiError::not_found("open connection"));
    };
    page(&ui::Connection {
        frame: console_frame(&s, &signed, &headers, &facts, PATH),
        facts: part(&s, "facts", "This connection", shown),
        id,
        user,
        foot: foot(&s, &facts),
    })
}

async fn facts_of(
    s: &Arc<Services>,
    signed: &Signed,
    facts: &Facts,
    id: ConnId,
    known: &str,
) -> Result<ui::Facts, StoreError> {
    let names = Names::of(s, facts);
    let found = connections::find(s, &AppId::default(), id).await?;
    let csrf = signed.token_to_act();
    let Some(c) = found else {
        return Ok(ui::Facts { csrf, id: id.to_string(), user: known.to_owned(), ..ui::Facts::default() });
    };
    Ok(ui::Facts {
        row: Some(row(s, facts, &names, &c)),
        agent: c.user_agent.clone().unwrap_or_default(),
        csrf,
        id: id.to_string(),
        user: c.user_id.to_string(),
        answers: c.transport == "websocket",
        round_trip: s.hub.watches().pong(id).map(|(at, took_us)| (at, short_time(took_us as f64 / 1_000.0).text())),
        tail: signed.admin.role.may_read_content().then(|| tail(s, id)).flatten(),
        may_read: signed.admin.role.may_read_content(),
    })
}

/// Its frames, newest first, and until when more are told.
fn tail(s: &Services, id: ConnId) -> Option<ui::Tail> {
    let tail = s.hub.watches().tail(id)?;
    let line = |f: &crate::connection::watch::Frame| ui::TailLine {
        at: f.at,
        way: if f.incoming { "from the client" } else { "to the client" },
        incoming: f.incoming,
        text: f.text.clone(),
    };
    Some(ui::Tail {
        until: tail.until,
        on: s.clock.now() < tail.until,
        lines: tail.frames.iter().rev().map(line).collect(),
    })
}

/// The stream of one connection's page.
pub fn live(query: &live::Query) -> Box<dyn Live> {
    Box::new(One { id: query.get("id").to_owned(), user: query.get("user").to_owned() })
}

#[async_trait]
impl Live for One {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let Ok(id) = self.id.parse() else { return };
        let facts = s.console.facts.get(s).await;
        let shown = facts_of(s, signed, &facts, id, &self.user).await;
        if shown.as_ref().is_ok_and(|f| f.row.is_none()) {
            out.settled();
        }
        out.part("facts", part(s, "facts", "This connection", shown));
        out.put("foot", &foot(s, &facts));
    }
}
