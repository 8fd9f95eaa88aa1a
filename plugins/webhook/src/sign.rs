//! Signatures of Standard Webhooks, version 1: HMAC-SHA256 over id, time and body.

use base64::{Engine, engine::general_purpose::STANDARD};
use campanile_plugin::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Long enough to be safe, short enough to be meant.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn parse(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok();
        bytes.filter(|b| BYTES.contains(&b.len())).map(Self).ok_or(
            "must be whsec_ and 24 to 64 random bytes in base64; make one: echo whsec_$(openssl rand -base64 32)",
        )
    }
}

/// The header `webhook-signature`: one signature for each key, a blank between.
pub(crate) fn all(keys: &[Key], id: &str, timestamp: u64, body: &str) -> String {
    keys.iter().map(|key| one(&key.0, id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

/// What a receiver compares with, for tests and examples: `v1,` and the signature.
pub fn signature(secret: &Secret, id: &str, timestamp: u64, body: &str) -> Result<String, &'static str> {
    Key::parse(secret).map(|key| one(&key.0, id, timestamp, body))
}

fn one(key: &[u8], id: &str, timestamp: u64, body: &str) -> String {
    // An HMAC takes keys of any length, so this can't fail; an empty signature would be refused by every receiver.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn signs_as_the_specification_does() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn keys_that_guess_well_are_refused() {
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "hunter2", "whsec_!!!!", &format!("whsec_{}", "A".repeat(88))] {
            assert!(Key::parse(&Secret::new(bad)).is_err(), "{bad}");
        }
    }
}
