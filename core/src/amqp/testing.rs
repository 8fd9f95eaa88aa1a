//! A broker for tests, which run where `CAMPANILE_TEST_QUEUES=local,rabbitmq` names it (only `local` when nobody says).
//!
//! `CAMPANILE_TEST_RABBITMQ` is its URL, `CAMPANILE_TEST_RABBITMQ_API` its management API. Each test gets a vhost of its own,
//! which is deleted with its guard.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use url::Url;
use uuid::Uuid;

#[path = "../../../tests/harness/proxy.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
pub(crate) mod proxy;

fn setting(name: &str) -> Url {
    let value = std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} names no broker; scripts/services/rabbitmq start prints one that it has started")
    });
    value.parse().unwrap()
}

/// The queues that tests are to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Local,
    Rabbit,
}

pub(crate) fn asked() -> Vec<Kind> {
    let asked = std::env::var("CAMPANILE_TEST_QUEUES").unwrap_or_else(|_| "local".to_owned());
    let kind = |name: &str| match name {
        "local" => Kind::Local,
        "rabbitmq" => Kind::Rabbit,
        other => panic!("CAMPANILE_TEST_QUEUES names {other:?}; it knows local and rabbitmq"),
    };
    asked.split(',').map(str::trim).filter(|name| !name.is_empty()).map(kind).collect()
}

pub(crate) struct Vhost {
    name: String,
    url: Url,
    api: Api,
}

/// The management API with the user of its URL.
#[derive(Clone)]
struct Api {
    base: Url,
    client: Client,
}

/// A client for plain HTTP: to read the system's roots takes longer than most cases.
fn plain() -> Client {
    Client::builder().tls_certs_only([]).build().unwrap()
}

impl Api {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { base: setting("CAMPANILE_TEST_RABBITMQ_API"), client: plain() }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut url = self.base.clone();
        let (user, password) = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
        url.set_username("").unwrap();
        url.set_password(None).unwrap();
        let request = self.client.request(method, format!("{}{path}", url.as_str().trim_end_matches('/')));
        let request = request.basic_auth(user, Some(password));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    async fn put(&self, path: &str, body: Value) {
        let (status, answer) = self.call(Method::PUT, path, Some(body)).await;
        assert!(status.is_success(), "PUT {path}: {status} {answer}");
    }
}

impl Vhost {
    /// `None` where nobody asked for RabbitMQ.
    pub(crate) async fn asked() -> Option<Self> {
        if asked().contains(&Kind::Rabbit) { Some(Self::new().await) } else { None }
    }

    pub(crate) async fn new() -> Self {
        let (url, api) = (setting("CAMPANILE_TEST_RABBITMQ"), Api::new());
        let name = format!("test-{}", Uuid::new_v4().simple());
        api.put(&format!("/api/vhosts/{name}"), json!({})).await;
        let user = url.username();
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        api.put(&format!("/api/permissions/{name}/{user}"), all).await;
        Self { name, url, api }
    }

    pub(crate) fn url(&self) -> String {
        let mut url = self.url.clone();
        url.set_path(&self.name);
        url.to_string()
    }

    /// The same through a proxy.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        let mut url: Url = self.url().parse().unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(address.port())).unwrap();
        url.to_string()
    }

    /// Where the broker listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let host = self.url.host_str().unwrap();
        let ip = if host == "localhost" { "127.0.0.1" } else { host };
        format!("{ip}:{}", self.url.port().unwrap_or(5672)).parse().unwrap()
    }

    /// Declares a queue with arguments of one's own.
    pub(crate) async fn make_queue(&self, name: &str, arguments: Value) {
        let body = json!({"durable": true, "auto_delete": false, "arguments": arguments});
        self.api.put(&format!("/api/queues/{}/{name}", self.name), body).await;
    }

    pub(crate) async fn delete_queue(&self, name: &str) {
        let path = format!("/api/queues/{}/{name}", self.name);
        let (status, answer) = self.api.call(Method::DELETE, &path, None).await;
        assert!(status.is_success(), "DELETE {path}: {status} {answer}");
    }

    /// As somebody else would who does not know our messages.
    pub(crate) async fn publish_raw(&self, queue: &str, payload: &str) {
        let path = format!("/api/exchanges/{}/amq.default/publish", self.name);
        let body = json!({"routing_key": queue, "payload": payload, "payload_encoding": "string", "properties": {}});
        let (status, answer) = self.api.call(Method::POST, &path, Some(body)).await;
        assert!(status.is_success() && answer["routed"] == json!(true), "POST {path}: {status} {answer}");
    }

    /// The first message, which stays.
    pub(crate) async fn peek(&self, queue: &str) -> Value {
        let path = format!("/api/queues/{}/{queue}/get", self.name);
        let body = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let (status, answer) = self.api.call(Method::POST, &path, Some(body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer[0].clone()
    }

    pub(crate) async fn queue(&self, name: &str) -> Option<Value> {
        let path = format!("/api/queues/{}/{name}?disable_stats=true", self.name);
        let (status, answer) = self.api.call(Method::GET, &path, None).await;
        status.is_success().then_some(answer)
    }
}

impl Vhost {
    /// Every queue, with its arguments.
    pub(crate) async fn queues(&self) -> Vec<Value> {
        let path = format!("/api/queues/{}?disable_stats=true&enable_queue_totals=true", self.name);
        let (status, answer) = self.api.call(Method::GET, &path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {answer}");
        answer.as_array().unwrap().clone()
    }

    pub(crate) async fn delete_exchange(&self, name: &str) {
        let path = format!("/api/exchanges/{}/{name}", self.name);
        let (status, answer) = self.api.call(Method::DELETE, &path, None).await;
        assert!(status.is_success(), "DELETE {path}: {status} {answer}");
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let (name, base) = (self.name.clone(), self.api.base.clone());
        // A case ends in its own runtime, which is on its way out.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let api = Api { base, client: plain() };
            runtime.block_on(api.call(Method::DELETE, &format!("/api/vhosts/{name}"), None))
        });
        // A failed case has more to say than its leftovers.
        let _ = dropped.join();
    }
}
