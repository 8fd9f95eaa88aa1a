//! `[email]`: The e-mail channel.

use super::check::Check;
use super::duration::Dur;
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// `smtp://host:port` (plain), `smtp://…?tls=required` (STARTTLS), `smtps://…` (implicit TLS); user and password as `user:password@`. Empty: the channel is off, and with --dev mail is caught.
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
    /// RSA (PEM PKCS#1 or PKCS#8) or ed25519 (base64 seed) private key.
    pub dkim_key_file: Option<PathBuf>,
}

impl Email {
    pub fn validate(&self, c: &mut Check) {
        if !self.url.is_empty() {
            if let Err(e) = check_url(self.url.expose()) {
                c.complain("url", e);
            }
            c.require(self.from.is_some(), "from", "is required with email.url; write Campanile <notify@example.org>");
        }
        for (key, address) in [("from", &self.from), ("reply_to", &self.reply_to)] {
            let fine = address.as_deref().is_none_or(|a| a.contains('@') && !a.chars().any(char::is_control));
            c.require(fine, key, "is not an address; write Campanile <notify@example.org>");
        }
        c.require(
            self.dkim_selector.is_some() == self.dkim_key_file.is_some(),
            "dkim_selector",
            "and email.dkim_key_file belong together; set both or none",
        );
        c.positive([
            ("timeout", self.timeout.as_millis()),
            ("connect_timeout", self.connect_timeout.as_millis()),
            ("command_timeout", self.command_timeout.as_millis()),
            ("data_timeout", self.data_timeout.as_millis()),
            ("dot_timeout", self.dot_timeout.as_millis()),
            ("max_connections", self.max_connections as u128),
            ("concurrency", self.concurrency as u128),
        ]);
        if let Some(dir) = &self.templates_dir {
            c.require(dir.is_dir(), "templates_dir", "is not a folder");
        }
    }
}

/// Never repeats the URL: it may hold a password.
fn check_url(text: &str) -> Result<(), &'static str> {
    let shape = "must be smtp://host:port, smtp://host:port?tls=required or smtps://host:port";
    let url = url::Url::parse(text).map_err(|_| shape)?;
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or(shape)?;
    let tls = match (url.scheme(), url.query()) {
        ("smtps", None) | ("smtp", Some("tls=required")) => true,
        ("smtp", None) => false,
        _ => return Err(shape),
    };
    let loopback = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
    if !tls && !loopback && !url.username().is_empty() {
        return Err("holds a password but the connection is plain; add ?tls=required, or use smtps://");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn a_password_needs_tls_unless_the_relay_is_here() {
        for good in [
            "smtp://mail.example.org:25",
            "smtp://u:p@mail.example.org:587?tls=required",
            "smtps://u:p@mail.example.org",
            "smtp://u:p@127.0.0.1:2525",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in ["mail.example.org", "smtp://", "smtp://u:p@mail.example.org:25", "smtp://h?tls=maybe", "http://h"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
