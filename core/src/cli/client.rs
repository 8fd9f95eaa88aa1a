//! How client commands reach a running server: which one, with which key, and what its refusals mean here.

use super::{
    Global,
    exit::{Code, Failure, Outcome},
    output::safe,
};
use crate::dev::record::{self, Record};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::Value;
use std::{fmt::Write, time::Duration};
use url::{Host, Url};

/// An answer takes as long as a commit; past this something is stuck.
const REQUEST_LIMIT: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    key: Option<String>,
    /// The dev server that `dev.json` named, when neither flag nor variable did.
    dev: Option<Record>,
}

/// One call in the making.
#[derive(Debug)]
pub struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    body: Option<&'a Value>,
    headers: Vec<(&'static str, String)>,
}

impl Client {
    pub fn new(global: &Global) -> Outcome<Self> {
        let given = |v: &Option<String>| v.clone().filter(|v| !v.is_empty());
        let (server, mut key) = (given(&global.server), given(&global.key));
        let dev = record::own_path().and_then(|p| Record::read(&p).ok().flatten());
        let (server, dev) = match (server, dev) {
            (Some(server), dev) => {
                // The key of `dev.json` goes to the server it came from and to no other.
                let same = dev.filter(|d| d.server.trim_end_matches('/') == server.trim_end_matches('/'));
                key = key.or_else(|| same.map(|d| d.key));
                (server, None)
            }
            (None, Some(dev)) => {
                key = key.or_else(|| Some(dev.key.clone()));
                (dev.server.clone(), Some(dev))
            }
            (None, None) => {
                return Err(Failure::new(Code::NoConnection, "no server to talk to")
                    .why("neither --server nor CAMPANILE_SERVER is set, and no dev server runs on this machine")
                    .next("campanile serve --dev"));
            }
        };
        let server =
            Url::parse(&server).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host()).ok_or_else(
                || Failure::usage(format!("{server:?} is not an address")).next("--server http://127.0.0.1:8000"),
            )?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("campanile/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&server) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| Failure::failed("the HTTP client can't be made").why(root(&e)))?;
        Ok(Self { http, server, key, dev })
    }

    /// `segments` are joined under the server's own path and escaped: a user id may hold anything.
    pub fn call(&self, method: Method, segments: &[&str]) -> Call<'_> {
        let mut url = self.server.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Call { client: self, method, url, body: None, headers: Vec::new() }
    }

    /// Under `/api/v1`.
    pub fn api(&self, method: Method, segments: &[&str]) -> Call<'_> {
        self.call(method, &[&["api", "v1"], segments].concat())
    }

    fn no_connection(&self, error: &reqwest::Error) -> Failure {
        let f = Failure::new(Code::NoConnection, format!("no answer from {}", self.server)).why(root(error));
        match &self.dev {
            Some(dev) if !dev.is_alive() => {
                f.why("the dev server that dev.json names has ended without removing it").next("campanile serve --dev")
            }
            Some(_) => f.next("campanile doctor"),
            None => f.next("check --server or CAMPANILE_SERVER, and that the server runs"),
        }
    }
}

impl<'a> Call<'a> {
    pub fn json(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
    /// Pairs with an empty value are left out.
    pub fn query(mut self, pairs: &[(&str, String)]) -> Self {
        let set: Vec<_> = pairs.iter().filter(|(_, v)| !v.is_empty()).collect();
        if !set.is_empty() {
            self.url.query_pairs_mut().extend_pairs(set.iter().map(|(k, v)| (*k, v.as_str())));
        }
        self
    }

    /// The body of a success; `null` when there is none.
    pub async fn send(self) -> Outcome<Value> {
        let client = self.client;
        let response = self.go(Some(REQUEST_LIMIT)).await?;
        let text = response.text().await.map_err(|e| client.no_connection(&e))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|e| {
            Failure::failed("the answer is not JSON").why(e).next("check that --server names a Campanile server")
        })
    }

    /// A success whose body is still to come, however long that takes.
    pub async fn stream(self) -> Outcome<Response> {
        self.go(None).await
    }

    async fn go(self, limit: Option<Duration>) -> Outcome<Response> {
        let client = self.client;
        let mut request = client.http.request(self.method, self.url);
        if let Some(key) = &client.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = self.body {
            request = request.json(body);
        }
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(|e| client.no_connection(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let retry = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let problem = response.json::<Value>().await.unwrap_or_default();
        Err(refusal(status, &problem, retry.as_deref(), client.key.is_some()))
    }
}

/// problem+json as a failure: its detail, every field at fault, the request id for the log.
fn refusal(status: StatusCode, problem: &Value, retry_after: Option<&str>, has_key: bool) -> Failure {
    let text = |key: &str| problem[key].as_str().filter(|s| !s.is_empty()).map(safe);
    let what = text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the server answered {status}"));
    let mut why = format!("{} {}", status.as_u16(), text("code").unwrap_or_default());
    for error in problem["errors"].as_array().into_iter().flatten() {
        let part = |key: &str| safe(error[key].as_str().unwrap_or_default());
        let _ = write!(why, "\n{}: {}", part("field"), part("message"));
    }
    if let Some(id) = text("request_id") {
        let _ = write!(why, "\nrequest id {id}");
    }
    let code = if status == StatusCode::SERVICE_UNAVAILABLE { Code::Unhealthy } else { Code::Failed };
    let failure = Failure::new(code, what).why(why.trim_end());
    match (status, retry_after) {
        (StatusCode::UNAUTHORIZED, _) if has_key => failure.next("check --key or CAMPANILE_KEY"),
        (StatusCode::UNAUTHORIZED, _) => {
            failure.next("give a key with --key or CAMPANILE_KEY; `campanile key create` makes one")
        }
        (StatusCode::FORBIDDEN, _) => failure.next("campanile key create --name NAME --scopes send,read,manage"),
        (_, Some(after)) => failure.next(format!("try again in {after} s")),
        (s, _) if s.is_server_error() => failure.next("campanile doctor"),
        _ => failure,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(d)) => d == "localhost",
        Some(Host::Ipv4(a)) => a.is_loopback(),
        Some(Host::Ipv6(a)) => a.is_loopback(),
        None => false,
    }
}

/// The innermost cause says most: "Connection refused".
pub fn root(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_names_every_field_and_the_request() {
        let problem = json!({"detail": "2 fields are not valid", "code": "invalid", "request_id": "r1",
            "errors": [{"field": "title", "message": "must not be empty"}, {"field": "to", "message": "is\u{1b}[2J missing"}]});
        let f = refusal(StatusCode::UNPROCESSABLE_ENTITY, &problem, None, true);
        assert_eq!(f.code, Code::Failed);
        assert_eq!(
            f.why.unwrap(),
            "422 invalid\ntitle: must not be empty\nto: is [2J missing\nrequest id r1",
            "control characters of the server never reach the terminal"
        );
    }

    #[test]
    fn a_sick_server_is_code_3_and_a_missing_key_says_how_to_get_one() {
        let busy = refusal(StatusCode::SERVICE_UNAVAILABLE, &Value::Null, Some("2"), true);
        assert_eq!((busy.code, busy.next.as_deref()), (Code::Unhealthy, Some("try again in 2 s")));
        let none = refusal(StatusCode::UNAUTHORIZED, &Value::Null, None, false);
        assert!(none.next.unwrap().contains("key create"));
    }
}
