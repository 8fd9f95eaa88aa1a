//! Messages from the queue that could not be read or were not valid, with the reason.

use crate::{
    http::{ApiRoutes, auth::Application, extract::Params, problem::ApiResult},
    services::Services,
};
use axum::{Json, extract::State};
use campanile_model::ports::{PoisonRow, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_poison))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PoisonQuery {
    /// Entries below this id: the `next_before` of the page before.
    before: Option<String>,
    /// 1 to 100; 50 when not given.
    limit: Option<u32>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct PoisonBody {
    /// Newest first.
    items: Vec<PoisonRow>,
    next_before: Option<i64>,
}

/// Messages that were put aside, newest first.
#[utoipa::path(get, path = "/poison", tag = "operate", params(PoisonQuery), responses((status = 200, body = PoisonBody)))]
async fn list_poison(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<PoisonQuery>,
) -> ApiResult<Json<PoisonBody>> {
    caller.require(Scope::Read)?;
    let limit = crate::http::api::page_size(q.limit, 50, 100)?;
    let before = crate::http::api::parsed(q.before.as_deref(), "before", "must be an id of this list")?;
    let items = s.store.poison(before, limit).await?;
    let next_before = (items.len() == limit as usize).then(|| items.last().map(|r| r.id)).flatten();
    Ok(Json(PoisonBody { items, next_before }))
}
