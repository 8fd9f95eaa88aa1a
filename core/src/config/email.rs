//! `[email]`: The e-mail channel.

use super::check::Check;
use super::duration::Dur;
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// `smtp://host:port` (plain), `smtp://…?tls=required` (STARTTLS), `smtps://…` (implicit TLS); user and password as `user:password@`. `?ca=FILE` (`&ca=FILE` after another) also trusts that PEM file. Empty: the channel is off, and with --dev mail is caught.
    pub url: Secret,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// `Campanile <notify@example.org>`.
    pub from: Option<String>,
    /// Optional Reply-To.
    pub reply_to: Option<String>,
    /// Name for EHLO; default: the domain of `from`.
    pub hello_name: Option<String>,
    /// One attempt in all.
    pub timeout: Dur,
    /// TCP and TLS connect.
    pub connect_timeout: Dur,
    /// Greeting, EHLO, STARTTLS, AUTH, MAIL and RCPT, each.
    pub command_timeout: Dur,
    /// DATA until the server asks for the message, and sending it.
    pub data_timeout: Dur,
    /// The final dot until the server's answer.
    pub dot_timeout: Dur,
    /// Connections to the relay.
    pub max_connections: usize,
    /// Mails under way at once.
    pub concurrency: usize,
    /// Notification types that carry no unsubscribe link (receipts, password resets).
    pub transactional: Vec<String>,
    /// Folder with `<name>/subject.txt`, `body.txt`, `body.html`; `<name>` is the notification type or `default`. Built-in ones otherwise.
    pub templates_dir: Option<PathBuf>,
    /// DKIM: signing is on when selector and key are set.
    pub dkim_selector: Option<String>,
    /// Default: the domain of `from`.
    pub dkim_domain: Option<String>,
    /// RSA (PEM PKCS#1 or PKCS#8) or ed25519 (PEM PKCS#8 or base64 seed) private key.
    pub dkim_key_file: Option<PathBuf>,
}

impl Email {
    pub fn validate(&self, c: &mut Check) {
        // The channel itself knows what it can work with; one truth for `config check` and the start.
        if let Err(problems) = crate::channel::email::check(self) {
            for problem in problems {
                c.complain(&problem.key, problem.message);
            }
        }
        c.require(
            self.dkim_selector.is_some() == self.dkim_key_file.is_some(),
            "dkim_selector",
            "and email.dkim_key_file belong together; set both or none",
        );
        c.positive([("timeout", self.timeout.as_millis()), ("concurrency", self.concurrency as u128)]);
        if let Some(dir) = &self.templates_dir {
            c.require(dir.is_dir(), "templates_dir", "is not a folder");
        }
    }
}
