//! What the operator wrote, checked. Complaints name the key, below `email.`.

use crate::{
    address,
    dialogue::{Dialler, Phases},
    dkim::{self, Dkim},
    message::Composer,
    relay::Relay,
    tls,
};
use campanile_plugin::{
    Problem, Secret, Span,
    schemars::{self, JsonSchema},
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// As read from the configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The relay: `smtp://user:password@mail.example.org`. Empty: mail can only be caught.
    pub url: Secret,
    /// Sender: `Campanile <notify@example.org>`. Required with `url`.
    pub from: Option<String>,
    /// Where answers go; none: to the sender.
    pub reply_to: Option<String>,
    /// What we call ourselves to the relay; none: the domain of `from`.
    pub hello_name: Option<String>,
    /// To reach the relay.
    pub connect_timeout: Span,
    /// For each command's answer.
    pub command_timeout: Span,
    /// To hand over a mail's source.
    pub data_timeout: Span,
    /// The final dot until the relay's answer.
    pub dot_timeout: Span,
    /// Connections to the relay.
    pub max_connections: usize,
    /// Signs every mail.
    pub dkim: Option<DkimSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = |n| Span(Duration::from_secs(n));
        Self {
            url: Secret::default(),
            from: None,
            reply_to: None,
            hello_name: None,
            connect_timeout: seconds(10),
            command_timeout: seconds(30),
            data_timeout: seconds(60),
            dot_timeout: seconds(120),
            max_connections: 5,
            dkim: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DkimSettings {
    /// Name of the DNS record before `._domainkey.`.
    pub selector: String,
    /// None: the domain of `from`.
    pub domain: Option<String>,
    /// The key itself, already read from its file.
    pub key: Secret,
}

/// Ready to start with.
pub(crate) struct Config {
    pub(crate) composer: Composer,
    pub(crate) dialler: Option<Dialler>,
    pub(crate) phases: Phases,
    pub(crate) max_connections: usize,
}

impl Config {
    /// Every problem at once, so that one start shows them all.
    pub(crate) fn new(s: Settings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut say = |key: &str, message: String| problems.push(Problem { key: key.into(), message });

        let from = match s.from.as_deref().map(str::trim).filter(|f| !f.is_empty()) {
            Some(text) => address::parse_mailbox(text).map_err(|e| say("from", e)).ok(),
            None if s.url.is_empty() => address::parse_mailbox("Campanile <campanile@localhost>").ok(),
            None => {
                say("from", "is required with email.url; write `Campanile <notify@example.org>`".into());
                None
            }
        };
        let reply_to =
            s.reply_to.as_deref().and_then(|r| address::parse_mailbox(r).map_err(|e| say("reply_to", e)).ok());
        let domain = from.as_ref().map(|f| f.email.domain().to_owned());
        let hello = s.hello_name.or_else(|| domain.clone()).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.[]:".contains(c);
        if !hello.chars().all(plain) || hello.len() > 255 || (hello.is_empty() && domain.is_some()) {
            say("hello_name", "must be a host name such as notify.example.org".into());
        }
        if s.max_connections == 0 {
            say("max_connections", "must be at least 1".into());
        }
        for (key, value) in [
            ("connect_timeout", s.connect_timeout),
            ("command_timeout", s.command_timeout),
            ("data_timeout", s.data_timeout),
            ("dot_timeout", s.dot_timeout),
        ] {
            if value.is_zero() {
                say(key, "must be more than zero".into());
            }
        }
        let mut dialler = None;
        if !s.url.is_empty() {
            match Relay::parse(s.url.expose()).and_then(|relay| Ok((tls::prepare(&relay)?, relay))) {
                Ok((tls, relay)) => dialler = Some(Dialler { relay, tls, hello }),
                Err(e) => say("url", e),
            }
        }
        let mut signer = None;
        if let Some(d) = &s.dkim {
            let name = d.domain.clone().or(domain).unwrap_or_default();
            let checked = dkim::check_name(&d.selector).map_err(|e| ("dkim_selector", e)).and_then(|()| {
                let ascii = address::ascii_domain(&name).map_err(|e| ("dkim_domain", e))?;
                dkim::check_name(&ascii).map_err(|e| ("dkim_domain", e))?;
                Dkim::new(&d.selector, &ascii, &d.key).map_err(|e| ("dkim_key_file", e))
            });
            match checked {
                Ok(dkim) => signer = Some(Arc::new(dkim)),
                Err((key, e)) => say(key, e),
            }
        }
        match from {
            Some(from) if problems.is_empty() => Ok(Self {
                composer: Composer { from, reply_to, dkim: signer },
                dialler,
                phases: Phases {
                    connect: *s.connect_timeout,
                    command: *s.command_timeout,
                    data: *s.data_timeout,
                    dot: *s.dot_timeout,
                },
                max_connections: s.max_connections,
            }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let second = Span(Duration::from_secs(1));
        Settings {
            url: Secret::new("smtp://localhost"),
            from: Some("notify@example.org".into()),
            reply_to: None,
            hello_name: None,
            connect_timeout: second,
            command_timeout: second,
            data_timeout: second,
            dot_timeout: second,
            max_connections: 1,
            dkim: None,
        }
    }

    fn keys(s: Settings) -> Vec<String> {
        Config::new(s).err().unwrap_or_default().into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn good_settings_pass_and_bad_ones_name_the_key() {
        assert!(keys(settings()).is_empty());
        assert_eq!(keys(Settings { from: None, ..settings() }), ["from"]);
        assert_eq!(
            keys(Settings { from: Some("x".into()), max_connections: 0, ..settings() }),
            ["from", "max_connections"]
        );
        assert_eq!(keys(Settings { url: Secret::new("http://x"), ..settings() }), ["url"]);
        assert_eq!(keys(Settings { hello_name: Some("a b".into()), ..settings() }), ["hello_name"]);
        assert_eq!(keys(Settings { dot_timeout: Duration::ZERO.into(), ..settings() }), ["dot_timeout"]);
        let dkim = |selector: &str, key: &str| {
            Some(DkimSettings { selector: selector.into(), domain: None, key: Secret::new(key) })
        };
        assert_eq!(keys(Settings { dkim: dkim("a b", ""), ..settings() }), ["dkim_selector"]);
        assert_eq!(keys(Settings { dkim: dkim("tower", "junk"), ..settings() }), ["dkim_key_file"]);
    }

    #[test]
    fn without_a_relay_mail_can_be_built_all_the_same() {
        let config = Config::new(Settings { url: Secret::default(), from: None, ..settings() })
            .unwrap_or_else(|e| panic!("{e:?}"));
        assert!(config.dialler.is_none());
    }
}
