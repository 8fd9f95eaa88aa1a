//! Handshakes that are not quite handshakes.

use super::*;

#[tokio::test]
async fn odd_handshakes_are_refused_plainly() {
    let host = TestHost::shared().await;
    let token = token::user(&unique("u"));
    let address = host.address();
    let head = |lines: &str| format!("GET /ws/notifications?token={token} HTTP/1.1\r\nhost: {address}\r\n{lines}\r\n");
    let good = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(status(&say_head(host, &head(good)).await), 101);
    for bad in [
        "",
        "connection: close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "connection: Upgrade\r\nupgrade: h2c\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    ] {
        let answer = say(host, head(bad).as_bytes()).await;
        assert!((400..500).contains(&status(&answer)), "{bad}: {answer}");
        assert!(!answer.contains(&token[20..]), "the token came back");
    }
    let post = head(good).replacen("GET", "POST", 1);
    let answer = say(host, post.as_bytes()).await;
    assert!((400..500).contains(&status(&answer)), "{answer}");
    well(host).await;
}

/// Reads just the head of the answer.
async fn say_head(host: &TestHost, request: &str) -> String {
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0u8; 1024];
    let n = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test]
async fn sockets_that_vanish_in_every_phase_leave_nothing_behind() {
    let host = TestHost::start().await;
    let token = token::user(&unique("gone"));
    well(&host).await;
    let files = host.open_files();
    for n in 0..200 {
        match n % 4 {
            0 => drop(TcpStream::connect(host.address()).await.unwrap()),
            1 => {
                let mut stream = TcpStream::connect(host.address()).await.unwrap();
                stream.write_all(format!("GET /ws/notifications?token={token}").as_bytes()).await.unwrap();
            }
            2 => Connect::to(&host).token(&token).open().await.vanish(),
            _ => {
                let mut stream = Connect::to(&host).token(&token).v1().open().await.into_tcp();
                // Half of a masked frame.
                stream.write_all(&[0x81, 0xfe, 0x01]).await.unwrap();
            }
        }
    }
    until("every file is closed", || async { (host.open_files() <= files + 5).then_some(()) }).await;
    until("no connection is counted", || async {
        let metrics = host.api().metrics().await;
        let open: f64 = metrics.iter().filter(|(k, _)| k.starts_with("campanile_connections{")).map(|(_, v)| v).sum();
        (open.abs() < f64::EPSILON).then_some(())
    })
    .await;
    well(&host).await;
}
