//! Whether the parts that are configured make a sensible whole.

use super::Finding;
use crate::{
    config::{Config, bus::Target},
    store::postgres::open::is_postgres,
};
use std::net::IpAddr;
use url::{Host, Url};

pub fn check(config: &Config) -> Vec<Finding> {
    let mut found = vec![nodes(config)];
    found.extend(config.server.public_url.as_deref().and_then(tls));
    found
}

fn nodes(config: &Config) -> Finding {
    const WHAT: &str = "nodes";
    let shared = config.database.url.as_deref().is_some_and(is_postgres);
    let hears_others = !matches!(config.bus.target(&config.queue), Ok(Target::Embedded));
    match (shared, hears_others) {
        (false, _) => Finding::good(WHAT, "one, since the database is a file"),
        (true, true) => Finding::good(WHAT, "several can share the database; they hear of each other by the bus"),
        (true, false) => Finding::look(
            WHAT,
            "run one only: without a bus a node hears nothing of what others commit, and its sockets wait for the \
             next heartbeat",
            "before a second node, set queue.url to RabbitMQ, or bus.url to Redis",
        ),
    }
}

/// Tokens travel in what people's browsers send to this address.
fn tls(public_url: &str) -> Option<Finding> {
    const WHAT: &str = "TLS";
    let url = Url::parse(public_url).ok()?;
    if url.scheme() == "https" {
        return Some(Finding::good(WHAT, format!("people come by {public_url}")));
    }
    let local = match url.host()? {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => IpAddr::from(ip).is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    let fix = "put a proxy with TLS in front, and make server.public_url https://";
    (!local).then(|| Finding::look(WHAT, format!("people's tokens travel in the clear to {public_url}"), fix))
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn several_nodes_need_a_bus() {
        let mut config = crate::config::defaults().unwrap();
        assert_eq!(nodes(&config).verdict, Verdict::Good);
        config.database.url = Some("postgres://h/d".to_owned());
        assert_eq!(nodes(&config).verdict, Verdict::Look);
        config.bus.url = campanile_plugin::Secret::new("redis://h");
        assert_eq!(nodes(&config).verdict, Verdict::Good);
    }

    #[test]
    fn only_strangers_addresses_need_tls() {
        let of = |url: &str| tls(url).map(|f| f.verdict);
        assert_eq!(of("https://bell.example.org"), Some(Verdict::Good));
        assert_eq!(of("http://bell.example.org"), Some(Verdict::Look));
        assert_eq!(
            (of("http://localhost:8000"), of("http://127.0.0.1:8000"), of("http://[::1]:8000")),
            (None, None, None)
        );
    }
}
