//! Where a broker is and who we are there, read from an `amqp://` or `amqps://` URL.
//!
//! Read here and not by lapin, which takes an IPv6 address for localhost and a closing slash for a vhost without a name.

use crate::config::load::mask_password;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use std::{fmt, path::PathBuf};
use url::{Host, Url};

/// Seconds; a peer that is silent for twice as long is dead.
const HEARTBEAT: u16 = 10;
/// Our messages are small, and lapin sets two buffers of 32 frames aside for each connection.
const FRAME_MAX: u32 = 32 * 1024;

/// One broker, and the setting that names it.
#[derive(Clone)]
pub struct Broker {
    pub(super) uri: AMQPUri,
    /// `?cacertfile=`: a private authority that is trusted besides the system's.
    pub(super) ca: Option<PathBuf>,
    /// `queue.url`, for sentences that say where to look.
    pub(super) setting: &'static str,
    shown: String,
}

impl Broker {
    /// Whether a URL means RabbitMQ at all.
    pub fn is_amqp(url: &str) -> bool {
        url.starts_with("amqp:") || url.starts_with("amqps:")
    }

    /// The error completes "`queue.url` …" and never holds the password.
    pub fn parse(setting: &'static str, url: &str) -> Result<Self, String> {
        let shape = "must look like amqp://user:password@host:5672/vhost, or amqps:// with TLS";
        let read = Url::parse(url).map_err(|e| format!("{shape} ({e})"))?;
        let scheme = match read.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            _ => return Err(shape.to_owned()),
        };
        let host = match read.host() {
            Some(Host::Domain(name)) if !name.is_empty() => decoded(name)?,
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => return Err(format!("{shape}; it names no host")),
        };
        let user = if read.username().is_empty() { "guest" } else { read.username() };
        let userinfo = AMQPUserInfo {
            username: decoded(user)?,
            password: decoded(read.password().unwrap_or(if read.username().is_empty() { "guest" } else { "" }))?,
        };
        let port = read.port().unwrap_or_else(|| scheme.default_port());
        let query =
            AMQPQueryString { heartbeat: Some(HEARTBEAT), frame_max: Some(FRAME_MAX), ..AMQPQueryString::default() };
        let mut ca = None;
        for (key, value) in read.query_pairs() {
            match (key.as_ref(), &scheme) {
                ("cacertfile", AMQPScheme::AMQPS) => ca = Some(PathBuf::from(value.as_ref())),
                ("cacertfile", AMQPScheme::AMQP) => return Err("has a cacertfile, which goes with amqps://".to_owned()),
                (other, _) => return Err(format!("has the parameter {other:?}; only cacertfile is known")),
            }
        }
        let vhost = vhost(read.path())?;
        let uri = AMQPUri { scheme, authority: AMQPAuthority { userinfo, host, port }, vhost, query };
        Ok(Self { uri, ca, setting, shown: mask_password(url) })
    }

    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

/// Nothing, or a lone slash, is the default vhost: nobody means the one whose name is empty.
fn vhost(path: &str) -> Result<String, String> {
    let name = path.strip_prefix('/').unwrap_or(path);
    if name.is_empty() {
        return Ok("/".to_owned());
    }
    if name.contains('/') {
        return Err("has a vhost with a slash; write %2F for it".to_owned());
    }
    decoded(name)
}

fn decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err("has a % that begins no two hexadecimal digits; write %25 for a % itself".to_owned()),
        }
    }
    String::from_utf8(out).map_err(|_| "is not UTF-8 when its % signs are decoded".to_owned())
}

/// Without the password.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broker").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Broker, String> {
        Broker::parse("queue.url", url)
    }

    #[test]
    fn reads_every_part_and_shows_no_password() {
        let b = parse("amqps://ada:s%40fe%25@mq.example.org/%2Fteam%2Fone?cacertfile=/etc/ca.pem").unwrap();
        let u = &b.uri;
        assert_eq!(
            (u.authority.host.as_str(), u.authority.port, u.vhost.as_str()),
            ("mq.example.org", 5671, "/team/one")
        );
        assert_eq!((b.user(), u.authority.userinfo.password.as_str()), ("ada", "s@fe%"));
        assert_eq!(b.ca.as_deref(), Some(std::path::Path::new("/etc/ca.pem")));
        for shown in [b.to_string(), format!("{b:?}")] {
            assert!(shown.contains("mq.example.org") && !shown.contains("s%40fe"), "{shown}");
        }
    }

    #[test]
    fn fills_in_what_is_left_out() {
        for url in ["amqp://127.0.0.1", "amqp://127.0.0.1/", "amqp://127.0.0.1:5672/%2f"] {
            let u = parse(url).unwrap().uri;
            assert_eq!((u.authority.port, u.vhost.as_str()), (5672, "/"), "{url}");
            assert_eq!(
                (u.authority.userinfo.username.as_str(), u.authority.userinfo.password.as_str()),
                ("guest", "guest")
            );
        }
        assert_eq!(parse("amqp://[::1]:7/x").unwrap().uri.authority.host, "::1");
    }

    #[test]
    fn says_what_is_wrong() {
        let refused = |url: &str, about: &str| {
            let e = parse(url).unwrap_err();
            assert!(e.contains(about) && !e.contains("secret"), "{url}: {e}");
        };
        refused("amqp:", "amqp://user:password@host");
        refused("amqp:///x", "names no host");
        refused("amqp://a:secret@h/one/two", "%2F");
        refused("amqp://a:secret%zz@h", "%25");
        refused("amqp://a:secret@h?heartbeat=1", "heartbeat");
        refused("amqp://a:secret@h?cacertfile=x", "amqps");
        refused("kafka://h", "amqp://");
    }
}
