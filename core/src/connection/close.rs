//! Every close code, in one table.
//!
//! 1000–2999 as registered, 4000–4999 are ours. `reason` goes over the wire as `{"code":"<reason>"}`, so that a client
//! can tell causes apart without knowing numbers; `reconnect` says whether coming back can help.

/// One way a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    pub code: u16,
    /// A short word, also the metric label.
    pub reason: &'static str,
    /// Whether a client should come back (with jitter) on its own.
    pub reconnect: bool,
    /// With 4429: when the client may try again.
    pub retry_ms: Option<u32>,
}

const fn row(code: u16, reason: &'static str, reconnect: bool) -> Close {
    Close { code, reason, reconnect, retry_ms: None }
}

/// The client said goodbye; we answer in kind.
pub const NORMAL: Close = row(1000, "normal", false);
/// The framing was broken.
pub const PROTOCOL: Close = row(1002, "protocol", false);
/// Only text frames are spoken here.
pub const BINARY: Close = row(1003, "binary", false);
/// Text that is not UTF-8.
pub const BAD_TEXT: Close = row(1007, "bad_text", false);
/// Too many messages that could not be understood.
pub const MALFORMED: Close = row(1008, "malformed", false);
/// A message over `websocket.max_message`.
pub const TOO_BIG: Close = row(1009, "too_big", false);
/// Something failed here that should not have.
pub const FAULT: Close = row(1011, "fault", true);
/// This node stops, or an operator asked the client to come back.
pub const RESTART: Close = row(1012, "restart", true);
/// The database can't be used now.
pub const OVERLOAD: Close = row(1013, "unavailable", true);
/// The same for every fault of a token.
pub const INVALID_TOKEN: Close = row(4401, "invalid_token", false);
/// Only for a token that was right once. Fetch a new one.
pub const TOKEN_EXPIRED: Close = row(4401, "token_expired", true);
/// The session behind the token was ended. Fetch a new one, once.
pub const REVOKED: Close = row(4401, "revoked", true);
/// The user is disabled.
pub const NOT_ALLOWED: Close = row(4403, "not_allowed", false);
/// `auth` brought a token of somebody else.
pub const WRONG_USER: Close = row(4403, "wrong_user", false);
/// No pong in time.
pub const NO_PONG: Close = row(4408, "pong", true);
/// The reader takes too long to read; resume by cursor.
pub const SLOW: Close = row(4408, "slow", true);
/// One socket too many of this user: the oldest goes.
pub const REPLACED: Close = row(4409, "replaced", false);
/// Too many client frames.
pub const RATE_LIMITED: Close = row(4429, "rate_limited", true);

/// All of them, for documents and tests.
pub const TABLE: [Close; 18] = [
    NORMAL,
    PROTOCOL,
    BINARY,
    BAD_TEXT,
    MALFORMED,
    TOO_BIG,
    FAULT,
    RESTART,
    OVERLOAD,
    INVALID_TOKEN,
    TOKEN_EXPIRED,
    REVOKED,
    NOT_ALLOWED,
    WRONG_USER,
    NO_PONG,
    SLOW,
    REPLACED,
    RATE_LIMITED,
];

impl Close {
    pub const fn after(mut self, retry_ms: u32) -> Self {
        self.retry_ms = Some(retry_ms);
        self
    }

    /// What a classic client is told: it reconnects on everything but 1000, so "do not come back" has to be 1000.
    pub const fn for_classic(mut self) -> Self {
        if matches!(self.code, 4403 | 4409) {
            self.code = 1000;
        }
        self
    }

    /// The close frame's reason, at most 123 bytes.
    pub fn text(&self) -> String {
        match self.retry_ms {
            Some(ms) => format!("{{\"code\":\"{}\",\"retry_ms\":{ms}}}", self.reason),
            None => format!("{{\"code\":\"{}\"}}", self.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_json_with_distinct_words() {
        let all: Vec<_> = TABLE.into_iter().map(|c| if c == RATE_LIMITED { c.after(u32::MAX) } else { c }).collect();
        let mut words = std::collections::BTreeSet::new();
        for c in all {
            assert!(c.text().len() <= 123, "{c:?}");
            let v: serde_json::Value = serde_json::from_str(&c.text()).unwrap();
            assert_eq!(v["code"], c.reason);
            assert!(words.insert(c.reason), "{c:?}");
        }
    }

    #[test]
    fn a_classic_client_is_never_asked_to_stay_away_with_a_code_it_reconnects_on() {
        assert_eq!(REPLACED.for_classic().code, 1000);
        assert_eq!(NOT_ALLOWED.for_classic().code, 1000);
        assert_eq!(TOKEN_EXPIRED.for_classic().code, 4401);
        assert_eq!(SLOW.for_classic().code, 4408);
    }
}
