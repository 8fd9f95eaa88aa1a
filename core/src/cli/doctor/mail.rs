//! Whether mail can leave: the relay answers, and the sender's domain is set up for being believed.

use super::{
    Finding,
    dns::{Kind, lookup},
};
use crate::config::Config;
use std::time::Duration;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use url::Url;

const WHAT: &str = "mail relay";

pub async fn check(config: &Config) -> Vec<Finding> {
    let Some(url) = Some(&config.email.url).filter(|u| !u.is_empty()) else {
        return vec![Finding::look(WHAT, "none, so the e-mail channel is off", "set email.url and email.from")];
    };
    let mut found = vec![relay(url.expose(), *config.email.connect_timeout).await];
    let domain = config.email.from.as_deref().and_then(domain_of);
    if let Some(domain) = domain.filter(|d| !is_reserved(d)) {
        found.extend(records(&domain, config.email.dkim_selector.as_deref()).await);
    }
    found
}

/// Connects and reads the greeting; says nothing, so no relay counts it as an attempt to send.
async fn relay(url: &str, limit: Duration) -> Finding {
    let fix = "check host, port and firewall of email.url";
    let Ok(url) = Url::parse(url) else {
        return Finding::wrong(WHAT, "email.url can't be read", "campanile config check");
    };
    let implicit = url.scheme() == "smtps";
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(if implicit { 465 } else { 25 });
    let place = format!("{host}:{port}");
    let greet = async {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        let mut greeting = [0; 512];
        // With implicit TLS the server waits for the client to begin.
        let n = if implicit { 0 } else { stream.read(&mut greeting).await? };
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&greeting[..n]).into_owned())
    };
    match timeout(limit, greet).await {
        Err(_) => Finding::wrong(WHAT, format!("{place} did not answer within {} s", limit.as_secs()), fix),
        Ok(Err(e)) => Finding::wrong(WHAT, format!("{place}: {e}"), fix),
        Ok(Ok(_)) if implicit => Finding::good(WHAT, format!("{place} takes connections")),
        Ok(Ok(text)) if text.starts_with("220") => Finding::good(WHAT, format!("{place} greets")),
        Ok(Ok(text)) => {
            let line = super::super::output::safe(text.lines().next().unwrap_or_default());
            Finding::wrong(WHAT, format!("{place} answers {line:?} in place of 220"), fix)
        }
    }
}

async fn records(domain: &str, selector: Option<&str>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.push(match lookup(domain, Kind::Mx).await {
        Ok(hosts) if !hosts.is_empty() => Finding::good("MX", format!("{domain}: {}", hosts.join(", "))),
        Ok(_) => {
            Finding::look("MX", format!("{domain} takes no mail, so bounces and replies are lost"), "add an MX record")
        }
        // Without a name server the other questions fail alike.
        Err(e) => return vec![Finding::look("mail DNS", e, "check the network, then run this again")],
    });
    found.push(text("SPF", domain, "v=spf1", &format!("add TXT {domain} \"v=spf1 … -all\" naming the relay")).await);
    let dmarc = format!("_dmarc.{domain}");
    found.push(text("DMARC", &dmarc, "v=DMARC1", &format!("add TXT {dmarc} \"v=DMARC1; p=none; rua=mailto:…\"")).await);
    if let Some(selector) = selector {
        let name = format!("{selector}._domainkey.{domain}");
        found.push(text("DKIM", &name, "p=", &format!("publish the public key as TXT {name}")).await);
    }
    found
}

async fn text(what: &'static str, name: &str, sign: &str, fix: &str) -> Finding {
    match lookup(name, Kind::Txt).await {
        Ok(texts) if texts.iter().any(|t| t.contains(sign)) => Finding::good(what, name),
        Ok(_) => Finding::look(what, format!("{name} has no such record"), fix),
        Err(e) => Finding::look(what, format!("{name}: {e}"), "run this again"),
    }
}

fn domain_of(from: &str) -> Option<String> {
    let domain = from.rsplit_once('@')?.1.trim_end_matches(['>', ' ']);
    Some(domain.to_owned()).filter(|d| d.contains('.'))
}

/// Names that RFC 2606 and 6761 keep for examples and tests have no records to look for.
fn is_reserved(domain: &str) -> bool {
    let last =
        |n: usize| domain.rsplit('.').take(n).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(".");
    matches!(last(1).as_str(), "test" | "example" | "invalid" | "localhost")
        || matches!(last(2).as_str(), "example.org" | "example.com" | "example.net")
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    #[test]
    fn the_domain_comes_from_the_address() {
        assert_eq!(domain_of("Campanile <notify@mail.acme.dev>").as_deref(), Some("mail.acme.dev"));
        assert_eq!(domain_of("root@localhost"), None);
        assert!(is_reserved("a.example.org") && is_reserved("x.test") && !is_reserved("acme.dev"));
    }

    #[tokio::test]
    async fn a_relay_must_greet() {
        for (greeting, verdict) in [("220 hello\r\n", Verdict::Good), ("554 go away\r\n", Verdict::Wrong)] {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("smtp://{}", server.local_addr().unwrap());
            let serve = async { server.accept().await.unwrap().0.write_all(greeting.as_bytes()).await.unwrap() };
            let (finding, ()) = tokio::join!(relay(&url, Duration::from_secs(5)), serve);
            assert_eq!(finding.verdict, verdict, "{greeting}");
        }
    }
}
