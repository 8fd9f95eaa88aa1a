//! A browser without scripts, and the ways in.

use campanile_tests::TestHost;
use reqwest::{
    StatusCode,
    header::{self, HeaderValue},
    redirect::Policy,
};
use serde_json::json;
use std::{fmt::Write as _, time::Duration};

/// A browser without scripts: it keeps the cookie by hand and follows nothing.
pub struct Browser {
    pub http: reqwest::Client,
    pub base: String,
    pub cookie: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub location: Option<String>,
    pub cookie: Option<String>,
    pub policy: String,
    pub body: String,
}

impl Browser {
    pub fn new(host: &TestHost) -> Self {
        // Sets up TLS for every client of this process.
        drop(host.api());
        let http = reqwest::Client::builder().redirect(Policy::none()).tls_certs_only([]).build().unwrap();
        Self { http, base: host.url(""), cookie: None }
    }

    pub async fn send(&mut self, mut request: reqwest::RequestBuilder) -> Answer {
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let response = request.send().await.unwrap();
        let text = |name: header::HeaderName| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let location = text(header::LOCATION);
        let set = |v: &HeaderValue| v.to_str().unwrap().to_owned();
        let cookies: Vec<String> = response.headers().get_all(header::SET_COOKIE).iter().map(set).collect();
        for cookie in &cookies {
            self.keep(cookie);
        }
        let cookie = cookies.into_iter().find(|c| !c.starts_with("campanile-flash"));
        let policy = text(header::CONTENT_SECURITY_POLICY).unwrap_or_default();
        Answer { status: response.status(), location, cookie, policy, body: response.text().await.unwrap() }
    }

    /// A jar of two: the session, and the message that lives for one page.
    fn keep(&mut self, set: &str) {
        let pair = set.split(';').next().unwrap();
        let name = pair.split('=').next().unwrap();
        let kept = self.cookie.take().unwrap_or_default();
        let others = kept.split("; ").filter(|c| !c.is_empty() && c.split('=').next() != Some(name));
        let new = (!pair.ends_with('=')).then_some(pair);
        let all: Vec<&str> = others.chain(new).collect();
        self.cookie = Some(all.join("; ")).filter(|c| !c.is_empty());
    }

    /// Loads the page again until it says this.
    pub async fn wait_for(&mut self, path: &str, text: &str) -> String {
        let end = tokio::time::Instant::now() + campanile_tests::wait::DEADLINE;
        loop {
            let body = self.get(path).await.body;
            if body.contains(text) {
                return body;
            }
            assert!(tokio::time::Instant::now() < end, "{path} never said {text:?}: {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.base));
        self.send(request).await
    }

    /// As a browser posts a form of the page itself.
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .header(header::ORIGIN, &self.base)
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, FORM)
            .body(encoded(form));
        self.send(request).await
    }

    /// The token of the page's forms.
    pub async fn token(&mut self) -> String {
        let page = self.get("/admin").await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let from = page.body.split("name=\"csrf\" value=\"").nth(1).expect("a form with a token");
        from.split('"').next().unwrap().to_owned()
    }
}

pub const FORM: &str = "application/x-www-form-urlencoded";

pub fn encoded(form: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in form {
        let _ = write!(out, "{}{name}=", if out.is_empty() { "" } else { "&" });
        for byte in value.bytes() {
            let _ =
                if byte.is_ascii_alphanumeric() { write!(out, "{}", byte as char) } else { write!(out, "%{byte:02X}") };
        }
    }
    out
}

pub const PASSWORD: &str = "a sentence is fine";

/// An account with a password, signed in.
pub async fn signed_in(host: &TestHost, name: &str, role: &str) -> Browser {
    let made = host.api().post("/api/v1/admins", &json!({"name": name, "role": role})).await;
    let made = made.expect(201);
    let once = made["link"].as_str().unwrap().split("once=").nth(1).unwrap().to_owned();
    let mut browser = Browser::new(host);
    let chosen = browser.post("/admin/welcome", &[("once", &once), ("password", PASSWORD), ("again", PASSWORD)]).await;
    assert_eq!((chosen.status, chosen.location.as_deref()), (StatusCode::SEE_OTHER, Some("/admin")), "{}", chosen.body);
    browser
}

/// A page's live stream, as text.
pub struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub async fn open(browser: &Browser, path: &str) -> Self {
        let request = browser.http.get(format!("{}{path}", browser.base));
        let response = request.header(header::COOKIE, browser.cookie.clone().unwrap()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Self { response, text: String::new() }
    }

    /// Everything it said, once that holds what is waited for.
    pub async fn until(&mut self, what: &str, good: impl Fn(&str) -> bool) -> &str {
        // Beats go on for ever: the whole wait has its end.
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        while !good(&self.text) {
            let chunk = tokio::time::timeout_at(end, self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("waited in vain for {what}: {}", self.text)).unwrap();
            self.text.push_str(&String::from_utf8_lossy(&chunk.expect("the stream goes on")));
        }
        &self.text
    }
}
