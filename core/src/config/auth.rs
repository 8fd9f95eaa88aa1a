//! `[auth]`: Who may call. End users carry a JWT, applications an API key.

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
