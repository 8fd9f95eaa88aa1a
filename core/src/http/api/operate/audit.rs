//! Who changed what.

use crate::{
    http::{ApiRoutes, auth::Application, extract::Params, problem::ApiResult},
    services::Services,
};
use axum::{Json, extract::State};
use campanile_model::ports::{AuditRow, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_audit))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
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
    let items = s.store.audit(before, limit).await?;
    let next_before = (items.len() == limit as usize).then(|| items.last().map(|r| r.id)).flatten();
    Ok(Json(AuditBody { items, next_before }))
}
