//! The client for addresses that come from configuration or from outside: public addresses only, no redirects, no proxy.
//!
//! The resolver filters and the connector uses just what it returned, so a name can't answer publicly when checked and
//! privately when dialled.

mod channels;

pub use channels::{Allowed, Outbound};

use anyhow::{Context, ensure};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Once},
    time::Duration,
};
use url::{Host, Url};

/// One exchange in all.
const LIMIT: Duration = Duration::from_secs(10);

/// Makes ring the process's TLS provider. Harmless when repeated.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client that reaches public addresses only, unless `private`.
pub fn client(private: bool) -> anyhow::Result<reqwest::Client> {
    install_tls_provider();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(LIMIT)
        .connect_timeout(LIMIT)
        .user_agent(concat!("campanile/", env!("CARGO_PKG_VERSION")));
    if !private {
        builder = builder.dns_resolver(Arc::new(PublicOnly));
    }
    builder.build().context("building the HTTP client")
}

/// Checks an address before it is used: https (http too when `private`), no credentials, no private literal.
pub fn check_url(text: &str, private: bool) -> anyhow::Result<Url> {
    let url = Url::parse(text).context("not a URL")?;
    ensure!(url.scheme() == "https" || (private && url.scheme() == "http"), "must begin with https://");
    ensure!(url.username().is_empty() && url.password().is_none(), "must not carry a user or password");
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    ensure!(private || literal.is_none_or(is_public), "must not name a private address");
    Ok(url)
}

struct PublicOnly;

/// Why a name is not dialled.
#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
struct NotPublic;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|a| is_public(a.ip())).collect();
            if public.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the open internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // shared by carriers
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    // Only 2000::/3 is handed out; within it some blocks carry IPv4 addresses or are for documents.
    let global = s[0] & 0xe000 == 0x2000;
    let special = match s[0] {
        // Protocol assignments, Teredo, benchmarks, ORCHID; documents.
        0x2001 => s[1] < 0x0200 || s[1] == 0x0db8,
        // 6to4.
        0x2002 => true,
        // Documents.
        0x3fff => s[1] < 0x1000,
        _ => false,
    };
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_in_every_disguise() {
        for ip in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1111", "2a00:1450::1", "2001:4860::1"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn addresses_are_checked_before_use() {
        for bad in [
            "http://id.example.org/keys",
            "https://127.1/keys",
            "https://[::ffff:10.0.0.1]/keys",
            "https://u:p@id.example.org/keys",
            "file:///etc/passwd",
            "keys",
        ] {
            assert!(check_url(bad, false).is_err(), "{bad}");
        }
        assert!(check_url("https://id.example.org/keys", false).is_ok());
        assert!(check_url("http://127.0.0.1:9/keys", true).is_ok());
        assert!(check_url("ftp://127.0.0.1/keys", true).is_err());
    }
}
