//! The token matrix: what passes, and every forgery that must not. Keys under `testkeys/` serve no other end.

use super::*;
use campanile_model::Clock;
use proptest::prelude::*;
use serde_json::json;

const NOW: i64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OLD_SECRET: &str = "fedcba9876543210fedcba9876543210";
const RSA: &str = include_str!("testkeys/rsa.pem");
const RSA_PUB: &str = include_str!("testkeys/rsa.pub.pem");
const EC: &str = include_str!("testkeys/ec.pem");
const EC_PUB: &str = include_str!("testkeys/ec.pub.pem");
const ED: &str = include_str!("testkeys/ed.pem");
const ED_PUB: &str = include_str!("testkeys/ed.pub.pem");

struct Fixed;
impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp(NOW, 0).unwrap()
    }
}

fn jwt(algorithm: Algorithm, keys: Vec<DecodingKey>) -> Jwt {
    Jwt {
        algorithm,
        keys: Keys::Fixed(keys),
        signing: is_hmac(algorithm).then(|| EncodingKey::from_secret(SECRET.as_bytes())),
        rules: Rules { issuer: None, audience: None, leeway: 10.0, max_lifetime: None },
        clock: Arc::new(Fixed),
    }
}

fn hs256() -> Jwt {
    jwt(Algorithm::HS256, vec![DecodingKey::from_secret(SECRET.as_bytes())])
}

fn rs256() -> Jwt {
    jwt(Algorithm::RS256, vec![DecodingKey::from_rsa_pem(RSA_PUB.as_bytes()).unwrap()])
}

/// Signs any header and claims, as an attacker would.
fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs(header: &Value, claims: &Value) -> String {
    signed(header, claims, &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256)
}

fn good() -> Value {
    json!({ "sub": "u_ada", "exp": NOW + 60 })
}

fn with(claim: &str, value: Value) -> String {
    let mut claims = good();
    claims[claim] = value;
    hs(&json!({"alg": "HS256"}), &claims)
}

fn without(claim: &str) -> String {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(claim);
    hs(&json!({"alg": "HS256"}), &claims)
}

fn verify(jwt: &Jwt, token: &str) -> Result<String, TokenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(jwt.verify(token)).map(|s| s.user.user.as_str().to_owned())
}

#[test]
fn a_minted_token_passes_with_every_claim_that_is_asked_for() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let mut j = jwt(algorithm, vec![DecodingKey::from_secret(SECRET.as_bytes())]);
        j.rules.issuer = Some("https://id.example.org".into());
        j.rules.audience = Some("campanile".into());
        j.rules.max_lifetime = Some(3600.0);
        let token = j.mint(&UserId::from("u_ada"), Duration::from_hours(1)).unwrap();
        assert_eq!(verify(&j, &token), Ok("u_ada".into()), "{algorithm:?}");
        assert!(j.mint(&UserId::from("u_ada"), Duration::from_secs(3601)).is_err());
    }
    let token = hs256().mint(&UserId::from("u_ada"), Duration::MAX).unwrap();
    assert_eq!(verify(&hs256(), &token), Ok("u_ada".into()));
}

#[test]
fn every_asymmetric_algorithm_verifies_and_mints_nothing() {
    let keys = [
        (Algorithm::RS256, DecodingKey::from_rsa_pem(RSA_PUB.as_bytes()), EncodingKey::from_rsa_pem(RSA.as_bytes())),
        (Algorithm::ES256, DecodingKey::from_ec_pem(EC_PUB.as_bytes()), EncodingKey::from_ec_pem(EC.as_bytes())),
        (Algorithm::EdDSA, DecodingKey::from_ed_pem(ED_PUB.as_bytes()), EncodingKey::from_ed_pem(ED.as_bytes())),
    ];
    for (algorithm, public, private) in keys {
        let j = jwt(algorithm, vec![public.unwrap()]);
        let token = signed(&json!({"alg": name(algorithm)}), &good(), &private.unwrap(), algorithm);
        assert_eq!(verify(&j, &token), Ok("u_ada".into()), "{algorithm:?}");
        assert_eq!(verify(&hs256(), &token), Err(TokenError::Invalid));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        assert_eq!(verify(&j, &format!("{head}.{}", URL_SAFE_NO_PAD.encode(bytes))), Err(TokenError::Invalid));
        assert!(j.mint(&UserId::from("u_ada"), Duration::from_secs(1)).is_err());
    }
}

#[test]
fn forgeries_get_one_same_answer() {
    let b64 = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let good_token = hs(&json!({"alg": "HS256"}), &good());
    let unsigned = |alg: &str| format!("{}.{}.", b64(json!({ "alg": alg })), b64(good()));
    let public_as_secret = EncodingKey::from_secret(RSA_PUB.as_bytes());
    let trimmed_public = EncodingKey::from_secret(RSA_PUB.trim().as_bytes());
    let foreign = EncodingKey::from_secret(OLD_SECRET.as_bytes());
    let mut tampered: Vec<&str> = good_token.split('.').collect();
    let other_claims = b64(json!({"sub": "u_eve", "exp": NOW + 60}));
    tampered[1] = &other_claims;

    let table: Vec<(&str, Jwt, String)> = vec![
        ("alg none", hs256(), unsigned("none")),
        ("alg None", hs256(), unsigned("None")),
        ("alg HS256, empty signature", hs256(), unsigned("HS256")),
        ("alg none, a signature", hs256(), format!("{}x", unsigned("none"))),
        (
            "HS256 with the RSA public key",
            rs256(),
            signed(&json!({"alg": "HS256"}), &good(), &public_as_secret, Algorithm::HS256),
        ),
        ("the same, trimmed", rs256(), signed(&json!({"alg": "HS256"}), &good(), &trimmed_public, Algorithm::HS256)),
        (
            "the same, calling itself RS256",
            rs256(),
            signed(&json!({"alg": "RS256"}), &good(), &public_as_secret, Algorithm::HS256),
        ),
        (
            "HS512 where HS256 is set",
            hs256(),
            signed(&json!({"alg": "HS512"}), &good(), &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS512),
        ),
        ("a foreign secret", hs256(), signed(&json!({"alg": "HS256"}), &good(), &foreign, Algorithm::HS256)),
        (
            "foreign kid and embedded jwk",
            hs256(),
            signed(
                &json!({"alg": "HS256", "kid": "mine", "jwk": {"kty": "oct", "k": URL_SAFE_NO_PAD.encode(OLD_SECRET)}, "jku": "https://evil.example/keys"}),
                &good(),
                &foreign,
                Algorithm::HS256,
            ),
        ),
        ("crit", hs256(), hs(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &good())),
        ("an empty crit", hs256(), hs(&json!({"alg": "HS256", "crit": []}), &good())),
        ("no alg", hs256(), hs(&json!({"typ": "JWT"}), &good())),
        ("tampered claims", hs256(), tampered.join(".")),
        ("future nbf", hs256(), with("nbf", json!(NOW + 11))),
        ("nbf is text", hs256(), with("nbf", json!("0"))),
        ("no exp", hs256(), without("exp")),
        ("exp is text", hs256(), with("exp", json!((NOW + 60).to_string()))),
        ("exp is null", hs256(), with("exp", Value::Null)),
        ("no sub", hs256(), without("sub")),
        ("empty sub", hs256(), with("sub", json!(""))),
        ("sub is a number", hs256(), with("sub", json!(7))),
        ("sub with a control character", hs256(), with("sub", json!("u\nada"))),
        ("sub of 256 characters", hs256(), with("sub", json!("u".repeat(256)))),
        ("expired and without sub", hs256(), hs(&json!({"alg": "HS256"}), &json!({"exp": NOW - 600}))),
        (
            "expired, foreign secret",
            hs256(),
            signed(&json!({"alg": "HS256"}), &json!({"sub": "u", "exp": 1}), &foreign, Algorithm::HS256),
        ),
        ("too long", hs256(), with("pad", json!("x".repeat(8 * 1024)))),
        ("four parts", hs256(), format!("{good_token}.x")),
        ("two parts", hs256(), good_token.rsplit_once('.').unwrap().0.to_owned()),
        ("nothing", hs256(), String::new()),
        ("dots", hs256(), "..".into()),
        ("padding", hs256(), format!("{good_token}=")),
        ("claims are a list", hs256(), hs(&json!({"alg": "HS256"}), &json!([good()]))),
    ];
    for (what, jwt, token) in table {
        assert_eq!(verify(&jwt, &token), Err(TokenError::Invalid), "{what}");
    }
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"u_ada","sub":"u_eve","exp":{}}}"#, NOW + 60))
    );
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert_eq!(verify(&hs256(), &format!("{message}.{signature}")), Err(TokenError::Invalid));
}

#[test]
fn time_has_ten_seconds_of_leeway_and_not_more() {
    assert_eq!(verify(&hs256(), &with("exp", json!(NOW - 9))), Ok("u_ada".into()));
    assert_eq!(verify(&hs256(), &with("exp", json!(NOW - 10))), Err(TokenError::Expired));
    assert_eq!(verify(&hs256(), &with("exp", json!(NOW - 15))), Err(TokenError::Expired));
    assert_eq!(verify(&hs256(), &with("nbf", json!(NOW + 10))), Ok("u_ada".into()));
    assert_eq!(verify(&hs256(), &with("exp", json!(1e300))), Ok("u_ada".into()));
    assert_eq!(verify(&hs256(), &with("exp", json!(-1e300))), Err(TokenError::Expired));
}

#[test]
fn issuer_and_audience_are_exact() {
    let mut j = hs256();
    j.rules.issuer = Some("https://id.example.org".into());
    j.rules.audience = Some("campanile".into());
    let token = |iss: Value, aud: Value| {
        hs(&json!({"alg": "HS256"}), &json!({"sub": "u_ada", "exp": NOW + 60, "iss": iss, "aud": aud}))
    };
    let iss = || json!("https://id.example.org");
    for (i, a, ok) in [
        (iss(), json!("campanile"), true),
        (iss(), json!(["other", "campanile"]), true),
        (iss(), json!("campanile2"), false),
        (iss(), json!(["other"]), false),
        (iss(), json!([]), false),
        (iss(), Value::Null, false),
        (json!("https://id.example.org/"), json!("campanile"), false),
        (json!(["https://id.example.org"]), json!("campanile"), false),
        (Value::Null, json!("campanile"), false),
    ] {
        assert_eq!(verify(&j, &token(i.clone(), a.clone())).is_ok(), ok, "{i} {a}");
    }
    assert_eq!(verify(&j, &hs(&json!({"alg": "HS256"}), &good())), Err(TokenError::Invalid));
}

#[test]
fn a_longest_life_needs_an_honest_iat() {
    let mut j = hs256();
    j.rules.max_lifetime = Some(100.0);
    for (iat, exp, ok) in [
        (json!(NOW), NOW + 100, true),
        (json!(NOW), NOW + 101, false),
        (json!(NOW + 60), NOW + 100, false),
        (Value::Null, NOW + 50, false),
        (json!("x"), NOW + 50, false),
    ] {
        let mut claims = json!({"sub": "u_ada", "exp": exp});
        if !iat.is_null() {
            claims["iat"] = iat.clone();
        }
        assert_eq!(verify(&j, &hs(&json!({"alg": "HS256"}), &claims)).is_ok(), ok, "{iat} {exp}");
    }
}

#[test]
fn the_previous_secret_verifies_and_the_current_one_signs() {
    let keys = [SECRET, OLD_SECRET].map(|s| DecodingKey::from_secret(s.as_bytes())).to_vec();
    let j = jwt(Algorithm::HS256, keys);
    let old = EncodingKey::from_secret(OLD_SECRET.as_bytes());
    assert!(verify(&j, &signed(&json!({"alg": "HS256"}), &good(), &old, Algorithm::HS256)).is_ok());
    let minted = j.mint(&UserId::from("u_ada"), Duration::from_secs(9)).unwrap();
    assert!(verify(&hs256(), &minted).is_ok());
}

/// An `[auth]` section out of the defaults and these keys.
fn auth(changes: &[(&str, &str)]) -> Auth {
    let mut builder = ::config::Config::builder()
        .add_source(::config::File::from_str(crate::config::DEFAULTS, ::config::FileFormat::Toml));
    for (key, value) in changes {
        builder = builder.set_override(format!("auth.{key}"), *value).unwrap();
    }
    builder.build().unwrap().get("auth").unwrap()
}

#[test]
fn a_wrong_configuration_is_told_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let public = dir.path().join("rsa.pub.pem");
    let private = dir.path().join("rsa.pem");
    std::fs::write(&public, RSA_PUB).unwrap();
    std::fs::write(&private, RSA).unwrap();
    let (public, private) = (public.to_str().unwrap(), private.to_str().unwrap());
    for (changes, word) in [
        (vec![("jwt_secret", "short")], "auth.jwt_secret"),
        (vec![("jwt_secret", SECRET), ("jwt_previous_secret", "short")], "auth.jwt_previous_secret"),
        (vec![("jwt_previous_secret", OLD_SECRET)], "auth.jwt_previous_secret"),
        (vec![("jwt_secret", SECRET), ("jwt_algorithm", "RS256")], "auth.jwt_algorithm"),
        (vec![("jwt_secret", SECRET), ("jwt_algorithm", "none")], "auth.jwt_algorithm"),
        (vec![("jwt_public_key_file", public)], "auth.jwt_algorithm"),
        (vec![("jwt_public_key_file", public), ("jwt_algorithm", "HS256")], "auth.jwt_algorithm"),
        (vec![("jwt_public_key_file", public), ("jwt_algorithm", "ES256")], "auth.jwt_public_key_file"),
        (vec![("jwt_public_key_file", private), ("jwt_algorithm", "RS256")], "auth.jwt_public_key_file"),
        (vec![("jwt_public_key_file", "/nowhere"), ("jwt_algorithm", "RS256")], "auth.jwt_public_key_file"),
        (vec![("jwt_public_key_file", public), ("jwt_algorithm", "RS256"), ("jwt_secret", SECRET)], "auth.jwt_secret"),
        (
            vec![("jwks_url", "https://id.example.org/k"), ("jwt_algorithm", "RS256"), ("jwt_secret", SECRET)],
            "auth.jwt_secret",
        ),
        (
            vec![("jwks_url", "https://id.example.org/k"), ("jwt_algorithm", "RS256"), ("jwt_public_key_file", public)],
            "auth.jwks_url",
        ),
        (vec![("jwks_url", "http://id.example.org/k"), ("jwt_algorithm", "RS256")], "auth.jwks_url"),
        (vec![("jwks_url", "https://10.0.0.1/k"), ("jwt_algorithm", "RS256")], "auth.jwks_url"),
    ] {
        let error = read_keys(&auth(&changes), dir.path()).err().map(|e| format!("{e:#}")).unwrap_or_default();
        assert!(error.contains(word), "{changes:?}: {error:?}");
    }
    assert!(read_keys(&auth(&[("jwt_public_key_file", public), ("jwt_algorithm", "RS256")]), dir.path()).is_ok());
}

#[test]
fn a_secret_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let sign = |(algorithm, _, key): (Algorithm, Keys, Option<EncodingKey>)| {
        crypto::sign(b"x", &key.unwrap(), algorithm).unwrap()
    };
    let one = sign(read_keys(&auth(&[]), dir.path()).unwrap());
    assert_eq!(one, sign(read_keys(&auth(&[]), dir.path()).unwrap()));
}

proptest! {
    #[test]
    fn no_text_panics_or_passes(token in ".{0,200}") {
        prop_assert_eq!(verify(&hs256(), &token), Err(TokenError::Invalid));
    }
}
