//! `/demo`: the page with both users' tokens, and its send form, which speaks with the operator's rights.

use super::super::{
    App,
    admin::frame,
    extract::JsonBody,
    page::page,
    problem::{ApiError, ApiResult, FieldError},
    request_id,
};
use crate::{
    dev::seed,
    ingest::{Answer, Caller},
    services::Services,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use campanile_admin_ui::pages::demo::{Demo, Person};
use campanile_model::{AppId, UserId, plan::Source, ports::Actor};
use serde::Deserialize;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// As long as somebody plays with the page.
const TOKEN_LIFE: Duration = Duration::from_hours(1);

pub(super) fn routes() -> App {
    App::new().route("/demo", get(demo)).route("/demo/send", post(send))
}

async fn demo(State(s): State<Arc<Services>>, headers: HeaderMap) -> ApiResult<Response> {
    let mint = |user: &str| s.jwt.mint(&UserId::from(user), TOKEN_LIFE);
    let people = seed::USERS
        .iter()
        .map(|(user, email)| Ok(Person { user: (*user).into(), email: (*email).into(), token: mint(user)? }))
        .collect::<anyhow::Result<Vec<_>>>()
        .map_err(|e| {
            let why = "this server checks tokens with a public key, so it can't make any for the demo";
            ApiError::new(StatusCode::CONFLICT, "cannot_mint", why).caused_by(e)
        })?;
    // The guard has checked the Host: it is one of this machine's names.
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    page(&Demo { frame: frame(&s, &headers, "/demo"), people, socket: format!("ws://{host}") })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// A demo user, or `both`.
    to: String,
    title: String,
    #[serde(default)]
    message: String,
    notification_type: String,
    channels: Vec<String>,
}

async fn send(State(s): State<Arc<Services>>, JsonBody(form): JsonBody<Form>) -> ApiResult<Response> {
    let to: Vec<_> = seed::USERS.iter().map(|(user, _)| *user).filter(|u| form.to == "both" || form.to == *u).collect();
    if to.is_empty() {
        return Err(ApiError::invalid(vec![FieldError::new("to", "must be ada, bo or both")]));
    }
    let request = json!({
        "to": to,
        "title": form.title,
        "message": form.message,
        "notification_type": form.notification_type,
        "channels": form.channels,
    });
    let actor = Actor { who: "operator".into(), address: None, request_id: request_id() };
    let caller = Caller { app: AppId::default(), source: Source::Api, request_id: request_id(), actor, trace: None };
    match s.ingest.accept(&caller, request, None).await? {
        Answer::Stored { body, .. } => Ok((StatusCode::ACCEPTED, Json(body)).into_response()),
        // The form has no such switch.
        Answer::Ephemeral { notification_id, .. } => {
            Ok(Json(json!({ "notification_id": notification_id })).into_response())
        }
    }
}
