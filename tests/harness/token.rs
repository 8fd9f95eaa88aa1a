//! End users' tokens, good and bad.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// The secret every test host is started with, unless a test says otherwise.
pub const SECRET: &str = "a-secret-for-tests-only-with-enough-bytes";

/// Seconds since 1970, by the wall clock: tokens are about real time.
#[expect(clippy::disallowed_methods, reason = "tokens carry wall-clock times")]
pub fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A good token of this user for an hour.
pub fn user(user_id: &str) -> String {
    Claims::of(user_id).sign()
}

/// Claims, to be spoiled as needed.
#[derive(Clone, Debug)]
pub struct Claims(pub Map<String, Value>);

impl Claims {
    pub fn of(user_id: &str) -> Self {
        Self(Map::new()).with("sub", json!(user_id)).with("exp", json!(now() + 3600)).with("iat", json!(now()))
    }
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.into(), value);
        self
    }
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }
    /// Seconds from now; negative lies in the past.
    pub fn expiring_in(self, seconds: i64) -> Self {
        self.with("exp", json!(now() + seconds))
    }
    pub fn sign(&self) -> String {
        self.sign_with(&Header::new(Algorithm::HS256), &EncodingKey::from_secret(SECRET.as_bytes()))
    }
    pub fn sign_with(&self, header: &Header, key: &EncodingKey) -> String {
        jsonwebtoken::encode(header, &self.0, key).expect("the claims can be signed")
    }
}

/// URL-safe base64 without padding, for tokens put together by hand.
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64url;

    #[test]
    fn base64url_matches_the_rfc() {
        for (plain, coded) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}
