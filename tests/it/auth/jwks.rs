//! Keys of an identity provider: fetched, rotated, and not fetched for every stranger.

use super::jwt::{RSA, RSA_PUBLIC};
use campanile_tests::{
    prelude::*,
    token::{Claims, base64url},
    unique,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A key set over plain HTTP that counts its readers.
struct Provider {
    address: SocketAddr,
    fetches: Arc<AtomicUsize>,
    body: Arc<Mutex<String>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fetches, body) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::from(r#"{"keys":[]}"#))));
        let (count, text) = (fetches.clone(), body.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0u8; 2048];
                if socket.read(&mut head).await.is_err() {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let body = text.lock().unwrap().clone();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, fetches, body }
    }
    fn publish(&self, kid: &str) {
        let (n, e) = modulus();
        *self.body.lock().unwrap() =
            json!({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": n, "e": e}]}).to_string();
    }
}

/// n and e of the fixture's public key, read from its DER by hand: SEQUENCE { algorithm, BIT STRING { SEQUENCE { n, e } } }.
fn modulus() -> (String, String) {
    let base64: String = RSA_PUBLIC.lines().filter(|l| !l.starts_with('-')).collect();
    let der = decode(&base64);
    // A 2048-bit key: the modulus is the 256 bytes before INTEGER 65537, which ends the key.
    let (head, exponent) = der.split_at(der.len() - 3);
    assert_eq!(exponent, [1, 0, 1]);
    let n = &head[head.len() - 2 - 256..head.len() - 2];
    (base64url(n), base64url(exponent))
}

fn decode(base64: &str) -> Vec<u8> {
    let value = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|a| *a == c).unwrap() as u32
    };
    let mut out = Vec::new();
    for chunk in base64.trim_end_matches('=').as_bytes().chunks(4) {
        let word = chunk.iter().fold(0u32, |w, c| (w << 6) | value(*c)) << (6 * (4 - chunk.len()));
        out.extend(&word.to_be_bytes()[1..chunk.len()]);
    }
    out
}

fn sign(user: &str, kid: &str) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(kid.into());
    Claims::of(user).sign_with(&header, &EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap())
}

#[tokio::test]
async fn keys_are_fetched_once_rotation_is_seen_and_strangers_cause_no_storm() {
    let provider = Provider::start().await;
    provider.publish("one");
    let host = TestHost::builder()
        .unset("auth.jwt_secret")
        .text("auth.jwks_url", &format!("http://{}/keys", provider.address))
        .set("auth.jwks_allow_private", "true")
        .text("auth.jwt_algorithm", "RS256")
        .start()
        .await;
    let user = unique("u");
    let status = async |token: &str| host.api().with_key(token).get("/api/v1/me/unread_count").await.status;
    let signed = sign(&user, "one");
    until("the first key is known", || async { (status(&signed).await == 200).then_some(()) }).await;
    // Whoever makes up a kid can't sign: the header is forged, the rest is another key's.
    let (_, signed) = signed.split_once('.').unwrap();
    for n in 0..300 {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": format!("stranger-{n}")}).to_string();
        assert_eq!(status(&format!("{}.{signed}", base64url(header.as_bytes()))).await, 401);
    }
    assert_eq!(status(&sign(&user, "one")).await, 200);
    let fetches = provider.fetches.load(Ordering::SeqCst);
    assert!(fetches <= 3, "300 unknown kids caused {fetches} fetches");
}

#[tokio::test]
async fn a_private_address_is_refused_unless_allowed() {
    let provider = Provider::start().await;
    provider.publish("one");
    let mut host = TestHost::builder()
        .unset("auth.jwt_secret")
        .text("auth.jwks_url", &format!("http://{}/keys", provider.address))
        .text("auth.jwt_algorithm", "RS256")
        .spawn();
    // Either the configuration is refused at once, or the address is never asked.
    tokio::time::sleep(Duration::from_secs(2)).await;
    if host.is_running() {
        assert_eq!(provider.fetches.load(Ordering::SeqCst), 0);
    } else {
        let status = host.wait_exit(DEADLINE).await;
        assert!(!status.success(), "{}", host.output());
        assert!(host.output().contains("jwks"), "{}", host.output());
    }
}
