//! Frames that mean harm, on an open socket.

use super::*;
use campanile_tests::socket::Got;
use tokio_tungstenite::tungstenite::Message;

async fn open() -> Socket {
    Connect::to(TestHost::shared().await).token(&token::user(&unique("u"))).open().await
}

/// A masked client frame by hand; the mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n if n < 126 => out.push(0x80 | n as u8),
        n => {
            out.push(0xfe);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// The close code the server answers raw bytes with; 0 when it closed without one.
async fn close_code(bytes: &[u8]) -> u16 {
    let mut stream = open().await.into_tcp();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the socket is closed");
    let close = answer.iter().position(|b| *b == 0x88);
    close.and_then(|at| answer.get(at + 2..at + 4)).map_or(0, |c| u16::from_be_bytes([c[0], c[1]]))
}

#[tokio::test]
async fn bad_utf8_is_1007_and_broken_framing_1002() {
    assert_eq!(close_code(&frame(0x81, b"\xff\xfe\xfd")).await, 1007);
    for (what, bytes) in [
        ("a reserved bit", frame(0xc1, b"x")),
        ("a reserved opcode", frame(0x83, b"x")),
        ("a fragmented ping", frame(0x09, b"x")),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a long ping", frame(0x89, &[b'x'; 130])),
        ("an unmasked frame", vec![0x81, 0x01, b'x']),
    ] {
        let code = close_code(&bytes).await;
        assert!(matches!(code, 1002 | 0), "{what}: {code}");
    }
    well(TestHost::shared().await).await;
}

#[tokio::test]
async fn a_message_in_endless_pieces_is_1009() {
    let mut stream = open().await.into_tcp();
    let mut bytes = frame(0x01, &[b'x'; 1000]);
    for _ in 0..40 {
        bytes.extend(frame(0x00, &[b'x'; 1000]));
    }
    let _ = stream.write_all(&bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the socket is closed");
    well(TestHost::shared().await).await;
}

#[tokio::test]
async fn json_of_every_odd_shape_gets_an_error_or_a_close() {
    let texts = [
        "null",
        "[]",
        "7",
        "\"ping\"",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":null}"#,
        r#"{"type":"mark_read","notification_id":7}"#,
        r#"{"type":"mark_read","notification_id":"not-an-id"}"#,
        r#"{"type":"auth"}"#,
        r#"{"type":"resume","epoch":7,"since":"x"}"#,
        r#"{"type":"list","limit":-5}"#,
        r#"{"type":"ack","seq":9223372036854775807}"#,
        r#"{"type":"ack","seq":-1}"#,
        "\u{0}\u{1}",
    ];
    for text in texts {
        let mut socket = Connect::to(TestHost::shared().await).token(&token::user(&unique("u"))).v1().open().await;
        socket.expect("hello").await;
        socket.send_text(text).await;
        socket.send_text("ping").await;
        match socket.next().await {
            Got::Text(answer) if answer == "pong" => assert!(text.contains("ack"), "{text:?} was swallowed"),
            Got::Text(answer) => assert!(answer.contains("\"error\""), "{text:?}: {answer}"),
            Got::Closed(closed) => assert_eq!(closed.code, 1008, "{text:?}"),
        }
    }
    let deep = format!("{}{}", "[".repeat(8000), "]".repeat(8000));
    let mut socket = open().await;
    socket.send_text(&deep).await;
    socket.expect("error").await;
    well(TestHost::shared().await).await;
}

#[tokio::test]
async fn an_ack_beyond_the_head_confirms_nothing_to_come() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let mut socket = Connect::to(host).token(&token::user(&user)).v1().open().await;
    socket.expect("hello").await;
    socket.send(&json!({"type": "ack", "seq": 1_000_000})).await;
    socket.settle().await;
    socket.close().await;
    let id = host.api().notify(&user, "one").await;
    assert_eq!(host.api().notification(&id).await["deliveries"][0]["state"], "sent");
}

#[tokio::test]
async fn a_flood_of_pings_is_bounded() {
    let mut socket = open().await;
    for _ in 0..500 {
        if socket.feed(Message::Ping(vec![0; 100].into())).await.is_err() {
            break;
        }
    }
    let _ = socket.flush().await;
    // Either they count as frames and close the socket, or they are answered; the host is well in both cases.
    let _ = socket.next_within(Duration::from_secs(1)).await;
    well(TestHost::shared().await).await;
}
