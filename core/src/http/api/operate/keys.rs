//! API keys of applications. A key is shown once, when it is made; the store has its hash.

use crate::{
    http::{
        ApiRoutes,
        auth::{Application, keys, proxies},
        extract::{JsonBody, PathId},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{Json, extract::State, http::StatusCode};
use campanile_model::{
    KeyId, Timestamp, clock,
    ports::{ApiKey, Scope},
    signal::Signal,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use utoipa_axum::routes;

const NAME_MAX: usize = 100;
/// How long a rotated key works beside its successor.
const OVERLAP: Duration = Duration::from_hours(24);
pub const OVERLAP_MAX: Duration = Duration::from_hours(24 * 30);

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
        .routes(routes!(restrict_key))
        .routes(routes!(rotate_key))
}

#[derive(Serialize, utoipa::ToSchema)]
struct KeyView {
    key_id: KeyId,
    name: String,
    scopes: Vec<Scope>,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    expires_at: Option<Timestamp>,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    revoked_at: Option<Timestamp>,
    /// Written once a minute.
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    last_used_at: Option<Timestamp>,
    last_used_from: Option<String>,
    /// Method and path.
    #[schema(example = "POST /api/v1/notifications")]
    last_used_for: Option<String>,
    /// Addresses and networks (CIDR) it may be used from; none: from anywhere.
    networks: Vec<String>,
}

impl From<ApiKey> for KeyView {
    fn from(k: ApiKey) -> Self {
        Self {
            key_id: k.id,
            name: k.name,
            scopes: k.scopes,
            created_at: k.created_at,
            expires_at: k.expires_at,
            revoked_at: k.revoked_at,
            last_used_at: k.last_used_at,
            last_used_from: k.last_used_from,
            last_used_for: k.last_used_for,
            networks: k.networks,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
struct KeysBody {
    items: Vec<KeyView>,
}

/// All keys, revoked ones too.
#[utoipa::path(get, path = "/keys", tag = "operate", responses((status = 200, body = KeysBody)))]
async fn list_keys(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<KeysBody>> {
    caller.require(Scope::Read)?;
    let items = s.store.list_keys(&caller.app).await?.into_iter().map(Into::into).collect();
    Ok(Json(KeysBody { items }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// What it is for.
    #[schema(example = "billing service")]
    name: String,
    /// One or more of `send`, `read`, `manage`.
    scopes: Vec<Scope>,
    #[schema(value_type = Option<String>, format = "date-time")]
    expires_at: Option<Timestamp>,
    /// Addresses and networks (CIDR) it may be used from, at most 50; none: from anywhere.
    #[serde(default)]
    networks: Vec<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct CreatedKey {
    /// Shown this once.
    #[schema(example = "cmp_…")]
    key: String,
    #[serde(flatten)]
    about: KeyView,
}

/// Makes a key. Its scopes must be among the caller's own.
#[utoipa::path(post, path = "/keys", tag = "operate", request_body = NewKey, responses((status = 201, body = CreatedKey)))]
async fn create_key(
    State(s): State<Arc<Services>>,
    caller: Application,
    JsonBody(new): JsonBody<NewKey>,
) -> ApiResult<(StatusCode, Json<CreatedKey>)> {
    caller.require(Scope::Manage)?;
    let now = s.clock.now();
    let mut errors = Vec::new();
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        errors.push(FieldError::new("name", "must be 1 to 100 characters without control characters"));
    }
    if new.scopes.is_empty() {
        errors.push(FieldError::new("scopes", "must hold at least one of send, read, manage"));
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        errors.push(FieldError::new("expires_at", "must be in the future"));
    }
    if let Err(why) = proxies::networks(&new.networks.join(",")) {
        errors.push(FieldError::new("networks", why));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let mut scopes = new.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    // Nobody hands on what they don't have.
    for scope in &scopes {
        caller.require(*scope)?;
    }
    let (mut row, key) = keys::generate(caller.app.clone(), name.to_owned(), scopes, now);
    row.expires_at = new.expires_at;
    row.networks = new.networks;
    let about = row.clone().into();
    s.store.create_key(row, &caller.actor).await?;
    s.bus.publish(Signal::KeysChanged(caller.app));
    Ok((StatusCode::CREATED, Json(CreatedKey { key: key.expose().to_owned(), about })))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Restriction {
    /// Addresses and networks (CIDR), at most 50; none: from anywhere.
    #[schema(example = json!(["10.0.0.0/8"]))]
    networks: Vec<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Restricted {
    key_id: KeyId,
    networks: Vec<String>,
}

/// Says from where a key may be used; calls from elsewhere get 403 `address_not_allowed`.
#[utoipa::path(put, path = "/keys/{key_id}/networks", tag = "operate", params(("key_id" = KeyId, Path)),
    request_body = Restriction,
    responses((status = 200, body = Restricted), (status = 404, description = "No such key, or revoked before.")))]
async fn restrict_key(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(key_id): PathId<KeyId>,
    JsonBody(new): JsonBody<Restriction>,
) -> ApiResult<Json<Restricted>> {
    caller.require(Scope::Manage)?;
    let networks = proxies::networks(&new.networks.join(","))
        .map_err(|why| ApiError::invalid(vec![FieldError::new("networks", why)]))?;
    if s.store.restrict_key(&caller.app, key_id, &networks, &caller.actor).await?.is_none() {
        return Err(ApiError::not_found("active key"));
    }
    s.bus.publish(Signal::KeysChanged(caller.app));
    Ok(Json(Restricted { key_id, networks }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the key works beside its successor: 0 to 2,592,000 (30 days); a day when not given.
    #[schema(example = 86_400)]
    overlap_s: Option<u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct RotatedKey {
    #[serde(flatten)]
    successor: CreatedKey,
    /// The key in whose place it is.
    rotated: KeyId,
    /// When that one ends, on all nodes; sooner than asked for when it was to end sooner anyway.
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    rotated_ends_at: Option<Timestamp>,
}

/// Makes a key with the name, scopes and networks of another one, which ends after an overlap. Its scopes must be among the
/// caller's own.
#[utoipa::path(post, path = "/keys/{key_id}/rotate", tag = "operate", params(("key_id" = KeyId, Path)),
    request_body = Rotation,
    responses((status = 201, body = RotatedKey), (status = 404, description = "No such key, or it has ended.")))]
async fn rotate_key(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(key_id): PathId<KeyId>,
    JsonBody(asked): JsonBody<Rotation>,
) -> ApiResult<(StatusCode, Json<RotatedKey>)> {
    caller.require(Scope::Manage)?;
    let overlap = asked.overlap_s.map_or(OVERLAP, Duration::from_secs);
    if overlap > OVERLAP_MAX {
        return Err(ApiError::invalid(vec![FieldError::new("overlap_s", "must be at most 2,592,000: 30 days")]));
    }
    let gone = || ApiError::not_found("active key");
    let old = s.store.find_key(key_id).await?.filter(|k| k.app == caller.app).ok_or_else(gone)?;
    // Nobody hands on what they don't have.
    for scope in &old.scopes {
        caller.require(*scope)?;
    }
    let (fresh, key) = keys::generate(caller.app.clone(), String::new(), Vec::new(), s.clock.now());
    let made = s.store.rotate_key(&caller.app, key_id, fresh, overlap, &caller.actor).await?.ok_or_else(gone)?;
    s.bus.publish(Signal::KeysChanged(caller.app));
    let ends = s.store.find_key(key_id).await?.and_then(|k| k.expires_at);
    let successor = CreatedKey { key: key.expose().to_owned(), about: made.into() };
    Ok((StatusCode::CREATED, Json(RotatedKey { successor, rotated: key_id, rotated_ends_at: ends })))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Revoked {
    key_id: KeyId,
    /// Always `revoked`.
    #[schema(example = "revoked")]
    status: &'static str,
}

/// Ends a key at once, on all nodes.
#[utoipa::path(delete, path = "/keys/{key_id}", tag = "operate", params(("key_id" = KeyId, Path)),
    responses((status = 200, body = Revoked), (status = 404, description = "No such key, or revoked before.")))]
async fn revoke_key(
    State(s): State<Arc<Services>>,
    caller: Application,
    PathId(key_id): PathId<KeyId>,
) -> ApiResult<Json<Revoked>> {
    caller.require(Scope::Manage)?;
    if !s.store.revoke_key(&caller.app, key_id, &caller.actor).await? {
        return Err(ApiError::not_found("active key"));
    }
    s.bus.publish(Signal::KeysChanged(caller.app));
    Ok(Json(Revoked { key_id, status: "revoked" }))
}
