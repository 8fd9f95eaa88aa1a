//! Unsubscribe links: an opaque token that names a delivery and proves that we made it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_model::DeliveryId;
use campanile_plugin::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::SocketAddr;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Bytes of the HMAC that a token carries: 128 bits can't be guessed.
const PROOF: usize = 16;

pub struct UnsubscribeLinks {
    mac: Hmac<Sha256>,
    base: String,
}

impl UnsubscribeLinks {
    pub fn new(secret: &Secret, public_url: Option<&str>, address: SocketAddr) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mac = Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length");
        let base = match public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            // Listening everywhere is no address to call.
            None if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        Self { mac, base }
    }

    pub fn url(&self, delivery: DeliveryId) -> String {
        let mut token = [0u8; 16 + PROOF];
        token[..16].copy_from_slice(delivery.0.as_bytes());
        token[16..].copy_from_slice(&self.proof(delivery));
        format!("{}/unsubscribe/{}", self.base, URL_SAFE_NO_PAD.encode(token))
    }

    /// The delivery behind a token of ours; `None` for everything else.
    pub fn read(&self, token: &str) -> Option<DeliveryId> {
        let bytes: [u8; 16 + PROOF] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let delivery = DeliveryId(Uuid::from_slice(&bytes[..16]).ok()?);
        bool::from(self.proof(delivery).ct_eq(&bytes[16..])).then_some(delivery)
    }

    fn proof(&self, delivery: DeliveryId) -> [u8; PROOF] {
        let mut mac = self.mac.clone();
        mac.update(b"unsubscribe:");
        mac.update(delivery.0.as_bytes());
        let mut proof = [0u8; PROOF];
        proof.copy_from_slice(&mac.finalize().into_bytes()[..PROOF]);
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(secret: &str, public: Option<&str>) -> UnsubscribeLinks {
        UnsubscribeLinks::new(&Secret::new(secret), public, "0.0.0.0:8000".parse().unwrap())
    }

    #[test]
    fn only_our_own_tokens_are_read() {
        let (ours, others) = (links("one", Some("https://x.example/")), links("two", None));
        let id = DeliveryId::new();
        let url = ours.url(id);
        let token = url.strip_prefix("https://x.example/unsubscribe/").unwrap();
        assert_eq!(ours.read(token), Some(id));
        assert_eq!(others.read(token), None);
        assert!(others.url(id).starts_with("http://localhost:8000/unsubscribe/"));
        for n in 0..token.len() {
            let mut forged = token.as_bytes().to_vec();
            forged[n] = if forged[n] == b'A' { b'B' } else { b'A' };
            assert_ne!(ours.read(std::str::from_utf8(&forged).unwrap()), Some(id), "{n}");
        }
        for junk in ["", "AAAA", &token[1..], &format!("{token}A"), "ünï"] {
            assert_eq!(ours.read(junk), None);
        }
    }
}
