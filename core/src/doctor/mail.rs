//! Whether mail can leave: the relay answers, and the sender's domain is set up for being believed.

use super::{
    Finding,
    dns::{Kind, NameServers},
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
        let domain = config.email.dkim_domain.clone().unwrap_or(domain);
        found.extend(records(&NameServers::of_the_system(), &domain, config.email.dkim_selector.as_deref()).await);
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
            let line = crate::cli::output::safe(text.lines().next().unwrap_or_default());
            Finding::wrong(WHAT, format!("{place} answers {line:?} in place of 220"), fix)
        }
    }
}

async fn records(servers: &NameServers, domain: &str, selector: Option<&str>) -> Vec<Finding> {
    let mx = match servers.lookup(domain, Kind::Mx).await {
        // A lone dot is how a domain says that it takes none.
        Ok(hosts) if hosts.iter().any(|h| !h.is_empty()) => {
            Finding::good("MX", format!("{domain}: {}", hosts.join(", ")))
        }
        Ok(_) => {
            Finding::look("MX", format!("{domain} takes no mail, so bounces and replies are lost"), "add an MX record")
        }
        // Without a name server the other questions fail alike.
        Err(e) => return vec![Finding::look("mail DNS", e, "check the network, then run this again")],
    };
    vec![mx, spf(servers, domain).await, dkim(servers, domain, selector).await, dmarc(servers, domain).await]
}

async fn spf(servers: &NameServers, domain: &str) -> Finding {
    const WHAT: &str = "SPF";
    let texts = match servers.lookup(domain, Kind::Txt).await {
        Ok(texts) => texts,
        Err(e) => return unasked(WHAT, domain, &e),
    };
    let is_spf = |t: &&String| t.as_str() == "v=spf1" || t.starts_with("v=spf1 ");
    match texts.iter().filter(is_spf).count() {
        1 => Finding::good(WHAT, domain),
        0 => {
            let fix = format!("add TXT {domain} \"v=spf1 … -all\" naming the relay");
            Finding::look(WHAT, format!("{domain} has no such record"), fix)
        }
        n => Finding::look(WHAT, format!("{domain} has {n} such records, and so none counts"), "join them into one"),
    }
}

async fn dkim(servers: &NameServers, domain: &str, selector: Option<&str>) -> Finding {
    const WHAT: &str = "DKIM";
    let Some(selector) = selector else {
        let fix = "let the relay sign, or set email.dkim_selector and email.dkim_key_file";
        return Finding::look(WHAT, "mail is not signed here", fix);
    };
    let name = format!("{selector}._domainkey.{domain}");
    let texts = match servers.lookup(&name, Kind::Txt).await {
        Ok(texts) => texts,
        Err(e) => return unasked(WHAT, &name, &e),
    };
    let key = |t: &String| t.split(';').find_map(|tag| Some(tag.trim().strip_prefix("p=")?.trim().to_owned()));
    match texts.iter().find_map(key) {
        Some(key) if key.is_empty() => Finding::look(
            WHAT,
            format!("{name} has been revoked: its key is empty"),
            "publish the key, or another selector",
        ),
        Some(_) => Finding::good(WHAT, name),
        None => {
            let fix = format!("publish the public key as TXT {name}");
            Finding::look(WHAT, format!("{name} has no such record"), fix)
        }
    }
}

/// A domain without a policy of its own has that of the domain above it.
async fn dmarc(servers: &NameServers, domain: &str) -> Finding {
    const WHAT: &str = "DMARC";
    let mut above = domain;
    loop {
        let name = format!("_dmarc.{above}");
        match servers.lookup(&name, Kind::Txt).await {
            Ok(texts) if texts.iter().any(|t| t.starts_with("v=DMARC1")) => return Finding::good(WHAT, name),
            Ok(_) => {}
            Err(e) => return unasked(WHAT, &name, &e),
        }
        match above.split_once('.') {
            Some((_, next)) if next.contains('.') => above = next,
            _ => break,
        }
    }
    let fix = format!("add TXT _dmarc.{domain} \"v=DMARC1; p=none; rua=mailto:…\"");
    Finding::look(WHAT, format!("_dmarc.{domain} has no such record"), fix)
}

fn unasked(what: &'static str, name: &str, e: &str) -> Finding {
    Finding::look(what, format!("{name}: {e}"), "run this again")
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
    use super::{
        super::{Verdict, dns::fake},
        *,
    };
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

    async fn verdicts(texts: &[(&str, &[&str])], domain: &str, selector: Option<&str>) -> Vec<(&'static str, Verdict)> {
        let servers = fake::serve(texts).await;
        records(&servers, domain, selector).await.iter().map(|f| (f.what, f.verdict)).collect()
    }

    #[tokio::test]
    async fn a_domain_that_is_set_up_is_believed() {
        let key = "v=DKIM1; k=rsa; p=".to_owned() + &"A".repeat(392);
        let texts: &[(&str, &[&str])] = &[
            ("mail.acme.dev", &["v=spf1 include:relay.dev -all", "another text"]),
            ("k1._domainkey.mail.acme.dev", &[&key]),
            ("_dmarc.acme.dev", &["v=DMARC1; p=none"]),
        ];
        let found = verdicts(texts, "mail.acme.dev", Some("k1")).await;
        let good = Verdict::Good;
        assert_eq!(found, [("MX", good), ("SPF", good), ("DKIM", good), ("DMARC", good)], "its DMARC stands above it");
    }

    #[tokio::test]
    async fn what_a_receiver_would_hold_against_a_domain_is_told() {
        let texts: &[(&str, &[&str])] =
            &[("acme.dev", &["v=spf1 -all", "v=spf1 ~all", "v=spf10"]), ("k1._domainkey.acme.dev", &["v=DKIM1; p="])];
        let servers = fake::serve(texts).await;
        let found = records(&servers, "acme.dev", Some("k1")).await;
        let told: Vec<_> = found.iter().map(|f| (f.what, f.verdict, f.fix.is_some())).collect();
        assert_eq!(told[1..], ["SPF", "DKIM", "DMARC"].map(|what| (what, Verdict::Look, true)));
        assert!(found[1].text.contains("2 such records"), "{found:?}");
        assert!(found[2].text.contains("revoked"), "{found:?}");
        let nothing = records(&fake::serve(&[]).await, "acme.dev", None).await;
        assert!(nothing.iter().all(|f| f.verdict == Verdict::Look && f.fix.is_some()), "{nothing:?}");
    }

    #[tokio::test]
    async fn without_a_name_server_one_line_says_so() {
        let gone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let found = records(&NameServers::at(gone), "acme.dev", None).await;
        assert_eq!((found.len(), found[0].what), (1, "mail DNS"));
    }
}
