//! The key set against a small server that counts how often it is asked.

use super::*;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

struct Provider {
    url: String,
    asked: Arc<AtomicUsize>,
    /// What it answers: status line and body.
    answer: Arc<Mutex<(&'static str, String)>>,
}

async fn provider() -> Provider {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(Mutex::new(("200 OK", set(&["one"]))));
    let (a, n) = (answer.clone(), asked.clone());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            n.fetch_add(1, SeqCst);
            let mut head = [0u8; 4096];
            let _ = socket.read(&mut head).await;
            let (status, body) = a.lock().unwrap().clone();
            let text = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\nLocation: http://127.0.0.1:1/\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(text.as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    Provider { url, asked, answer }
}

fn set(kids: &[&str]) -> String {
    let keys: Vec<_> = kids
        .iter()
        .map(|kid| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}))
        .collect();
    json!({ "keys": keys }).to_string()
}

fn jwks(p: &Provider) -> Jwks {
    Jwks::new(&p.url, Algorithm::EdDSA, true).unwrap()
}

/// Moves what the set remembers into the past.
fn later(jwks: &Jwks, by: Duration) {
    let mut state = jwks.0.state();
    if let Some((_, at)) = &mut state.set {
        *at -= by;
    }
    if let Some((at, _)) = &mut state.tried {
        *at -= by;
    }
}

#[tokio::test]
async fn an_unknown_kid_drives_one_fetch_in_thirty_seconds() {
    let p = provider().await;
    let jwks = jwks(&p);
    assert_eq!(jwks.keys(Some("one")).await.unwrap().len(), 1);
    assert_eq!(jwks.keys(None).await.unwrap().len(), 1);
    for n in 0..1000 {
        assert_eq!(jwks.keys(Some(&format!("random{n}"))).await.unwrap_err(), TokenError::Invalid);
    }
    assert_eq!(p.asked.load(SeqCst), 1);

    *p.answer.lock().unwrap() = ("200 OK", set(&["one", "two"]));
    assert!(jwks.keys(Some("two")).await.is_err(), "within the pause");
    later(&jwks, REFETCH);
    assert!(jwks.keys(Some("two")).await.is_ok());
    assert_eq!(p.asked.load(SeqCst), 2);
}

#[tokio::test]
async fn many_at_once_share_one_fetch() {
    let p = provider().await;
    let jwks = Arc::new(jwks(&p));
    let asks = (0..20).map(|_| {
        let jwks = jwks.clone();
        tokio::spawn(async move { jwks.keys(Some("one")).await.is_ok() })
    });
    for ok in futures_util::future::join_all(asks).await {
        assert!(ok.unwrap());
    }
    assert_eq!(p.asked.load(SeqCst), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_is_not_the_tokens_fault() {
    let p = provider().await;
    *p.answer.lock().unwrap() = ("503 Service Unavailable", String::new());
    let jwks = jwks(&p);
    assert_eq!(jwks.keys(Some("one")).await.unwrap_err(), TokenError::Unavailable);
    // Asked again at once: the pause holds, the answer stays.
    assert_eq!(jwks.keys(Some("one")).await.unwrap_err(), TokenError::Unavailable);
    assert_eq!(p.asked.load(SeqCst), 1);
}

#[tokio::test]
async fn a_stale_set_serves_for_a_day() {
    let p = provider().await;
    let jwks = jwks(&p);
    jwks.keys(Some("one")).await.unwrap();
    *p.answer.lock().unwrap() = ("500 Oops", String::new());
    later(&jwks, FRESH + REFETCH);
    assert!(jwks.keys(Some("one")).await.is_ok());
    later(&jwks, Duration::from_mins(24 * 60 - 11));
    assert!(jwks.keys(Some("one")).await.is_ok());
    later(&jwks, REFETCH * 2);
    assert_eq!(jwks.keys(Some("one")).await.unwrap_err(), TokenError::Unavailable);
}

#[tokio::test]
async fn redirects_and_large_sets_are_refused() {
    let p = provider().await;
    for answer in
        [("302 Found", set(&["one"])), ("200 OK", format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(BODY_MAX)))]
    {
        *p.answer.lock().unwrap() = answer;
        assert_eq!(jwks(&p).keys(Some("one")).await.unwrap_err(), TokenError::Unavailable);
    }
}

#[test]
fn only_keys_of_the_configured_algorithm_are_taken() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let body = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "good", "x": x},
        {"kty": "OKP", "crv": "Ed25519", "kid": "encrypts", "use": "enc", "x": x},
        {"kty": "OKP", "crv": "Ed25519", "kid": "other alg", "alg": "RS256", "x": x},
        {"kty": "oct", "kid": "shared", "k": "AAAA"},
        {"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": x},
        {"kty": "new", "kid": "unknown"},
        7,
    ]});
    let set = read_set(body.to_string().as_bytes(), Algorithm::EdDSA).unwrap();
    let kids: Vec<_> = set.0.iter().filter_map(|(k, _)| k.as_deref()).collect();
    assert_eq!(kids, ["good"]);
    assert!(read_set(b"[]", Algorithm::EdDSA).is_err());
}
