//! The client's address: the peer's, or what trusted proxies say of it in X-Forwarded-For; and lists of networks.

use anyhow::{Context, bail};
use axum::http::HeaderMap;
use std::net::{IpAddr, SocketAddr};

#[derive(Debug)]
pub struct Proxies(Vec<Network>);

#[derive(Debug)]
struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((a, p)) => (a, Some(p)),
            None => (text, None),
        };
        let base: IpAddr = address.trim().parse().context("not an address or network such as 10.0.0.0/8")?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(p) => p.trim().parse().ok().filter(|p| *p <= longest).context("the part after / is not a length")?,
            None => longest,
        };
        if base.to_canonical() != base {
            bail!("write the IPv4 address itself");
        }
        Ok(Self { base, prefix })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        fn equal(a: u128, b: u128, bits: u32, prefix: u8) -> bool {
            prefix == 0 || (a ^ b) >> (bits - u32::from(prefix)) == 0
        }
        match (self.base, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => equal(u32::from(a).into(), u32::from(b).into(), 32, self.prefix),
            (IpAddr::V6(a), IpAddr::V6(b)) => equal(u128::from(a), u128::from(b), 128, self.prefix),
            _ => false,
        }
    }
}

/// Whether the address is in one of these; what can't be read holds nothing.
pub fn among(networks: &[String], ip: IpAddr) -> bool {
    networks.iter().filter_map(|n| Network::parse(n).ok()).any(|n| n.contains(ip.to_canonical()))
}

/// An address or a network such as `10.0.0.0/8`; the error says what is wrong.
fn check(text: &str) -> anyhow::Result<()> {
    Network::parse(text).map(drop)
}

/// Of one list.
pub const NETWORKS_MAX: usize = 50;

/// A list as people write it: parted by commas, blanks or lines.
pub fn networks(text: &str) -> Result<Vec<String>, String> {
    let list: Vec<String> =
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    if list.len() > NETWORKS_MAX {
        return Err(format!("holds more than {NETWORKS_MAX} networks"));
    }
    match list.iter().find(|n| check(n).is_err()) {
        Some(wrong) => Err(format!("{wrong:?} is not an address or a network such as 10.0.0.0/8")),
        None => Ok(list),
    }
}

impl Proxies {
    pub fn new(list: &[String]) -> anyhow::Result<Self> {
        let parse = |text: &String| Network::parse(text).with_context(|| format!("server.trusted_proxies: {text:?}"));
        Ok(Self(list.iter().map(parse).collect::<anyhow::Result<_>>()?))
    }

    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|n| n.contains(ip.to_canonical()))
    }

    /// Walks the hops from the right; the first one that is not a trusted proxy is the client.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let values = headers.get_all("x-forwarded-for").iter().rev();
        for hop in values.flat_map(|v| v.to_str().unwrap_or("?").rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            // What can't be read was not written by a proxy of ours: the last hop we know stands.
            let Some(ip) = address(hop.trim()) else { break };
            client = ip;
        }
        client
    }
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let ip = hop
        .parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<String> = trusted.iter().map(|s| (*s).to_owned()).collect();
        let mut headers = HeaderMap::new();
        for f in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(f).unwrap());
        }
        Proxies::new(&trusted).unwrap().client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        let lan = ["10.0.0.0/8", "fd00::/8"];
        for (peer, forwarded, expected) in [
            ("10.0.0.1:5", vec!["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1:5", vec!["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1:5", vec!["6.6.6.6", "203.0.113.7, 10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1:5", vec!["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1:5", vec!["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1:5", vec!["[2001:db8::7]"], "2001:db8::7"),
            ("[fd00::1]:5", vec!["::ffff:203.0.113.7"], "203.0.113.7"),
            ("[::ffff:10.0.0.1]:5", vec!["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1:5", vec!["203.0.113.7, garbage"], "10.0.0.1"),
            ("10.0.0.1:5", vec![], "10.0.0.1"),
            ("10.0.0.1:5", vec!["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            ("203.0.113.1:5", vec!["6.6.6.6"], "203.0.113.1"),
        ] {
            assert_eq!(client(&lan, peer, &forwarded), expected, "{peer} {forwarded:?}");
        }
        assert_eq!(client(&[], "10.0.0.1:5", &["6.6.6.6"]), "10.0.0.1");
    }

    #[test]
    fn an_address_is_among_networks() {
        let list = ["10.0.0.0/8".to_owned(), "2001:db8::7".to_owned(), "nonsense".to_owned()];
        for (ip, inside) in [
            ("10.9.9.9", true),
            ("::ffff:10.9.9.9", true),
            ("11.0.0.1", false),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
        ] {
            assert_eq!(among(&list, ip.parse().unwrap()), inside, "{ip}");
        }
        assert_eq!(networks("10.0.0.0/8, ::1\n10.1.1.1").unwrap(), ["10.0.0.0/8", "::1", "10.1.1.1"]);
        assert_eq!(networks("  ").unwrap(), [""; 0]);
        assert!(networks("10.0.0.0/8 nonsense").unwrap_err().contains("\"nonsense\""));
        assert!(networks(&"::1,".repeat(NETWORKS_MAX + 1)).is_err());
    }

    #[test]
    fn networks_are_checked() {
        for bad in ["", "10.0.0.0/33", "::/129", "example.org", "10.0.0.0/-1", "::ffff:10.0.0.1"] {
            assert!(Proxies::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
        let all = Proxies::new(&["0.0.0.0/0".to_owned()]).unwrap();
        assert!(all.trusts("1.2.3.4".parse().unwrap()) && !all.trusts("::1".parse().unwrap()));
    }
}
