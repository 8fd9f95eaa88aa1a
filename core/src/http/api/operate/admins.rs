//! Accounts of the console. A one-time link is shown once, when it is made; the store has its hash.

use crate::{
    http::{
        ApiRoutes,
        admin::link,
        auth::Application,
        extract::JsonBody,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{Json, extract::State, http::StatusCode};
use campanile_model::{
    Timestamp, clock,
    ports::{Admin, Role, Scope},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_admins, create_admin))
}

#[derive(Serialize, utoipa::ToSchema)]
struct AdminView {
    name: String,
    /// `support`, `viewer`, `operator` or `owner`.
    role: String,
    /// False until the first one-time link was used.
    has_password: bool,
    disabled: bool,
    #[serde(with = "clock::wire")]
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    #[serde(with = "clock::wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    signed_in_at: Option<Timestamp>,
}

impl From<Admin> for AdminView {
    fn from(a: Admin) -> Self {
        Self {
            name: a.name,
            role: a.role.as_str().to_owned(),
            has_password: a.has_password,
            disabled: a.disabled_at.is_some(),
            created_at: a.created_at,
            signed_in_at: a.signed_in_at,
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
struct AdminsBody {
    items: Vec<AdminView>,
}

/// All accounts, disabled ones too.
#[utoipa::path(get, path = "/admins", tag = "operate", responses((status = 200, body = AdminsBody)))]
async fn list_admins(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<AdminsBody>> {
    caller.require(Scope::Manage)?;
    let items = s.store.admins().await?.into_iter().map(Into::into).collect();
    Ok(Json(AdminsBody { items }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAdmin {
    #[schema(example = "dana")]
    name: String,
    /// `support`, `viewer`, `operator` or `owner` (the default). An account that exists keeps its own.
    role: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct CreatedAdmin {
    /// Opens once and leads to the choice of a password. Shown this once.
    link: String,
    /// Seconds.
    expires_in: u64,
    #[serde(flatten)]
    about: AdminView,
}

/// Makes an account, or a new way in for one that exists: a one-time link.
#[utoipa::path(post, path = "/admins", tag = "operate", request_body = NewAdmin, responses((status = 201, body = CreatedAdmin)))]
async fn create_admin(
    State(s): State<Arc<Services>>,
    caller: Application,
    JsonBody(new): JsonBody<NewAdmin>,
) -> ApiResult<(StatusCode, Json<CreatedAdmin>)> {
    caller.require(Scope::Manage)?;
    if !s.config.admin.enabled {
        return Err(ApiError::forbidden("console_off", "the console is switched off: admin.enabled is false"));
    }
    let mut errors = Vec::new();
    if let Err(e) = link::check_name(&new.name) {
        errors.push(FieldError::new("name", e));
    }
    let role = match new.role.as_deref() {
        None => Role::Owner,
        Some(text) => Role::parse(text).unwrap_or_else(|| {
            errors.push(FieldError::new("role", "must be support, viewer, operator or owner"));
            Role::Support
        }),
    };
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let base = s.config.server.public_url.clone().unwrap_or_else(|| format!("http://{}", s.address));
    let ttl = *s.config.admin.link_ttl;
    let (about, link) = link::make(s.store.as_ref(), &base, &new.name, role, ttl, &caller.actor).await?;
    Ok((StatusCode::CREATED, Json(CreatedAdmin { link, expires_in: ttl.as_secs(), about: about.into() })))
}
