//! `/dev/hooks`: a webhook bin. Whatever is sent to `/dev/hook/…` is kept, shown, and answered as the page says.

use super::{
    super::{
        App,
        admin::frame,
        page::page,
        problem::{ApiError, ApiResult, FieldError},
    },
    changes,
};
use crate::{dev::hooks::Caught, services::Services};
use axum::{
    Form,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use campanile_admin_ui::pages::hooks::{ANSWERS, Hook, HooksPage};
use serde::Deserialize;
use std::sync::Arc;

/// A plugin's largest message is far below.
const BODY_MAX: usize = 1024 * 1024;
const BIN: &str = "/dev/hook/";

pub(super) fn routes() -> App {
    App::new()
        .route("/dev/hooks", get(list))
        .route("/dev/hooks/live", get(live))
        .route("/dev/hooks/answer", post(answer))
        .route("/dev/hooks/clear", post(clear))
        .route("/dev/hooks/{id}", get(open))
        .route("/dev/hook/{*path}", any(caught).layer(DefaultBodyLimit::max(BODY_MAX)))
}

async fn list(State(s): State<Arc<Services>>, headers: HeaderMap) -> ApiResult<Response> {
    page(&bin(&s, &headers, None))
}

async fn open(State(s): State<Arc<Services>>, headers: HeaderMap, Path(id): Path<u64>) -> ApiResult<Response> {
    let found = s.hooks.get(id).ok_or_else(|| ApiError::not_found("request"))?;
    page(&bin(&s, &headers, Some(&found)))
}

/// One event per change; it says only that there is something to fetch.
async fn live(State(s): State<Arc<Services>>) -> Response {
    changes(&s, Some(s.hooks.watch())).into_response()
}

#[derive(Deserialize)]
struct Answer {
    answer: u16,
}

async fn answer(State(s): State<Arc<Services>>, Form(form): Form<Answer>) -> ApiResult<Redirect> {
    if !s.hooks.set_answer(form.answer) {
        let known: Vec<_> = ANSWERS.iter().map(|(status, _)| status.to_string()).collect();
        return Err(ApiError::invalid(vec![FieldError::new("answer", format!("must be one of {}", known.join(", ")))]));
    }
    Ok(Redirect::to("/dev/hooks"))
}

async fn clear(State(s): State<Arc<Services>>) -> Redirect {
    s.hooks.clear();
    Redirect::to("/dev/hooks")
}

async fn caught(
    State(s): State<Arc<Services>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult<Response> {
    let pairs = headers.iter().map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()));
    let path = uri.path_and_query().map_or("", |p| p.as_str());
    let status = s.hooks.catch(method.as_str(), path.strip_prefix(BIN).unwrap_or(path), pairs.collect(), &body);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Ok((status, [(header::RETRY_AFTER, "5")]).into_response());
    }
    Ok(status.into_response())
}

fn bin(s: &Services, headers: &HeaderMap, open: Option<&Caught>) -> HooksPage {
    HooksPage {
        frame: frame(s, headers, "/dev/hooks"),
        url: format!("http://{}{BIN}", s.address),
        hooks: s.hooks.list().iter().rev().map(|h| row(h)).collect(),
        open: open.map(row),
        answer: s.hooks.answer(),
    }
}

fn row(caught: &Caught) -> Hook {
    // JSON is what nearly all of them carry: shown as people read it.
    let pretty = serde_json::from_str::<serde_json::Value>(&caught.body).ok();
    let pretty = pretty.and_then(|v| serde_json::to_string_pretty(&v).ok());
    Hook {
        id: caught.id,
        at: caught.at,
        method: caught.method.clone(),
        path: caught.path.clone(),
        headers: caught.headers.clone(),
        body: pretty.unwrap_or_else(|| caught.body.clone()),
        answered: caught.answered,
    }
}
