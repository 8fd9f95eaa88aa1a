//! `[websocket]`: Sockets and event streams of end users.

use super::duration::Dur;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Websocket {
    /// Pages on other origins that may connect: `https://app.example.org`, exact.
    pub origins: Vec<String>,
    /// Accept `?token=`; existing clients need it.
    pub query_token: bool,
    /// Largest client message in bytes; larger closes 1009.
    pub max_message: usize,
    /// Outgoing bytes one socket may have waiting before it is switched to pulling from the feed.
    pub queue_bytes: usize,
    /// How long a write may hang before the socket is closed 4408.
    pub write_stall: Dur,
    /// Head check, and the v1 `heartbeat` frame.
    pub heartbeat: Dur,
    /// WebSocket ping, ± a fifth.
    pub ping_interval: Dur,
    /// No pong by then: the socket is dropped.
    pub pong_timeout: Dur,
    /// How long a socket outlives its token before 4401.
    pub expiry_grace: Dur,
    /// Missed items a resume replays; more is a `reset`.
    pub resume_max: u32,
    /// Sockets of one user on one node; one more closes the oldest (4409, classic 1000).
    pub per_user: usize,
    /// Client frames a second; over the burst closes 4429.
    pub client_rate: u32,
    /// Client frames allowed at once.
    pub client_burst: u32,
    /// Handshakes a second on one node; more get 503.
    pub handshake_rate: u32,
    /// Refused handshakes a minute from one known client address before 429.
    pub failed_handshakes: u32,
    /// Life of a `POST /me/ws-tickets` ticket.
    pub ticket_ttl: Dur,
}
