//! A WebSocket client that says what it got, classic and v1.

use crate::{host::TestHost, wait::DEADLINE};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue},
        protocol::CloseFrame,
    },
};

/// How to connect.
#[derive(Clone, Debug)]
pub struct Connect {
    address: SocketAddr,
    /// What the Host header says, when it is not the address.
    host: Option<String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    protocols: Vec<String>,
}

/// The answer to a handshake that was refused before the upgrade.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: String,
    pub retry_after: Option<String>,
}

impl Connect {
    pub fn to(host: &TestHost) -> Self {
        Self::at(host.address())
    }
    pub fn at(address: SocketAddr) -> Self {
        Self { address, host: None, query: Vec::new(), headers: Vec::new(), protocols: Vec::new() }
    }
    /// The classic way: the token in the address.
    pub fn token(self, token: &str) -> Self {
        self.query("token", token)
    }
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
    /// A browser's way without the token in the address.
    pub fn bearer_protocol(mut self, token: &str) -> Self {
        self.protocols.extend(["campanile.v1".to_owned(), format!("bearer.{token}")]);
        self
    }
    pub fn ticket(self, ticket: &str) -> Self {
        self.query("ticket", ticket)
    }
    pub fn v1(self) -> Self {
        self.query("v", "1")
    }
    pub fn protocol(mut self, name: &str) -> Self {
        self.protocols.push(name.to_owned());
        self
    }
    /// Resume in the connect URL.
    pub fn resume(self, epoch: &str, since: i64) -> Self {
        self.query("epoch", epoch).query("since", &since.to_string())
    }
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
    pub fn origin(self, origin: &str) -> Self {
        self.header("origin", origin)
    }
    /// Sends another Host header than the address.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.into());
        self
    }
    /// Through a proxy; the Host header stays that of the host.
    pub fn via(mut self, proxy: SocketAddr) -> Self {
        self.host.get_or_insert(self.address.to_string());
        self.address = proxy;
        self
    }

    pub async fn open(self) -> Socket {
        match self.try_open().await {
            Ok(socket) => socket,
            Err(refused) => panic!("the handshake was refused: {refused:?}"),
        }
    }

    pub async fn refused(self) -> Refused {
        match self.try_open().await {
            Ok(_) => panic!("the handshake was accepted"),
            Err(refused) => refused,
        }
    }

    pub async fn try_open(self) -> Result<Socket, Refused> {
        let query: Vec<_> = self.query.iter().map(|(k, v)| format!("{k}={}", percent(v))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let host = self.host.unwrap_or_else(|| self.address.to_string());
        let url = format!("ws://{}/ws/notifications{mark}{}", self.address, query.join("&"));
        let mut request = url.into_client_request().expect("an address");
        let headers = request.headers_mut();
        headers.insert("host", HeaderValue::from_str(&host).expect("a header"));
        for (name, value) in &self.headers {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("a header's name"),
                HeaderValue::from_str(value).expect("a header's value"),
            );
        }
        if !self.protocols.is_empty() {
            let offered = HeaderValue::from_str(&self.protocols.join(", ")).expect("protocol names");
            headers.insert("sec-websocket-protocol", offered);
        }
        let stream = TcpStream::connect(self.address).await.map_err(|e| Refused {
            status: 0,
            body: e.to_string(),
            retry_after: None,
        })?;
        match tokio::time::timeout(DEADLINE, client_async(request, stream)).await.expect("an answer to the handshake") {
            Ok((stream, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|v| v.to_str().expect("text").to_owned());
                Ok(Socket { stream, protocol })
            }
            Err(Error::Http(response)) => Err(Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
                retry_after: response.headers().get("retry-after").map(|v| v.to_str().expect("text").to_owned()),
            }),
            Err(other) => Err(Refused { status: 0, body: other.to_string(), retry_after: None }),
        }
    }
}

fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.~:".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// What the server chose of the offered subprotocols.
    pub protocol: Option<String>,
}

/// How a socket ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// 1006 when the connection ended without a close frame, as browsers say.
    pub code: u16,
    pub reason: String,
}

impl Closed {
    /// The reason as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.reason).unwrap_or(Value::Null)
    }
}

/// What came next.
#[derive(Clone, PartialEq, Debug)]
pub enum Got {
    Text(String),
    Closed(Closed),
}

impl Socket {
    pub async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }
    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }
    pub async fn send_message(&mut self, message: Message) {
        self.try_send(message).await.expect("the socket takes a message");
    }
    pub async fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }
    /// Queues without flushing: several frames in one write.
    pub async fn feed(&mut self, message: Message) -> Result<(), Error> {
        self.stream.feed(message).await
    }
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.stream.flush().await
    }

    /// The next text or the end; pings are answered and passed over.
    pub async fn next(&mut self) -> Got {
        self.next_within(DEADLINE).await.unwrap_or_else(|| panic!("nothing came within {DEADLINE:?}"))
    }

    /// The next text or the end, if it comes in time.
    pub async fn next_within(&mut self, deadline: Duration) -> Option<Got> {
        let read = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Text(text))) => return Got::Text(text.to_string()),
                    Some(Ok(Message::Close(frame))) => {
                        // Reading on sends our half of the closing handshake.
                        let _ = self.stream.next().await;
                        return Got::Closed(ended(frame));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Got::Closed(ended(None)),
                }
            }
        };
        tokio::time::timeout(deadline, read).await.ok()
    }

    pub async fn next_text(&mut self) -> String {
        match self.next().await {
            Got::Text(text) => text,
            Got::Closed(closed) => panic!("the socket was closed: {closed:?}"),
        }
    }
    /// The next frame, whatever it is.
    async fn next_frame(&mut self) -> Value {
        let text = self.next_text().await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text:?} is not JSON: {e}"))
    }
    /// The next frame but heartbeats, which come between any two others when the clock says so: whoever wants one waits for it.
    pub async fn next_json(&mut self) -> Value {
        loop {
            let frame = self.next_frame().await;
            if frame["type"] != "heartbeat" {
                return frame;
            }
        }
    }
    /// The next frame but heartbeats, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next_json().await;
        assert_eq!(frame["type"], kind, "expected {kind}, got {frame}");
        frame
    }
    /// The next frame of this type; others are passed over.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        self.wait_until(kind, |frame| frame["type"] == kind).await
    }
    /// The next frame that is good; others are passed over.
    pub async fn wait_until(&mut self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                let frame = self.next_frame().await;
                if good(&frame) {
                    return frame;
                }
            }
        };
        tokio::time::timeout(DEADLINE, search).await.unwrap_or_else(|_| panic!("no {what} came"))
    }
    /// Everything up to the answer to a ping of ours: what was on its way has arrived then.
    pub async fn settle(&mut self) -> Vec<Value> {
        self.send(&json!({"type": "ping"})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next_json().await;
            if frame == json!({"type": "pong"}) {
                return frames;
            }
            frames.push(frame);
        }
    }
    /// Reads on until the end.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Got::Closed(closed) = self.next().await {
                return closed;
            }
        }
    }
    /// Closes from our side.
    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
        while let Some(Ok(_)) = self.stream.next().await {}
    }
    /// Gone without a word.
    pub fn vanish(self) {}
    /// The bare connection, for those that want to misbehave.
    pub fn into_tcp(self) -> TcpStream {
        self.stream.into_inner()
    }
}

fn ended(frame: Option<CloseFrame>) -> Closed {
    match frame {
        Some(frame) => Closed { code: frame.code.into(), reason: frame.reason.to_string() },
        None => Closed { code: 1006, reason: String::new() },
    }
}
