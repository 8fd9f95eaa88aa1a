//! Connections by hand: header-read timeout, connection cap, write-stall guard, graceful close.
//!
//! `axum::serve` has no header-read timeout and no cap, so the accept loop is ours. Absent on purpose: routes, TLS (a
//! proxy's work), and the life of a socket after its upgrade (the hub's).

use super::auth::Peer;
use crate::config::server::Server;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::TryFutureExt;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// Largest request head; more is 431.
const HEAD_MAX: usize = 8 * 1024;
/// hyper's buffer per connection: a head, or a piece of a body.
const BUFFER_MAX: usize = 16 * 1024;
/// A client that takes no byte of an answer for so long has gone.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// First pause after `accept` failed for want of file descriptors; doubles up to a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Connections over the cap that may be told so at once; the rest is just closed.
const REFUSALS: usize = 64;
/// How long connections are kept when the listener has closed: what a caller has just sent over one that seemed idle is
/// still answered (and the answer closes it), instead of being reset.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// How long we read on for a caller that is still sending when it has been answered. Closed at once, its system would throw the
/// answer away (a 413, say) with the rest of what it sends.
const LINGER: Duration = Duration::from_secs(5);
/// How long we wait to see whether it is.
const LINGER_FIRST: Duration = Duration::from_millis(250);
/// More open files than this are never asked for: a hard limit may be "unlimited".
const FILES_MAX: u64 = 1 << 20;
/// Files that are never given to connections, even under a small limit.
const FILES_KEPT: u64 = 128;
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 154\r\n\r\n\
    {\"type\":\"urn:campanile:problem:full\",\"title\":\"Service Unavailable\",\"status\":503,\
    \"detail\":\"too many connections\",\"code\":\"full\",\"request_id\":\"\",\"errors\":[]}";

/// The listener's share of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub drain_timeout: Duration,
}

impl Limits {
    pub fn of(config: &Server) -> Self {
        Self {
            max_connections: match config.max_connections {
                0 => default_cap(),
                n => n,
            },
            header_timeout: *config.header_timeout,
            drain_timeout: *config.drain_timeout,
        }
    }
}

/// How the door closes, in two steps.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Every answer closes its connection: the caller's next one finds another node.
    pub leaving: CancellationToken,
    /// No connection is accepted any more.
    pub draining: CancellationToken,
}

impl Stop {
    /// `asked`: for an upgrade. One that is refused ends its connection: hyper keeps it in mind and would give the connection
    /// away at its end, over a later request, without closing it in order.
    fn mark(&self, response: &mut Response, asked: bool) {
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !upgraded && (asked || self.leaving.is_cancelled() || self.draining.is_cancelled()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Serves until `draining` fires, then stops accepting and finishes what runs, `server.drain_timeout` at most.
pub async fn serve(listener: TcpListener, router: axum::Router, limits: Limits, stop: Stop) {
    let slots = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let connections = TaskTracker::new();
    let mut pause = ACCEPT_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.draining.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_connection_error(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "Can't accept connections; trying again");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
                continue;
            }
        };
        pause = ACCEPT_PAUSE;
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            connections.spawn(connection(stream, peer, slot, router.clone(), limits.header_timeout, stop.clone()));
        } else if let Ok(refusal) = refusals.clone().try_acquire_owned() {
            tokio::spawn(async move {
                refuse(stream).await;
                drop(refusal);
            });
        }
    }
    for (stream, peer) in waiting(listener) {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            connections.spawn(connection(stream, peer, slot, router.clone(), limits.header_timeout, stop.clone()));
        }
    }
    connections.close();
    if timeout(limits.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "Requests did not end in time and are cut");
    }
}

/// Closes the listener and returns the connections that nobody has taken yet: their callers believe they are connected.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let streams = std::iter::from_fn(|| listener.accept().ok());
    let take = |(stream, peer): (std::net::TcpStream, _)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    streams.filter_map(take).collect()
}

/// One connection, until it closes or is upgraded.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
    router: axum::Router,
    header_timeout: Duration,
    stop: Stop,
) {
    // Frames are small and must go at once; an error only means that the peer is gone.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Guarded { stream, stall: None, linger: None, _slot: slot });
    let draining = stop.draining.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let asked = request.headers().contains_key(header::UPGRADE);
        let answer = router.clone().call(request.map(Body::new));
        let stop = stop.clone();
        answer.map_ok(move |mut response| {
            stop.mark(&mut response, asked);
            response
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { draining.cancelled().await; sleep(LAST_REQUESTS).await } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client's doing (half a request, a timeout, a reset): nothing an operator could act on.
        tracing::trace!(%error, "Connection ended early");
    }
}

async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    let _ = timeout(Duration::from_secs(1), told).await;
}

/// Errors of the one connection that was to be accepted, not of the listener.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset | K::Interrupted)
}

/// Raises the soft limit of open files to the hard one; call once at start.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES_MAX, |hard| hard.min(FILES_MAX));
    if current.is_some_and(|soft| soft < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::warn!(%error, "Can't raise the limit of open files");
    }
}

/// The file limit less a fifth, and no less than `FILES_KEPT`: the database, mail and refusals need theirs.
fn default_cap() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES_MAX);
    let kept = (files / 5).max(FILES_KEPT);
    usize::try_from(files.saturating_sub(kept).max(1)).unwrap_or(usize::MAX)
}

/// The socket with its place under the cap (kept through an upgrade) and a clock on writes that do not move.
struct Guarded {
    stream: TcpStream,
    /// Runs while a write waits; boxed so that an idle socket pays a pointer for it.
    stall: Option<Pin<Box<Sleep>>>,
    /// Runs from the end of our half until the caller's; whether it was still sending.
    linger: Option<(Pin<Box<Sleep>>, bool)>,
    _slot: OwnedSemaphorePermit,
}

impl Guarded {
    fn moved<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        ready!(self.stall.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Guarded {
    /// Ready when the caller has ended, too, or sends nothing, or has gone on for too long.
    fn read_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; 4096];
        let (linger, sending) = self.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER_FIRST)), false));
        loop {
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    if !std::mem::replace(sending, true) {
                        linger.set(sleep(LINGER));
                    }
                    if linger.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.as_mut().poll(cx),
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.moved(cx, written)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.moved(cx, written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A second call finds our half closed and says so at once.
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.read_away(cx).map(Ok)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
