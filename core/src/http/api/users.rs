//! `/api/v1/users/{user_id}`: contact points, the right to be forgotten, and two who are one.

use super::notifications::{Problems, ReadProblems, input};
use crate::{
    http::{
        ApiRoutes,
        auth::Application,
        problem::{ApiError, ApiResult, FieldError, Problem},
    },
    ingest::{contact, names},
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
    ports::{Erased, Merged, Scope},
    user::User,
};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;
use utoipa_axum::routes;

/// The field of a merge.
const FROM: &str = "from_user_id";

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(get_user, put_user, erase_user))
        .routes(routes!(merge_user))
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

/// Who goes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"from_user_id": "anon-1"}))]
pub struct MergeBody {
    /// Your own id of the user who is merged and no longer known afterwards.
    pub from_user_id: String,
}

/// Merge another user into this one
///
/// Deliveries, feed, unsubscriptions and missing contact points of `from_user_id` become this user's, who is created if
/// only the other is known; the other's feed is empty afterwards. What both have is kept once. Open sockets of both start
/// anew (`reset`). Nothing takes it back. Requests that are stored keep the name that they were sent with.
#[utoipa::path(
    post, path = "/users/{user_id}/merge", tag = "users",
    params(("user_id" = String, Path, description = "Your own id of the user who stays, at most 255 characters.")),
    request_body = MergeBody,
    responses((status = 200, description = "What was merged.", body = Merged),
              (status = 404, description = "Neither of them is known.", body = Problem,
               content_type = "application/problem+json"), Problems)
)]
async fn merge_user(
    State(s): State<Arc<Services>>,
    application: Application,
    Path(user_id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<Merged>> {
    let into = managed(&application, &user_id)?;
    let body = input::json(&headers, body, s.config.ingest.body_max).await?;
    let from = UserKey { app: into.app.clone(), user: merged(&body, &into.user).map_err(ApiError::invalid)? };
    s.status.merge(&from, &into, &application.actor).await?.map(Json).ok_or_else(|| ApiError::not_found("user"))
}

/// Whom the body names.
fn merged(body: &Value, into: &UserId) -> Result<UserId, Vec<FieldError>> {
    let Value::Object(body) = body else { return Err(vec![FieldError::new("body", "must be a JSON object")]) };
    let mut errors: Vec<FieldError> = body
        .keys()
        .filter(|name| *name != FROM)
        .map(|name| FieldError::new(name.clone(), names::unknown("field", name, &[FROM])))
        .collect();
    let from = match body.get(FROM) {
        Some(Value::String(from)) => other_user(from, into),
        Some(_) => Err("must be a string"),
        None => Err("is required"),
    };
    match (from, errors.is_empty()) {
        (Ok(from), true) => Ok(from),
        (Ok(_), false) => Err(errors),
        (Err(message), _) => {
            errors.push(FieldError::new(FROM, message));
            Err(errors)
        }
    }
}

/// The id of somebody who can be merged into this user.
pub fn other_user(from: &str, into: &UserId) -> Result<UserId, &'static str> {
    let from = UserId::parse(from)?;
    if from == *into { Err("must be another user than the one who stays") } else { Ok(from) }
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
    use serde_json::json;

    #[test]
    fn a_merge_names_somebody_else_and_nothing_more() {
        let into = UserId::from("ada");
        assert_eq!(merged(&json!({"from_user_id": "anon-1"}), &into).unwrap().as_str(), "anon-1");
        for (body, fields) in [
            (json!([]), vec!["body"]),
            (json!({}), vec!["from_user_id"]),
            (json!({"from_user_id": 7}), vec!["from_user_id"]),
            (json!({"from_user_id": ""}), vec!["from_user_id"]),
            (json!({"from_user_id": "a\u{0}b"}), vec!["from_user_id"]),
            (json!({"from_user_id": "ada"}), vec!["from_user_id"]),
            (json!({"from_user_id": "anon-1", "form": 1}), vec!["form"]),
            (json!({"from": "anon-1"}), vec!["from", "from_user_id"]),
        ] {
            let errors = merged(&body, &into).unwrap_err();
            assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), fields, "{body}");
        }
    }

    #[test]
    fn the_document_shows_the_fields_that_are_read() {
        let body = UserBody { email: None, locale: None, timezone: None, addresses: None };
        let shown = serde_json::to_value(body).unwrap();
        assert!(contact::FIELDS.iter().all(|f| shown.get(*f).is_some()));
        assert_eq!(shown.as_object().unwrap().len(), contact::FIELDS.len());
    }
}
