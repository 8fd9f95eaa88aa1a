//! Which browser pages may connect: the Host and Origin rules for sockets, event streams and cross-origin calls.
//!
//! A request without an Origin (a native client) passes; its credential decides. On a loopback listener the Host must be
//! a loopback name (or `server.public_url`'s), so that a page can't reach it by pointing its own name at 127.0.0.1.

use super::one_header;
use anyhow::{Context, bail};
use axum::http::{HeaderMap, header};
use std::collections::HashSet;
use url::{Host, Url};

#[derive(Debug)]
pub struct OriginPolicy {
    /// As browsers write them.
    listed: HashSet<String>,
    public: Option<Place>,
    public_origin: Option<String>,
    /// `--dev`: every http loopback origin, on any port.
    dev: bool,
    loopback_listener: bool,
}

/// Where a request went or a page comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    host: Host<String>,
    port: u16,
}

impl Place {
    /// `localhost`, `127.0.0.1` and `[::1]` are one place under different names.
    fn same(&self, other: &Self) -> bool {
        self.port == other.port && (self.host == other.host || (is_loopback(&self.host) && is_loopback(&other.host)))
    }
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

impl OriginPolicy {
    pub fn new(
        listed: &[String],
        public_url: Option<&str>,
        dev: bool,
        loopback_listener: bool,
    ) -> anyhow::Result<Self> {
        let mut set = HashSet::new();
        for origin in listed {
            set.insert(exact(origin).with_context(|| format!("websocket.origins: {origin:?}"))?);
        }
        let (mut public, mut public_origin) = (None, None);
        if let Some(url) = public_url {
            let url = Url::parse(url).context("server.public_url")?;
            let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
                bail!("server.public_url must be an http or https address such as https://notify.example.org");
            };
            public = Some(Place { host: host.to_owned(), port });
            public_origin = Some(url.origin().ascii_serialization());
        }
        Ok(Self { listed: set, public, public_origin, dev, loopback_listener })
    }

    /// Whether a socket or stream may open; `Err` is why not, for the log.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let host = one_header(headers, &header::HOST)?.ok_or("no Host")?;
        let origin = one_header(headers, &header::ORIGIN)?;
        if self.loopback_listener && !self.known_on_loopback(host) {
            return Err("foreign Host on a loopback listener");
        }
        let Some(origin) = origin else { return Ok(()) };
        if self.cross_origin(origin) || self.public_origin.as_deref() == Some(origin) {
            return Ok(());
        }
        let page = page(origin).ok_or("Origin is not an http(s) origin")?;
        let own = place(host, default_port(origin)).ok_or("Host can't be read")?;
        let is_own = if self.loopback_listener && is_loopback(&own.host) {
            // Reached directly, so in plain http. A TLS proxy in front is told by `server.public_url`.
            page.same(&own) && origin.starts_with("http://")
        } else {
            page == own
        };
        if is_own { Ok(()) } else { Err("foreign Origin") }
    }

    /// Whether a page of another origin may call: listed, or loopback with `--dev`.
    pub fn cross_origin(&self, origin: &str) -> bool {
        self.listed.contains(origin)
            || (self.dev && origin.starts_with("http://") && page(origin).is_some_and(|p| is_loopback(&p.host)))
    }

    fn known_on_loopback(&self, host: &str) -> bool {
        // The scheme in front of a proxy isn't known here: a Host without a port may stand for either default.
        [80, 443]
            .into_iter()
            .filter_map(|port| place(host, port))
            .any(|p| is_loopback(&p.host) || self.public.as_ref().is_some_and(|public| *public == p))
    }
}

/// An origin of the configuration in the form that browsers send.
fn exact(origin: &str) -> anyhow::Result<String> {
    let url = Url::parse(origin).context("not an origin; write https://app.example.org")?;
    if !matches!(url.scheme(), "http" | "https") {
        // Web views of mobile apps: capacitor://localhost. Only the very same text matches.
        return Ok(origin.trim_end_matches('/').to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        bail!("must be scheme, host and port only, such as https://app.example.org");
    }
    Ok(url.origin().ascii_serialization())
}

/// The place of an Origin header; `None` for `null`, other schemes and anything a browser would not write.
fn page(origin: &str) -> Option<Place> {
    let url = Url::parse(origin).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.origin().ascii_serialization() != origin {
        return None;
    }
    Some(Place { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
}

fn default_port(origin: &str) -> u16 {
    if origin.starts_with("https:") { 443 } else { 80 }
}

/// The place of a Host header.
fn place(host: &str, default_port: u16) -> Option<Place> {
    if host.contains(['/', '@', '?', '#', '\\', ' ']) {
        return None;
    }
    let url = Url::parse(&format!("http://{host}/")).ok()?;
    // `Url` drops :80 as the default of http, so whether a port was written is read from the text.
    let written = host.rsplit_once(':').is_some_and(|(_, p)| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let port = if written { url.port_or_known_default()? } else { default_port };
    Some(Place { host: url.host()?.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, header};

    fn headers(host: &str, origin: &str) -> HeaderMap {
        let mut h = HeaderMap::new();
        h.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if !origin.is_empty() {
            h.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        h
    }

    fn policy(dev: bool, loopback: bool) -> OriginPolicy {
        let listed = ["https://App.example.org/".to_owned(), "capacitor://localhost".to_owned()];
        OriginPolicy::new(&listed, Some("https://notify.example.org"), dev, loopback).unwrap()
    }

    #[test]
    fn a_public_listener_takes_its_own_host_and_listed_origins() {
        let p = policy(false, false);
        for (host, origin, ok) in [
            ("notify.example.org", "", true),
            ("anything.example", "", true),
            ("notify.example.org", "https://notify.example.org", true),
            ("10.0.0.5:8000", "https://notify.example.org", true),
            ("10.0.0.5:8000", "http://10.0.0.5:8000", true),
            ("10.0.0.5:8000", "http://10.0.0.5:8001", false),
            ("10.0.0.5:8000", "http://10.0.0.5", false),
            ("10.0.0.5", "http://10.0.0.5", true),
            ("10.0.0.5:80", "http://10.0.0.5", true),
            ("10.0.0.5:443", "https://10.0.0.5", true),
            ("10.0.0.5:80", "https://10.0.0.5", false),
            ("x", "https://app.example.org", true),
            ("x", "https://app.example.org:443", false),
            ("x", "https://app.example.org:8443", false),
            ("x", "http://app.example.org", false),
            ("x", "https://app.example.org.evil.example", false),
            ("x", "https://evil-app.example.org", false),
            ("x", "https://sub.app.example.org", false),
            ("x", "https://app.example.org/", false),
            ("x", "https://app.example.org@evil.example", false),
            ("x", "capacitor://localhost", true),
            ("x", "capacitor://localhost.evil", false),
            ("x", "null", false),
            ("null", "null", false),
            ("x", "file://", false),
            ("x", "http://localhost:3000", false),
            ("localhost:8000", "http://127.0.0.1:8000", false),
        ] {
            assert_eq!(p.check(&headers(host, origin)).is_ok(), ok, "Host {host}, Origin {origin}");
        }
    }

    #[test]
    fn a_loopback_listener_refuses_foreign_hosts() {
        let p = policy(false, true);
        for (host, origin, ok) in [
            ("127.0.0.1:8000", "", true),
            ("localhost:8000", "", true),
            ("[::1]:8000", "", true),
            ("evil.example:8000", "", false),
            ("evil.example:8000", "http://evil.example:8000", false),
            ("localhost.evil.example:8000", "", false),
            ("127.0.0.1.nip.example:8000", "", false),
            ("notify.example.org", "", true),
            ("notify.example.org:443", "https://notify.example.org", true),
            ("notify.example.org:81", "", false),
            ("127.0.0.1:8000", "http://localhost:8000", true),
            ("localhost:8000", "http://[::1]:8000", true),
            ("localhost:8000", "http://localhost:3000", false),
            ("localhost:8000", "https://localhost:8000", false),
            ("localhost:8000", "null", false),
            ("localhost:8000", "https://app.example.org", true),
            ("user@localhost:8000", "", false),
        ] {
            assert_eq!(p.check(&headers(host, origin)).is_ok(), ok, "Host {host}, Origin {origin}");
        }
    }

    #[test]
    fn dev_adds_http_loopback_on_any_port() {
        let p = policy(true, true);
        for (origin, ok) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1:5173", true),
            ("http://[::1]:9", true),
            ("https://localhost:3000", false),
            ("http://localhost.evil.example:3000", false),
            ("http://evil.example", false),
            ("null", false),
        ] {
            assert_eq!(p.check(&headers("localhost:8000", origin)).is_ok(), ok, "{origin}");
            assert_eq!(p.cross_origin(origin), ok, "{origin}");
        }
    }

    #[test]
    fn doubled_or_missing_headers_are_refused() {
        let p = policy(false, false);
        let mut h = headers("x", "https://app.example.org");
        h.append(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(p.check(&h).is_err());
        assert!(p.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_configuration_is_checked() {
        for bad in ["app.example.org", "https://app.example.org/path", "https://u@app.example.org", "*"] {
            assert!(OriginPolicy::new(&[bad.to_owned()], None, false, false).is_err(), "{bad}");
        }
    }
}
