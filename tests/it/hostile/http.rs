//! Bytes that are no request, heads without end, clients without haste.

use super::*;
use std::time::Instant;

#[tokio::test]
async fn garbage_and_huge_heads_are_refused() {
    let host = TestHost::shared().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"G\xffT / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n\0\0\0\0\r\n\r\n",
        b"POST /api/v1/notifications HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/v1/notifications HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = say(host, bytes).await;
        assert!(answer.is_empty() || (400..600).contains(&status(&answer)), "{bytes:?}: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    let answer = say(host, long.as_bytes()).await;
    assert!(answer.is_empty() || matches!(status(&answer), 400..500), "{answer}");
    let many: String = (0..5_000).map(|n| format!("x-{n}: y\r\n")).collect::<Vec<_>>().concat();
    let answer = say(host, format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.is_empty() || matches!(status(&answer), 400..500), "{answer}");
    well(host).await;
}

#[tokio::test]
async fn slow_heads_are_cut_and_hold_nobody_up() {
    let host = TestHost::builder().text("server.header_timeout", "2s").start().await;
    let files = host.open_files();
    let mut slow = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        stream.write_all(b"GET /ws/notifications HTTP/1.1\r\nhost: ").await.unwrap();
        slow.push(stream);
    }
    let start = Instant::now();
    well(&host).await;
    let normal = start.elapsed();
    assert!(normal < Duration::from_secs(10), "a normal client took {normal:?} beside slow ones");
    // A byte now and then does not buy more time.
    for stream in &mut slow {
        let _ = stream.write_all(b"x").await;
    }
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("a slow head is cut");
    }
    drop(slow);
    until("the files are closed", || async { (host.open_files() <= files + 10).then_some(()) }).await;
}

#[tokio::test]
async fn a_silent_connection_before_its_first_byte_is_cut_too() {
    let host = TestHost::builder().text("server.header_timeout", "1s").start().await;
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "a connection that never spoke stayed open");
}

#[tokio::test]
async fn a_body_that_never_comes_ends_with_the_request_timeout() {
    let host = TestHost::builder().text("server.request_timeout", "1s").start().await;
    let key = campanile_tests::host::API_KEY;
    let head = format!(
        "POST /api/v1/notifications HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        host.address()
    );
    let answer = say(&host, head.as_bytes()).await;
    assert!(answer.is_empty() || matches!(status(&answer), 408 | 400 | 503 | 504), "{answer}");
    well(&host).await;
}
