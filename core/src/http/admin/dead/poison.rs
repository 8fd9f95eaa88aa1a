//! Messages of the queue that could not be read: kept as they came, taken once more, or discarded.

use super::{Asked, ROWS};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Ask, Posted, ask, done},
        },
        problem::{ApiError, ApiResult},
        request_id,
    },
    ingest::{Caller, idempotency_key},
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use campanile_admin_ui::{
    pages::dead::{self as ui, PoisonRow},
    pieces::{Empty, Pager, Toast},
};
use campanile_model::{AppId, plan::Source, ports::Role};
use std::sync::Arc;

pub async fn draw(s: &Services, signed: &Signed, asked: &Asked) -> ApiResult<ui::Poison> {
    let before = asked.before.parse().ok();
    let mut found = s.store.poison(before, ROWS + 1).await?;
    let more = found.len() > ROWS as usize;
    found.truncate(ROWS as usize);
    let older = found.last().filter(|_| more).map(|p| asked.here().at("before", p.id));
    let content = signed.admin.role.may_read_content();
    let rows: Vec<PoisonRow> = found
        .into_iter()
        .map(|p| PoisonRow {
            id: p.id,
            at: p.created_at,
            source: p.source,
            reason: p.reason,
            raw: content.then(|| (p.headers.unwrap_or_default(), p.raw)),
        })
        .collect();
    Ok(ui::Poison {
        pager: Pager {
            words: format!("{} shown", rows.len()),
            newer: before.map(|_| "/admin/dead?tab=poison".to_owned()),
            older,
        },
        rows,
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        empty: Empty {
            title: "Every message could be read".into(),
            why:
                "A message of campanile.ingest that does not parse or is not valid lands here with its reason, and is \
                  acknowledged, so that it holds up nothing."
                    .into(),
            ..Empty::default()
        },
        back: "/admin/dead?tab=poison".to_owned(),
    })
}

pub async fn act(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path((id, verb)): Path<(i64, String)>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let back = posted.get("back");
    let (row, raw) = s.store.poison_message(id).await?.ok_or_else(|| ApiError::not_found("message"))?;
    match verb.as_str() {
        "discard" => {
            let question = Ask {
                title: "Discard this message?".into(),
                consequence: "It is deleted. Nobody was notified by it, and nobody will be.".into(),
                label: "Discard".into(),
                word: "discard",
                count: 1,
                action: format!("/admin/dead/poison/{id}/discard"),
            };
            if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
                return Ok(asking);
            }
            s.store.discard_poison(id, "poison.discard", &signed.actor).await?;
            Ok(done(&s, &signed, &headers, back, Toast::ok("The message is discarded.")))
        }
        "again" => {
            take_again(&s, &signed, row.headers.as_deref(), &raw).await?;
            s.store.discard_poison(id, "poison.retry", &signed.actor).await?;
            Ok(done(&s, &signed, &headers, back, Toast::ok("The message is taken as a notification.")))
        }
        _ => Err(ApiError::not_found("action")),
    }
}

/// Through the same door as any other request; what was wrong with it may be mended by now: a channel, a plugin, a limit.
/// Its `message_id` is its idempotency key as ever, so taken twice it notifies once.
async fn take_again(s: &Services, signed: &Signed, headers: Option<&str>, raw: &[u8]) -> ApiResult<()> {
    let still = |why: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "still_unreadable", why);
    let request = serde_json::from_slice(raw).map_err(|e| still(format!("it is still not JSON: {e}")))?;
    let headers: serde_json::Value = headers.and_then(|h| serde_json::from_str(h).ok()).unwrap_or_default();
    let text = |key: &str| headers.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let key = text("message_id");
    if let Some(key) = &key {
        idempotency_key(key).map_err(|e| still(format!("its message_id {e}")))?;
    }
    let app = text("x-app").map_or_else(AppId::default, |a| AppId::from(a.as_str()));
    if !s.store.app_exists(&app).await? {
        return Err(still(format!("there is no app {app}")));
    }
    let caller =
        Caller { app, source: Source::Amqp, request_id: request_id(), actor: signed.actor.clone(), trace: None };
    s.ingest.accept(&caller, request, key).await?;
    Ok(())
}
