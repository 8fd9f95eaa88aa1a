//! Input that means harm: each kind gets a clear answer, and the host goes on as if nothing had been.

mod handshakes;
mod http;
mod json;
mod sockets;

use campanile_tests::{prelude::*, token, unique};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Writes bytes and reads until the far side closes or has said enough.
async fn say(host: &TestHost, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = async {
        let mut piece = [0u8; 4096];
        while let Ok(n) = stream.read(&mut piece).await {
            if n == 0 {
                break;
            }
            answer.extend_from_slice(&piece[..n]);
            if complete(&answer) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DEADLINE, read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A head and as much body as it announces.
fn complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    length.is_some_and(|n| body.len() >= n)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// The host still does its work, and caught no panic.
async fn well(host: &TestHost) {
    let user = unique("well");
    let mut socket = Connect::to(host).token(&token::user(&user)).open().await;
    host.api().notify(&user, "still here").await;
    socket.wait_for("notification").await;
    let panics: f64 = host
        .api()
        .metrics()
        .await
        .iter()
        .filter(|(k, _)| k.starts_with("campanile_panics_total"))
        .map(|(_, v)| v)
        .sum();
    assert!(panics.abs() < f64::EPSILON, "{panics} panics");
    assert!(!host.output().contains("panicked at"), "{}", host.output());
}
