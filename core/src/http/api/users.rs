//! `/api/v1/users/{user_id}`: contact points, and the right to be forgotten.

use super::notifications::{Problems, ReadProblems, input};
use crate::{
    http::{
        ApiRoutes,
        auth::Application,
        problem::{ApiError, ApiResult, FieldError},
    },
    ingest::contact,
    services::Services,
};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
};
use campanile_model::{
    ChannelName, Timestamp, UserId, UserKey,
    clock::wire,
    ports::{Erased, Scope},
    user::User,
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(get_user, put_user, erase_user))
        .routes(routes!(disable_user))
        .routes(routes!(enable_user))
}

/// Where a user can be reached. All of it is optional; what is left out is removed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"email": "ada@example.org", "locale": "en-GB", "timezone": "Europe/London"}))]
pub struct UserBody {
    /// Also the address of the channel `email`.
    pub email: Option<String>,
    /// A language tag such as `de-DE`.
    pub locale: Option<String>,
    /// An IANA name such as `Europe/Berlin`.
    pub timezone: Option<String>,
    /// Channel → address.
    pub addresses: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    pub user_id: UserId,
    pub email: Option<String>,
    pub locale: Option<String>,
    pub timezone: Option<String>,
    #[schema(value_type = BTreeMap<String, String>)]
    pub addresses: BTreeMap<ChannelName, String>,
    pub disabled: bool,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub disabled_at: Option<Timestamp>,
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub updated_at: Timestamp,
}

impl From<User> for UserView {
    fn from(u: User) -> Self {
        Self {
            user_id: u.user_id,
            email: u.contact.email,
            locale: u.contact.locale,
            timezone: u.contact.timezone,
            addresses: u.contact.addresses,
            disabled: u.disabled_at.is_some(),
            disabled_at: u.disabled_at,
            created_at: u.created_at,
            updated_at: u.updated_at,
        }
    }
}

/// Show a user
#[utoipa::path(
    get, path = "/users/{user_id}", tag = "users",
    params(("user_id" = String, Path, description = "Your own id of the user.")),
    responses((status = 200, description = "The user's contact points.", body = UserView), ReadProblems)
)]
async fn get_user(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(user_id): Path<String>,
) -> ApiResult<Json<UserView>> {
    shown(&s, &managed(&application, &user_id)?).await
}

/// Create a user or replace the contact points
#[utoipa::path(
    put, path = "/users/{user_id}", tag = "users",
    params(("user_id" = String, Path, description = "Your own id of the user, at most 255 characters.")),
    request_body = UserBody,
    responses((status = 200, description = "As stored.", body = UserView), Problems)
)]
async fn put_user(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(user_id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<UserView>> {
    let user = managed(&application, &user_id)?;
    let body = input::json(&headers, body, s.config.ingest.body_max).await?;
    let contact = contact::parse(&body, s.channels.as_ref())?;
    Ok(Json(s.store.put_user(&user, contact).await?.into()))
}

/// Erase a user
///
/// Waiting deliveries are cancelled, the feed is emptied, addresses are forgotten. A mail under way can't be called back
/// and is reported as `in_flight`.
#[utoipa::path(
    delete, path = "/users/{user_id}", tag = "users",
    params(("user_id" = String, Path, description = "Your own id of the user.")),
    responses((status = 200, description = "What was erased.", body = Erased), ReadProblems)
)]
async fn erase_user(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(user_id): Path<String>,
) -> ApiResult<Json<Erased>> {
    let user = managed(&application, &user_id)?;
    s.status.erase(&user, &application.actor).await?.map(Json).ok_or_else(|| ApiError::not_found("user"))
}

/// Switch a user off
///
/// The user's sockets are closed and everything sent from now on is `suppressed` (`user_disabled`).
#[utoipa::path(
    post, path = "/users/{user_id}/disable", tag = "users",
    params(("user_id" = String, Path, description = "Your own id of the user.")),
    responses((status = 200, description = "The user, disabled.", body = UserView), ReadProblems)
)]
async fn disable_user(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(user_id): Path<String>,
) -> ApiResult<Json<UserView>> {
    let user = managed(&application, &user_id)?;
    s.status.set_disabled(&user, true, &application.actor).await?;
    shown(&s, &user).await
}

/// Switch a user on again
#[utoipa::path(
    post, path = "/users/{user_id}/enable", tag = "users",
    params(("user_id" = String, Path, description = "Your own id of the user.")),
    responses((status = 200, description = "The user, enabled.", body = UserView), ReadProblems)
)]
async fn enable_user(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(user_id): Path<String>,
) -> ApiResult<Json<UserView>> {
    let user = managed(&application, &user_id)?;
    s.status.set_disabled(&user, false, &application.actor).await?;
    shown(&s, &user).await
}

/// The user named in the path, once the key may manage users.
fn managed(application: &Application, user_id: &str) -> ApiResult<UserKey> {
    application.require(Scope::Manage)?;
    let user =
        UserId::parse(user_id).map_err(|message| ApiError::invalid(vec![FieldError::new("user_id", message)]))?;
    Ok(UserKey { app: application.app.clone(), user })
}

async fn shown(s: &Services, user: &UserKey) -> ApiResult<Json<UserView>> {
    s.store.get_user(user).await?.map(|u| Json(u.into())).ok_or_else(|| ApiError::not_found("user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_the_fields_that_are_read() {
        let body = UserBody { email: None, locale: None, timezone: None, addresses: None };
        let shown = serde_json::to_value(body).unwrap();
        assert!(contact::FIELDS.iter().all(|f| shown.get(*f).is_some()));
        assert_eq!(shown.as_object().unwrap().len(), contact::FIELDS.len());
    }
}
