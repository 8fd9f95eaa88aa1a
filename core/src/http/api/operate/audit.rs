//! Who changed what.

use crate::{
    http::{
        ApiRoutes,
        auth::Application,
        extract::Params,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{Json, extract::State};
use campanile_model::{
    Timestamp, clock,
    ports::{AuditFilter, AuditRow, AuditSource, Scope},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_audit)).routes(routes!(audit_chain))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Only what this one did: `admin:dana`, `key:<id>`, `operator`, `system`.
    actor: Option<String>,
    /// Only this action: `key.create`.
    action: Option<String>,
    /// Only what was done to this one.
    target: Option<String>,
    /// Only what came from this address.
    address: Option<String>,
    /// Only what this request did.
    request_id: Option<String>,
    /// `web` (the console), `api`, `cli`, `link` (in a mail) or `system`.
    source: Option<String>,
    /// Only entries from this moment on.
    since: Option<String>,
    /// Only entries before this moment.
    until: Option<String>,
    /// Entries below this id: the `next_before` of the page before.
    before: Option<String>,
    /// 1 to 100; 50 when not given.
    limit: Option<u32>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct AuditBody {
    /// Newest first.
    items: Vec<AuditRow>,
    next_before: Option<i64>,
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/audit", tag = "operate", params(AuditQuery), responses((status = 200, body = AuditBody)))]
async fn list_audit(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<AuditQuery>,
) -> ApiResult<Json<AuditBody>> {
    caller.require(Scope::Read)?;
    let limit = crate::http::api::page_size(q.limit, 50, 100)?;
    let before = crate::http::api::parsed(q.before.as_deref(), "before", "must be an id of this list")?;
    let time = "must be a time: 2027-01-31T00:00:00Z";
    let since = crate::http::api::parsed(q.since.as_deref(), "since", time)?;
    let until = crate::http::api::parsed(q.until.as_deref(), "until", time)?;
    let given = |text: Option<String>| text.filter(|t| !t.is_empty());
    let source = match given(q.source) {
        None => None,
        Some(text) => Some(AuditSource::parse(&text).ok_or_else(|| {
            ApiError::invalid(vec![FieldError::new("source", "must be web, api, cli, link or system")])
        })?),
    };
    let filter = AuditFilter {
        actor: given(q.actor),
        action: given(q.action),
        target: given(q.target),
        address: given(q.address),
        request_id: given(q.request_id),
        source,
        since,
        until,
        before,
        limit,
    };
    let items = s.store.find_audit(&filter).await?;
    let next_before = (items.len() == limit as usize).then(|| items.last().map(|r| r.id)).flatten();
    Ok(Json(AuditBody { items, next_before }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct ChainBody {
    /// Every entry up to this one follows from the one before it; null before the first look.
    verified_up_to: Option<i64>,
    /// When that entry was written.
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    written_at: Option<Timestamp>,
    /// Entries followed.
    entries: u64,
    /// The first entry that was changed, or that follows one that was removed; null when there is none.
    broken_at: Option<i64>,
    /// Nothing is left to follow. False: a long log, ask again.
    complete: bool,
}

/// Whether any entry of the audit log was changed or removed.
#[utoipa::path(get, path = "/audit/chain", tag = "operate", responses((status = 200, body = ChainBody)))]
async fn audit_chain(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<ChainBody>> {
    caller.require(Scope::Read)?;
    let view = s.console.chain.advance(s.store.as_ref(), s.clock.now()).await?;
    Ok(Json(ChainBody {
        verified_up_to: view.up_to,
        written_at: view.at,
        entries: view.followed,
        broken_at: view.broken,
        complete: view.whole,
    }))
}
