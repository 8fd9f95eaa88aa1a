//! What an idle socket costs.

use campanile_tests::{
    checker,
    history::{History, IdleSockets},
    prelude::*,
    token,
};

/// `PERFORMANCE.md` holds us to 10 KB at 10,000 sockets in a release build; fewer sockets and a debug build show the
/// same order, so a stray 128 KiB buffer can't come back unseen.
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
    let after = host.private_bytes();
    eprintln!("{} bytes per idle socket", after.saturating_sub(before) / SOCKETS);
    let mut history = History::default();
    history.idle_sockets.push(IdleSockets { node: "the host".into(), sockets: SOCKETS, before, after });
    checker::assert_holds(&history);
}
