//! The relay's URL: where mail goes, and under which protection.

use campanile_plugin::Secret;
use std::{net::IpAddr, path::PathBuf};
use url::{Host, Url};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// `smtp://`
    Plain,
    /// `smtp://…?tls=required`
    StartTls,
    /// `smtps://`
    Implicit,
}

#[derive(Clone, Debug)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
}

#[derive(Clone, Debug)]
pub struct Relay {
    pub host: String,
    pub port: u16,
    pub protection: Protection,
    pub credentials: Option<Credentials>,
    /// PEM file of a private CA, trusted beside the system's.
    pub ca: Option<PathBuf>,
}

impl Relay {
    /// The text says what is wrong and never repeats the URL: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|e| format!("is not a URL ({e}); write smtp://host:port"))?;
        let mut protection = match url.scheme() {
            "smtp" => Protection::Plain,
            "smtps" => Protection::Implicit,
            other => return Err(format!("has the unknown scheme {other:?}; use smtp:// or smtps://")),
        };
        let mut ca = None;
        for (key, value) in url.query_pairs() {
            match (key.as_ref(), value.as_ref()) {
                ("tls", "required") if protection == Protection::Implicit => {}
                ("tls", "required") => protection = Protection::StartTls,
                ("tls", _) => return Err("has an unknown tls=; only tls=required is safe from downgrades".into()),
                ("ca", file) if !file.is_empty() => ca = Some(PathBuf::from(file)),
                (key, _) => {
                    return Err(format!("has the unknown parameter {key:?}; known are tls=required and ca=FILE"));
                }
            }
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("must end after the port; it has a path or fragment".into());
        }
        let host = match url.host() {
            Some(Host::Domain(d)) => crate::address::ascii_domain(&decode(d)?)?,
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err("names no host; write smtp://host:port".into()),
        };
        if host.is_empty() || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("names no host; write smtp://host:port".into());
        }
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                Some(Credentials { user: decode(user)?, password: Secret::new(decode(password)?) })
            }
            _ => return Err("must have both user and password, or neither".into()),
        };
        if credentials.is_some() && protection == Protection::Plain && !is_loopback(&host) {
            return Err("holds a password but the connection is plain; add ?tls=required, or use smtps://".into());
        }
        if ca.is_some() && protection == Protection::Plain {
            return Err("has ca= without TLS; add tls=required or use smtps://".into());
        }
        let port = url.port().unwrap_or(match protection {
            Protection::Plain => 25,
            Protection::StartTls => 587,
            Protection::Implicit => 465,
        });
        Ok(Self { host, port, protection, credentials, ca })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Percent-decoding; the URL's own parts are still encoded.
fn decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || bytes.next().and_then(|c| char::from(c).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err("has a % that is not followed by two hex digits; write %25 for a % in a password".into()),
        }
    }
    String::from_utf8(out).map_err(|_| "is not UTF-8 after decoding".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        let r = Relay::parse("smtp://localhost:2525").unwrap();
        assert_eq!((r.host.as_str(), r.port, r.protection), ("localhost", 2525, Protection::Plain));
        let r = Relay::parse("smtp://us%40er:p%3Aw%25d@mail.example.org?tls=required").unwrap();
        assert_eq!((r.port, r.protection), (587, Protection::StartTls));
        let c = r.credentials.unwrap();
        assert_eq!((c.user.as_str(), c.password.expose()), ("us@er", "p:w%d"));
        let r = Relay::parse("smtps://mail.example.org?ca=%2Fetc%2Fca.pem").unwrap();
        assert_eq!((r.port, r.protection, r.ca), (465, Protection::Implicit, Some("/etc/ca.pem".into())));
        assert_eq!(Relay::parse("smtp://[::1]:25").unwrap().host, "::1");
    }

    #[test]
    fn passwords_travel_plain_on_loopback_only() {
        for ok in ["smtp://u:p@localhost", "smtp://u:p@127.0.0.1:25", "smtp://u:p@[::1]:25", "smtps://u:p@x.org"] {
            assert!(Relay::parse(ok).is_ok(), "{ok}");
        }
        let refused = Relay::parse("smtp://u:hunter2@mail.example.org").unwrap_err();
        assert!(refused.contains("tls=required") && !refused.contains("hunter2"));
    }

    #[test]
    fn everything_else_is_refused_with_a_remedy() {
        for bad in [
            "mail.example.org",
            "http://mail.example.org",
            "smtp://",
            "smtp://h?tls=opportunistic",
            "smtp://h?tsl=required",
            "smtp://h/path",
            "smtp://user@localhost",
            "smtp://u:p%zz@localhost",
            "smtp://h?ca=/x",
            "smtp://h:99999",
        ] {
            assert!(Relay::parse(bad).is_err(), "{bad}");
        }
    }
}
