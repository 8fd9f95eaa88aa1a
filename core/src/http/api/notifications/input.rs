//! What comes in: JSON bodies under a limit of their own, and query parameters that name every fault.

use crate::{
    http::{
        extract,
        problem::{ApiError, ApiResult},
    },
    ingest::{Faults, names},
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use campanile_model::Timestamp;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde_json::Value;
use std::{collections::BTreeMap, str::FromStr};
use uuid::Uuid;

/// Reads a JSON body of at most `limit` bytes.
pub async fn json(headers: &HeaderMap, body: Body, limit: usize) -> ApiResult<Value> {
    if !extract::is_json(headers) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send JSON with Content-Type: application/json",
        ));
    }
    let bytes = bytes(headers, body, limit).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", format!("the body is not JSON: {e}")))
}

async fn bytes(headers: &HeaderMap, body: Body, limit: usize) -> ApiResult<Bytes> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than the {limit} bytes this call takes"),
        )
    };
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    // Refused before a byte of it is read.
    if declared.is_some_and(|n: u64| n > limit as u64) {
        return Err(too_large());
    }
    let mut read = Vec::with_capacity(declared.map_or(0, |n| n as usize));
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| {
            ApiError::new(StatusCode::BAD_REQUEST, "unreadable_body", "the body could not be read to its end")
                .caused_by(e)
        })?;
        if read.len() + chunk.len() > limit {
            return Err(too_large());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

/// Query parameters of a call that knows exactly these names.
pub struct Query {
    given: BTreeMap<String, String>,
    faults: Faults,
}

impl Query {
    pub fn parse(raw: Option<&str>, known: &[&str]) -> Self {
        let mut query = Self { given: BTreeMap::new(), faults: Faults::default() };
        for (name, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let field = name.chars().take(64).collect::<String>();
                query.faults.add_with(field, || names::unknown("parameter", &name, known));
            } else if query.given.insert(name.to_string(), value.into_owned()).is_some() {
                query.faults.add(name, "is given twice");
            }
        }
        query
    }

    /// The value, when there is one and it is not empty: a form sends its empty fields too.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.given.remove(name).filter(|v| !v.is_empty())
    }

    /// `read` says what is wrong with a value.
    pub fn map<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        read(&text).map_err(|message| self.faults.add(name, message)).ok()
    }

    pub fn time(&mut self, name: &str) -> Option<Timestamp> {
        self.map(name, |text| {
            DateTime::parse_from_rfc3339(text)
                .map(|t| t.with_timezone(&Utc))
                .map_err(|_| "must be a time in RFC 3339, such as 2030-01-31T09:30:00Z (write + as %2B)".to_owned())
        })
    }

    /// From 1 to `max`; `max` is the default too.
    pub fn limit(&mut self, max: u32) -> u32 {
        self.map("limit", |text| {
            text.parse().ok().filter(|n| (1..=max).contains(n)).ok_or_else(|| format!("must be from 1 to {max}"))
        })
        .unwrap_or(max)
    }

    /// What `cursor` made.
    pub fn cursor<T>(&mut self, made_of: impl FnOnce(Uuid) -> T) -> Option<T> {
        self.map("cursor", |text| {
            uncursor(text).map(made_of).ok_or_else(|| "is not one of ours; pass next_cursor as it was given".to_owned())
        })
    }

    /// Refuses the call when anything was wrong.
    pub fn done(self) -> ApiResult<()> {
        Ok(self.faults.finish()?)
    }
}

/// A place in a list, opaque to callers.
pub fn cursor(id: Uuid) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn uncursor(text: &str) -> Option<Uuid> {
    Uuid::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// A path's id; one that does not parse can't exist.
pub fn id<T: FromStr>(text: &str, what: &'static str) -> ApiResult<T> {
    text.parse().map_err(|_| ApiError::not_found(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(kind: &'static str) -> HeaderMap {
        [(header::CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect()
    }

    async fn refused(kind: &'static str, body: Body) -> (u16, &'static str, String) {
        let e = json(&headers(kind), body, 16).await.unwrap_err();
        (e.status.as_u16(), e.code, e.detail.into_owned())
    }

    #[tokio::test]
    async fn a_body_is_json_of_a_limited_size() {
        assert_eq!(
            json(&headers("application/json; charset=utf-8"), "{}".into(), 16).await.unwrap(),
            serde_json::json!({})
        );
        assert!(json(&headers("application/vnd.api+json"), "{}".into(), 16).await.is_ok());
        assert_eq!(refused("text/plain", "{}".into()).await.0, 415);
        assert_eq!(refused("application/json", "x".repeat(17).into()).await.0, 413);
        let endless = Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("xxxxx")));
        assert_eq!(refused("application/json", endless).await.0, 413);
        let (status, code, detail) = refused("application/json", "{\n \"a\": }".into()).await;
        assert_eq!((status, code), (400, "malformed_json"));
        assert!(detail.ends_with("at line 2 column 7"), "{detail}");
        assert_eq!(refused("application/json", "".into()).await.0, 400);
    }

    #[test]
    fn parameters_are_checked_all_at_once() {
        let mut q = Query::parse(Some("limit=0&lmit=5&since=now&user_id=a&user_id=b"), &["limit", "since", "user_id"]);
        let _ = (q.limit(100), q.time("since"), q.text("user_id"));
        let e = q.done().unwrap_err();
        let fields: Vec<_> = e.errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["lmit", "user_id", "limit", "since"]);
        assert!(e.errors[0].message.contains("did you mean \"limit\"?"));
    }

    proptest! {
        #[test]
        fn cursors_round_trip_and_others_are_refused(bytes in any::<[u8; 16]>(), junk in ".{0,40}") {
            let id = Uuid::from_bytes(bytes);
            prop_assert_eq!(uncursor(&cursor(id)), Some(id));
            if let Some(id) = uncursor(&junk) {
                prop_assert_eq!(cursor(id), junk);
            }
        }
    }
}
