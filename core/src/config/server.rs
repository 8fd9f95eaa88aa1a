//! `[server]`: How the host listens and stops.

use super::check::Check;
use super::duration::Dur;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port; port 0 picks a free one.
    pub listen: String,
    /// Where people reach this server, for links in mails and the Origin check: `https://notify.example.org`.
    pub public_url: Option<String>,
    /// Folder of the SQLite file and generated secrets (files are made with mode 600).
    pub data_dir: PathBuf,
    /// Addresses or networks (CIDR) whose X-Forwarded-For is believed. None by default.
    pub trusted_proxies: Vec<String>,
    /// Most open connections; 0 means the file limit less a fifth.
    pub max_connections: usize,
    /// How long a client may take to send its request head.
    pub header_timeout: Dur,
    /// How long an API call may take in all.
    pub request_timeout: Dur,
    /// How long SIGTERM waits for deliveries under way, counted from the signal; the process ends within 30 s.
    pub drain_timeout: Dur,
    /// How long after SIGTERM `/readyz` says 503 while calls and sockets are still taken, for balancers that ask.
    pub drain_delay: Dur,
    /// Over how long a drain spreads the closing of sockets (code 1012).
    pub drain_spread: Dur,
}

impl Server {
    pub fn validate(&self, c: &mut Check) {
        let port = self.listen.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        c.require(
            matches!(port, Some((host, Ok(_))) if !host.is_empty()),
            "listen",
            "is not an address with a port; write 127.0.0.1:8000, or [::]:8000 for every address",
        );
        if let Some(url) = &self.public_url
            && let Err(e) = origin(url, true)
        {
            c.complain("public_url", e);
        }
        c.require(!self.data_dir.as_os_str().is_empty(), "data_dir", "must name a folder");
        for proxy in &self.trusted_proxies {
            if !is_network(proxy) {
                c.complain("trusted_proxies", format!("{proxy:?} is not an address or a network such as 10.0.0.0/8"));
            }
        }
        c.positive([
            ("header_timeout", self.header_timeout.as_millis()),
            ("request_timeout", self.request_timeout.as_millis()),
        ]);
        // The process ends within 30 s of SIGTERM, and the last seconds go to closing the store.
        c.require(self.drain_timeout.as_secs() <= 28, "drain_timeout", "must be at most 28s");
        c.require(*self.drain_spread <= *self.drain_timeout, "drain_spread", "must not be longer than drain_timeout");
        c.require(
            *self.drain_spread > *self.drain_timeout || *self.drain_delay + *self.drain_spread <= *self.drain_timeout,
            "drain_delay",
            "must leave drain_spread its time: both together not longer than drain_timeout",
        );
    }
}

/// Checks `scheme://host[:port]`; with `path_allowed` a path may follow.
pub fn origin(text: &str, path_allowed: bool) -> Result<(), String> {
    let wrong = || {
        let path = if path_allowed { "" } else { ", without a path" };
        format!("{text:?} is not an origin; write https://app.example.org{path}")
    };
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    // `Url` reads `https://host` and `https://host/` alike; an Origin header never ends in a slash.
    let bare = url.path() == "/" && !text.ends_with('/');
    if plain && (path_allowed || bare) { Ok(()) } else { Err(wrong()) }
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|b| b.parse::<u8>().is_ok_and(|b| b <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for good in ["https://app.example.org", "http://localhost:3000", "http://[::1]:8000"] {
            assert_eq!(origin(good, false), Ok(()), "{good}");
        }
        for bad in [
            "*",
            "null",
            "app.example.org",
            "https://a.example/",
            "https://a.example/x",
            "ws://a.example",
            "https://u:p@a.example",
        ] {
            assert!(origin(bad, false).is_err(), "{bad}");
        }
        assert_eq!(origin("https://example.org/notify", true), Ok(()));
    }

    #[test]
    fn a_proxy_is_an_address_or_a_network() {
        for good in ["10.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"] {
            assert!(is_network(good), "{good}");
        }
        for bad in ["10.0.0.0/33", "proxy", "10.0.0.0/", "fd00::/129"] {
            assert!(!is_network(bad), "{bad}");
        }
    }
}
