//! What an admin watches of one connection: the round trip of a ping that somebody asked for, and for a few minutes its frames.
//!
//! The node that holds the connection tells on the bus, and every node keeps what it heard, since the admin may look at any
//! of them. Frames travel only while somebody asked for them. Absent on purpose: who may look, which is audited where it is
//! asked for; tokens, which no frame is told with.

use campanile_model::{ConnId, Timestamp, signal::Watched};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Round trips remembered.
const PONGS: usize = 256;
/// Frames of one connection; older ones make room.
const FRAMES: usize = 100;
/// Connections whose frames are kept at once; the one that ends first makes room.
const TAILS: usize = 20;
/// A frame's beginning.
const TEXT_MAX: usize = 2048;

/// One frame, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub at: Timestamp,
    /// From the client.
    pub incoming: bool,
    pub text: String,
}

/// The frames of a connection, and until when more are told.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    pub until: Timestamp,
    /// Oldest first.
    pub frames: VecDeque<Frame>,
}

#[derive(Default)]
pub struct Watches(Mutex<State>);

#[derive(Default)]
struct State {
    pongs: VecDeque<(ConnId, Timestamp, u64)>,
    tails: HashMap<ConnId, Tail>,
}

impl Watches {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames of this connection are wanted.
    pub fn begin(&self, conn: ConnId, until: Timestamp) {
        let mut state = self.state();
        if state.tails.len() >= TAILS
            && !state.tails.contains_key(&conn)
            && let Some(first) = state.tails.iter().min_by_key(|(_, t)| t.until).map(|(id, _)| *id)
        {
            state.tails.remove(&first);
        }
        state.tails.entry(conn).or_default().until = until;
    }

    pub fn hear(&self, conn: ConnId, at: Timestamp, what: &Watched) {
        let mut state = self.state();
        let (incoming, text) = match what {
            Watched::Pong { took_us } => {
                state.pongs.retain(|(id, ..)| *id != conn);
                state.pongs.truncate(PONGS - 1);
                state.pongs.push_front((conn, at, *took_us));
                return;
            }
            Watched::In(text) => (true, text),
            Watched::Out(text) => (false, text),
        };
        // Told by a node that heard of the wish when this one did not.
        let Some(tail) = state.tails.get_mut(&conn) else { return };
        if tail.frames.len() >= FRAMES {
            tail.frames.pop_front();
        }
        tail.frames.push_back(Frame { at, incoming, text: text.clone() });
    }

    /// When the last ping that was asked for came back, and how many µs it took.
    pub fn pong(&self, conn: ConnId) -> Option<(Timestamp, u64)> {
        self.state().pongs.iter().find(|(id, ..)| *id == conn).map(|(_, at, took)| (*at, *took))
    }

    pub fn tail(&self, conn: ConnId) -> Option<Tail> {
        self.state().tails.get(&conn).cloned()
    }
}

/// The beginning of a frame.
pub fn beginning(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What a client said, without its token: of an `auth` only that it was one, of what is no message only its length.
pub fn told(text: &str) -> String {
    if text == "ping" {
        return text.to_owned();
    }
    let message: Option<serde_json::Value> = serde_json::from_str(text).ok();
    match message.as_ref().and_then(|m| m.get("type")).and_then(serde_json::Value::as_str) {
        Some("auth") => r#"{"type":"auth", …}"#.to_owned(),
        Some(_) if !text.contains("token") => beginning(text),
        Some(kind) => format!("{{\"type\":{kind:?}, …}}, {} bytes", text.len()),
        None => format!("no message, {} bytes", text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_timestamp(s, 0).unwrap()
    }

    #[test]
    fn only_what_was_asked_for_is_kept_and_not_for_ever() {
        let watches = Watches::default();
        let (a, b) = (ConnId::new(), ConnId::new());
        watches.hear(a, at(1), &Watched::Out("early".into()));
        assert!(watches.tail(a).is_none());
        watches.begin(a, at(300));
        for n in 0..=FRAMES {
            watches.hear(a, at(2), &Watched::In(n.to_string()));
        }
        let tail = watches.tail(a).unwrap();
        assert_eq!((tail.until, tail.frames.len(), tail.frames[0].text.as_str()), (at(300), FRAMES, "1"));
        assert!(tail.frames[0].incoming && watches.tail(b).is_none());
        for n in 0..TAILS {
            watches.begin(ConnId::new(), at(400 + n as i64));
        }
        assert!(watches.tail(a).is_none(), "the one that ends first made room");
    }

    #[test]
    fn the_newest_round_trip_stands() {
        let watches = Watches::default();
        let a = ConnId::new();
        for n in 1..=3 {
            watches.hear(a, at(n), &Watched::Pong { took_us: n as u64 });
            watches.hear(ConnId::new(), at(n), &Watched::Pong { took_us: 9 });
        }
        assert_eq!(watches.pong(a), Some((at(3), 3)));
        for _ in 0..PONGS {
            watches.hear(ConnId::new(), at(4), &Watched::Pong { took_us: 9 });
        }
        assert_eq!(watches.pong(a), None);
    }

    #[test]
    fn no_token_is_told() {
        assert_eq!(told("ping"), "ping");
        assert_eq!(
            told(r#"{"type":"mark_read","notification_id":"x"}"#),
            r#"{"type":"mark_read","notification_id":"x"}"#
        );
        for secret in [
            r#"{"type":"auth","token":"eyJsecret"}"#,
            r#"{"token":"eyJsecret","type":"auth"}"#,
            r#"{"type":"auht","token":"eyJsecret"}"#,
            r#"{"type":"auth" "token":"eyJsecret"}"#,
            "eyJsecret",
        ] {
            assert!(!told(secret).contains("eyJsecret"), "{}", told(secret));
        }
        assert!(beginning(&"ü".repeat(5_000)).chars().count() <= TEXT_MAX + 1);
    }
}
