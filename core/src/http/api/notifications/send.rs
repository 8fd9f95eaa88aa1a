//! `POST /notifications`.

use super::{
    Problems,
    body::{NotificationBody, Pushed},
    caller, input,
};
use crate::{
    http::{
        auth::Application,
        problem::{ApiError, ApiResult, FieldError},
    },
    ingest::{self, Answer},
    observe::metrics::ByReason,
    services::Services,
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use campanile_model::{api::Acceptance, ports::Scope};
use std::sync::Arc;

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Send a notification
///
/// Answered after the commit and never before: accepted means it will reach a settled state. With `persist: false` the
/// answer is 200 and nothing is stored.
#[utoipa::path(
    post, path = "/notifications", tag = "notifications",
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "At most 255 printable characters, kept 24 h. The same key and body give the stored answer."
    )),
    request_body = NotificationBody,
    responses(
        (status = 202, description = "Accepted: committed with all its deliveries.", body = Acceptance,
         headers(("Idempotency-Replayed" = bool, description = "`true` on a stored answer."))),
        (status = 200, description = "`persist: false`: told to open sockets.", body = Pushed),
        Problems
    )
)]
pub async fn send_notification(
    State(s): State<Arc<Services>>,
    application: Application,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    application.require(Scope::Send)?;
    let key = idempotency_key(&headers).map_err(|e| counted(&s, e))?;
    let request = input::json(&headers, body, s.config.ingest.body_max).await.map_err(|e| counted(&s, e))?;
    Ok(match s.ingest.accept(&caller(&application), request, key).await? {
        Answer::Stored { body, replayed } => {
            let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
            if replayed {
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            }
            response
        }
        Answer::Ephemeral { notification_id, pushed } => Json(Pushed::new(notification_id, pushed)).into_response(),
    })
}

fn idempotency_key(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let wrong = |message: &str| ApiError::invalid(vec![FieldError::new("Idempotency-Key", message)]);
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(wrong("is given twice"));
    }
    let key = first.to_str().map_err(|_| wrong("must be printable ASCII"))?;
    ingest::idempotency_key(key).map_err(wrong)?;
    Ok(Some(key.to_owned()))
}

/// Refusals before ingest are counted with the others.
pub fn counted(s: &Services, e: ApiError) -> ApiError {
    s.metrics.rejected.get_or_create(&ByReason::new(e.code)).inc();
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(values: &[&'static [u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for v in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(v).unwrap());
        }
        idempotency_key(&headers).map_err(|e| e.errors[0].message.clone())
    }

    #[test]
    fn the_key_is_one_printable_header() {
        assert_eq!(key_of(&[]), Ok(None));
        assert_eq!(key_of(&[b"order-17"]), Ok(Some("order-17".into())));
        assert!(key_of(&[b"a", b"b"]).is_err());
        assert!(key_of(&[b""]).is_err());
        assert!(key_of(&[b"caf\xc3\xa9"]).is_err());
        assert!(key_of(&[b"a\tb"]).is_err());
    }
}
