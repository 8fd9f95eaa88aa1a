//! Addresses: what we accept, and their form on the wire.

use lettre::{Address, message::Mailbox};
use url::Host;

/// RFC 5321's longest path, without the angle brackets.
const ADDRESS_MAX: usize = 254;
const LOCAL_MAX: usize = 64;

/// Says what is wrong with an address that came from outside: `ada@example.org`, nothing around it.
pub fn check_address(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// An address whose domain is plain ASCII; a non-ASCII local part stays as it is and needs SMTPUTF8.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    // Quoted local parts are legal and unheard of; without them no character of an address means anything to SMTP.
    if let Some(c) = text.chars().find(|c| c.is_control() || c.is_whitespace() || "<>()[]\",;:\\".contains(*c)) {
        return Err(format!("must be a plain address such as ada@example.org; {c:?} can't be part of it"));
    }
    let (local, domain) = text.rsplit_once('@').ok_or("must be an address such as ada@example.org; it has no @")?;
    if local.is_empty() || domain.is_empty() {
        return Err("must be an address such as ada@example.org; a side of the @ is missing".into());
    }
    if local.len() > LOCAL_MAX {
        return Err(format!("must have at most {LOCAL_MAX} bytes before the @"));
    }
    let domain = ascii_domain(domain)?;
    if local.len() + 1 + domain.len() > ADDRESS_MAX {
        return Err(format!("must be at most {ADDRESS_MAX} bytes long"));
    }
    Address::new(local, domain).map_err(|e| format!("is not a mail address: {}", e.to_string().to_lowercase()))
}

/// `Name <address>` or an address, for our own From and Reply-To.
pub(crate) fn parse_mailbox(text: &str) -> Result<Mailbox, String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    let mailbox: Mailbox =
        text.trim().parse().map_err(|_| "must look like `Campanile <notify@example.org>`".to_owned())?;
    let address = parse(mailbox.email.as_ref())?;
    if !address.user().is_ascii() {
        return Err("must have an ASCII local part".into());
    }
    Ok(Mailbox::new(mailbox.name, address))
}

/// IDNA: `bücher.example` → `xn--bcher-kva.example`.
pub(crate) fn ascii_domain(domain: &str) -> Result<String, String> {
    if domain.is_ascii() {
        return Ok(domain.to_ascii_lowercase());
    }
    match Host::parse(domain) {
        Ok(Host::Domain(ascii)) => Ok(ascii),
        _ => Err(format!("{domain:?} is not a domain name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_pass() {
        for ok in [
            "ada@example.org",
            "a.b+tag@mail.example.co.uk",
            "ada@localhost",
            "ada@bücher.example",
            "jürgen@example.org",
        ] {
            assert_eq!(check_address(ok), Ok(()), "{ok}");
        }
    }

    #[test]
    fn everything_else_says_why() {
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@@example.org",
            "ada example@example.org",
            "Ada <ada@example.org>",
            "ada@example.org\r\nBcc: eve@example.org",
            "ada@example.org>\r\nRCPT TO:<eve@example.org",
            "ada@example.org,eve@example.org",
            "\"a b\"@example.org",
            "ada@exa mple.org",
            "ada@-example.org",
            "ada@example..org",
            "ada\0@example.org",
            "a(comment)@example.org",
        ] {
            assert!(check_address(bad).is_err(), "{bad:?}");
        }
        assert!(check_address(&format!("{}@example.org", "a".repeat(65))).is_err());
        assert!(check_address(&format!("a@{}.org", "b.".repeat(130))).is_err());
    }

    #[test]
    fn domains_become_ascii() {
        assert_eq!(parse("ada@Bücher.example").unwrap().to_string(), "ada@xn--bcher-kva.example");
        assert_eq!(parse_mailbox("Büro <post@bücher.example>").unwrap().email.domain(), "xn--bcher-kva.example");
    }
}
