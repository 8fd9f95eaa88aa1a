//! The accept loop against raw sockets.

use super::*;
use axum::{Router, extract::State, routing::get};
use tokio::{io::AsyncReadExt, sync::Notify};

struct Door {
    address: SocketAddr,
    stop: Stop,
    /// Rung by `/slow` when it has begun.
    begun: Arc<Notify>,
    /// Lets `/slow` end.
    end: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

async fn door(max_connections: usize, header_timeout: Duration) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = |State((begun, end)): State<(Arc<Notify>, Arc<Notify>)>| async move {
        begun.notify_one();
        end.notified().await;
        "slow"
    };
    let router = Router::new()
        .route("/", get(|peer: axum::Extension<Peer>| async move { peer.0.0.ip().to_string() }))
        .route("/slow", get(slow))
        .with_state((begun.clone(), end.clone()));
    let limits = Limits { max_connections, header_timeout, drain_timeout: Duration::from_secs(10) };
    let stop = Stop { leaving: CancellationToken::new(), draining: CancellationToken::new() };
    let task = tokio::spawn(serve(listener, router, limits, stop.clone()));
    Door { address, stop, begun, end, task }
}

impl Door {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn rest(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = socket.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn until_refused(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn answers_and_knows_the_peer() {
    let door = door(8, MINUTE).await;
    let mut socket = door.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let text = rest(&mut socket).await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_slow_or_silent_head_is_cut() {
    let door = door(8, Duration::from_millis(50)).await;
    for part in ["", "GET / HTTP/1.1\r\nHost:"] {
        let mut socket = door.connect().await;
        socket.write_all(part.as_bytes()).await.unwrap();
        let said = timeout(MINUTE, rest(&mut socket)).await.expect("a connection without a whole head stays open");
        assert_eq!(said, "", "{part:?}");
    }
}

#[tokio::test]
async fn a_head_over_8_kib_is_431() {
    let door = door(8, MINUTE).await;
    let mut socket = door.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(HEAD_MAX));
    socket.write_all(head.as_bytes()).await.unwrap();
    assert!(rest(&mut socket).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn one_over_the_cap_is_told_so_and_a_freed_place_is_taken() {
    let door = door(1, MINUTE).await;
    let mut first = door.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0u8; 12];
    first.read_exact(&mut answer).await.unwrap();
    let text = rest(&mut door.connect().await).await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{} in {head}", body.len());
    assert_eq!(serde_json::from_str::<super::super::problem::Problem>(body).unwrap().code, "full");
    drop(first);
    loop {
        let mut next = door.connect().await;
        let _ = next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        if rest(&mut next).await.starts_with("HTTP/1.1 200") {
            break;
        }
    }
}

#[tokio::test]
async fn a_refused_upgrade_ends_its_connection() {
    let door = door(8, MINUTE).await;
    let mut socket = door.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let text = timeout(MINUTE, rest(&mut socket)).await.expect("the connection is closed");
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("connection: close"), "{text}");
}

#[tokio::test]
async fn callers_in_the_queue_of_the_listener_are_not_forgotten() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(waiting(listener).len(), 3);
    assert!(TcpStream::connect(address).await.is_err(), "still listens");
}

/// A body that nobody reads is read away, so that its sender gets to read why.
#[tokio::test]
async fn who_is_answered_while_still_sending_gets_the_answer() {
    let door = door(8, MINUTE).await;
    let mut socket = door.connect().await;
    let length = 8 * 1024 * 1024;
    socket
        .write_all(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let body = vec![b'x'; 64 * 1024];
    for _ in 0..length / body.len() {
        socket.write_all(&body).await.expect("the connection is not reset");
    }
    assert!(rest(&mut socket).await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn a_node_that_leaves_still_accepts_and_closes_with_each_answer() {
    let door = door(8, MINUTE).await;
    let mut before = door.connect().await;
    door.stop.leaving.cancel();
    for socket in [&mut before, &mut door.connect().await] {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // It ends, although the request did not ask for that.
        let text = timeout(MINUTE, rest(socket)).await.expect("the connection is closed");
        assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("connection: close"), "{text}");
    }
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_closes_what_is_idle() {
    let door = door(8, MINUTE).await;
    let mut idle = door.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0u8; 12];
    idle.read_exact(&mut answer).await.unwrap();
    let mut busy = door.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    door.begun.notified().await;
    door.stop.draining.cancel();
    until_refused(door.address).await;
    // Sent before the caller could know: it is answered.
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let text = rest(&mut idle).await;
    assert!(text.contains("HTTP/1.1 200 OK") && text.contains("connection: close"), "{text}");
    door.end.notify_one();
    let text = rest(&mut busy).await;
    assert!(text.ends_with("slow") && text.to_lowercase().contains("connection: close"), "{text}");
    door.task.await.unwrap();
}
