//! What an idle socket costs.

use campanile_tests::{prelude::*, token};

/// `PERFORMANCE.md` holds us to 10 KB at 10,000 sockets in a release build; fewer sockets and a debug build show the
/// same order, so a stray 128 KiB buffer can't come back unseen.
const PER_SOCKET: u64 = 10 * 1024;
const SOCKETS: u64 = 2_000;

#[tokio::test]
async fn two_thousand_idle_sockets_stay_small() {
    let host = TestHost::start().await;
    let mut sockets = Vec::new();
    // The first ones warm up pools, caches and threads.
    for n in 0..200 {
        sockets.push(Connect::to(&host).token(&token::user(&format!("warm{n}"))).v1().open().await);
    }
    let before = host.private_bytes();
    for n in 0..SOCKETS {
        sockets.push(Connect::to(&host).token(&token::user(&format!("u{n}"))).v1().open().await);
    }
    let last = sockets.last_mut().unwrap();
    last.expect("hello").await;
    let each = host.private_bytes().saturating_sub(before) / SOCKETS;
    eprintln!("{each} bytes per idle socket");
    assert!(each <= PER_SOCKET, "{each} bytes per idle socket");
}
