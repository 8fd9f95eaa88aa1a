//! The one seam between a connection and its wire: WebSocket framing, or an event stream's body.
//!
//! Everything above speaks in whole texts and closes; whoever replaces the framing replaces this file. Absent on
//! purpose: what the texts mean, how long a reader may take (the loop's), compression (it costs memory per socket, and
//! sizes of compressed secrets tell tales).

use super::close::{self, Close};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use std::{future::poll_fn, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

/// Shared, checked UTF-8: cloning one costs a reference count.
pub type Text = tungstenite::Utf8Bytes;

/// Read at once from a socket; the library fills this with zeros before each read, so large is slow and costs memory
/// per idle socket (512 bytes were the best measured: 5.4 KB a socket in place of 135 KB with the default).
pub const READ_BUFFER: usize = 512;
/// Gathered before a write is made; a flush follows every batch anyway.
pub const WRITE_BUFFER: usize = 4 * 1024;
/// Never more than this waits inside the framing, whatever the socket does.
pub const WRITE_BUFFER_MAX: usize = 256 * 1024;

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    Text(Text),
    /// Never answered here; the conformance suite echoes it.
    Binary(Bytes),
    Pong,
    /// Answered by the framing itself.
    Ping,
    /// The peer closed; the framing has answered.
    Closed,
    /// The peer broke a rule.
    Fault(Fault),
    /// The connection is gone.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    BadText,
    TooBig,
    Protocol,
}

impl Fault {
    pub const fn close(self) -> Close {
        match self {
            Self::BadText => close::BAD_TEXT,
            Self::TooBig => close::TOO_BIG,
            Self::Protocol => close::PROTOCOL,
        }
    }
}

/// The connection is gone or broken; nothing more can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost;

pub enum Transport {
    Socket(Box<Socket>),
    Stream(EventStream),
}

impl Transport {
    /// Cancel-safe.
    pub async fn receive(&mut self) -> Incoming {
        match self {
            Self::Socket(s) => s.receive().await,
            Self::Stream(s) => Box::pin(s.gone()).await,
        }
    }

    /// For the conformance suite only: the product never sends binary.
    pub fn feed_binary(&mut self, bytes: Bytes) -> Result<(), Lost> {
        match self {
            Self::Socket(s) => s.feed(Message::Binary(bytes)),
            Self::Stream(_) => Err(Lost),
        }
    }

    /// What is there already, without waiting.
    pub fn receive_now(&mut self) -> Option<Incoming> {
        self.receive().now_or_never()
    }

    /// Takes one message over; [`Self::flush`] sends what was taken. `cursor` is what an event stream resumes from.
    pub fn feed(&mut self, text: Text, cursor: Option<(&str, i64)>) -> Result<(), Lost> {
        match self {
            Self::Socket(s) => s.feed(Message::Text(text)),
            Self::Stream(s) => {
                s.feed(&text, cursor);
                Ok(())
            }
        }
    }

    /// Returns when the peer's side of the wire has taken everything.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        match self {
            Self::Socket(s) => poll_fn(|cx| s.ws.poll_flush_unpin(cx)).await.map_err(|_| Lost),
            // Boxed, so that the many sockets don't carry the few streams' larger future.
            Self::Stream(s) => Box::pin(s.flush()).await,
        }
    }

    /// Asks the peer for a sign of life (a stream just sends a comment, so that middle boxes keep it open).
    pub fn ping(&mut self) -> Result<(), Lost> {
        match self {
            Self::Socket(s) => s.feed(Message::Ping(Bytes::new())),
            Self::Stream(s) => {
                s.out.extend_from_slice(b": keep-alive\n\n");
                Ok(())
            }
        }
    }

    /// Says why and ends it, within `limit`.
    pub async fn close(self, close: Close, limit: Duration) {
        if let Self::Socket(s) = self {
            // Whoever reads too slowly for this does not get to know the reason.
            let _ = tokio::time::timeout(limit, s.close(close)).await;
        }
    }

    /// Lets the answer to the peer's goodbye out, then ends it.
    pub async fn finish(self, limit: Duration) {
        if let Self::Socket(s) = self {
            let _ = tokio::time::timeout(limit, s.finish()).await;
        }
    }

    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

// ----------------------------------------------------------------------------------------------- WebSocket

type Raw = TokioIo<hyper::upgrade::Upgraded>;

/// A WebSocket after its handshake.
pub struct Socket {
    ws: WebSocketStream<Raw>,
    /// The framing gave up on reading (a broken rule): the close handshake can't be awaited.
    broken: bool,
}

/// The framing's limits; `max_message` counts for a frame and for a message of many frames.
pub fn limits(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER_MAX.max(WRITE_BUFFER + max_message + 64))
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

impl Socket {
    pub async fn server(upgraded: hyper::upgrade::Upgraded, max_message: usize) -> Box<Self> {
        let ws =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits(max_message))).await;
        Box::new(Self { ws, broken: false })
    }

    async fn receive(&mut self) -> Incoming {
        match self.ws.next().await {
            Some(Ok(Message::Text(t))) => Incoming::Text(t),
            Some(Ok(Message::Pong(_))) => Incoming::Pong,
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Incoming::Ping,
            Some(Ok(Message::Binary(b))) => Incoming::Binary(b),
            Some(Ok(Message::Close(_))) => Incoming::Closed,
            Some(Err(e)) => {
                self.broken = true;
                match e {
                    tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                        Incoming::Fault(Fault::TooBig)
                    }
                    tungstenite::Error::Utf8(_) => Incoming::Fault(Fault::BadText),
                    tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                        Incoming::Lost
                    }
                    tungstenite::Error::Protocol(_) => Incoming::Fault(Fault::Protocol),
                    _ => Incoming::Lost,
                }
            }
            None => Incoming::Lost,
        }
    }

    fn feed(&mut self, message: Message) -> Result<(), Lost> {
        self.ws.start_send_unpin(message).map_err(|_| Lost)
    }

    async fn close(mut self, close: Close) {
        let frame = CloseFrame { code: close.code.into(), reason: close.text().into() };
        if self.ws.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        if !self.broken {
            // Until the peer's own close frame; what it still says has no meaning any more.
            while let Some(Ok(_)) = self.ws.next().await {}
        }
        // Closing with unread bytes would reset the connection and take the close frame from under the reader.
        let raw = self.ws.get_mut();
        let mut rest = [0u8; 256];
        if raw.shutdown().await.is_ok() {
            while matches!(raw.read(&mut rest).await, Ok(n) if n > 0) {}
        }
    }

    async fn finish(mut self) {
        while let Some(Ok(_)) = self.ws.next().await {}
        // An error only says that the peer was quicker.
        let _ = self.ws.get_mut().shutdown().await;
    }
}

// -------------------------------------------------------------------------------------------- event stream

/// The writing half of a `text/event-stream` body.
pub struct EventStream {
    chunks: mpsc::Sender<Bytes>,
    out: BytesMut,
}

impl EventStream {
    /// The stream and what its body is read from.
    pub fn new() -> (Self, mpsc::Receiver<Bytes>) {
        // One chunk: the body takes it when the client's connection has room, which is how slowness shows.
        let (chunks, body) = mpsc::channel(1);
        (Self { chunks, out: BytesMut::new() }, body)
    }

    async fn gone(&mut self) -> Incoming {
        self.chunks.closed().await;
        Incoming::Lost
    }

    fn feed(&mut self, text: &str, cursor: Option<(&str, i64)>) {
        if let Some((epoch, seq)) = cursor {
            self.out.extend_from_slice(format!("id: {epoch}:{seq}\n").as_bytes());
        }
        // Our texts are JSON on one line; an empty one is a mere cursor, which a browser takes without an event.
        if !text.is_empty() {
            self.out.extend_from_slice(b"data: ");
            self.out.extend_from_slice(text.as_bytes());
            self.out.extend_from_slice(b"\n");
        }
        self.out.extend_from_slice(b"\n");
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        if self.out.is_empty() {
            return Ok(());
        }
        // Taken whole, so that an idle stream holds no buffer.
        let chunk = std::mem::take(&mut self.out).freeze();
        self.chunks.send(chunk).await.map_err(|_| Lost)?;
        // Room again: the chunk has left for the client's connection.
        self.chunks.reserve().await.map(drop).map_err(|_| Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_carry_cursor_and_data() {
        let (stream, mut body) = EventStream::new();
        let mut t = Transport::Stream(stream);
        t.feed(Text::from_static("{\"a\":1}"), Some(("e.0", 7))).unwrap();
        t.feed(Text::from_static("{\"b\":2}"), None).unwrap();
        t.feed(Text::from_static(""), Some(("e.0", 8))).unwrap();
        t.ping().unwrap();
        let (sent, got) = tokio::join!(t.flush(), body.recv());
        sent.unwrap();
        assert_eq!(
            got.unwrap(),
            "id: e.0:7\ndata: {\"a\":1}\n\ndata: {\"b\":2}\n\nid: e.0:8\n\n: keep-alive\n\n".as_bytes()
        );
        drop(body);
        assert!(matches!(t.receive().await, Incoming::Lost));
        t.feed(Text::from_static("x"), None).unwrap();
        assert_eq!(t.flush().await, Err(Lost));
    }

    /// The library's defaults cost 135 KB a socket and six times the CPU.
    #[test]
    fn buffers_stay_small() {
        let l = limits(16 * 1024);
        assert_eq!(l.read_buffer_size, 512);
        assert!(l.write_buffer_size <= 4096 && l.max_write_buffer_size <= 256 * 1024);
        assert_eq!((l.max_message_size, l.max_frame_size), (Some(16384), Some(16384)));
    }
}
