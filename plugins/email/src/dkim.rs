//! DKIM keys as people have them, turned into what lettre signs with.

use base64::{Engine, engine::general_purpose::STANDARD};
use campanile_plugin::Secret;
use lettre::message::{
    Message,
    dkim::{DkimCanonicalization, DkimCanonicalizationType, DkimConfig, DkimSigningAlgorithm, DkimSigningKey},
    header::HeaderName,
};
use rustls::pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, pem::PemObject};

/// Gmail and others treat smaller keys as no signature.
const RSA_MIN_BITS: usize = 2048;
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Signed whether present or not: nobody can add one of them on the way.
///
/// Content-Type is not among them: lettre keeps it with the part, does not see it when it signs, and a verifier that
/// does see it finds the signature broken.
const SIGNED: [&str; 11] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
    "Auto-Submitted",
];

pub struct Dkim(DkimConfig);

impl Dkim {
    /// `key`: RSA in PEM (PKCS#1 or PKCS#8), ed25519 in PEM (PKCS#8) or as the base64 of its 32-byte seed.
    pub fn new(selector: &str, domain: &str, key: &Secret) -> Result<Self, String> {
        let key = read_key(key.expose())?;
        // Relays fold and re-space headers; relaxed survives that.
        let relaxed = DkimCanonicalizationType::Relaxed;
        let headers = SIGNED.iter().map(|h| HeaderName::new_from_ascii_str(h)).collect();
        let canonicalization = DkimCanonicalization { header: relaxed, body: relaxed };
        Ok(Self(DkimConfig::new(selector.to_owned(), domain.to_owned(), key, headers, canonicalization)))
    }

    pub fn sign(&self, message: &mut Message) {
        message.sign(&self.0);
    }
}

/// A selector or domain stands in a header as it is.
pub fn check_name(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 253 || !text.chars().all(plain) {
        return Err("must be a DNS name: letters, digits, dots, hyphens".into());
    }
    Ok(())
}

fn read_key(text: &str) -> Result<DkimSigningKey, String> {
    let text = text.trim();
    if !text.starts_with("-----BEGIN") {
        let seed = STANDARD.decode(text).ok().filter(|b| b.len() == 32);
        let seed = seed.ok_or("is neither PEM nor the base64 of a 32-byte ed25519 seed")?;
        return ed25519(&seed);
    }
    if text.starts_with("-----BEGIN RSA PRIVATE KEY") {
        let der = PrivatePkcs1KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| "is not a readable PEM file")?;
        return rsa(der.secret_pkcs1_der());
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "is not a private key in PEM; `openssl genrsa -traditional 2048` makes one")?;
    let (oid, inner) = open_pkcs8(der.secret_pkcs8_der()).ok_or("is not a readable PKCS#8 key")?;
    match oid {
        OID_RSA => rsa(inner),
        OID_ED25519 => ed25519(element(inner, 0x04).ok_or("is not a readable ed25519 key")?.0),
        _ => Err("is neither an RSA nor an ed25519 key".into()),
    }
}

fn ed25519(seed: &[u8]) -> Result<DkimSigningKey, String> {
    DkimSigningKey::new(&STANDARD.encode(seed), DkimSigningAlgorithm::Ed25519).map_err(|e| e.to_string())
}

fn rsa(pkcs1: &[u8]) -> Result<DkimSigningKey, String> {
    let bits = rsa_bits(pkcs1).ok_or("is not a readable RSA key")?;
    if bits < RSA_MIN_BITS {
        return Err(format!("is an RSA key of {bits} bits; receivers want at least {RSA_MIN_BITS}"));
    }
    // lettre reads PKCS#1 in PEM only.
    let mut pem = String::from("-----BEGIN RSA PRIVATE KEY-----\n");
    for line in STANDARD.encode(pkcs1).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END RSA PRIVATE KEY-----\n");
    DkimSigningKey::new(&pem, DkimSigningAlgorithm::Rsa).map_err(|e| e.to_string())
}

/// `SEQUENCE { version, SEQUENCE { algorithm, … }, OCTET STRING key, … }` → (algorithm, key).
fn open_pkcs8(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, _) = element(der, 0x30)?;
    let (_version, rest) = element(body, 0x02)?;
    let (algorithm, rest) = element(rest, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    let (key, _) = element(rest, 0x04)?;
    Some((oid, key))
}

/// Length of the modulus: `SEQUENCE { version, INTEGER n, … }`.
fn rsa_bits(pkcs1: &[u8]) -> Option<usize> {
    let (body, _) = element(pkcs1, 0x30)?;
    let (_version, rest) = element(body, 0x02)?;
    let (modulus, _) = element(rest, 0x02)?;
    let start = modulus.iter().position(|b| *b != 0)?;
    Some((modulus.len() - start) * 8 - modulus[start].leading_zeros() as usize)
}

/// One DER element of the wanted tag: (its content, what follows).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&t, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if t != tag {
        return None;
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_32_bytes_of_base64() {
        assert!(read_key(&STANDARD.encode([7u8; 32])).is_ok());
        assert!(read_key(&STANDARD.encode([7u8; 31])).is_err());
        assert!(read_key("not base64!").is_err());
        assert!(read_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
    }

    #[test]
    fn an_ed25519_key_as_openssl_writes_it() {
        let mut der =
            vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        der.extend([9u8; 32]);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
        assert!(read_key(&pem).is_ok());
    }

    #[test]
    fn names_that_could_break_the_header_are_refused() {
        assert!(check_name("mail2026._x").is_ok());
        for bad in ["", "a b", "a;d=evil.org", "a\r\nb"] {
            assert!(check_name(bad).is_err());
        }
    }

    #[test]
    fn cut_der_is_refused_without_a_panic() {
        let der = [0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x02];
        for n in 0..der.len() {
            assert!(open_pkcs8(&der[..n]).is_none());
            assert!(rsa_bits(&der[..n]).is_none());
        }
    }
}
