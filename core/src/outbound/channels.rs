//! Requests that the host makes in the place of channels: only to hosts that the operator allowed, only to public addresses
//! unless a host was named as private, without redirects, within limits, and with errors that give no address away.

use super::{NotPublic, client, is_public};
use campanile_plugin::{
    HttpError, HttpReply,
    http::{HttpErrorKind, HttpRequest},
};
use reqwest::{
    Method, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use std::{collections::BTreeMap, error::Error, net::IpAddr, sync::OnceLock, time::Duration};
use url::{Host, Url};

/// A request's time, unless it asks for less.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest body of a reply.
const BODY_MAX: usize = 512 * 1024;
/// Largest headers of a reply that are handed on.
const HEADERS_MAX: usize = 32 * 1024;
/// Headers that belong to the connection, which is ours.
const OURS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authorization",
];

/// Which hosts a channel may call.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// `api.example.org`, `*.example.org`, or `*` for every public one.
    pub public: &'a [String],
    /// May have a private address, and may be called without TLS.
    pub private: &'a [String],
}

impl Allowed<'_> {
    /// Whether everything that this name or pattern stands for may be called.
    pub fn covers(self, asked: &str) -> bool {
        let one = asked.strip_prefix("*.").map(|domain| format!("any.{domain}"));
        let name = one.as_deref().unwrap_or(asked);
        self.public.iter().chain(self.private).any(|pattern| {
            // A name that is allowed does not cover a pattern that happens to hold it.
            (one.is_none() || pattern.starts_with('*')) && matches(pattern, name)
        })
    }
}

/// The clients of all channels: their connections are shared, cookies there are none. Made when the first request comes, so
/// that a machine without roots of trust serves all the same.
#[derive(Default)]
pub struct Outbound {
    public: OnceLock<reqwest::Client>,
    private: OnceLock<reqwest::Client>,
}

fn refused(why: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorKind::Refused, why)
}

fn invalid(why: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorKind::Invalid, why)
}

impl Outbound {
    fn client(&self, private: bool) -> Result<&reqwest::Client, HttpError> {
        let place = if private { &self.private } else { &self.public };
        if let Some(made) = place.get() {
            return Ok(made);
        }
        let made = client(private).map_err(|e| HttpError::new(HttpErrorKind::Connect, format!("{e:#}")))?;
        Ok(place.get_or_init(|| made))
    }

    pub async fn send(&self, allowed: Allowed<'_>, request: HttpRequest) -> Result<HttpReply, HttpError> {
        let (url, private) = check(&request.url, allowed)?;
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("the method is none"))?;
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(invalid(format!("{method} requests are not made for channels")));
        }
        let headers = headers(&request.headers)?;
        let client = self.client(private)?;
        let limit = request.timeout.map_or(LIMIT, |t| t.min(LIMIT));
        let exchange = async {
            let sent = client.request(method, url).headers(headers).body(request.body).send().await;
            read(sent.map_err(|e| told(&e))?).await
        };
        let late = || HttpError::new(HttpErrorKind::Timeout, format!("no complete answer within {limit:?}"));
        tokio::time::timeout(limit, exchange).await.map_err(|_| late())?
    }
}

/// The address, and whether it may be a private one.
fn check(text: &str, allowed: Allowed<'_>) -> Result<(Url, bool), HttpError> {
    let url = Url::parse(text).map_err(|e| invalid(format!("the address is none: {e}")))?;
    let Some(host) = url.host() else { return Err(invalid("the address names no host")) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the address carries a user or password; use a header"));
    }
    let name = host.to_string();
    let private = allowed.private.iter().any(|p| matches(p, &name));
    if !private && !allowed.public.iter().any(|p| matches(p, &name)) {
        return Err(refused(format!("the host {name} is not one of the plugin's allowed_hosts in plugins.lock")));
    }
    match url.scheme() {
        "https" => {}
        "http" if private => {}
        "http" => return Err(refused(format!("{name} must be called by https"))),
        other => return Err(invalid(format!("the host makes https requests, not {other}"))),
    }
    let literal = match host {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    };
    if !private && literal.is_some_and(|ip| !is_public(ip)) {
        return Err(refused(format!("{name} is not a public address")));
    }
    Ok((url, private))
}

fn matches(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => pattern == host,
    }
}

fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, HttpError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        if OURS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(invalid(format!("the header {name} is the host's")));
        }
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name is none"))?;
        // The value may be a secret, so it is not quoted.
        let value = HeaderValue::from_str(value).map_err(|_| invalid(format!("the value of {name} can't be sent")))?;
        headers.insert(key, value);
    }
    Ok(headers)
}

async fn read(mut response: Response) -> Result<HttpReply, HttpError> {
    let mut reply = HttpReply::new(response.status().as_u16(), Vec::new());
    let mut room = HEADERS_MAX;
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else { break };
        room = left;
        reply
            .headers
            .entry(name.as_str().to_owned())
            .and_modify(|old| *old = format!("{old}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    while let Some(chunk) = response.chunk().await.map_err(|e| told(&e))? {
        if reply.body.len() + chunk.len() > BODY_MAX {
            let most = format!("the answer has more than {} KiB", BODY_MAX / 1024);
            return Err(HttpError::new(HttpErrorKind::TooLarge, most));
        }
        reply.body.extend_from_slice(&chunk);
    }
    Ok(reply)
}

/// Without the address: paths of webhooks are secrets.
fn told(error: &reqwest::Error) -> HttpError {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<NotPublic>() {
            return refused(NotPublic.to_string());
        }
        source = cause.source();
    }
    if error.is_timeout() {
        return HttpError::new(HttpErrorKind::Timeout, "no answer in time");
    }
    if error.is_builder() || error.is_request() && !error.is_connect() && error.is_body() {
        return invalid("the request can't be sent");
    }
    let what = if error.is_connect() { "no connection" } else { "the exchange was cut off" };
    // The innermost cause names the fault (refused, certificate, name) and no address of ours.
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = if std::ptr::addr_eq(cause, error) { String::new() } else { format!(": {cause}") };
    // What was sent may have arrived unless there never was a connection.
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Timeout };
    HttpError::new(kind, format!("{what}{cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn why(url: &str, public: &[&str], private: &[&str]) -> String {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let (public, private) = (list(public), list(private));
        match check(url, Allowed { public: &public, private: &private }) {
            Ok((_, private)) => format!("ok {private}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn what_is_asked_for_is_covered_by_names_and_patterns() {
        let of = |public: &[&str], asked: &str| {
            let public: Vec<String> = public.iter().map(|p| (*p).to_owned()).collect();
            Allowed { public: &public, private: &["10.0.0.7".to_owned()] }.covers(asked)
        };
        for (public, asked, covered) in [
            (&["api.example.org"][..], "api.example.org", true),
            (&["*.example.org"], "api.example.org", true),
            (&["*.example.org"], "*.example.org", true),
            (&["*"], "*.example.org", true),
            (&["any.example.org"], "*.example.org", false),
            (&["*.example.org"], "example.net", false),
            (&[], "10.0.0.7", true),
            (&[], "api.example.org", false),
        ] {
            assert_eq!(of(public, asked), covered, "{public:?} {asked}");
        }
    }

    #[test]
    fn only_allowed_hosts_are_called() {
        assert_eq!(why("https://api.example.org/x", &["api.example.org"], &[]), "ok false");
        assert_eq!(why("https://API.example.org./x", &["*.example.org"], &[]), "ok false");
        assert!(
            why("https://example.org/x", &["*.example.org"], &[]).contains("not one of the plugin's allowed_hosts")
        );
        assert!(why("https://evilexample.org/x", &["example.org"], &[]).starts_with("refused"));
        assert!(why("https://example.org/x", &[], &[]).starts_with("refused"));
        assert!(why("http://example.org/x", &["*"], &[]).contains("by https"));
        assert_eq!(why("http://ntfy.lan/x", &[], &["ntfy.lan"]), "ok true");
        for private in ["https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://0x7f.1/"] {
            assert!(why(private, &["*"], &[]).contains("not a public address"), "{private}");
        }
        assert!(why("https://u:p@example.org/", &["*"], &[]).starts_with("invalid"));
        assert!(why("file:///etc/passwd", &["*"], &["*"]).starts_with("invalid"));
    }

    async fn served(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut bytes = [0; 4096];
                let _ = socket.read(&mut bytes).await;
                let _ = socket.write_all(answer).await;
            }
        });
        port
    }

    async fn get(url: String, public: &[String], private: &[String]) -> Result<HttpReply, HttpError> {
        Outbound::default().send(Allowed { public, private }, HttpRequest::new("GET", url)).await
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_a_flood_is_cut() {
        let port = served(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nhi",
        )
        .await;
        let local = ["127.0.0.1".to_owned()];
        let reply = get(format!("http://127.0.0.1:{port}/"), &[], &local).await.unwrap();
        assert_eq!((reply.status, reply.body.as_slice(), reply.headers["x-a"].as_str()), (302, &b"hi"[..], "1, 2"));
        let mut big = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        big.resize(BODY_MAX + 1000, b'x');
        let port = served(big.leak()).await;
        let error = get(format!("http://127.0.0.1:{port}/"), &[], &local).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_and_addresses_stay_out_of_errors() {
        let error = get("https://localhost/hook/secret".into(), &["*".into()], &[]).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::Refused, "{error}");
        let error = get("http://127.0.0.1:1/hook/secret".into(), &[], &["127.0.0.1".into()]).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::Connect, "{error}");
        assert!(!error.message.contains("secret"), "{error}");
        let mut request = HttpRequest::new("GET", "http://127.0.0.1:1/");
        request.headers.insert("Host".into(), "other".into());
        let local = ["127.0.0.1".to_owned()];
        let sent = Outbound::default().send(Allowed { public: &[], private: &local }, request).await;
        assert_eq!(sent.unwrap_err().kind, HttpErrorKind::Invalid);
    }
}
