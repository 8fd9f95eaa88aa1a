//! Calls of the HTTP API, as an application or an end user makes them.

use crate::wait::until;
use reqwest::{Client, Method, header::HeaderMap};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Once,
    time::{Duration, Instant},
};

/// One caller of one host.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    base: String,
    key: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// `Null` when the body is not JSON.
    pub json: Value,
    pub took: Duration,
}

impl Reply {
    /// The body, when the status is the expected one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "unexpected answer: {}", self.text);
        self.json
    }

    /// The problem's code, when the answer is a well-formed problem of this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "unexpected answer: {}", self.text);
        let kind = self.header("content-type");
        assert!(kind.starts_with("application/problem+json"), "a problem came as {kind}: {}", self.text);
        for field in ["type", "title", "detail", "code", "request_id"] {
            assert!(self.json[field].is_string(), "a problem without {field}: {}", self.text);
        }
        assert_eq!(self.json["status"], status, "the body names another status: {}", self.text);
        assert!(!self.json["request_id"].as_str().unwrap().is_empty(), "an empty request id: {}", self.text);
        self.json["code"].as_str().unwrap()
    }

    /// The fields a 422 names, sorted.
    pub fn fields(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array().cloned().unwrap_or_default();
        let mut fields: Vec<_> = errors.iter().map(|e| e["field"].as_str().unwrap_or_default().to_owned()).collect();
        fields.sort();
        fields.dedup();
        fields
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

impl Api {
    pub fn new(base: &str, key: &str) -> Self {
        Self { client: client(), base: base.trim_end_matches('/').to_owned(), key: Some(key.to_owned()) }
    }
    pub fn anonymous(&self) -> Self {
        Self { key: None, ..self.clone() }
    }
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }
    /// The same caller at another host, or at where this one is now.
    pub fn at(&self, host: &crate::TestHost) -> Self {
        Self { base: host.url(""), ..self.clone() }
    }
    /// The address calls start with.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends what [`Self::request`] began; fails when no answer came.
    pub async fn try_run(&self, request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
        let start = Instant::now();
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, text, json, took: start.elapsed() })
    }

    pub async fn run(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_run(request).await.expect("the host answers")
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.run(self.request("GET", path)).await
    }
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.run(self.request("POST", path).json(body)).await
    }
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.run(self.request("PUT", path).json(body)).await
    }
    pub async fn delete(&self, path: &str) -> Reply {
        self.run(self.request("DELETE", path)).await
    }

    /// `POST /notifications`.
    pub async fn send(&self, body: &Value) -> Reply {
        self.post("/api/v1/notifications", body).await
    }

    pub async fn send_with_key(&self, key: &str, body: &Value) -> Reply {
        self.run(self.request("POST", "/api/v1/notifications").header("Idempotency-Key", key).json(body)).await
    }

    /// Sends and returns the notification's id.
    pub async fn accepted(&self, body: &Value) -> String {
        id_of(&self.send(body).await.expect(202))
    }

    /// A websocket notification to one user.
    pub async fn notify(&self, user: &str, title: &str) -> String {
        self.accepted(&json!({"user_id": user, "title": title, "channels": ["websocket"]})).await
    }

    pub async fn notification(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/notifications/{id}")).await.expect(200)
    }

    /// Waits until the delivery of this notification by this channel satisfies `good`; returns the delivery.
    pub async fn delivery_until(&self, id: &str, channel: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the {channel} delivery of {id} is {what}"), || async {
            let detail = self.notification(id).await;
            let mut deliveries = detail["deliveries"].as_array().cloned().unwrap_or_default().into_iter();
            deliveries.find(|d| d["channel"] == channel && good(d))
        })
        .await
    }

    /// Waits for a state of the one delivery by this channel.
    pub async fn state(&self, id: &str, channel: &str, state: &str) -> Value {
        self.delivery_until(id, channel, state, |d| d["state"] == state).await
    }

    /// The user's feed, newest first; the caller must be that user.
    pub async fn feed(&self) -> Vec<Value> {
        let mut items = Vec::new();
        let mut before = String::new();
        loop {
            let page = self.get(&format!("/api/v1/me/notifications?limit=100{before}")).await.expect(200);
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_before"].as_i64() {
                Some(next) => before = format!("&before={next}"),
                None => return items,
            }
        }
    }

    pub async fn unread(&self) -> i64 {
        self.get("/api/v1/me/unread_count").await.expect(200)["count"].as_i64().expect("a count")
    }

    /// `/metrics` by series (`name{labels}`).
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.get("/metrics").await.text;
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((series.to_owned(), value.parse().ok()?))
            })
            .collect()
    }
}

pub fn id_of(body: &Value) -> String {
    body["notification_id"].as_str().unwrap_or_else(|| panic!("no notification_id in {body}")).to_owned()
}

/// A client without connection reuse surprises: tests kill hosts.
pub(crate) fn client() -> Client {
    static PROVIDER: Once = Once::new();
    // Plain http only, yet reqwest wants a TLS provider at hand. Another test may have installed it first.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    // No roots: to read the system's takes longer than most tests, and nothing here is asked over TLS.
    Client::builder().timeout(Duration::from_mins(1)).no_proxy().tls_certs_only([]).build().expect("a client")
}
