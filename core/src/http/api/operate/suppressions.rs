//! Addresses and subscriptions that get nothing, by rule.

use crate::{
    http::{
        ApiRoutes,
        api::page_size,
        auth::Application,
        extract::{JsonBody, Params},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use campanile_model::{
    ChannelName,
    ports::{Scope, Suppression},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

const REASON_MAX: usize = 64;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_suppressions, add_suppression)).routes(routes!(lift_suppression))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SuppressionsQuery {
    /// Entries after this id: the `next_after` of the page before.
    after: Option<String>,
    /// 1 to 100; 50 when not given.
    limit: Option<u32>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct SuppressionsBody {
    items: Vec<Suppression>,
    next_after: Option<String>,
}

/// Suppressed addresses and unsubscriptions.
#[utoipa::path(get, path = "/suppressions", tag = "operate", params(SuppressionsQuery),
    responses((status = 200, body = SuppressionsBody)))]
async fn list_suppressions(
    State(s): State<Arc<Services>>,
    caller: Application,
    Params(q): Params<SuppressionsQuery>,
) -> ApiResult<Json<SuppressionsBody>> {
    caller.require(Scope::Read)?;
    let limit = page_size(q.limit, 50, 100)?;
    let items = s.store.suppressions(&caller.app, q.after.filter(|a| !a.is_empty()), limit).await?;
    let next_after = (items.len() == limit as usize).then(|| items.last().map(|i| i.id.clone())).flatten();
    Ok(Json(SuppressionsBody { items, next_after }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSuppression {
    #[schema(example = "email")]
    channel: ChannelName,
    #[schema(example = "gone@example.org")]
    address: String,
    /// A short word; `manual` when not given.
    reason: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Suppressed {
    /// `suppressed` or `lifted`.
    #[schema(example = "suppressed")]
    status: &'static str,
}

/// Suppresses an address. Harmless when it is already.
#[utoipa::path(post, path = "/suppressions", tag = "operate", request_body = NewSuppression,
    responses((status = 201, body = Suppressed)))]
async fn add_suppression(
    State(s): State<Arc<Services>>,
    caller: Application,
    JsonBody(new): JsonBody<NewSuppression>,
) -> ApiResult<(StatusCode, Json<Suppressed>)> {
    caller.require(Scope::Manage)?;
    let mut errors = Vec::new();
    match s.channels.get(&new.channel) {
        None => {
            let known: Vec<_> = s.channels.guards().iter().map(|c| c.name().to_string()).collect();
            errors.push(FieldError::new("channel", format!("unknown; the channels are {}", known.join(", "))));
        }
        Some(channel) if channel.in_app() => errors.push(FieldError::new("channel", "has no addresses")),
        Some(channel) => {
            errors.extend(channel.check_address(&new.address).err().map(|e| FieldError::new("address", e)));
        }
    }
    let reason = new.reason.unwrap_or_else(|| "manual".to_owned());
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if reason.is_empty() || reason.len() > REASON_MAX || !reason.bytes().all(word) {
        errors.push(FieldError::new("reason", "must be a word of a-z, 0-9 and _, at most 64 long"));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    s.store.add_suppression(&caller.app, &new.channel, &new.address, &reason, &caller.actor).await?;
    Ok((StatusCode::CREATED, Json(Suppressed { status: "suppressed" })))
}

/// Lifts a suppression or an unsubscription.
#[utoipa::path(delete, path = "/suppressions/{suppression_id}", tag = "operate",
    params(("suppression_id" = String, Path)),
    responses((status = 200, body = Suppressed), (status = 404, description = "There is none of this id.")))]
async fn lift_suppression(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(id): Path<String>,
) -> ApiResult<Json<Suppressed>> {
    caller.require(Scope::Manage)?;
    if !s.store.lift_suppression(&caller.app, &id, &caller.actor).await? {
        return Err(ApiError::not_found("suppression"));
    }
    Ok(Json(Suppressed { status: "lifted" }))
}
