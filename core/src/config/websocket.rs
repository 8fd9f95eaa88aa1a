//! `[websocket]`: Sockets and event streams of end users.

use super::check::Check;
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

impl Websocket {
    pub fn validate(&self, c: &mut Check) {
        for text in &self.origins {
            if let Err(e) = super::server::origin(text, false) {
                c.complain("origins", e);
            }
        }
        c.require(self.max_message >= 1024, "max_message", "must be at least 1024");
        c.require(self.queue_bytes >= 4096, "queue_bytes", "must be at least 4096");
        c.positive([
            ("write_stall", self.write_stall.as_millis()),
            ("heartbeat", self.heartbeat.as_millis()),
            ("ping_interval", self.ping_interval.as_millis()),
            ("pong_timeout", self.pong_timeout.as_millis()),
            ("resume_max", self.resume_max.into()),
            ("per_user", self.per_user as u128),
            ("client_rate", self.client_rate.into()),
            ("client_burst", self.client_burst.into()),
            ("handshake_rate", self.handshake_rate.into()),
            ("failed_handshakes", self.failed_handshakes.into()),
            ("ticket_ttl", self.ticket_ttl.as_millis()),
        ]);
    }
}
