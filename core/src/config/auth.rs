//! `[auth]`: Who may call. End users carry a JWT, applications an API key.

use super::check::Check;
use super::duration::Dur;
use campanile_plugin::Secret;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// A fixed operator key with all scopes, for containers and scripts. Empty: none.
    pub api_key: Secret,
    /// The same from a file.
    pub api_key_file: Option<PathBuf>,
    /// HS256/384/512 secret, at least 32 bytes. Without any JWT key one is generated in `server.data_dir`.
    pub jwt_secret: Secret,
    /// The same from a file.
    pub jwt_secret_file: Option<PathBuf>,
    /// A secret on its way out: verified, never used to sign.
    pub jwt_previous_secret: Secret,
    /// The same from a file.
    pub jwt_previous_secret_file: Option<PathBuf>,
    /// PEM public key for RS256, ES256 or EdDSA.
    pub jwt_public_key_file: Option<PathBuf>,
    /// Key set of an identity provider; https, fixed.
    pub jwks_url: Option<String>,
    /// HS256, HS384, HS512, RS256, ES256 or EdDSA. Default HS256 with a secret; required with a key file or a key set.
    pub jwt_algorithm: Option<String>,
    /// Required value of `iss`.
    pub jwt_issuer: Option<String>,
    /// Required value of `aud`.
    pub jwt_audience: Option<String>,
    /// Allowed clock difference for `exp` and `nbf`.
    pub jwt_leeway: Dur,
    /// Longest allowed `exp` − `iat`; off by default.
    pub jwt_max_lifetime: Option<Dur>,
    /// Allow a key set on a private or loopback address (and plain http there).
    pub jwks_allow_private: bool,
    /// Requests a second for one API key.
    pub key_rate: u32,
    /// Requests one API key may make at once after a pause.
    pub key_burst: u32,
}

/// What may sign, by key kind.
pub const HMAC: [&str; 3] = ["HS256", "HS384", "HS512"];
pub const PUBLIC: [&str; 3] = ["RS256", "ES256", "EdDSA"];
/// Shorter ones can be guessed.
const SECRET_MIN: usize = 32;

impl Auth {
    /// Nobody said how tokens are signed, so a secret is made in the data folder.
    pub fn generates_secret(&self) -> bool {
        self.jwt_secret.is_empty() && self.jwt_public_key_file.is_none() && self.jwks_url.is_none()
    }

    pub fn validate(&self, c: &mut Check) {
        for (key, secret) in [("jwt_secret", &self.jwt_secret), ("jwt_previous_secret", &self.jwt_previous_secret)] {
            c.require(
                secret.is_empty() || secret.expose().len() >= SECRET_MIN,
                key,
                "must be at least 32 bytes; make one with: openssl rand -base64 32",
            );
        }
        c.require(
            self.api_key.is_empty() || self.api_key.expose().len() >= 16,
            "api_key",
            "must be at least 16 characters; make one with: openssl rand -hex 24",
        );
        c.require(
            self.api_key.expose().bytes().all(|b| b.is_ascii_graphic()),
            "api_key",
            "must be printable ASCII without spaces, since it travels in a header",
        );
        let public = self.jwt_public_key_file.is_some() || self.jwks_url.is_some();
        c.require(
            !(self.jwt_public_key_file.is_some() && self.jwks_url.is_some()),
            "jwks_url",
            "both this and auth.jwt_public_key_file are set; keep one",
        );
        c.require(
            !public || self.jwt_secret.is_empty(),
            "jwt_secret",
            "is set beside a public key or a key set; tokens are checked with one kind of key, so keep one",
        );
        match self.jwt_algorithm.as_deref() {
            Some(a) if !HMAC.contains(&a) && !PUBLIC.contains(&a) => {
                c.complain("jwt_algorithm", format!("{a:?} is not one of HS256, HS384, HS512, RS256, ES256, EdDSA"));
            }
            Some(a) => c.require(
                PUBLIC.contains(&a) == public,
                "jwt_algorithm",
                if public {
                    "must be RS256, ES256 or EdDSA with a public key or a key set"
                } else {
                    "needs auth.jwt_public_key_file or auth.jwks_url; a secret goes with HS256, HS384 or HS512"
                },
            ),
            None => c.require(!public, "jwt_algorithm", "is required with a public key or a key set"),
        }
        if let Some(url) = &self.jwks_url {
            let scheme = url::Url::parse(url).ok().filter(url::Url::has_host).map(|u| u.scheme().to_owned());
            let fine = match scheme.as_deref() {
                Some("https") => true,
                Some("http") => self.jwks_allow_private,
                _ => false,
            };
            c.require(fine, "jwks_url", "must be an https URL (http only with auth.jwks_allow_private)");
        }
        c.require(self.jwt_leeway.as_secs() <= 300, "jwt_leeway", "must be at most 5m");
        if let Some(lifetime) = self.jwt_max_lifetime {
            c.positive([("jwt_max_lifetime", lifetime.as_millis())]);
        }
        c.positive([("key_rate", self.key_rate.into()), ("key_burst", self.key_burst.into())]);
    }
}
