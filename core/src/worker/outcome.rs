//! What an attempt came to, in the words of the attempts table, the metrics and the schedule.
//!
//! A pure translation. The channel says whether trying again can help; nothing it says is trusted further than its
//! shape: codes are clamped to a metric-safe word, messages are escaped, cut and freed of the recipient's address.

use super::schedule::Again;
use crate::channel::{Called, Verdict};
use campanile_model::{
    state::reason,
    work::{AddressFault, AttemptOutcome},
};
use campanile_plugin::{DeliveryError, Info, Reason, Receipt};
use std::time::Duration;

const CODE_MAX: usize = 64;
const MESSAGE_MAX: usize = 4096;
const PROVIDER_ID_MAX: usize = 255;
/// The kind of [`Reason::suspect`] that repeats the last delay until `max_age` instead of counting attempts.
const MAILBOX_FULL: &str = "mailbox_full";

/// Codes that channels which never ask for permission have for "we did not even reach the far side".
const NOT_REACHED: [&str; 4] = ["connect", "connect_failed", "dns", "unavailable"];

/// Whether the far side has certainly not taken the message, so that another instance may send it at once. A refusal of the
/// message or of the address is no such case: another provider's answer would be the same.
pub fn certainly_not_sent(called: &Called, info: &Info, asked: bool) -> bool {
    let Called::Answered(Err(error)) = called else { return false };
    let told = error.reason();
    if told.uncertain {
        return false;
    }
    match error {
        DeliveryError::Misconfigured { .. } | DeliveryError::Throttled { .. } => true,
        DeliveryError::Retry { .. } if is_full(told) => false,
        DeliveryError::Retry { .. } => (info.asks_permission && !asked) || NOT_REACHED.contains(&told.code.as_ref()),
        _ => false,
    }
}

/// One person's mailbox, and no fault of the far side.
fn is_full(told: &Reason) -> bool {
    told.suspect.is_some_and(|(kind, ..)| kind == MAILBOX_FULL) || told.code == MAILBOX_FULL
}

/// At most what the attempts table takes.
pub fn cut_message(text: &str) -> String {
    cut(text, MESSAGE_MAX)
}

/// One attempt, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub outcome: AttemptOutcome,
    pub code: Option<String>,
    pub message: Option<String>,
    pub uncertain: bool,
    pub provider_id: Option<String>,
    pub goes: Goes,
    pub address_fault: Option<AddressFault>,
    /// For the breaker; `None` says nothing about the channel.
    pub verdict: Option<Verdict>,
}

/// Where the delivery goes from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goes {
    Sent,
    Again { why: Again, after: Option<Duration> },
    Dead(&'static str),
}

impl Judged {
    /// `asked`: the channel was let past its point of no return.
    pub fn of(called: Called, info: Option<&Info>, asked: bool, recipient: &str) -> Self {
        // A cut call of a channel that asks first is doubtful only from then on; of any other channel, always.
        let doubtful = info.is_none_or(|i| !i.idempotent && (asked || !i.asks_permission));
        match called {
            Called::Answered(Ok(receipt)) => Self::sent(receipt),
            Called::Answered(Err(error)) => Self::failed(error, recipient),
            Called::TimedOut => Self {
                uncertain: doubtful,
                ..Self::again(AttemptOutcome::Timeout, "timeout", "the channel did not answer in time")
            },
            Called::Panicked(said) => Self {
                uncertain: doubtful,
                message: Some(clean(&said, recipient)),
                ..Self::again(AttemptOutcome::Retry, "panic", "")
            },
        }
    }

    /// The host's own code panicked before or after the call.
    pub fn host_panicked(said: &str, asked: bool, recipient: &str) -> Self {
        Self {
            uncertain: asked,
            message: Some(clean(said, recipient)),
            verdict: None,
            ..Self::again(AttemptOutcome::Retry, "panic", "")
        }
    }

    /// The template can't be rendered for this notification: it never will, until the template changes and the
    /// delivery is replayed.
    pub fn unrenderable(said: &str, recipient: &str) -> Self {
        Self {
            outcome: AttemptOutcome::Permanent,
            code: Some("render_failed".to_owned()),
            message: Some(clean(said, recipient)),
            goes: Goes::Dead(reason::PERMANENT),
            verdict: None,
            ..Self::again(AttemptOutcome::Permanent, "", "")
        }
    }

    fn sent(receipt: Receipt) -> Self {
        Self {
            outcome: AttemptOutcome::Ok,
            code: None,
            message: None,
            uncertain: false,
            provider_id: receipt.provider_id.map(|id| cut(&escaped(&id), PROVIDER_ID_MAX)),
            goes: Goes::Sent,
            address_fault: None,
            verdict: Some(Verdict::Works),
        }
    }

    fn again(outcome: AttemptOutcome, code: &str, message: &str) -> Self {
        Self {
            outcome,
            code: Some(code.to_owned()),
            message: Some(message.to_owned()),
            uncertain: false,
            provider_id: None,
            goes: Goes::Again { why: Again::Transient, after: None },
            address_fault: None,
            verdict: Some(Verdict::Fails),
        }
    }

    fn failed(error: DeliveryError, recipient: &str) -> Self {
        let told = error.reason();
        let base = Self {
            code: Some(code(&told.code)),
            message: Some(clean(&told.message, recipient)),
            uncertain: told.uncertain,
            address_fault: suspicion(told),
            ..Self::again(AttemptOutcome::Retry, "", "")
        };
        let full = is_full(told);
        match &error {
            DeliveryError::Throttled { after, .. } => Self {
                outcome: AttemptOutcome::Throttled,
                goes: Goes::Again { why: Again::Throttled, after: *after },
                verdict: Some(Verdict::Works),
                ..base
            },
            DeliveryError::Permanent { .. } => Self {
                outcome: AttemptOutcome::Permanent,
                goes: Goes::Dead(reason::PERMANENT),
                verdict: Some(Verdict::Works),
                ..base
            },
            DeliveryError::RecipientGone { .. } => Self {
                outcome: AttemptOutcome::RecipientGone,
                goes: Goes::Dead(reason::RECIPIENT_GONE),
                address_fault: Some(AddressFault::Gone),
                verdict: Some(Verdict::Works),
                ..base
            },
            DeliveryError::Misconfigured { .. } => Self {
                outcome: AttemptOutcome::Misconfigured,
                goes: Goes::Again { why: Again::Misconfigured, after: None },
                verdict: Some(Verdict::Misconfigured),
                ..base
            },
            DeliveryError::Retry { after, .. } if full => Self {
                goes: Goes::Again { why: Again::MailboxFull, after: *after },
                // One person's mailbox says nothing about the relay.
                verdict: Some(Verdict::Works),
                ..base
            },
            DeliveryError::Retry { after, .. } => {
                Self { goes: Goes::Again { why: Again::Transient, after: *after }, ..base }
            }
            // A word of a newer interface: trying again is the safe reading.
            _ => base,
        }
    }

    /// `outcome` of `campanile_delivery_attempts_total`: a closed set.
    pub fn metric_outcome(&self) -> &'static str {
        match self.outcome {
            AttemptOutcome::Ok => "ok",
            AttemptOutcome::Timeout => "timeout",
            AttemptOutcome::Permanent | AttemptOutcome::RecipientGone => "permanent",
            AttemptOutcome::Retry
            | AttemptOutcome::Throttled
            | AttemptOutcome::Misconfigured
            | AttemptOutcome::Lost => "retry",
        }
    }

    /// `reason` of `campanile_delivery_failures_total`: a closed set; `None` for a success.
    pub fn metric_reason(&self) -> Option<&'static str> {
        let code = self.code.as_deref().unwrap_or_default();
        Some(match self.outcome {
            AttemptOutcome::Ok => return None,
            AttemptOutcome::Timeout => "timeout",
            AttemptOutcome::Throttled => "rate_limited",
            AttemptOutcome::Misconfigured => "auth",
            AttemptOutcome::RecipientGone => "bounced",
            AttemptOutcome::Permanent if matches!(code, "render_failed" | "unsupported_address" | "invalid") => {
                "invalid"
            }
            AttemptOutcome::Retry if code == "panic" => "plugin",
            AttemptOutcome::Retry if is_5xx(code) => "provider_5xx",
            // `Lost` is written by the rescue and by a drain, which count nothing.
            AttemptOutcome::Permanent | AttemptOutcome::Retry | AttemptOutcome::Lost => "refused",
        })
    }
}

fn is_5xx(code: &str) -> bool {
    let digits = code.rsplit(['_', '.', '-']).next().unwrap_or(code);
    digits.len() == 3 && digits.starts_with('5') && digits.bytes().all(|b| b.is_ascii_digit())
}

fn suspicion(told: &Reason) -> Option<AddressFault> {
    told.suspect.map(|(kind, limit, days)| AddressFault::Suspect { kind, limit, days })
}

/// A word of `[a-z0-9_.-]`, at most 64 bytes.
fn code(text: &str) -> String {
    let word: String = text
        .chars()
        .take(CODE_MAX)
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_' | '.' | '-') => c,
            _ => '_',
        })
        .collect();
    if word.is_empty() { "unknown".to_owned() } else { word }
}

/// Without the recipient's address, control characters escaped, at most 4 KiB.
fn clean(text: &str, recipient: &str) -> String {
    cut(&escaped(&without(text, recipient)), MESSAGE_MAX)
}

/// Servers like to repeat the address they refuse; it does not belong into attempts, which outlive an erased user.
fn without(text: &str, recipient: &str) -> String {
    if recipient.is_empty() {
        return text.to_owned();
    }
    // ASCII lower-casing keeps every byte position.
    let (low, wanted) = (text.to_ascii_lowercase(), recipient.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in low.match_indices(&wanted) {
        out.push_str(&text[from..at]);
        out.push_str("(recipient)");
        from = at + found.len();
    }
    out.push_str(&text[from..]);
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INFO: Info = Info::new("probe", "1").asks_permission(true);

    fn failed(error: DeliveryError) -> Judged {
        Judged::of(Called::Answered(Err(error)), Some(&INFO), false, "bob@example.org")
    }

    #[test]
    fn each_error_has_its_way() {
        let reason = || Reason::new("x", "y");
        let after = Some(Duration::from_secs(7));
        let table = [
            (
                DeliveryError::Retry { after, reason: reason() },
                AttemptOutcome::Retry,
                Goes::Again { why: Again::Transient, after },
                Verdict::Fails,
                "refused",
            ),
            (
                DeliveryError::Retry { after: None, reason: reason().suspect(MAILBOX_FULL, 3, 30) },
                AttemptOutcome::Retry,
                Goes::Again { why: Again::MailboxFull, after: None },
                Verdict::Works,
                "refused",
            ),
            (
                DeliveryError::Throttled { after, reason: reason() },
                AttemptOutcome::Throttled,
                Goes::Again { why: Again::Throttled, after },
                Verdict::Works,
                "rate_limited",
            ),
            (
                DeliveryError::Permanent { reason: reason() },
                AttemptOutcome::Permanent,
                Goes::Dead("permanent"),
                Verdict::Works,
                "refused",
            ),
            (
                DeliveryError::RecipientGone { reason: reason() },
                AttemptOutcome::RecipientGone,
                Goes::Dead("recipient_gone"),
                Verdict::Works,
                "bounced",
            ),
            (
                DeliveryError::Misconfigured { reason: reason() },
                AttemptOutcome::Misconfigured,
                Goes::Again { why: Again::Misconfigured, after: None },
                Verdict::Misconfigured,
                "auth",
            ),
        ];
        for (error, outcome, goes, verdict, metric) in table {
            let judged = failed(error.clone());
            assert_eq!((judged.outcome, &judged.goes, judged.verdict), (outcome, &goes, Some(verdict)), "{error:?}");
            assert_eq!(judged.metric_reason(), Some(metric), "{error:?}");
        }
        let gone = failed(DeliveryError::RecipientGone { reason: reason() });
        assert_eq!(gone.address_fault, Some(AddressFault::Gone));
        let suspect = failed(DeliveryError::Permanent { reason: reason().suspect("disabled", 2, 30) });
        assert_eq!(suspect.address_fault, Some(AddressFault::Suspect { kind: "disabled", limit: 2, days: 30 }));
    }

    #[test]
    fn a_cut_call_is_doubtful_only_when_the_effect_may_have_happened() {
        let timeout = |info: &Info, asked| Judged::of(Called::TimedOut, Some(info), asked, "").uncertain;
        assert!(timeout(&INFO, true));
        assert!(!timeout(&INFO, false));
        let mute = INFO.asks_permission(false);
        assert!(timeout(&mute, false));
        assert!(!timeout(&mute.idempotent(true), true));
        let panicked = Judged::of(Called::Panicked("at\nx".to_owned()), Some(&INFO), true, "");
        assert_eq!((panicked.uncertain, panicked.message.as_deref()), (true, Some("at\\nx")));
        assert_eq!((panicked.metric_outcome(), panicked.metric_reason()), ("retry", Some("plugin")));
    }

    #[test]
    fn only_what_was_certainly_not_sent_may_go_to_another_at_once() {
        let of =
            |error: DeliveryError, info: &Info, asked| certainly_not_sent(&Called::Answered(Err(error)), info, asked);
        let retry = |code: &'static str| DeliveryError::retry(Reason::new(code, "x"));
        let mute = INFO.asks_permission(false);
        assert!(of(retry("421"), &INFO, false), "it never came to the point of no return");
        assert!(!of(retry("451"), &INFO, true) && !of(retry("http_503"), &mute, false));
        assert!(of(retry("connect"), &mute, false));
        let doubtful = DeliveryError::retry(Reason::new("connect", "x").uncertain());
        assert!(
            !of(doubtful, &mute, false) && !of(DeliveryError::retry(Reason::new("x", "y").uncertain()), &INFO, false)
        );
        assert!(of(DeliveryError::misconfigured(Reason::new("http_401", "x")), &mute, false));
        assert!(of(DeliveryError::throttled(None, Reason::new("http_429", "x")), &mute, false));
        assert!(!of(retry(MAILBOX_FULL), &INFO, false));
        assert!(!of(DeliveryError::permanent(Reason::new("x", "y")), &INFO, false));
        assert!(!of(DeliveryError::recipient_gone(Reason::new("x", "y")), &INFO, false));
        assert!(!certainly_not_sent(&Called::TimedOut, &INFO, false), "a call that did not come back is no answer");
        assert!(!certainly_not_sent(&Called::Panicked(String::new()), &INFO, false));
    }

    #[test]
    fn an_address_leaves_no_trace() {
        let said = "550 5.1.1 <Bob@Example.ORG>: bob@example.org unknown\r\n";
        let judged = failed(DeliveryError::Retry { after: None, reason: Reason::new("5.1.1 Bad", said) });
        assert_eq!(judged.message.as_deref(), Some("550 5.1.1 <(recipient)>: (recipient) unknown\\r\\n"));
        assert_eq!(judged.code.as_deref(), Some("5.1.1_bad"));
    }

    #[test]
    fn codes_of_providers_are_told_apart() {
        for (word, yes) in [("503", true), ("http_502", true), ("421", false), ("5.1.1", false), ("e5", false)] {
            assert_eq!(is_5xx(word), yes, "{word}");
        }
    }

    proptest! {
        #[test]
        fn nothing_unclean_gets_through(text in ".{0,200}", word in ".{0,200}", big in "[\u{0}-\u{ff}]{0,5000}") {
            let c = code(&word);
            prop_assert!(!c.is_empty() && c.len() <= CODE_MAX);
            prop_assert!(c.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b)));
            for t in [&text, &big] {
                let m = clean(t, "a@b");
                prop_assert!(m.len() <= MESSAGE_MAX && !m.chars().any(char::is_control));
                prop_assert!(!m.to_ascii_lowercase().contains("a@b"));
            }
        }
    }
}
