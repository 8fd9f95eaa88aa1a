//! `POST /notifications/batch`: items stand alone and share commits.

use super::{
    Problems,
    body::{BatchBody, BatchResult, BatchResults, ItemError},
    caller, input,
    send::{IDEMPOTENCY_KEY, counted},
};
use crate::{
    http::{
        auth::Application,
        problem::{ApiError, ApiResult, FieldError},
    },
    ingest::{Answer, Faults, IngestError, Invalid, names},
    services::Services,
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use campanile_model::ports::Scope;
use serde_json::Value;
use std::sync::Arc;

/// Send up to 1,000 notifications
///
/// Each item has its own validation, idempotency key and result, in the order given. A batch is refused as a whole only
/// when it can't be read, or when nothing of it could be written.
#[utoipa::path(
    post, path = "/notifications/batch", tag = "notifications",
    request_body = BatchBody,
    responses((status = 202, description = "One result for each item, in order.", body = BatchResults), Problems)
)]
pub async fn send_batch(
    State(s): State<Arc<Services>>,
    application: Application,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<(StatusCode, Json<BatchResults>)> {
    application.require(Scope::Send)?;
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let error = FieldError::new("Idempotency-Key", "is not for a batch; give each item its idempotency_key");
        return Err(counted(&s, ApiError::invalid(vec![error])));
    }
    let limits = &s.config.ingest;
    let body = input::json(&headers, body, limits.batch_body_max).await.map_err(|e| counted(&s, e))?;
    let items = items(body, limits.batch_max).map_err(|e| counted(&s, e.into()))?;
    let results = s.ingest.accept_batch(&caller(&application), items).await?;
    if let Some(e) = nothing_done(&results) {
        return Err(e);
    }
    let results = results.into_iter().enumerate().map(|(index, result)| shown(index, result)).collect();
    Ok((StatusCode::ACCEPTED, Json(BatchResults { results })))
}

fn items(body: Value, max: usize) -> Result<Vec<Value>, Invalid> {
    const FIELD: &str = "notifications";
    let mut faults = Faults::default();
    let mut items = Vec::new();
    if let Value::Object(mut body) = body {
        match body.remove(FIELD) {
            Some(Value::Array(given)) if given.is_empty() => faults.add(FIELD, "must hold at least one notification"),
            Some(Value::Array(given)) if given.len() > max => {
                faults.add(FIELD, format!("must hold at most {max} notifications, not {}", given.len()));
            }
            Some(Value::Array(given)) => items = given,
            Some(Value::Null) | None => faults.add(FIELD, "is required"),
            Some(_) => faults.add(FIELD, "must be an array"),
        }
        for name in body.keys() {
            let field = name.chars().take(64).collect::<String>();
            faults.add_with(field, || names::unknown("field", name, &[FIELD]));
        }
    } else {
        faults.add("body", "must be a JSON object with `notifications`");
    }
    faults.finish().map(|()| items)
}

/// The database was away for every single item: then the whole call may be made again.
fn nothing_done(results: &[Result<Answer, IngestError>]) -> Option<ApiError> {
    let all = results.iter().all(|r| matches!(r, Err(e) if e.is_temporary()));
    all.then(|| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "nothing of the batch was taken; try again")
            .retry_after(std::time::Duration::from_secs(2))
    })
}

fn shown(index: usize, result: Result<Answer, IngestError>) -> BatchResult {
    match result {
        Ok(Answer::Stored { body, replayed }) => BatchResult {
            index,
            notification_id: Some(body.notification_id),
            status: Some(body.status),
            deliveries: body.deliveries,
            audience: body.audience,
            replayed,
            error: None,
        },
        Ok(Answer::Ephemeral { notification_id, pushed }) => BatchResult {
            index,
            notification_id: Some(notification_id),
            status: Some(if pushed { "pushed" } else { "dropped" }.to_owned()),
            ..BatchResult::default()
        },
        Err(e) => BatchResult { index, error: Some(item_error(index, e.into())), ..BatchResult::default() },
    }
}

fn item_error(index: usize, e: ApiError) -> ItemError {
    if e.status.is_server_error() {
        // An item's error never becomes a response of its own, where others are logged.
        let source = e.source.as_deref().map(|e| e as &dyn std::error::Error);
        tracing::error!(code = e.code, error = source, "Item {index} of a batch failed: {}", e.detail);
    }
    ItemError { code: e.code.to_owned(), detail: e.detail.into_owned(), errors: e.errors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_batch_is_one_to_max_notifications() {
        assert_eq!(items(json!({"notifications": [1, {}]}), 2).unwrap().len(), 2);
        for bad in [
            json!({}),
            json!({"notifications": null}),
            json!({"notifications": []}),
            json!({"notifications": {}}),
            json!({"notifications": [1, 2, 3]}),
            json!({"notifications": [1], "idempotency_key": "k"}),
            json!([]),
        ] {
            assert_eq!(items(bad.clone(), 2).unwrap_err().faults.len(), 1, "{bad}");
        }
        let fields: Vec<_> =
            items(json!({"notifcations": [1]}), 2).unwrap_err().faults.into_iter().map(|f| f.message).collect();
        assert!(fields[1].contains("did you mean \"notifications\"?"), "{fields:?}");
    }
}
