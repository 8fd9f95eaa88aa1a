//! The token matrix: every bad token gets one same answer, on every door.

use campanile_tests::{
    prelude::*,
    token::{self, base64url, now},
    unique,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

pub const RSA: &str = include_str!("../../fixtures/jwt/rsa.pem");
pub const RSA_PUBLIC: &str = include_str!("../../fixtures/jwt/rsa.pub.pem");
const EC: &str = include_str!("../../fixtures/jwt/ec.pem");
const EC_PUBLIC: &str = include_str!("../../fixtures/jwt/ec.pub.pem");
const ED: &str = include_str!("../../fixtures/jwt/ed.pem");
const ED_PUBLIC: &str = include_str!("../../fixtures/jwt/ed.pub.pem");

/// How a v1 socket with this token ends: `open` or the close reason.
async fn socket_says(host: &TestHost, token: &str) -> String {
    let mut socket = Connect::to(host).bearer_protocol(token).open().await;
    match socket.next().await {
        campanile_tests::socket::Got::Text(text) => {
            assert!(text.contains("\"hello\""), "{text}");
            "open".into()
        }
        campanile_tests::socket::Got::Closed(closed) => {
            assert_eq!(closed.code, 4401, "{closed:?}");
            closed.reason
        }
    }
}

fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    header
}

/// A token put together by hand: header and claims as given, with this signature.
fn by_hand(header: &Value, claims: &Claims, signature: &[u8]) -> String {
    let claims = Value::Object(claims.0.clone()).to_string();
    format!("{}.{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.as_bytes()), base64url(signature))
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer() {
    let host = TestHost::builder()
        .text("auth.jwt_issuer", "https://id.example.org")
        .text("auth.jwt_audience", "campanile")
        .start()
        .await;
    let user = unique("u");
    let good = Claims::of(&user).with("iss", json!("https://id.example.org")).with("aud", json!("campanile"));
    let secret = EncodingKey::from_secret(token::SECRET.as_bytes());
    assert_eq!(socket_says(&host, &good.sign()).await, "open");
    assert_eq!(socket_says(&host, &good.clone().with("aud", json!(["other", "campanile"])).sign()).await, "open");
    assert_eq!(socket_says(&host, &good.clone().expiring_in(-5).sign()).await, "open", "within the leeway");

    let mut signed_otherwise = good.sign();
    signed_otherwise.replace_range(signed_otherwise.len() - 6.., "AAAAAA");
    let bad = [
        ("alg none", by_hand(&json!({"alg": "none", "typ": "JWT"}), &good, b"")),
        ("alg NONE with a signature", by_hand(&json!({"alg": "NoNe"}), &good, b"x")),
        (
            "another secret",
            good.sign_with(
                &Header::new(Algorithm::HS256),
                &EncodingKey::from_secret(b"another-secret-of-thirty-two-bytes-length"),
            ),
        ),
        ("another algorithm", good.sign_with(&Header::new(Algorithm::HS512), &secret)),
        ("a broken signature", signed_otherwise),
        ("wrong aud", good.clone().with("aud", json!("other")).sign()),
        ("no aud", good.clone().without("aud").sign()),
        ("wrong iss", good.clone().with("iss", json!("https://id.example.org.evil.org")).sign()),
        ("no iss", good.clone().without("iss").sign()),
        ("future nbf", good.clone().with("nbf", json!(now() + 60)).sign()),
        ("no exp", good.clone().without("exp").sign()),
        ("exp as text", good.clone().with("exp", json!("2099")).sign()),
        ("no sub", good.clone().without("sub").sign()),
        ("an empty sub", good.clone().with("sub", json!("")).sign()),
        ("a sub with a line break", good.clone().with("sub", json!("a\r\nb")).sign()),
        (
            "foreign kid and an embedded key",
            by_hand(&json!({"alg": "HS256", "kid": "x", "jwk": {"kty": "oct", "k": "AAAA"}}), &good, b"x"),
        ),
        ("an unknown crit", by_hand(&json!({"alg": "HS256", "crit": ["exp2"]}), &good, b"x")),
        ("too long", format!("{}x", good.clone().with("pad", json!("x".repeat(9000))).sign())),
        ("not a token", "nonsense".to_owned()),
        ("two dots", "..".to_owned()),
    ];
    for (what, token) in &bad {
        if token.len() < 8000 {
            assert_eq!(socket_says(&host, token).await, r#"{"code":"invalid_token"}"#, "{what}");
        }
        let refused = Connect::to(&host).bearer(token).refused().await;
        assert!(matches!(refused.status, 401 | 431), "{what}: {refused:?}");
        let reply = host.api().with_key(token).get("/api/v1/me/unread_count").await;
        assert!(matches!(reply.status, 401 | 431), "{what}: {}", reply.text);
        if reply.status == 401 {
            reply.problem(401);
        }
    }
    // Signed well and expired: the one fault that may be told apart.
    let expired = good.clone().expiring_in(-15).sign();
    assert_eq!(socket_says(&host, &expired).await, r#"{"code":"token_expired"}"#);
    let wrong_and_expired = good.clone().with("aud", json!("other")).expiring_in(-15).sign();
    assert_eq!(socket_says(&host, &wrong_and_expired).await, r#"{"code":"invalid_token"}"#);
}

#[tokio::test]
async fn public_keys_work_and_take_no_hmac_made_of_them() {
    for (algorithm, name, private, public) in [
        (Algorithm::RS256, "RS256", EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(), RSA_PUBLIC),
        (Algorithm::ES256, "ES256", EncodingKey::from_ec_pem(EC.as_bytes()).unwrap(), EC_PUBLIC),
        (Algorithm::EdDSA, "EdDSA", EncodingKey::from_ed_pem(ED.as_bytes()).unwrap(), ED_PUBLIC),
    ] {
        let keys = tempfile::tempdir().unwrap();
        let file = keys.path().join("key.pem");
        std::fs::write(&file, public).unwrap();
        let host = TestHost::builder()
            .unset("auth.jwt_secret")
            .text("auth.jwt_public_key_file", file.to_str().unwrap())
            .text("auth.jwt_algorithm", name)
            .start()
            .await;
        let claims = Claims::of(&unique("u"));
        assert_eq!(socket_says(&host, &claims.sign_with(&header(algorithm, None), &private)).await, "open", "{name}");
        let confused = claims.sign_with(&header(Algorithm::HS256, None), &EncodingKey::from_secret(public.as_bytes()));
        assert_eq!(socket_says(&host, &confused).await, r#"{"code":"invalid_token"}"#, "{name}");
        assert_eq!(socket_says(&host, &claims.sign()).await, r#"{"code":"invalid_token"}"#, "{name}");
    }
}

#[tokio::test]
async fn hs384_and_hs512_and_a_secret_on_its_way_out() {
    for (algorithm, name) in [(Algorithm::HS384, "HS384"), (Algorithm::HS512, "HS512")] {
        let old = "the-secret-before-this-one-with-enough-bytes-of-its-own";
        let host =
            TestHost::builder().text("auth.jwt_algorithm", name).text("auth.jwt_previous_secret", old).start().await;
        let claims = Claims::of(&unique("u"));
        for secret in [token::SECRET, old] {
            let token = claims.sign_with(&header(algorithm, None), &EncodingKey::from_secret(secret.as_bytes()));
            assert_eq!(socket_says(&host, &token).await, "open", "{name}");
        }
        assert_eq!(socket_says(&host, &claims.sign()).await, r#"{"code":"invalid_token"}"#, "{name} takes no HS256");
    }
}

#[tokio::test]
async fn a_longest_life_can_be_demanded() {
    let host = TestHost::builder().text("auth.jwt_max_lifetime", "10m").start().await;
    let claims = Claims::of(&unique("u"));
    assert_eq!(socket_says(&host, &claims.clone().expiring_in(500).sign()).await, "open");
    assert_eq!(socket_says(&host, &claims.clone().expiring_in(3600).sign()).await, r#"{"code":"invalid_token"}"#);
    assert_eq!(socket_says(&host, &claims.without("iat").expiring_in(500).sign()).await, r#"{"code":"invalid_token"}"#);
}

#[tokio::test]
async fn classic_connections_are_refused_before_the_upgrade() {
    let host = TestHost::shared().await;
    assert_eq!(Connect::to(host).refused().await.status, 401);
    assert_eq!(Connect::to(host).token("nonsense").refused().await.status, 401);
    assert_eq!(Connect::to(host).token(&Claims::of("u").expiring_in(-60).sign()).refused().await.status, 401);
    // Two credentials are not better than one good one, and a bad one is not saved by another place.
    assert_eq!(Connect::to(host).bearer("nonsense").refused().await.status, 401);
}

#[tokio::test]
async fn query_tokens_can_be_switched_off() {
    let host = TestHost::builder().set("websocket.query_token", "false").start().await;
    let token = token::user(&unique("u"));
    assert_eq!(Connect::to(&host).token(&token).refused().await.status, 401);
    Connect::to(&host).bearer(&token).open().await.settle().await;
}
